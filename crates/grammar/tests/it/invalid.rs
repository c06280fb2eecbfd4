//! Invalid and hostile grammars.

use grammar::{Error, Grammar, Vocabulary};
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::support::{BYTES, GPT2, Tokens};

fn error(grammar: &Grammar) -> String {
    let error = grammar.constraint(&GPT2.vocabulary).unwrap_err().to_string();
    assert_eq!(grammar.check().unwrap_err().to_string(), error);
    error
}

#[test]
fn invalid_schemas_are_reported_with_their_place() {
    for (schema, expected) in [
        (json!({ "type": "text" }), "at #: Invalid type: text"),
        (
            json!({ "properties": { "a/b": { "anyOf": [{ "type": "null" }, { "not": {} }] } } }),
            "at #/properties/a~1b/anyOf/1: Unimplemented keys: [\"not\"]",
        ),
        (
            json!({ "$defs": { "x": { "minimum": 3, "maximum": 2, "type": "integer" } }, "$ref": "#/$defs/x" }),
            "at #/$defs/x: Unsatisfiable schema: minimum (3) is greater than maximum (2)",
        ),
        (json!({ "items": { "type": "string", "pattern": "((" } }), "at #/items: regex parse error"),
        (json!({ "$ref": "#/$defs/missing" }), "at #: Pointer '/$defs/missing' does not exist"),
        (json!(false), "at #: Unsatisfiable schema"),
        (json!("text"), "at #: schema must be an object or boolean"),
        (json!({ "x-guidance": { "typo": 1 } }), "at #: unknown field `typo`"),
    ] {
        let error = error(&Grammar::json_schema(&schema));
        assert!(error.starts_with(&format!("invalid JSON schema {expected}")), "{error}");
    }
}

#[test]
fn a_schema_reads_no_file_and_no_network() {
    for uri in ["file:///etc/hostname", "http://127.0.0.1:9/schema.json", "../schema.json"] {
        let error = error(&Grammar::json_schema(&json!({ "$ref": uri })));
        assert!(error.contains("does not fetch resources"), "{error}");
    }
}

