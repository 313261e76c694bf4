//! What is shown while work goes on: a bar on a terminal, one line per finished cell elsewhere.

use std::time::Duration;

use debias_core::{CellResult, Status};
use debias_model::pretrain::Progress as Step;
use debias_model::tune::{Step as Update, Validated};
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::printer::Printer;

/// Progress of one command on stderr.
pub struct Progress {
    printer: Printer,
    bar: ProgressBar,
}

impl Progress {
    /// A bar where one may be drawn, nothing otherwise.
    pub fn new(printer: Printer) -> Self {
        let bar = match printer.draws_bars() {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        bar.set_style(
            ProgressStyle::with_template("{wide_msg} {bar:24} {pos}/{len} {eta:>4}")
                .expect("the template is a constant"),
        );
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { printer, bar }
    }

    /// Begins a piece of work of `length` steps.
    pub fn start(&self, what: &str, length: usize) {
        self.bar.reset();
        self.bar.set_length(length as u64);
        self.bar.set_message(what.to_owned());
        self.printer.detail(what);
    }

    /// Begins a piece of work of so many bytes.
    pub fn start_bytes(&self, what: &str, bytes: u64) {
        self.bar.set_style(
            ProgressStyle::with_template(
                "{wide_msg} {bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta:>4}",
            )
            .expect("the template is a constant"),
        );
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(what.to_owned());
        self.printer.detail(what);
    }

    /// Some steps are done; may be called from any thread.
    pub fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
    }

    /// `done` of `of` steps are done.
    pub fn reach(&self, done: usize, of: usize) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
    }

    /// A training step is done; without a bar, every hundredth is a line.
    pub fn losses(&self, name: &str, step: &Step, of: usize) {
        self.bar.set_position(step.step as u64);
        let text = format!(
            "{name}: loss {:.3} pictures, {:.3} facts, {:.3} stated",
            step.pictured, step.told, step.stated
        );
        if self.bar.is_hidden() && (step.step.is_multiple_of(100) || step.step == of) {
            self.printer.note(&format!("[{}/{of}] {text}", step.step));
        }
        self.bar.set_message(text);
    }

    /// An update of a tuning is done; without a bar, every hundredth is a line.
    pub fn tuned(&self, step: &Update, validated: Option<&Validated>, of: usize) {
        self.bar.set_position(step.update as u64);
        let mut text = format!(
            "loss {:.4}, norm {:.3}, rate {:.2e}",
            step.loss, step.norm, step.rate
        );
        if let Some(validated) = validated {
            text += &format!(", validation {:.4}", validated.loss);
        }
        if self.bar.is_hidden() && (step.update.is_multiple_of(100) || step.update == of) {
            self.printer.note(&format!("[{}/{of}] {text}", step.update));
        }
        self.bar.set_message(text);
    }

    /// A cell has its result.
    pub fn finished(&self, done: usize, of: usize, result: &CellResult, seconds: f64) {
        let asked = match result.part() {
            part if part.is_empty() => result.cell.benchmark.id.clone(),
            part => part,
        };
        let what = format!("[{done}/{of}] {} {asked} {}", result.model(), result.row());
        let outcome = match (&result.error, result.metrics.get("reliability")) {
            (Some(error), _) => format!("failed: {error}"),
            (None, Some(reliability)) => format!(
                "reliability {:.1}%, {} records, {seconds:.1} s",
                100.0 * reliability.value,
                result.n
            ),
            (None, None) => format!("{} records, {seconds:.1} s", result.n),
        };
        match result.status {
            Status::Failed => self.warn(&format!("{what}: {outcome}")),
            Status::Done if self.bar.is_hidden() => {
                self.printer.note(&format!("{what}: {outcome}"))
            }
            Status::Done => {}
        }
    }

    /// A line that does not tear the bar apart.
    pub fn warn(&self, text: &str) {
        self.bar.suspend(|| self.printer.warn(text));
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
