//! Tokenizers published as a list of ranked byte strings, as that of GLM-4V.
//!
//! Such a list says which byte strings are tokens, but not how they were merged. A merge may join
//! any two tokens whose bytes make a third, and that one's rank is the merge's priority.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use super::opening;

/// Where words part in GLM-4 (and in other vocabularies of this kind).
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What GLM-4 puts in front of every text.
const PREFIX: [&str; 2] = ["[gMASK]", "<sop>"];

/// The special tokens of GLM-4, in the order of their ids, which follow the highest rank.
const GLM: [&str; 14] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
];

/// Byte strings and their ranks.
pub(super) struct Ranks(HashMap<Vec<u8>, u32>);

impl Ranks {
    /// Reads lines of base64 and rank. `Ok(None)` when the first line is not of this kind, which
    /// is how a file of another format shows.
    pub(super) fn parse(content: &[u8]) -> Result<Option<Self>, String> {
        let mut ranks = HashMap::new();
        let mut taken = HashMap::new();
        let lines = content.split(|byte| *byte == b'\n').enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
            let Some((bytes, rank)) = entry(line) else {
                if ranks.is_empty() {
                    return Ok(None);
                }
                return Err(format!("line {} is not base64 and a rank", index + 1));
            };
            if ranks.insert(bytes, rank).is_some() || taken.insert(rank, index).is_some() {
                return Err(format!("line {} repeats a token or a rank", index + 1));
            }
        }
        if ranks.is_empty() {
            return Ok(None);
        }
        match (0..=u8::MAX).find(|byte| !ranks.contains_key([*byte].as_slice())) {
            Some(byte) => Err(format!("the byte {byte:#04x} is not a token")),
            None => Ok(Some(Self(ranks))),
        }
    }

    /// The published special tokens of GLM-4, behind the highest rank.
    pub(super) fn glm_special(&self) -> Vec<(String, u32)> {
        let next = self.0.values().max().map_or(0, |highest| highest + 1);
        GLM.map(str::to_owned).into_iter().zip(next..).collect()
    }

    /// The tokenizer of these ranks and the `special` tokens, with GLM-4's words and prefix.
    pub(super) fn tokenizer(&self, special: &[(String, u32)]) -> Result<Tokenizer, String> {
        let prefix = PREFIX.map(|token| special.iter().find(|(name, _)| name == token));
        let [Some((first, first_id)), Some((second, second_id))] = prefix else {
            return Err(format!(
                "the special tokens lack {} or {}, which stand in front of every text of GLM-4",
                PREFIX[0], PREFIX[1]
            ));
        };
        let model = BPE::builder()
            .vocab_and_merges(self.vocabulary(special)?, self.merges())
            .ignore_merges(true)
            .build()
            .map_err(|error| error.to_string())?;
        let mut tokenizer = Tokenizer::new(model);
        let pattern = SplitPattern::Regex(PATTERN.to_owned());
        let words = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| error.to_string())?;
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::from(words),
            PreTokenizerWrapper::from(ByteLevel::new(false, true, false)),
        ])));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
        let template = TemplateProcessing::builder()
            .try_single(format!("{first} {second} $A"))
            .and_then(|builder| builder.try_pair(format!("{first} {second} $A $B:0")))
            .map_err(|error| error.clone())?
            .special_tokens(vec![
                (first.as_str(), *first_id),
                (second.as_str(), *second_id),
            ])
            .build()
            .map_err(|error| error.to_string())?;
        tokenizer.with_post_processor(Some(template));
        let special: Vec<_> = special
            .iter()
            .map(|(name, _)| AddedToken::from(name.as_str(), true).normalized(false))
            .collect();
        tokenizer.add_special_tokens(&special);
        Ok(tokenizer)
    }

    /// Every token as the byte-level alphabet writes it, the `special` ones as they are: they are
    /// cut out of the text before the model sees it, and have their ids from here.
    fn vocabulary(&self, special: &[(String, u32)]) -> Result<Vocab, String> {
        let alphabet = alphabet();
        let ranked = self.0.iter();
        let mut vocabulary: Vocab = ranked
            .map(|(bytes, rank)| (written(bytes, &alphabet), *rank))
            .collect();
        let mut taken: HashMap<u32, &[u8]> = self.0.iter().map(|(b, id)| (*id, &b[..])).collect();
        for (name, id) in special {
            let before = taken.insert(*id, name.as_bytes());
            if name.is_empty() || before.is_some() || vocabulary.contains_key(name) {
                return Err(format!(
                    "the special token `{}` has the id {id}, but the token or the id is taken",
                    opening(name)
                ));
            }
            vocabulary.insert(name.clone(), *id);
        }
        Ok(vocabulary)
    }

    /// All pairs of tokens that make a token, in the order of its rank; the order of pairs that
    /// make the same is that of the published conversion.
    fn merges(&self) -> Vec<(String, String)> {
        let alphabet = alphabet();
        let mut merges: Vec<_> = self
            .0
            .iter()
            .flat_map(|(bytes, rank)| (1..bytes.len()).map(move |cut| (bytes.split_at(cut), rank)))
            .filter_map(|((a, b), rank)| Some((rank, self.0.get(a)?, self.0.get(b)?, a, b)))
            .collect();
        merges.sort_unstable();
        merges
            .into_iter()
            .map(|(.., a, b)| (written(a, &alphabet), written(b, &alphabet)))
            .collect()
    }
}

