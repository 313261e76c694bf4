//! How errors and notes speak of tokens.

use crate::error::Error;

/// What is wrong with the tokenizer of `model`.
pub(super) fn refused(model: &str, problem: impl Into<String>) -> Error {
    Error::Tokenizer {
        model: model.to_owned(),
        problem: problem.into(),
    }
}

/// So many tokens, in words.
pub(super) fn counted(tokens: usize) -> String {
    match tokens {
        1 => "1 token".to_owned(),
        _ => format!("{tokens} tokens"),
    }
}

/// The first few of many tokens, for messages.
pub(super) fn listed(tokens: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = tokens.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|token| format!("`{}`", token.escape_debug()))
        .collect();
    let rest = if tokens.len() > SHOWN { ", …" } else { "" };
    format!("{}{rest}", shown.join(", "))
}
