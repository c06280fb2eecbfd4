//! Tokenizer files.

use std::fs;
use std::str::FromStr;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use tokenizer::{Error, Tokenizer, TokenizerKind};
use tokenizers::Tokenizer as HuggingFace;

use crate::common::{self, COMPLETE};

#[test]
fn a_saved_tokenizer_is_loaded_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for saved in common::all() {
        saved.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert!(loaded.kind().is_some());
        assert_eq!(loaded.kind(), saved.kind());
        assert_eq!(loaded.vocab_size(), saved.vocab_size());
        assert_eq!(loaded.end_of_text(), saved.end_of_text());
        assert_eq!(loaded.to_json(), saved.to_json());
        assert_eq!(loaded.fingerprint(), saved.fingerprint());
        assert_eq!(loaded.encode(common::TEXT).unwrap(), saved.encode(common::TEXT).unwrap());
    }
    // Each save replaced the file, and no temporary files are left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn kinds_have_the_expected_sizes() {
    let n_chars = common::TEXT.chars().collect::<std::collections::HashSet<_>>().len();
    let facts: Vec<_> = common::all()
        .iter()
        .map(|tokenizer| (tokenizer.kind().unwrap(), tokenizer.vocab_size(), tokenizer.end_of_text()))
        .collect();
    assert_eq!(
        facts,
        [
            (TokenizerKind::Byte, 256, None),
            (TokenizerKind::Gpt2, 50257, Some(50256)),
            (TokenizerKind::Bpe { vocab_size: 300 }, 300, Some(299)),
            (TokenizerKind::Char, n_chars, None),
        ]
    );
}

#[test]
fn different_tokenizers_have_different_fingerprints() {
    let fingerprints: std::collections::HashSet<String> = common::all()
        .iter()
        .chain([&Tokenizer::from_chars("ab".chars()).unwrap(), &Tokenizer::from_chars("ac".chars()).unwrap()])
        .map(Tokenizer::fingerprint)
        .collect();
    assert_eq!(fingerprints.len(), 6);
}

/// A tokenizer's file, opened by the library.
fn open(tokenizer: &Tokenizer) -> HuggingFace {
    HuggingFace::from_str(&tokenizer.to_json()).expect("the file is the library's own")
}

static OPENED: LazyLock<[HuggingFace; 3]> = LazyLock::new(|| COMPLETE.each_ref().map(open));

proptest! {
    // The library differs for characters outside a `char` vocabulary and for `<|endoftext|>`.
    #[test]
    fn hugging_face_gives_the_same_ids_and_text(text in common::any_text()) {
        let text = text.replace("<|endoftext|>", "");
        prop_assume!(!text.is_empty());
        let char = [Tokenizer::from_chars(text.chars()).unwrap()];
        let opened = char.each_ref().map(open);
        for (tokenizer, hugging_face) in char.iter().zip(&opened).chain(COMPLETE.iter().zip(&*OPENED)) {
            let ids = tokenizer.encode(&text).unwrap();
            let encoding = hugging_face.encode(text.as_str(), true).unwrap();
            prop_assert_eq!(encoding.get_ids(), ids.as_slice());
            prop_assert_eq!(hugging_face.decode(&ids, true).unwrap(), text.as_str());
        }
    }
}

#[test]
fn the_published_file_of_gpt2_is_recognized() {
    // It has empty affixes instead of none, merges as strings, and a post-processor.
    let mut file: serde_json::Value = serde_json::from_str(&Tokenizer::gpt2().to_json()).unwrap();
    file["model"]["continuing_subword_prefix"] = json!("");
    file["model"]["end_of_word_suffix"] = json!("");
    file["decoder"]["add_prefix_space"] = json!(true);
    file["post_processor"] =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    let loaded = Tokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!(loaded.kind(), Some(TokenizerKind::Gpt2));

    // Two swapped merges make another BPE.
    file["model"]["merges"].as_array_mut().unwrap().swap(0, 1);
    let other = Tokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!(other.kind(), Some(TokenizerKind::Bpe { vocab_size: 50257 }));
}

#[test]
fn an_imported_tokenizer_works_and_has_no_kind() {
    let file = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "hello": 1, "wor": 2, "##ld": 5}},
    });
    let tokenizer = Tokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.end_of_text()), (None, None));
    // Ids 3 and 4 are unused.
    assert_eq!(tokenizer.vocab_size(), 6);
    assert_eq!((tokenizer.token_bytes(4), tokenizer.token_bytes(1)), (None, Some(b"hello".as_slice())));

    let ids = tokenizer.encode("Hello world hello").unwrap();
    assert_eq!(ids, [1, 2, 5, 1]);
    assert_eq!(tokenizer.decode(&ids), "hello world hello");
    assert_eq!(tokenizer.decode(&[1, 4, 9, 1]), "hello\u{FFFD}\u{FFFD}hello");
    let mut stream = tokenizer.decode_stream();
    let parts: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(parts, ["hello", " wor", "ld", " hello"]);
    assert_eq!(stream.finish(), "");
}

#[test]
fn errors_name_a_missing_or_broken_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::load(&path).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");

    for broken in ["", "{", "{}", "[1, 2]", r#"{"version": "1.0", "model": {"type": "BPE", "vocab": 3}}"#] {
        fs::write(&path, broken).unwrap();
        let error = Tokenizer::load(&path).unwrap_err();
        assert!(matches!(error, Error::ParseFile { .. }), "{broken}: {error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(matches!(Tokenizer::from_json(broken), Err(Error::Parse(_))));
    }
}

#[test]
fn errors_name_a_file_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder/tokenizer.json");
    let error = Tokenizer::byte().save(&path).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn the_config_for_transformers_names_only_tokens_that_exist() {
    let plain = Tokenizer::byte().hugging_face_config(64);
    assert_eq!(plain["model_max_length"], 64);
    assert_eq!(plain["clean_up_tokenization_spaces"], false);
    assert!(plain.get("eos_token").is_none());
    assert_eq!(Tokenizer::gpt2().hugging_face_config(1024)["eos_token"], "<|endoftext|>");
}
