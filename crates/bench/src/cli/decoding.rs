//! The flags by which continuations are written: where they end, and how the next token is chosen.

use clap::Args;
use debias_core::{Choosing, Decoding, Sampling};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Refusal;

/// Where continuations end and how tokens are chosen; without any of the last, greedily.
#[derive(Clone, Debug, Args)]
pub(super) struct DecodingArgs {
    /// Most tokens to add
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// A text that ends a continuation; it is cut off (repeatable)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on behind the model's end tokens
    #[arg(long)]
    ignore_end: bool,
    /// Draw tokens from logits divided by this; 0 takes the likeliest
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from the K likeliest tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw from the fewest tokens that reach this probability together
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw so many continuations of each prompt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Keep so many beams, the best first, by the sum of their log-probabilities
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["temperature", "top_k", "top_p", "samples"])]
    beams: Option<u32>,
}

impl DecodingArgs {
    /// Whether tokens are drawn.
    pub(super) fn draws(&self) -> bool {
        let numbers = [self.top_k, self.samples];
        numbers.iter().any(Option::is_some) || self.temperature.or(self.top_p).is_some()
    }

    /// What was typed, in plain values; samples of `of` draw by `seed`.
    ///
    /// # Errors
    /// A temperature or a probability that cannot be one.
    pub(super) fn decoding(&self, of: &str, seed: u64) -> Result<Decoding, Refusal> {
        let temperature = self.temperature.unwrap_or(1.0);
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Refusal::new(
                Exit::Usage,
                format!("--temperature {temperature}: must be a finite number of at least 0"),
            ));
        }
        let top_p = self.top_p.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&top_p) {
            return Err(Refusal::new(
                Exit::Usage,
                format!("--top-p {top_p}: must be a probability, from 0 to 1"),
            ));
        }
        let choosing = match self.beams {
            Some(width) => Choosing::Beams(width as usize),
            None if self.draws() => Choosing::Sample(Sampling {
                temperature,
                top_k: self.top_k.map(|k| k as usize),
                top_p,
                samples: self.samples.unwrap_or(1) as usize,
                seed,
                of: of.to_owned(),
            }),
            None => Choosing::Greedy,
        };
        Ok(Decoding {
            max_tokens: self.max_tokens as usize,
            stops: self.stop.clone(),
            ignore_end: self.ignore_end,
            choosing,
        })
    }
}
