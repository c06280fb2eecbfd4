//! EOS tokens, forks, and tokens outside the grammar.

use grammar::{Error, Grammar, Vocabulary};
use proptest::prelude::*;
use serde_json::json;
use tokenizer::Tokenizer;

use crate::support::{BYTES, GPT2, Tokens};

#[test]
fn eos_tokens_are_allowed_only_where_the_grammar_may_end() {
    // The second EOS token is also the text of a grammar, which does not make it text.
    let (end_of_text, exclamation) = (50_256, 0);
    let tokens = Tokens::new(GPT2.tokenizer.clone(), &[end_of_text, exclamation]);
    let grammar = Grammar::regex("a!*b*");
    let start = tokens.allowed(&mut *tokens.constraint(&grammar));
    assert!(!start.contains(&end_of_text) && !start.contains(&exclamation));
    let mut after_b = tokens.after(&grammar, "ab");
    let allowed = tokens.allowed(&mut *after_b);
    assert!(allowed.contains(&end_of_text) && allowed.contains(&exclamation));
    assert!(!after_b.is_complete());
    for eos in tokens.eos.clone() {
        let mut ended = after_b.fork();
        ended.accept(eos).unwrap();
        assert!(ended.is_complete());
    }
    assert!(tokens.constraint(&grammar).accept(end_of_text).is_err());
}

#[test]
fn without_eos_a_sample_ends_where_no_token_can_follow() {
    let tokens = Tokens::new(Tokenizer::from_chars("ab".chars()).unwrap(), &[]);
    let may_continue = Grammar::regex("ab*");
    assert!(!tokens.after(&may_continue, "a").is_complete());
    assert_eq!(tokens.allowed_text(&mut *tokens.after(&may_continue, "a")), ["b"]);
    let not_in_this_vocabulary = Grammar::regex("ac*");
    assert!(tokens.after(&not_in_this_vocabulary, "a").is_complete());
}

#[test]
fn eos_tokens_outside_the_vocabulary_are_never_allowed() {
    let vocabulary = Vocabulary::new(&Tokenizer::byte(), &[256]).unwrap();
    let mut constraint = Grammar::regex("a*").constraint(&vocabulary).unwrap();
    let mut logits = vec![0.0; 300];
    constraint.restrict(&mut logits).unwrap();
    let allowed: Vec<usize> = (0..300).filter(|&id| logits[id].is_finite()).collect();
    assert_eq!(allowed, [usize::from(b'a')], "a model may have more tokens than its tokenizer");
    let mut few = [0.0; 5];
    constraint.restrict(&mut few).unwrap();
    assert_eq!(few, [f32::NEG_INFINITY; 5]);
}

#[test]
fn a_forbidden_token_changes_nothing() {
    let mut constraint = GPT2.after(&Grammar::regex("one|two"), "");
    let expected = GPT2.allowed(&mut *constraint);
    for id in [GPT2.eos[0], 50_257, u32::MAX, GPT2.tokenizer.encode("three").unwrap()[0]] {
        let error = constraint.accept(id).unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(matches!(*error, Error::Forbidden { n_accepted: 0, .. }), "{error}");
    }
    assert_eq!(GPT2.allowed(&mut *constraint), expected);
    for id in GPT2.tokenizer.encode("two").unwrap() {
        constraint.accept(id).unwrap();
    }
    assert!(constraint.is_complete());
}

#[test]
fn forks_are_independent() {
    let grammar = Grammar::json_schema(&json!({ "enum": ["left", "right"] }));
    let mut left = BYTES.after(&grammar, "\"");
    let mut right = left.fork();
    for (constraint, text) in [(&mut left, "left\""), (&mut right, "right\"")] {
        for byte in text.bytes() {
            constraint.accept(byte.into()).unwrap();
        }
    }
    assert!(left.is_complete() && right.is_complete());
    assert!(!BYTES.after(&grammar, "\"").fork().is_complete());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_token_is_accepted_exactly_if_it_is_allowed(choices in proptest::collection::vec(any::<u8>(), 1..40)) {
        let schema = json!({ "type": "array", "items": { "enum": [1, 22, "x", "é", null] } });
        let mut constraint = BYTES.constraint(&Grammar::json_schema(&schema));
        for choice in choices {
            let allowed = BYTES.allowed(&mut *constraint);
            for id in 0..256 {
                prop_assert_eq!(constraint.fork().accept(id).is_ok(), allowed.contains(&id), "byte {}", id);
            }
            constraint.accept(allowed[usize::from(choice) % allowed.len()]).unwrap();
            if constraint.is_complete() {
                break;
            }
        }
    }
}
