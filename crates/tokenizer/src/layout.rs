//! The `tokenizer.json` of each kind, and how a file is known to be one of them.
//!
//! Nothing but the tokenizer itself is in a file: the kind follows from its structure.
//!
//! | kind | model | pre-tokenizer | decoder | added tokens |
//! |---|---|---|---|---|
//! | char | BPE, a token per character, no merges | none | Fuse | none |
//! | byte | BPE, the 256 byte tokens in order, no merges | ByteLevel, no pattern | ByteLevel | none |
//! | gpt2 | BPE, GPT-2's tokens and merges | ByteLevel | ByteLevel | `<\|endoftext\|>`, 50256 |
//! | bpe:N | BPE, 256 byte tokens and N - 257 merges | ByteLevel | ByteLevel | `<\|endoftext\|>`, N - 1 |

use serde_json::{Value, json};
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, Model, PreTokenizerWrapper, Tokenizer as Pipeline};

use crate::byte_alphabet::CHARS;
use crate::char_vocabulary::CharVocabulary;
use crate::{TokenizerKind, gpt2};

/// The token that stands between two documents.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// How the text of a tokenizer is encoded.
#[derive(Debug, Clone)]
pub(crate) enum Codec {
    Char(CharVocabulary),
    Byte,
    ByteLevelBpe,
    /// Whatever the `tokenizers` library makes of it.
    Foreign,
}

/// A pipeline of kind `char`, in which the id of a character is its place in `chars`.
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

/// The pipeline of a byte-level BPE, in which [`END_OF_TEXT`] is special if it is a token.
pub(crate) fn byte_level_pipeline(model: BPE) -> Pipeline {
    let ends_texts = model.token_to_id(END_OF_TEXT).is_some();
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(byte_level()));
    pipeline.with_decoder(Some(byte_level()));
    if ends_texts {
        pipeline
            .add_special_tokens([AddedToken::from(END_OF_TEXT, true)])
            .expect("a token needs no normalizer, so none fails");
    }
    pipeline
}

/// The BPE of these merges with GPT-2's order of ids: the bytes by their characters, the merges as they were
/// learned, [`END_OF_TEXT`].
pub(crate) fn byte_level_model(merges: Vec<(String, String)>) -> tokenizers::Result<BPE> {
    let mut bytes = *CHARS;
    bytes.sort_unstable();
    let bytes = bytes.iter().map(char::to_string);
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let mut vocab = Vocab::default();
    let mut next_id = 0;
    // Two merges may make the same token, which has one id.
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

/// The decoder of tokens that spell a space as `▁` and a byte as `<0x0A>`, as SentencePiece's, which takes off the space
/// that was put before a text if there was one.
pub(crate) fn decoder_of_pieces(strips_space: bool) -> Value {
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

/// What `pipeline` is, by its structure.
pub(crate) fn recognize(pipeline: &Pipeline) -> (Codec, Option<TokenizerKind>) {
    recognize_ours(pipeline).map_or((Codec::Foreign, None), |(codec, kind)| (codec, Some(kind)))
}

fn recognize_ours(pipeline: &Pipeline) -> Option<(Codec, TokenizerKind)> {
    let ModelWrapper::BPE(model) = pipeline.get_model() else { return None };
    if pipeline.get_normalizer().is_some() || !is_plain(model) {
        return None;
    }
    let added = pipeline.get_added_tokens_decoder();
    match (pipeline.get_pre_tokenizer(), pipeline.get_decoder()?) {
        (None, DecoderWrapper::Fuse(_)) if added.is_empty() => {
            let codec = Codec::Char(CharVocabulary::new(&single_chars(model)?));
            Some((codec, TokenizerKind::Char))
        }
        (Some(PreTokenizerWrapper::ByteLevel(pre)), DecoderWrapper::ByteLevel(_))
            if !pre.add_prefix_space =>
        {
            if !pre.use_regex {
                let is_byte = added.is_empty() && single_chars(model)? == *CHARS;
                return is_byte.then_some((Codec::Byte, TokenizerKind::Byte));
            }
            let knows_every_byte = CHARS.iter().all(|byte| model.token_to_id(&byte.to_string()).is_some());
            let is_end_of_text = |token: &AddedToken| {
                let takes_more = token.lstrip || token.rstrip || token.single_word;
                token.special && token.content == END_OF_TEXT && !takes_more
            };
            if added.len() != 1 || !added.values().all(is_end_of_text) || !knows_every_byte {
                return None;
            }
            let vocab_size = pipeline.get_vocab_size(true);
            let kind = if is_gpt2(model) { TokenizerKind::Gpt2 } else { TokenizerKind::Bpe { vocab_size } };
            Some((Codec::ByteLevelBpe, kind))
        }
        _ => None,
    }
}

/// Whether the model has none of the additions to BPE that the library knows.
fn is_plain(model: &BPE) -> bool {
    let unset = |affix: &Option<String>| affix.as_deref().is_none_or(str::is_empty);
    model.dropout.is_none()
        && model.unk_token.is_none()
        && unset(&model.continuing_subword_prefix)
        && unset(&model.end_of_word_suffix)
        && !model.byte_fallback
        && !model.ignore_merges
}

/// The tokens in the order of their ids, if those have no gap and each is one character. Then there are no
/// merges either, as they would make tokens of two.
fn single_chars(model: &BPE) -> Option<Vec<char>> {
    let n_tokens = u32::try_from(model.get_vocab_size()).ok()?;
    (0..n_tokens)
        .map(|id| {
            let token = model.id_to_token(id)?;
            let mut chars = token.chars();
            chars.next().filter(|_| chars.next().is_none())
        })
        .collect()
}

fn is_gpt2(model: &BPE) -> bool {
    if model.get_vocab_size() != gpt2::VOCAB_SIZE {
        return false;
    }
    // Published files spell an absent affix as an empty one.
    let mut plain = model.clone();
    plain.continuing_subword_prefix = None;
    plain.end_of_word_suffix = None;
    plain == gpt2::model()
}
