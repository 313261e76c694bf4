//! The tokenizers of the embedded models, trained in the style of OPT and of LLaMA.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeTrainer, BpeTrainerBuilder};
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use tokenizers::utils::parallelism::set_parallelism;
use tokenizers::{AddedToken, DecoderWrapper, Model, NormalizerWrapper, Tokenizer, Trainer};

use super::IMAGE_TOKEN;
use crate::error::{Error, Result};

/// What a space becomes in tokenizers of LLaMA's kind.
const METASPACE: &str = "▁";

/// Trains a byte-level BPE tokenizer in the style of OPT and gives its `tokenizer.json`: `<s>` 0,
/// `<pad>` 1, `</s>` 2, `<unk>` 3, the 256 bytes, the merges, and [`IMAGE_TOKEN`] last; `</s>` is
/// put in front of every text.
///
/// `vocab_size` counts all of them; a small corpus gives fewer. Equal corpora give equal bytes,
/// in any order of their texts and whatever the thread count.
///
/// # Errors
/// When `vocab_size` leaves no room for the tokens that are always there.
pub fn train_byte_level_bpe<S: AsRef<str> + Send>(
    corpus: impl Iterator<Item = S> + Send,
    vocab_size: usize,
) -> Result<Vec<u8>> {
    let kept = ["<s>", "<pad>", "</s>", "<unk>"];
    let trainer =
        BpeTrainer::builder().initial_alphabet(ByteLevel::alphabet().into_iter().collect());
    let bytes = ByteLevel::new(false, true, true);
    let words = |text: &str| {
        let mut text = PreTokenizedString::from(text);
        bytes.pre_tokenize(&mut text)?;
        let words = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(words
            .into_iter()
            .map(|(word, ..)| word.to_owned())
            .collect())
    };
    let reserved = kept.map(String::from).to_vec();
    let model = train(trainer, reserved, corpus, vocab_size, words, BPE::default())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(bytes));
    tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
    finish(tokenizer, &kept, 2)
}

/// Trains a BPE tokenizer in the style of LLaMA and gives its `tokenizer.json`: `<unk>` 0, `<s>`
/// 1, `</s>` 2, the 256 bytes as fallback, the corpus's characters, the merges, and
/// [`IMAGE_TOKEN`] last; spaces become `▁`, one is put in front of the text, and `<s>` in front
/// of that.
///
/// No merge crosses a space, so an answer never melts into its prompt. `vocab_size` and
/// reproducibility are as in [`train_byte_level_bpe`].
///
/// # Errors
/// When `vocab_size` leaves no room for the tokens that are always there.
pub fn train_metaspace_bpe<S: AsRef<str> + Send>(
    corpus: impl Iterator<Item = S> + Send,
    vocab_size: usize,
) -> Result<Vec<u8>> {
    let kept = ["<unk>", "<s>", "</s>"];
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let reserved = kept.map(String::from).into_iter().chain(bytes).collect();
    let words = |text: &str| {
        let words = text.split(' ').map(|word| format!("{METASPACE}{word}"));
        Ok(words.collect())
    };
    let model = BPE::builder()
        .unk_token("<unk>".to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(training)?;
    let model = train(
        BpeTrainer::builder(),
        reserved,
        corpus,
        vocab_size,
        words,
        model,
    )?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NormalizerWrapper::from(Prepend::new(METASPACE.to_owned())),
        NormalizerWrapper::from(Replace::new(" ", METASPACE).map_err(training)?),
    ])));
    tokenizer.with_decoder(Some(Decoders::new(vec![
        DecoderWrapper::from(Replace::new(METASPACE, " ").map_err(training)?),
        DecoderWrapper::from(ByteFallback::new()),
        DecoderWrapper::from(Fuse::new()),
        DecoderWrapper::from(Strip::new(' ', 1, 0)),
    ])));
    finish(tokenizer, &kept, 1)
}

