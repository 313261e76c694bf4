//! placeholder until the union lands
#![allow(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerSetting {
    pub source: TokenSource,
    pub tokens: Vec<(String, TokenRule)>,
    pub pad_to_multiple_of: Option<usize>,
}
#[derive(Clone, Debug, PartialEq)]
pub enum TokenSource {
    Union,
    Base,
    Model(String),
}
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRule {
    pub source: Option<TokenRowSource>,
    pub force: bool,
}
#[derive(Clone, Debug, PartialEq)]
pub enum TokenRowSource {
    Zero,
    Model(String),
    Token {
        model: String,
        token: Option<String>,
        id: Option<usize>,
    },
}
