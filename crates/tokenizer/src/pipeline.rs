//! The `tokenizers` pipeline of each kind.
//!
//! A `tokenizer.json` has no field for the kind; `recognize.rs` derives it from the structure.
//!
//! | kind | model | pre-tokenizer | decoder | added tokens |
//! |---|---|---|---|---|
//! | char | BPE, a token per character, no merges | none | Fuse | none |
//! | byte | BPE, the 256 byte tokens in order, no merges | ByteLevel, no pattern | ByteLevel | none |
//! | gpt2 | BPE, GPT-2's tokens and merges | ByteLevel | ByteLevel | `<\|endoftext\|>`, 50256 |
//! | bpe:N | BPE, 256 byte tokens and N - 257 merges | ByteLevel | ByteLevel | `<\|endoftext\|>`, N - 1 |

use serde_json::{Value, json};
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model, Tokenizer as Pipeline};

use crate::byte_alphabet::CHARS;

/// The token between two documents.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// The pipeline of kind `char`: the id of a character is its index in `chars`.
pub(crate) fn char_pipeline(chars: &[char]) -> Pipeline {
    let vocab: Vocab = chars.iter().map(char::to_string).zip(0..).collect();
    let mut pipeline = Pipeline::new(mergeless(vocab));
    pipeline.with_decoder(Some(Fuse::default()));
    pipeline
}

/// The pipeline of kind `byte`.
pub(crate) fn byte_pipeline() -> Pipeline {
    let vocab: Vocab = CHARS.iter().map(char::to_string).zip(0..).collect();
    let mut pipeline = Pipeline::new(mergeless(vocab));
    pipeline.with_pre_tokenizer(Some(byte_level().use_regex(false)));
    pipeline.with_decoder(Some(byte_level()));
    pipeline
}

/// The pipeline of a byte-level BPE. [`END_OF_TEXT`] is special if it is a token.
pub(crate) fn byte_level_pipeline(model: BPE) -> Pipeline {
    let has_end_of_text = model.token_to_id(END_OF_TEXT).is_some();
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(byte_level()));
    pipeline.with_decoder(Some(byte_level()));
    if has_end_of_text {
        pipeline
            .add_special_tokens([AddedToken::from(END_OF_TEXT, true)])
            .expect("a token needs no normalizer, so none fails");
    }
    pipeline
}

/// The BPE of these merges, with ids in GPT-2's order: bytes by their characters, merges in order, [`END_OF_TEXT`].
pub(crate) fn byte_level_model(merges: Vec<(String, String)>) -> tokenizers::Result<BPE> {
    let mut bytes = *CHARS;
    bytes.sort_unstable();
    let bytes = bytes.iter().map(char::to_string);
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let mut vocab = Vocab::default();
    let mut next_id = 0;
    // Two merges may make the same token.
    for token in bytes.chain(merged).chain([END_OF_TEXT.to_owned()]) {
        vocab.entry(token).or_insert_with(|| {
            next_id += 1;
            next_id - 1
        });
    }
    BPE::builder().vocab_and_merges(vocab, merges).build()
}

fn mergeless(vocab: Vocab) -> BPE {
    BPE::builder().vocab_and_merges(vocab, Vec::new()).build().expect("no merge names a missing token")
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// SentencePiece's decoder: a space is spelled `▁` and a byte `<0x0A>`. With `strips_space` it removes the space that
/// the normalizer puts before a text.
pub(crate) fn sentencepiece_decoder(strips_space: bool) -> Value {
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if strips_space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": decoders })
}
