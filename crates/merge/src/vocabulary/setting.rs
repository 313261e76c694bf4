//! What a recipe says of the output's tokenizer.

/// A recipe's `tokenizer_source`, or its `tokenizer`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerSetting {
    /// Whose tokens the output has.
    pub source: TokenSource,
    /// Tokens that the output has in any case, with the rules for their rows.
    pub tokens: Vec<(String, TokenRule)>,
    /// The output has the smallest number of rows that is a multiple of this and not below the
    /// number of tokens. Without it (or with 0), rows behind the last token are kept.
    pub pad_to_multiple_of: Option<usize>,
}

/// Whose tokens the output has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The base's in their order, then what the others have besides.
    Union,
    /// The base's, or those of the first model where no base is named.
    Base,
    /// Those of this model or folder, as the recipe names it.
    Model(String),
}

/// Where the rows of one token come from: `tokenizer.tokens.<token>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRule {
    /// The row of models that lack the token; `None` for the usual choice.
    pub source: Option<TokenRowSource>,
    /// Whether models that have the token take that row too.
    pub force: bool,
}

/// A row that a recipe names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRowSource {
    /// Zeros.
    Zero,
    /// The row of the same token in this model.
    Model(String),
    /// The row of another token in a model.
    Token {
        /// The model, as the recipe names it.
        model: String,
        /// The token; exactly one of `token` and `id` is given.
        token: Option<String>,
        /// Its id.
        id: Option<usize>,
    },
}
