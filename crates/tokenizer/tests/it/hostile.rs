//! Corrupted and malicious files: each is loaded, or the error names it.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::common::{self, TEXT};

/// The cause of the error for a file with these bytes. Checks that the error names the file.
fn refusal(contents: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, contents).expect("the disk is not full");
    cause(Tokenizer::load(&path), &path).expect_err("the file is refused")
}

/// The cause of an error. Checks that the error names the path.
fn cause(loaded: tokenizer::Result<Tokenizer>, path: &Path) -> Result<Tokenizer, String> {
    loaded.map_err(|error| {
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let source = std::error::Error::source(&error).expect("there is a reason");
        source.to_string()
    })
}

/// The `tokenizer.json` of a BPE.
fn bpe(vocab: &Value, merges: &Value) -> Value {
    let model = json!({"type": "BPE", "vocab": vocab, "merges": merges});
    json!({"version": "1.0", "added_tokens": [], "model": model})
}

#[test]
fn invalid_json_is_refused() {
    for file in [r#"{"version":"1.0","decoder":{"type":"Fuse"]}"#, r#"{"decoder": 1e400}"#, r#"{"decoder": "#]
    {
        assert!(refusal(file.as_bytes()).contains("line 1"), "{file}");
    }
    assert!(refusal(b"\xff").contains("UTF-8"));
}

#[test]
fn a_merge_without_a_result_is_refused() {
    let vocab = json!({"a": 0, "##b": 1, "ab": 2});
    let longer = refusal(bpe(&vocab, &json!([["ab", "##b"]])).to_string().as_bytes());
    assert_eq!(longer, r###"the merge of "ab" and "##b" makes "ab##b", which is not a token"###);
    let as_string = refusal(bpe(&vocab, &json!(["a ##b"])).to_string().as_bytes());
    assert!(as_string.contains("makes \"a##b\""), "{as_string}");
    // The prefix would end within a character of the right half.
    let mut cut = bpe(&json!({"a": 0, "é": 1}), &json!([["a", "é"]]));
    cut["model"]["continuing_subword_prefix"] = json!("#");
    assert!(refusal(cut.to_string().as_bytes()).contains("lacks the prefix \"#\""));

    for merges in [json!([["a", "##b"]]), json!(["#version: 0.2", "a ##b"])] {
        let mut whole = bpe(&vocab, &merges);
        whole["model"]["continuing_subword_prefix"] = json!("##");
        assert_eq!(Tokenizer::from_json(&whole.to_string()).unwrap().merges().len(), 1);
    }
}

#[test]
fn a_merge_without_a_result_in_merges_txt_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [vocabulary, merges] = ["vocab.json", "merges.txt"].map(|name| folder.path().join(name));
    fs::write(&vocabulary, r#"{"a":0,"b":1}"#).unwrap();
    fs::write(&merges, "#version: 0.2\na b\n").unwrap();
    let error = Tokenizer::load_byte_level(&vocabulary, &merges).unwrap_err().to_string();
    assert!(error.contains("merges.txt: the merge of \"a\" and \"b\" makes \"ab\""), "{error}");
}

#[test]
fn two_tokens_with_one_id_are_refused() {
    // A saved file would lack one of them, and the merge would name a missing token.
    let file = bpe(&json!({"a": 0, "b": 1, "ab": 1}), &json!([["a", "b"]]));
    assert_eq!(refusal(file.to_string().as_bytes()), r#"tokens "ab" and "b" both have the id 1"#);
}

#[test]
fn a_truncated_charsmap_is_refused() {
    let file = |table: &str| {
        let mut file = bpe(&json!({"a": 0}), &json!([]));
        file["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": table},
        ]});
        refusal(file.to_string().as_bytes())
    };
    // The first four bytes are the length: 2³² - 1, for which the library would allocate 8 GB.
    for cut in ["/////w==", "BQAAAAAAAAA=", "", "AAA="] {
        assert_eq!(file(cut), "precompiled_charsmap is truncated", "{cut}");
    }
    assert!(file("no base64").contains("precompiled_charsmap: "));
}

#[test]
fn patterns_that_need_too_much_memory_are_refused() {
    let file = |pattern: &str, n: usize| {
        let split =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let mut file = bpe(&json!({"a": 0}), &json!([]));
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": vec![split; n]});
        file.to_string()
    };
    // Each of the forty would take megabytes when compiled.
    let error = refusal(file(r"\w{60}", 40).as_bytes());
    assert!(error.ends_with(r#"would take too much memory; the limit is exceeded by "\\w{60}""#), "{error}");
    assert!(refusal(file(&r"(?=\w)".repeat(2000), 1).as_bytes()).len() < 200);
    assert!(Tokenizer::from_json(&file(r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", 4)).is_ok());
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    // An empty map, whose first entry the library accesses.
    let mut file = bpe(&json!({"a": 0}), &json!([]));
    file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="});
    let tokenizer = Tokenizer::from_json(&file.to_string()).unwrap();
    let error = tokenizer.encode("a").unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("the tokenizers library failed: index out of bounds"), "{source}");
}

fn changed(file: &str, changes: &[(prop::sample::Index, u8)], cut: Option<prop::sample::Index>) -> Vec<u8> {
    let mut bytes = file.as_bytes().to_owned();
    for (place, byte) in changes {
        let place = place.index(bytes.len());
        bytes[place] = *byte;
    }
    bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        refusal(&bytes);
    }

    #[test]
    fn changed_files_work_or_are_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        // GPT-2's file is large and has the same structure as that of `bpe:N`.
        for tokenizer in common::all().iter().filter(|tokenizer| tokenizer.vocab_size() < 1000) {
            fs::write(&path, changed(&tokenizer.to_json(), &changes, cut)).unwrap();
            if let Ok(tokenizer) = cause(Tokenizer::load(&path), &path) {
                if let Ok(ids) = tokenizer.encode(TEXT) {
                    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    tokenizer.decode(&ids);
                }
                prop_assert!(Tokenizer::from_json(&tokenizer.to_json()).is_ok());
            }
        }
    }
}
