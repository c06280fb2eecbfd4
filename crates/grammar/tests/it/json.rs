//! JSON objects and schemas.

use grammar::Grammar;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::support::{BYTES, GPT2, all};

/// A schema and a check of its values.
type Case = (Value, fn(&Value) -> bool);

fn cases() -> Vec<Case> {
    let person = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 8 },
            "age": { "type": "integer", "minimum": -1, "maximum": 150 },
            "colours": { "type": "array", "items": { "enum": ["red", "grün", "青"] }, "maxItems": 3 },
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let list = json!({
        "$defs": { "node": {
            "type": "object",
            "properties": {
                "value": { "anyOf": [{ "type": "null" }, { "type": "number", "minimum": -2.5, "maximum": 10 }] },
                "next": { "anyOf": [{ "type": "boolean" }, { "$ref": "#/$defs/node" }] },
            },
            "required": ["value", "next"],
            "additionalProperties": false,
        } },
        "$ref": "#/$defs/node",
    });
    let pair = json!({ "prefixItems": [{ "const": "a\"b" }, { "pattern": "^[a-c]{2}$", "type": "string" }],
        "items": false, "minItems": 2, "type": "array" });
    vec![(person, is_person), (list, is_list), (pair, is_pair)]
}

fn is_person(value: &Value) -> bool {
    let Value::Object(keys) = value else { return false };
    let colour = |value: &Value| ["red", "grün", "青"].iter().any(|name| value == name);
    keys.keys().all(|key| ["name", "age", "colours"].contains(&key.as_str()))
        && value["name"].as_str().is_some_and(|name| (1..=8).contains(&name.chars().count()))
        // As f64, since -0 is an integer too.
        && value["age"].as_f64().is_some_and(|age| age.fract() == 0.0 && (-1.0..=150.0).contains(&age))
        && keys
            .get("colours")
            .is_none_or(|list| list.as_array().is_some_and(|list| list.len() <= 3 && list.iter().all(colour)))
}

fn is_list(node: &Value) -> bool {
    node.as_object().is_some_and(|keys| keys.len() == 2)
        && (node["value"].is_null() || node["value"].as_f64().is_some_and(|x| (-2.5..=10.0).contains(&x)))
        && (node["next"].is_boolean() || is_list(&node["next"]))
}

fn is_pair(value: &Value) -> bool {
    let second = value[1].as_str().unwrap_or_default();
    value.as_array().is_some_and(|list| list.len() == 2)
        && value[0] == "a\"b"
        && second.len() == 2
        && second.bytes().all(|byte| (b'a'..=b'c').contains(&byte))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn samples_of_a_schema_are_valid(seed: u64) {
        for (schema, is_valid) in cases() {
            for tokens in all() {
                let text = tokens.sample(&Grammar::json_schema(&schema), seed);
                let value: Value = serde_json::from_str(&text).unwrap();
                prop_assert!(is_valid(&value), "{text}");
            }
        }
    }

    #[test]
    fn samples_of_any_object_are_json(seed: u64) {
        for tokens in all() {
            let text = tokens.sample(&Grammar::json_object(), seed);
            prop_assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
            // The model's numbers may exceed f64.
            prop_assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{text}");
        }
    }
}

#[test]
fn keys_follow_the_order_of_the_schema() {
    let schema = json!({ "type": "object", "required": ["b", "a"], "additionalProperties": false,
        "properties": { "b": { "type": "null" }, "a": { "type": "null" } } });
    let mut start = BYTES.after(&Grammar::json_schema(&schema), "{\"");
    assert_eq!(BYTES.allowed_text(&mut *start), ["b"]);
}

#[test]
fn white_space_is_bounded() {
    let object = Grammar::json_object();
    let next = |text: &str| BYTES.allowed_text(&mut *BYTES.after(&object, text));
    assert_eq!(next(""), ["{"]);
    assert_eq!(next("{"), ["\n", " ", "\"", "}"]);
    assert_eq!(next("{ "), ["\"", "}"]);
    let indent = " ".repeat(31);
    assert_eq!(next(&format!("{{\n{indent}")), [" ", "\"", "}"]);
    assert_eq!(next(&format!("{{\n {indent}")), ["\"", "}"]);
    assert_eq!(next("{\n\t\"a\""), ["\n", " ", ":"]);
}

#[test]
fn a_closed_object_is_complete() {
    for tokens in all() {
        let mut closed = tokens.after(&Grammar::json_object(), "{\"a\": [1, {}]}");
        assert!(closed.is_complete());
        assert!(closed.restrict(&mut [0.0]).unwrap_err().to_string().starts_with("the sample is complete"));
        assert!(closed.accept(tokens.tokenizer.encode(" ").unwrap()[0]).is_err());
        assert!(!tokens.after(&Grammar::json_object(), "{\"a\": [1, {}]").is_complete());
    }
}

#[test]
fn text_without_a_choice_is_encoded_as_in_training() {
    let grammar = Grammar::json_schema(&json!({ "const": "Once upon a time" }));
    let expected = GPT2.tokenizer.encode("\"Once upon a time\"").unwrap();
    let mut constraint = GPT2.constraint(&grammar);
    for &id in &expected[..expected.len() - 1] {
        assert_eq!(GPT2.allowed(&mut *constraint), [id]);
        constraint.accept(id).unwrap();
    }
}

#[test]
fn true_allows_any_value_and_keyword_x_guidance_sets_the_format() {
    let any = Grammar::json_schema(&json!(true));
    assert!(!BYTES.allowed_text(&mut *BYTES.constraint(&any)).contains(&" ".to_owned()));
    assert!(BYTES.after(&any, "[null]").is_complete());
    let compact = json!({ "x-guidance": { "whitespace_flexible": false } });
    let mut start = BYTES.after(&Grammar::json_schema(&compact), "[");
    assert!(!BYTES.allowed_text(&mut *start).contains(&" ".to_owned()));
}
