//! How a pipeline decodes ids, and the special tokens that it puts before a text.

use serde_json::Value;
use tokenizers::{DecoderWrapper, Tokenizer as Pipeline};

use crate::byte_alphabet;
use crate::pipeline::sentencepiece_decoder;
use crate::untrusted::without_panic;

/// How ids become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Concatenates the bytes of the tokens.
    Joined,
    /// Concatenates the bytes of the tokens and strips one space at the start of the text.
    JoinedAfterSpace,
    /// Decodes with the `tokenizers` library.
    Library,
}

/// How tokens are spelled.
enum Spelling {
    Text,
    /// GPT-2's byte alphabet.
    ByteLevel,
    /// `▁` for a space, `<0x0A>` for a byte.
    SentencePiece,
}

/// How `pipeline` decodes, and the bytes of each id from 0 to the largest.
///
/// For [`Decoding::Library`], the bytes of a token are its text when decoded alone.
pub(crate) fn decoding(pipeline: &Pipeline) -> (Decoding, Vec<Option<Box<[u8]>>>) {
    let (decoding, spelling) = match pipeline.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => (Decoding::Joined, Spelling::ByteLevel),
        Some(DecoderWrapper::Fuse(_)) => (Decoding::Joined, Spelling::Text),
        Some(decoder @ DecoderWrapper::Sequence(_)) => match serde_json::to_value(decoder) {
            Ok(json) if json == sentencepiece_decoder(true) => {
                (Decoding::JoinedAfterSpace, Spelling::SentencePiece)
            }
            Ok(json) if json == sentencepiece_decoder(false) => (Decoding::Joined, Spelling::SentencePiece),
            _ => (Decoding::Library, Spelling::Text),
        },
        _ => (Decoding::Library, Spelling::Text),
    };
    let added = pipeline.get_added_tokens_decoder();
    let bytes = |token: String, id: u32| -> Vec<u8> {
        if decoding == Decoding::Library && !added.contains_key(&id) {
            return without_panic(|| pipeline.decode(&[id], false)).unwrap_or(token).into_bytes();
        }
        match spelling {
            Spelling::ByteLevel if !added.contains_key(&id) => {
                byte_alphabet::bytes(&token).unwrap_or_else(|| token.into_bytes())
            }
            Spelling::SentencePiece => sentencepiece_bytes(&token),
            _ => token.into_bytes(),
        }
    };
    let mut tokens = Vec::new();
    for (token, id) in pipeline.get_vocab(true) {
        let idx = usize::try_from(id).expect("an id fits an address");
        if tokens.len() <= idx {
            tokens.resize(idx + 1, None);
        }
        tokens[idx] = Some(bytes(token, id).into_boxed_slice());
    }
    (decoding, tokens)
}

/// The bytes of a token in SentencePiece's spelling.
fn sentencepiece_bytes(token: &str) -> Vec<u8> {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    let is_byte = |digits: &&str| digits.len() == 2 && !digits.starts_with('+');
    match digits.filter(is_byte).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}

/// The ids that the template of the post-processor puts before every text.
pub(crate) fn prompt_prefix(pipeline: &Pipeline) -> Vec<u32> {
    let json = pipeline.get_post_processor().and_then(|processor| serde_json::to_value(processor).ok());
    json.as_ref().and_then(template).map(leading_special_tokens).unwrap_or_default()
}

/// The template of a post-processor, also within a sequence.
fn template(processor: &Value) -> Option<&Value> {
    match processor["type"].as_str()? {
        "TemplateProcessing" => Some(processor),
        "Sequence" => processor["processors"].as_array()?.iter().find_map(template),
        _ => None,
    }
}

fn leading_special_tokens(template: &Value) -> Vec<u32> {
    let parts = template["single"].as_array().map_or(&[][..], Vec::as_slice);
    let tokens = parts.iter().map_while(|part| part["SpecialToken"]["id"].as_str());
    let ids = tokens.filter_map(|token| template["special_tokens"][token]["ids"].as_array()).flatten();
    ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
