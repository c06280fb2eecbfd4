//! What a pipeline makes of ids, and what it puts before a text.

use serde_json::Value;
use tokenizers::{DecoderWrapper, Tokenizer as Pipeline};

use crate::byte_alphabet;
use crate::pipeline::decoder_of_pieces;
use crate::untrusted::without_panic;

/// How ids become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// The bytes of the tokens are joined.
    Joined,
    /// The bytes of the tokens are joined, and a space at the beginning of the text is taken off.
    JoinedAfterSpace,
    /// Whatever the `tokenizers` library makes of it.
    Foreign,
}

/// How tokens are spelled.
enum Spelling {
    /// As they are.
    Text,
    /// In GPT-2's alphabet.
    ByteLevel,
    /// With `▁` for a space, and `<0x0A>` for a byte.
    Pieces,
}

/// How the ids of `pipeline` become text, and the bytes of each id from 0 to the largest.
///
/// Where its decoder does more than join tokens, the bytes are those of each token decoded alone.
pub(crate) fn decoding(pipeline: &Pipeline) -> (Decoding, Vec<Option<Box<[u8]>>>) {
    let (decoding, spelling) = match pipeline.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => (Decoding::Joined, Spelling::ByteLevel),
        Some(DecoderWrapper::Fuse(_)) => (Decoding::Joined, Spelling::Text),
        Some(decoder @ DecoderWrapper::Sequence(_)) => match serde_json::to_value(decoder) {
            Ok(json) if json == decoder_of_pieces(true) => (Decoding::JoinedAfterSpace, Spelling::Pieces),
            Ok(json) if json == decoder_of_pieces(false) => (Decoding::Joined, Spelling::Pieces),
            _ => (Decoding::Foreign, Spelling::Text),
        },
        _ => (Decoding::Foreign, Spelling::Text),
    };
    let added = pipeline.get_added_tokens_decoder();
    let bytes = |token: String, id: u32| -> Vec<u8> {
        if decoding == Decoding::Foreign && !added.contains_key(&id) {
            return without_panic(|| pipeline.decode(&[id], false)).unwrap_or(token).into_bytes();
        }
        match spelling {
            Spelling::ByteLevel if !added.contains_key(&id) => {
                byte_alphabet::bytes(&token).unwrap_or_else(|| token.into_bytes())
            }
            Spelling::Pieces => piece(&token),
            _ => token.into_bytes(),
        }
    };
    let mut tokens = Vec::new();
    for (token, id) in pipeline.get_vocab(true) {
        let place = usize::try_from(id).expect("an id fits an address");
        if tokens.len() <= place {
            tokens.resize(place + 1, None);
        }
        tokens[place] = Some(bytes(token, id).into_boxed_slice());
    }
    (decoding, tokens)
}

/// The bytes of a token as SentencePiece spells it.
fn piece(token: &str) -> Vec<u8> {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    let is_byte = |digits: &&str| digits.len() == 2 && !digits.starts_with('+');
    match digits.filter(is_byte).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}

/// The ids that `pipeline` puts before every text, by the template in its post-processor.
pub(crate) fn beginning(pipeline: &Pipeline) -> Vec<u32> {
    let json = pipeline.get_post_processor().and_then(|processor| serde_json::to_value(processor).ok());
    json.as_ref().and_then(template).map(marks_before).unwrap_or_default()
}

/// The template, alone or among other processors.
fn template(processor: &Value) -> Option<&Value> {
    match processor["type"].as_str()? {
        "TemplateProcessing" => Some(processor),
        "Sequence" => processor["processors"].as_array()?.iter().find_map(template),
        _ => None,
    }
}

fn marks_before(template: &Value) -> Vec<u32> {
    let parts = template["single"].as_array().map_or(&[][..], Vec::as_slice);
    let marks = parts.iter().map_while(|part| part["SpecialToken"]["id"].as_str());
    let ids = marks.filter_map(|mark| template["special_tokens"][mark]["ids"].as_array()).flatten();
    ids.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
