//! Encoding and decoding, whole and in parts.

use proptest::prelude::*;
use tokenizer::{Error, Tokenizer};

use crate::common::{self, COMPLETE};

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.decode_stream();
    let mut parts: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    parts.push(stream.finish());
    parts
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in common::any_text()) {
        for tokenizer in COMPLETE.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids), text.as_str(), "{:?}", tokenizer);
        }
    }

    #[test]
    fn a_char_vocabulary_has_an_id_for_each_character(text in common::any_text()) {
        prop_assume!(!text.is_empty());
        let tokenizer = Tokenizer::from_chars(text.chars()).unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(ids.len(), text.chars().count());
        prop_assert_eq!(tokenizer.decode(&ids), text.as_str());

        // The order of ids is the order of code points, without a gap.
        let mut pairs: Vec<(char, u32)> = text.chars().zip(ids).collect();
        pairs.sort_unstable();
        pairs.dedup();
        prop_assert!((0..).zip(&pairs).all(|(id, pair)| pair.1 == id));
        prop_assert_eq!(pairs.len(), tokenizer.vocab_size());
    }

    #[test]
    fn ids_are_bytes(text in common::any_text()) {
        let ids = Tokenizer::byte().encode(&text).unwrap();
        prop_assert!(ids.into_iter().eq(text.bytes().map(u32::from)));
    }

    #[test]
    fn streaming_returns_whole_characters_of_the_same_text(text in common::any_text()) {
        for tokenizer in COMPLETE.iter() {
            let parts = stream(tokenizer, &tokenizer.encode(&text).unwrap());
            prop_assert_eq!(parts.concat(), text.as_str());
            if !text.contains('\u{FFFD}') {
                let replaced = parts.concat().contains('\u{FFFD}');
                prop_assert!(!replaced);
            }
            // Valid text leaves no incomplete character.
            prop_assert_eq!(parts.last().unwrap(), "");
        }
    }

    #[test]
    fn any_ids_decode_the_same_whole_and_streamed(ids in prop::collection::vec(any_id(), 0..40)) {
        for tokenizer in common::all() {
            let text = tokenizer.decode(&ids);
            prop_assert_eq!(stream(&tokenizer, &ids).concat(), text.as_str());

            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| tokenizer.token_bytes(id).unwrap_or("\u{FFFD}".as_bytes()))
                .copied()
                .collect();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn parts_cut_at_a_boundary_have_the_ids_of_the_whole(before in common::any_text(), after in common::any_text()) {
        for tokenizer in COMPLETE.iter() {
            let Some(boundary) = tokenizer.last_boundary(&before) else { continue };
            let whole = before.clone() + &after;
            let (left, right) = whole.split_at(boundary);
            let parts = [tokenizer.encode(left).unwrap(), tokenizer.encode(right).unwrap()].concat();
            prop_assert_eq!(parts, tokenizer.encode(&whole).unwrap());
        }
    }
}

/// Ids of bytes, which make incomplete characters, of other tokens, and outside all vocabularies.
fn any_id() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..300, 0_u32..50_300, any::<u32>()]
}

#[test]
fn an_emoji_streams_as_one_character() {
    let tokenizer = Tokenizer::byte();
    assert_eq!(stream(&tokenizer, &[0xF0, 0x9F, 0x99, 0x82, 0x21]), ["", "", "", "🙂", "!", ""]);
    // An incomplete one is replaced once, at the next byte or at the end.
    assert_eq!(stream(&tokenizer, &[0xF0, 0x9F, 0x99, 0x21]), ["", "", "", "\u{FFFD}!", ""]);
    assert_eq!(stream(&tokenizer, &[0xF0, 0x9F, 0x99]), ["", "", "", "\u{FFFD}"]);
}

#[test]
fn ids_outside_the_vocabulary_are_replaced() {
    let tokenizer = Tokenizer::from_chars("ab".chars()).unwrap();
    assert_eq!(tokenizer.decode(&[0, 2, 1, u32::MAX]), "a\u{FFFD}b\u{FFFD}");
    assert_eq!(tokenizer.token_bytes(1), Some(b"b".as_slice()));
    assert_eq!(tokenizer.token_bytes(2), None);
}

#[test]
fn an_unknown_character_is_reported_with_its_position() {
    let tokenizer = Tokenizer::from_chars("First Citizen:\n".chars()).unwrap();
    let error = tokenizer.encode("First\nCitizen é").unwrap_err();
    assert!(matches!(error, Error::UnknownCharacter { character: 'é', offset: 14, line: 2, column: 9 }));
    let message = error.to_string();
    assert!(
        message.starts_with("character 'é' (U+00E9) at line 2, column 9 (byte 14) is not in the vocabulary;"),
        "{message}"
    );
    assert!(matches!(Tokenizer::from_chars([]), Err(Error::NoCharacters)));
}

#[test]
fn threads_share_a_tokenizer() {
    for tokenizer in common::all() {
        let expected = tokenizer.encode(common::TEXT).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(tokenizer.encode(common::TEXT).unwrap(), expected));
            }
        });
    }
}