/// One line's bytes and rank.
fn entry(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let (bytes, rank) = std::str::from_utf8(line).ok()?.trim().split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    let rank = rank.parse().ok()?;
    (!bytes.is_empty()).then_some((bytes, rank))
}

/// The visible character that stands for each byte in byte-level vocabularies: itself where it is
/// visible in Latin-1, or else the next one from U+0100 on.
fn alphabet() -> [char; 256] {
    let mut next = 0x100..;
    std::array::from_fn(|byte| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
        _ => next.next().and_then(char::from_u32).unwrap_or_default(),
    })
}

fn written(bytes: &[u8], alphabet: &[char; 256]) -> String {
    bytes
        .iter()
        .map(|byte| alphabet[usize::from(*byte)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    #[test]
    fn the_alphabet_is_that_of_byte_level_vocabularies() {
        let mut own = alphabet();
        own.sort_unstable();
        let mut expected: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        expected.sort_unstable();
        assert_eq!(own.as_slice(), expected);
        assert_eq!(alphabet()[usize::from(b' ')], 'Ġ');
        assert_eq!(alphabet()[usize::from(b'\n')], 'Ċ');
    }

    /// The 256 bytes, then `more` tokens.
    fn ranks(more: &[&str]) -> String {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let tokens = bytes.chain(more.iter().map(|token| token.as_bytes().to_vec()));
        let lines = tokens.enumerate();
        lines
            .map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token)))
            .collect()
    }

    #[test]
    fn merges_follow_the_ranks_of_what_they_make() {
        let special = [("[gMASK]".to_owned(), 300), ("<sop>".to_owned(), 302)];
        // "bc" comes first, so "abc" is made of a and bc, and "ab" is never seen in it.
        let content = ranks(&["bc", "ab", "abc"]);
        let text = Text::from_tiktoken(content.as_bytes(), &special, "x").expect("valid");
        let ids = |input: &str| text.encode(input, false).expect("a text");
        assert_eq!(ids("abcd"), [258, 100]);
        assert_eq!(ids("ab"), [257]);
        assert_eq!(ids("é<sop>"), [0xc3, 0xa9, 302]);
        assert_eq!(text.encode("a", true).expect("a text"), [300, 302, 97]);
        assert_eq!(text.vocab_size(), 303);
        let all = text.decode(&[300, 302, 97, 0xc3, 0xa9], true);
        assert_eq!(all.expect("known ids"), "aé");
    }

    #[test]
    fn broken_lists_are_refused_by_line() {
        let special = [("[gMASK]".to_owned(), 300), ("<sop>".to_owned(), 302)];
        let refused = |content: &str, special: &[(String, u32)], said: &str| {
            let error = Text::from_tiktoken(content.as_bytes(), special, "DIR");
            let message = error.expect_err("not usable").to_string();
            assert!(message.starts_with("DIR: tokenizer.model "), "{message}");
            assert!(message.contains(said), "{message}");
        };
        let good = ranks(&["ab"]);
        refused("", &special, "not a list of base64 and rank");
        refused("\u{0}\u{1}", &special, "not a list of base64 and rank");
        refused(&format!("{good}!! 300"), &special, "line 258");
        refused(&format!("{good}YWI= 300"), &special, "line 258 repeats");
        refused(&format!("{good}YWJj 3"), &special, "line 258 repeats");
        refused("YQ== 0\n", &special, "the byte 0x00");
        refused(&good, &special[..1], "lack [gMASK] or <sop>");
        let taken = [special[0].clone(), ("<sop>".to_owned(), 5)];
        refused(&good, &taken, "`<sop>` has the id 5");
    }
}
