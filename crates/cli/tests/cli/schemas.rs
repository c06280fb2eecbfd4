//! `kindling generate --json-schema`.

use std::fs::{self, File};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{kindling, ran, run};

/// A folder with a run that knows all bytes, and a schema.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.txt"), "{\"sum\": 12, \"even\": true}\n".repeat(200)).unwrap();
    let args = ["train", "debug", "--data", "my.txt", "--run", "bytes", "--set", "data.tokenizer=byte"];
    run(folder.path(), &args).success();
    let schema = json!({
        "type": "object",
        "properties": { "sum": { "type": "integer", "minimum": 0, "maximum": 999 }, "even": { "type": "boolean" } },
        "required": ["sum", "even"],
        "additionalProperties": false,
    });
    fs::write(folder.path().join("schema.json"), schema.to_string()).unwrap();
    folder
}

#[test]
fn samples_are_valid_by_the_schema() {
    let folder = folder();
    let args =
        ["generate", "--json-schema", "schema.json", "--samples", "5", "--json", "--temperature", "1.5"];
    let output: Value = serde_json::from_str(&run(folder.path(), &args).success().stdout).unwrap();
    for sample in output["samples"].as_array().unwrap() {
        let text = sample["text"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(value["sum"].as_u64().is_some_and(|sum| sum < 1000) && value["even"].is_boolean(), "{text}");
        assert_eq!(value.as_object().unwrap().len(), 2, "{text}");
        assert_eq!(sample["stopped_by"], "constraint");
    }

    let schema = File::open(folder.path().join("schema.json")).unwrap();
    let piped = ran(kindling(folder.path(), &["generate", "--json-schema", "-"]).stdin(schema)).success();
    serde_json::from_str::<Value>(&piped.stdout).unwrap();
}

#[test]
fn a_bad_schema_is_named() {
    let folder = folder();
    let failure = |schema: &str| {
        fs::write(folder.path().join("bad.json"), schema).unwrap();
        run(folder.path(), &["generate", "--json-schema", "bad.json"]).usage_failure()
    };
    let error = failure("{ \"type\": ");
    assert!(error.contains("bad.json is not JSON"), "{error}");
    let error = failure(r#"{ "type": "text" }"#);
    assert!(error.contains("--json-schema") && error.contains("text"), "{error}");

    let both = ["generate", "--json-schema", "-", "--prompt-file", "-"];
    let error = run(folder.path(), &both).usage_failure();
    assert!(error.contains("standard input"), "{error}");
    let error = run(folder.path(), &["generate", "--json-schema", "schema.json", "-i"]).usage_failure();
    assert!(error.contains("cannot be used with"), "{error}");
    let missing = run(folder.path(), &["generate", "--json-schema", "none.json"]).failure();
    assert!(missing.contains("none.json"), "{missing}");
}
