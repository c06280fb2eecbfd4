//! Regular expressions and Lark grammars.

use grammar::Grammar;
use proptest::prelude::*;

use crate::support::{BYTES, GPT2, Tokens, all};

const SUM: &str = r#"
start: sum
sum: NUMBER | "(" sum "+" sum ")"
NUMBER: /[0-9]{1,2}/
"#;

/// What remains of `text` after a sum.
fn after_sum(text: &str) -> Option<&str> {
    if let Some(sums) = text.strip_prefix('(') {
        return after_sum(after_sum(sums)?.strip_prefix('+')?)?.strip_prefix(')');
    }
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (1..=2).contains(&n_digits).then(|| &text[n_digits..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn samples_of_an_expression_match_it(seed: u64) {
        for tokens in all() {
            let text = tokens.sample(&Grammar::regex("(ab|b/?){2,4}\n;"), seed);
            let n_b = text.matches('b').count();
            prop_assert!((2..=4).contains(&n_b) && text.ends_with("\n;"), "{text}");
            let rest = text.trim_end_matches("\n;").replace("ab", "").replace("b/", "").replace('b', "");
            prop_assert_eq!(rest, "");
        }
    }

    #[test]
    fn characters_of_several_tokens_are_whole(seed: u64) {
        for tokens in all() {
            let text = tokens.sample(&Grammar::regex("[ü青😀]{3}é"), seed);
            prop_assert_eq!(text.chars().count(), 4);
            prop_assert!(text.chars().all(|char| "ü青😀é".contains(char)), "{text}");
        }
    }

    #[test]
    fn samples_of_a_lark_grammar_match_it(seed: u64) {
        // A top-level number of one digit could continue, so only GPT-2's EOS token ends it.
        let text = GPT2.sample(&Grammar::lark(SUM), seed);
        prop_assert_eq!(after_sum(&text), Some(""));
    }
}

#[test]
fn expressions_match_from_start_to_end() {
    for expression in ["yes|no", "^(yes|no)$"] {
        let grammar = Grammar::regex(expression);
        assert_eq!(BYTES.allowed_text(&mut *BYTES.constraint(&grammar)), ["n", "y"]);
        assert!(BYTES.after(&grammar, "yes").is_complete());
    }
    assert!(BYTES.constraint(&Grammar::regex("")).is_complete());
}

#[test]
fn a_lark_grammar_can_require_a_special_token() {
    let mut constraint = GPT2.after(&Grammar::lark("start: \"a\" <|endoftext|> \"b\""), "a");
    assert_eq!(GPT2.allowed_text(&mut *constraint), ["<|endoftext|>"]);
}

#[test]
fn a_permissive_grammar_forbids_only_special_tokens_and_broken_text() {
    let tokens = Tokens::new(GPT2.tokenizer.clone(), &[]);
    let mut constraint = tokens.constraint(&Grammar::regex("(?s:.*)"));
    let mut logits: Vec<f32> = (0..tokens.tokenizer.vocab_size()).map(|id| id as f32).collect();
    let before = logits.clone();
    constraint.restrict(&mut logits).unwrap();
    for (id, (logit, before)) in (0..).zip(logits.into_iter().zip(before)) {
        let starts_a_text = match str::from_utf8(tokens.tokenizer.token_bytes(id).unwrap()) {
            Ok(_) => !tokens.tokenizer.is_special(id),
            Err(error) => error.error_len().is_none(),
        };
        assert_eq!(logit, if starts_a_text { before } else { f32::NEG_INFINITY }, "token {id}");
    }
}

#[test]
fn bytes_outside_utf8_are_allowed_on_request_except_ff() {
    let grammar = Grammar::lark("%llguidance {\"allow_invalid_utf8\": true}\nstart: /(?s-u:.)+/");
    let allowed = BYTES.allowed(&mut *BYTES.constraint(&grammar));
    assert_eq!(allowed, (0..255).collect::<Vec<u32>>());
}