#[test]
fn invalid_expressions_are_reported_with_their_place() {
    for (expression, expected) in [
        ("a(b", "invalid regular expression: regex parse error:\n    a(b\n     ^\nerror: unclosed group"),
        (
            "a\\",
            "invalid regular expression: regex parse error:\n    a\\\n     ^\nerror: incomplete escape sequence",
        ),
        (
            "a(?=b)",
            "invalid regular expression: regex parse error:\n    a(?=b)\n     ^^^\nerror: look-around",
        ),
    ] {
        let error = error(&Grammar::regex(expression));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn invalid_lark_grammars_are_reported_with_their_place() {
    for (grammar, expected) in [
        ("start: missing", "invalid Lark grammar: at 1(8): unknown name: \"missing\""),
        ("start: \"a\"\nb: \"c", "invalid Lark grammar: 2(6): lexer error"),
        ("", "invalid Lark grammar: no start rule found"),
        ("%import .other.RULE\nstart: RULE", "invalid Lark grammar: at 1(1): Unknown common regex"),
    ] {
        let error = error(&Grammar::lark(grammar));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_grammar_that_matches_no_text_of_the_vocabulary_is_an_error() {
    let letters = Tokens::new(Tokenizer::from_chars("ab".chars()).unwrap(), &[]);
    let object = Grammar::json_object().constraint(&letters.vocabulary);
    assert!(matches!(object, Err(Error::NoToken { n_accepted: 0 })));
    let endless = Grammar::lark("start: a\na: a").constraint(&BYTES.vocabulary);
    assert!(matches!(endless, Err(Error::NoToken { n_accepted: 0 })));
    let later = letters.after(&Grammar::regex("ac"), "a").restrict(&mut [0.0; 2]);
    assert!(later.unwrap_err().to_string().starts_with("no token of the vocabulary can follow 1 tokens"));
}

#[test]
fn tokenizers_that_do_not_join_bytes_are_an_error() {
    let word_piece = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": { "[UNK]": 0, "a": 1 } },
    });
    let tokenizer = Tokenizer::from_json(&word_piece.to_string()).unwrap();
    assert!(matches!(Vocabulary::new(&tokenizer, &[]), Err(Error::Decoder)));
}

#[test]
fn long_and_deep_grammars_are_errors() {
    for grammar in [Grammar::regex(&"a".repeat(40_000)), Grammar::lark(&" ".repeat(40_000))] {
        assert!(matches!(grammar.check(), Err(Error::TooLong { n_bytes: 40_000, .. })));
    }
    for divisor in [json!(9_999_991), json!(0.123_457), json!(1e-9)] {
        let schema = json!({ "type": "number", "multipleOf": divisor });
        assert!(matches!(Grammar::json_schema(&schema).check(), Err(Error::Divisor { .. })));
    }
    assert!(Grammar::json_schema(&json!({ "type": "number", "multipleOf": 0.25 })).check().is_ok());
    let nested = (0..200).fold(json!({}), |inner, _| json!({ "items": inner }));
    assert!(matches!(Grammar::json_schema(&nested).check(), Err(Error::TooDeep { .. })));
}

#[test]
fn hostile_grammars_fail_or_work_without_a_crash() {
    let chain = |n: usize| {
        let rules = (0..n).map(|idx| format!("a{idx:x}:a{:x}\n", idx + 1));
        format!("{}start:a0\na{n:x}:\"b\"", rules.collect::<String>())
    };
    let nested =
        (0..120).fold(json!({ "type": "null" }), |inner, _| json!({ "type": "array", "items": inner }));
    let wide: serde_json::Map<String, Value> = (0..300).map(|idx| (format!("key{idx}"), json!({}))).collect();
    for grammar in [
        Grammar::lark(&chain(2_700)),
        Grammar::lark("start: sum\nsum: sum sum | \"a\" | sum \"+\" sum"),
        Grammar::lark("start: a*\na: b*\nb: a* \"x\"?"),
        Grammar::lark(&format!("start: {}\"a\"{}", "(".repeat(2_000), ")".repeat(2_000))),
        Grammar::lark("start: (\"a\" \"b\"){1000000}"),
        Grammar::lark("start: <[*]>"),
        Grammar::lark("start: <|missing|>"),
        Grammar::regex(&"(".repeat(10_000)),
        Grammar::regex(&format!("a{}", "*".repeat(10_000))),
        Grammar::regex("(([a-z]{1,100}x){1,100}y){1,100}"),
        Grammar::regex("(.*a.{20}){10}"),
        Grammar::regex(r"\p{L}{1,1000}\w{1,1000}"),
        Grammar::regex("(a|b)*a(a|b){400}c"),
        Grammar::json_schema(&nested),
        Grammar::json_schema(&json!({ "type": "object", "properties": wide })),
        Grammar::json_schema(&json!({ "type": "string", "minLength": 100_000, "maxLength": 1_000_000 })),
        Grammar::json_schema(&json!({ "type": "array", "minItems": 1_000_000 })),
        Grammar::json_schema(&json!({ "type": "integer", "multipleOf": 9_999_991 })),
        Grammar::json_schema(&json!({ "$ref": "#" })),
        Grammar::json_schema(&json!({ "allOf": [{ "$ref": "#" }, { "type": "null" }] })),
    ] {
        for tokens in [&*GPT2, &*BYTES] {
            let Ok(mut constraint) = grammar.constraint(&tokens.vocabulary) else { continue };
            for step in 0..20 {
                let mut logits = vec![0.0; tokens.tokenizer.vocab_size()];
                if constraint.is_complete() || constraint.restrict(&mut logits).is_err() {
                    break;
                }
                let allowed: Vec<u32> =
                    (0..).zip(logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect();
                if constraint.fork().accept(allowed[step * 7_919 % allowed.len()]).is_err() {
                    break;
                }
                constraint = constraint.fork();
                if constraint.accept(allowed[step * 7_919 % allowed.len()]).is_err() {
                    break;
                }
            }
        }
    }
}
