//! GPT-2's ids, against tiktoken.

use proptest::prelude::*;
use tiktoken_rs::r50k_base_singleton;
use tokenizer::{Tokenizer, TokenizerKind};

use crate::common;

#[test]
fn ids_match_published_ones() {
    let gpt2 = Tokenizer::gpt2();
    assert_eq!(gpt2.encode("Hello, world!").unwrap(), [15496, 11, 995, 0]);

    let text = "I'll don't  \n\n\tx 123 ünïcode 你好 🙂🙂 <|endoftext|>";
    let ids = [
        40, 1183, 836, 470, 220, 220, 628, 197, 87, 17031, 6184, 120, 77, 26884, 8189, 220, 19526, 254,
        25001, 121, 32485, 8582, 25081, 1279, 91, 437, 1659, 5239, 91, 29,
    ];
    assert_eq!(gpt2.encode(text).unwrap(), ids);
    assert_eq!(gpt2.decode(&ids), text);
}

#[test]
fn the_vocabulary_matches_tiktoken() {
    let gpt2 = Tokenizer::gpt2();
    assert_eq!(gpt2.vocab_size(), 50257);
    assert_eq!(gpt2.end_of_text(), Some(50256));
    assert_eq!(gpt2.kind(), Some(TokenizerKind::Gpt2));
    for id in 0..50257 {
        let expected = r50k_base_singleton().decode_bytes(&[id]).unwrap();
        assert_eq!(gpt2.token_bytes(id), Some(expected.as_slice()), "token {id}");
    }
    assert_eq!(gpt2.token_bytes(50257), None);
}

#[test]
fn ids_of_a_long_text_match_tiktoken() {
    let gpt2 = Tokenizer::gpt2();
    let text: String = (0..300).map(|i| format!("{}{i}{}", common::TEXT, " \n".repeat(i % 4))).collect();
    assert_eq!(gpt2.encode(&text).unwrap(), r50k_base_singleton().encode_ordinary(&text));

    let one_word = "ab".repeat(5_000);
    assert_eq!(gpt2.encode(&one_word).unwrap(), r50k_base_singleton().encode_ordinary(&one_word));
}

proptest! {
    #[test]
    fn ids_of_any_text_match_tiktoken(text in common::any_text()) {
        let ids = Tokenizer::gpt2().encode(&text).unwrap();
        prop_assert_eq!(ids, r50k_base_singleton().encode_ordinary(&text));
    }
}