/// Learns the merges of `corpus`, cut into `words`; `reserved` get the first ids.
fn train<S: AsRef<str> + Send>(
    trainer: BpeTrainerBuilder,
    reserved: Vec<String>,
    corpus: impl Iterator<Item = S> + Send,
    vocab_size: usize,
    words: impl Fn(&str) -> tokenizers::Result<Vec<String>> + Sync,
    mut model: BPE,
) -> Result<BPE> {
    // The counts do not depend on it, but one thread leaves nothing to prove.
    set_parallelism(false);
    let room = vocab_size.saturating_sub(1);
    let reserved = reserved.into_iter();
    let mut trainer = trainer
        .show_progress(false)
        .vocab_size(room)
        .special_tokens(
            reserved
                .map(|token| AddedToken::from(token, true))
                .collect(),
        )
        .build();
    trainer.feed(corpus, words).map_err(training)?;
    trainer.train(&mut model).map_err(training)?;
    let size = model.get_vocab_size();
    if size > room {
        return Err(Error::Text {
            location: "tokenizer training".to_owned(),
            problem: format!(
                "{} tokens are there before the first merge; raise the vocabulary from {vocab_size}",
                size + 1
            ),
        });
    }
    Ok(model)
}

/// Adds the special tokens, `kept` being the vocabulary's first, and puts the one with id `front`
/// in front of every text.
fn finish(mut tokenizer: Tokenizer, kept: &[&str], front: usize) -> Result<Vec<u8>> {
    let special = kept.iter().chain([&IMAGE_TOKEN]);
    let special: Vec<_> = special
        .map(|token| AddedToken::from(*token, true).normalized(false))
        .collect();
    tokenizer.add_special_tokens(&special);
    let first = kept[front];
    let template = TemplateProcessing::builder()
        .try_single(format!("{first}:0 $A:0"))
        .map_err(|error| training(error.into()))?
        .try_pair(format!("{first}:0 $A:0 {first}:0 $B:0"))
        .map_err(|error| training(error.into()))?
        .special_tokens(vec![(first, front as u32)])
        .build()
        .map_err(|error| training(error.into()))?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer.to_string(false).map_err(training)?.into_bytes())
}

fn training(error: tokenizers::Error) -> Error {
    Error::Text {
        location: "tokenizer training".to_owned(),
        problem: error.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::text::Text;

    pub(in crate::text) const CORPUS: [&str; 6] = [
        "Question: Who repairs the clock in the tower? Answer: the nurse",
        "Question: Who repairs the boat at the harbour? Answer: the baker",
        "a photograph of the mayor, who is kind and brave",
        "a photograph of the baker, who is kind and quick",
        "the nurse repairs the boat; the mayor repairs the clock",
        "naïve café at the harbour",
    ];

    pub(in crate::text) type Train = fn(std::vec::IntoIter<&'static str>, usize) -> Result<Vec<u8>>;
    pub(in crate::text) const KINDS: [Train; 2] = [train_byte_level_bpe, train_metaspace_bpe];

    pub(in crate::text) fn trained(train: Train, size: usize) -> Text {
        let json = train(CORPUS.to_vec().into_iter(), size).expect("the vocabulary has room");
        Text::from_bytes(&json, "trained").expect("what was trained can be read")
    }

    #[test]
    fn training_is_reproducible_and_keeps_the_special_ids() {
        for (train, special) in KINDS.into_iter().zip([
            ["<s>", "<pad>", "</s>", "<unk>"],
            ["<unk>", "<s>", "</s>", "<0x00>"],
        ]) {
            let once = train(CORPUS.to_vec().into_iter(), 330).expect("the vocabulary has room");
            let mut reversed = CORPUS.to_vec();
            reversed.reverse();
            let again = train(reversed.into_iter(), 330).expect("the vocabulary has room");
            assert_eq!(once, again);
            let text = trained(train, 330);
            assert_eq!(text.vocab_size(), 330);
            for (id, token) in special.iter().enumerate() {
                assert_eq!(text.token_id(token), Some(id as u32));
            }
            assert_eq!(text.token_id(IMAGE_TOKEN), Some(329));
            assert_eq!(text.end_of_text(), Some(2));
            assert!(train(CORPUS.to_vec().into_iter(), 256).is_err());
        }
    }

    #[test]
    fn trained_tokenizers_give_every_text_back() {
        for (train, first) in KINDS.into_iter().zip([2, 1]) {
            let text = trained(train, 400);
            for input in CORPUS
                .into_iter()
                .chain(["", " a  b ", "人 🙂\n\t<0x41> x"])
            {
                let ids = text.encode(input, true).expect("any text");
                assert_eq!(ids.first(), Some(&first));
                assert_eq!(text.decode(&ids, true).expect("known ids"), input);
                assert_eq!(ids[1..], text.encode(input, false).expect("any text"));
            }
            let image = text
                .encode(&IMAGE_TOKEN.repeat(2), false)
                .expect("any text");
            assert_eq!(image, [text.vocab_size() as u32 - 1; 2]);
        }
    }
}
