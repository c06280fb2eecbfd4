//! Files that someone has changed, or made to do harm: each is a tokenizer, or the error names it.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::common::{self, TEXT};

/// What is wrong with a file of these bytes; the whole error has to name it.
fn refusal(contents: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("there is a folder of temporary files");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, contents).expect("there is room for it");
    named(Tokenizer::load(&path), &path).expect_err("the file is refused")
}

/// The error's causes, without the path that it has to have in it.
fn named(loaded: tokenizer::Result<Tokenizer>, path: &Path) -> Result<Tokenizer, String> {
    loaded.map_err(|error| {
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let source = std::error::Error::source(&error).expect("there is a reason");
        source.to_string()
    })
}

/// A file of the BPE whose vocabulary and merges are these.
fn bpe(vocab: &Value, merges: &Value) -> Value {
    let model = json!({"type": "BPE", "vocab": vocab, "merges": merges});
    json!({"version": "1.0", "added_tokens": [], "model": model})
}

#[test]
fn what_is_no_json_within_a_part_is_refused() {
    for file in [r#"{"version":"1.0","decoder":{"type":"Fuse"]}"#, r#"{"decoder": 1e400}"#, r#"{"decoder": "#]
    {
        assert!(refusal(file.as_bytes()).contains("line 1"), "{file}");
    }
    assert!(refusal(b"\xff").contains("UTF-8"));
}

#[test]
fn a_merge_that_makes_no_token_is_refused() {
    let vocab = json!({"a": 0, "##b": 1, "ab": 2});
    let longer = refusal(bpe(&vocab, &json!([["ab", "##b"]])).to_string().as_bytes());
    assert_eq!(longer, r###"the merge of "ab" and "##b" makes "ab##b", which is no token"###);
    let spelled_as_one = refusal(bpe(&vocab, &json!(["a ##b"])).to_string().as_bytes());
    assert!(spelled_as_one.contains("makes \"a##b\""), "{spelled_as_one}");
    // The prefix ends within a character of the second part.
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
fn a_pair_of_files_with_a_merge_that_makes_no_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [vocabulary, merges] = ["vocab.json", "merges.txt"].map(|name| folder.path().join(name));
    fs::write(&vocabulary, r#"{"a":0,"b":1}"#).unwrap();
    fs::write(&merges, "#version: 0.2\na b\n").unwrap();
    let error = Tokenizer::load_byte_level(&vocabulary, &merges).unwrap_err().to_string();
    assert!(error.contains("merges.txt can't be used: the merge of \"a\" and \"b\" makes \"ab\""), "{error}");
}

#[test]
fn two_tokens_with_one_id_are_refused() {
    // Saved again, the file would lack one of them, and the merge would name a token that is not there.
    let file = bpe(&json!({"a": 0, "b": 1, "ab": 1}), &json!([["a", "b"]]));
    assert_eq!(refusal(file.to_string().as_bytes()), r#"tokens "ab" and "b" both have the id 1"#);
}

#[test]
fn a_table_that_promises_more_than_it_has_is_refused() {
    let file = |table: &str| {
        let mut file = bpe(&json!({"a": 0}), &json!([]));
        file["normalizer"] = json!({"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": table},
        ]});
        refusal(file.to_string().as_bytes())
    };
    // The first four bytes are the length: 2³² - 1, for which 8 GB would be taken.
    for cut in ["/////w==", "BQAAAAAAAAA=", "", "AAA="] {
        assert_eq!(file(cut), "precompiled_charsmap is cut short", "{cut}");
    }
    assert!(file("no base64").contains("precompiled_charsmap: "));
}

#[test]
fn patterns_that_would_take_much_memory_are_refused() {
    let file = |pattern: &str, n: usize| {
        let split =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let mut file = bpe(&json!({"a": 0}), &json!([]));
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": vec![split; n]});
        file.to_string()
    };
    // Compiled, each of the forty would take megabytes.
    let error = refusal(file(r"\w{60}", 40).as_bytes());
    assert!(
        error.ends_with(r#"would take too much memory; the one too many begins with "\\w{60}""#),
        "{error}"
    );
    assert!(refusal(file(&r"(?=\w)".repeat(2000), 1).as_bytes()).len() < 200);
    assert!(Tokenizer::from_json(&file(r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", 4)).is_ok());
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    // A table of no entries, in which the library looks for the first.
    let mut file = bpe(&json!({"a": 0}), &json!([]));
    file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="});
    let tokenizer = Tokenizer::from_json(&file.to_string()).unwrap();
    let error = tokenizer.encode("a").unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.starts_with("the tokenizers library cannot work with it: index out of bounds"),
        "{source}"
    );
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
        // GPT-2's file is large, and no other kind of file.
        for tokenizer in common::all().iter().filter(|tokenizer| tokenizer.vocab_size() < 1000) {
            fs::write(&path, changed(&tokenizer.to_json(), &changes, cut)).unwrap();
            if let Ok(tokenizer) = named(Tokenizer::load(&path), &path) {
                if let Ok(ids) = tokenizer.encode(TEXT) {
                    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                    tokenizer.decode(&ids);
                }
                prop_assert!(Tokenizer::from_json(&tokenizer.to_json()).is_ok());
            }
        }
    }
}
