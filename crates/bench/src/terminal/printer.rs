//! Everything that is printed goes through one value.

use std::fmt;
use std::io::{self, Write};

use console::{Style, Term};

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On terminals, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Standard output was closed by its reader, which is success.
#[derive(Debug)]
pub struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Knows quiet, verbose and colour; results go to stdout, everything else to stderr.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    quiet: bool,
    verbose: bool,
}

impl Printer {
    /// A printer for one invocation; `color` holds for both streams from now on.
    pub fn new(quiet: bool, verbose: bool, color: ColorChoice) -> Self {
        match color {
            ColorChoice::Auto => {}
            ColorChoice::Always => {
                console::set_colors_enabled(true);
                console::set_colors_enabled_stderr(true);
            }
            ColorChoice::Never => {
                console::set_colors_enabled(false);
                console::set_colors_enabled_stderr(false);
            }
        }
        Self { quiet, verbose }
    }

    /// Prints a result.
    ///
    /// # Errors
    /// [`OutputClosed`] when the reader is gone, any other I/O error as it is.
    pub fn result(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        let written =
            writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
            other => Ok(other?),
        }
    }

    /// Prints finished lines, each with its end.
    ///
    /// # Errors
    /// As [`Printer::result`].
    pub fn lines(&self, text: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
            other => Ok(other?),
        }
    }

    /// Says what happens; silent with `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr(text);
        }
    }

    /// Says more; only with `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbose && !self.quiet {
            self.stderr(text);
        }
    }

    /// Says what the reader should know even with `-q`.
    pub fn warn(&self, text: &str) {
        let label = Style::new()
            .for_stderr()
            .yellow()
            .bold()
            .apply_to("warning:");
        self.stderr(&format!("{label} {text}"));
    }

    /// Prints an error, its causes and one line of help.
    pub fn error(&self, error: &anyhow::Error, help: Option<&str>) {
        let label = Style::new().for_stderr().red().bold().apply_to("error:");
        self.stderr(&format!("{label} {error}"));
        let mut above = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Transparent wrappers repeat the message below them.
            if cause != above {
                self.stderr(&format!("  {cause}"));
            }
            above = cause;
        }
        if let Some(help) = help {
            let label = Style::new().for_stderr().cyan().bold().apply_to("help:");
            self.stderr(&format!("{label} {help}"));
        }
    }

    /// Whether a progress bar may be drawn.
    pub fn draws_bars(&self) -> bool {
        !self.quiet && Term::stderr().is_term()
    }

    /// Columns of the terminal behind stdout; `None` when it is a file or a pipe.
    pub fn width(&self) -> Option<usize> {
        Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns))
    }

    fn stderr(&self, text: &str) {
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Columns of running text, for people.
pub const TEXT_WIDTH: usize = 96;

/// `text` in lines of at most [`TEXT_WIDTH`] columns, each behind `indent`.
pub fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > indent.len() && line + 1 + word.chars().count() > TEXT_WIDTH {
            lines.push(indent.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
