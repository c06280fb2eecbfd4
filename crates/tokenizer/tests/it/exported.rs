//! Export of tokenizers to GGUF vocabularies.

use formats::gguf::{BpeModel, Pattern, TokenKind, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::{Error, Tokenizer};

use crate::common::{TEXT, all, any_text};
use crate::imported::{NAMES, imported, vocabulary};

/// A vocabulary with the names that export gives to unused tokens.
fn with_pad_names(mut vocabulary: Vocabulary) -> Vocabulary {
    for (id, token) in vocabulary.tokens.iter_mut().enumerate() {
        if token.kind == TokenKind::Unused {
            token.text = format!("[PAD{id}]");
        }
    }
    vocabulary
}

fn exported(tokenizer: &Tokenizer, like: &Vocabulary) -> Vocabulary {
    let (mut vocabulary, differences) = tokenizer.to_gguf().expect("it was imported from GGUF");
    assert!(differences.is_empty(), "{differences:?}");
    // A tokenizer.json does not have these.
    vocabulary.pad(like.tokens.len());
    vocabulary.eos.clone_from(&like.eos);
    if !vocabulary.adds_bos {
        vocabulary.bos = like.bos;
    }
    vocabulary
}

#[test]
fn a_vocabulary_survives_import_and_export() {
    for name in NAMES {
        let before = vocabulary(name);
        let after = exported(&imported(name), &before);
        assert_eq!(after, with_pad_names(before), "{name}");
        let again = Tokenizer::from_gguf(&after).unwrap();
        assert_eq!(again.fingerprint(), imported(name).fingerprint(), "{name}");
    }
}

#[test]
fn exported_tokenizers_keep_their_kind() {
    for tokenizer in all() {
        let (vocabulary, differences) = tokenizer.to_gguf().unwrap();
        assert!(differences.is_empty(), "{differences:?}");
        assert_eq!(vocabulary.eos, Vec::from_iter(tokenizer.end_of_text()));
        let again = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert_eq!((again.kind(), again.fingerprint()), (tokenizer.kind(), tokenizer.fingerprint()));
        assert_eq!(again.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
    }
}

/// The `tokenizer.json` of a fixture, changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Tokenizer {
    let mut file = serde_json::from_str(&imported(name).to_json()).expect("a tokenizer is JSON");
    change(&mut file);
    Tokenizer::from_json(&file.to_string()).expect("it is still valid")
}

#[test]
fn variants_of_hugging_face_files_give_the_same_vocabulary() {
    // Qwen2 has an NFC normalizer and other `trim_offsets`.
    let qwen = changed("qwen2", |file| {
        file["normalizer"] = json!({ "type": "NFC" });
        file["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = json!(false);
        file["post_processor"] = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": false });
    });
    let (vocabulary, differences) = qwen.to_gguf().unwrap();
    assert!(differences[0].contains("(NFC)"), "{differences:?}");
    assert_eq!(vocabulary.bpe, imported("qwen2").to_gguf().unwrap().0.bpe);
    // Llama 3 has its BOS template within a sequence of processors.
    let llama = changed("llama-bpe", |file| {
        let processors = [
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
            "use_regex": true }),
            file["post_processor"].clone(),
        ];
        file["post_processor"] = json!({ "type": "Sequence", "processors": processors });
    });
    let (vocabulary, _) = llama.to_gguf().unwrap();
    assert_eq!((vocabulary.bos, vocabulary.adds_bos), (Some(340), true));
    assert!(matches!(vocabulary.bpe, BpeModel::Merges { pattern: Pattern::Llama3, .. }));
    // With GPT-2's pre-tokenizer and other special tokens than GPT-2, a tokenizer has no kind.
    assert_eq!(imported("gpt-2").kind(), None);
    // The order of merges with the same result does not matter.
    let llama2 = changed("scores", |file| {
        let merges = file["model"]["merges"].as_array_mut().unwrap();
        let result = |merge: &Value| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        let twin = (1..merges.len()).find(|&idx| result(&merges[idx - 1]) == result(&merges[idx]));
        let twin = twin.expect("some token is the result of two merges");
        merges.swap(twin - 1, twin);
    });
    assert_eq!(llama2.to_gguf().unwrap().0.bpe, vocabulary_of("scores").bpe);
}

fn vocabulary_of(name: &str) -> Vocabulary {
    imported(name).to_gguf().expect("it was imported from GGUF").0
}

#[test]
fn an_id_without_a_token_becomes_an_unused_token() {
    let sparse = changed("qwen2", |file| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        vocab.insert("QQQ".to_owned(), json!(350));
    });
    let (vocabulary, _) = sparse.to_gguf().unwrap();
    let kinds = [349, 350].map(|id: usize| (vocabulary.tokens[id].text.as_str(), vocabulary.tokens[id].kind));
    assert_eq!(kinds, [("[PAD349]", TokenKind::Unused), ("QQQ", TokenKind::Normal)]);
}

#[test]
fn tokenizers_that_llama_cpp_lacks_are_refused_with_the_reason() {
    let refusal = |tokenizer: Tokenizer| match tokenizer.to_gguf() {
        Err(Error::GgufUnsupported { reason }) => reason,
        other => panic!("it was exported: {other:?}"),
    };
    let refused = |name: &str, expected: &str, change: &dyn Fn(&mut Value)| {
        let reason = refusal(changed(name, change));
        assert!(reason.contains(expected), "{reason}");
    };
    refused("qwen2", "only those of GPT-2, SmolLM, Qwen2 and Llama 3 are supported", &|file| {
        file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\p{L}+|.");
    });
    refused("gpt-2", "its pre-tokenizer is \"ByteLevel\";", &|file| {
        file["pre_tokenizer"]["add_prefix_space"] = json!(true)
    });
    refused("gpt-2", "its pre-tokenizer is gpt-2 with `ignore_merges` = true", &|file| {
        file["model"]["ignore_merges"] = json!(true);
    });
    refused("llama-bpe", "its pre-tokenizer is llama-bpe with `ignore_merges` = false", &|file| {
        file["model"]["ignore_merges"] = json!(false);
    });
    refused("qwen2", "its normalizer is \"Lowercase\"", &|file| {
        file["normalizer"] = json!({ "type": "Lowercase" })
    });
    refused("qwen2", "its BPE has `dropout` = 0.5", &|file| file["model"]["dropout"] = json!(0.5));
    refused("qwen2", "\"<tool>\" has `lstrip` = true", &|file| {
        let added = file["added_tokens"].as_array_mut().unwrap();
        added.last_mut().unwrap()["lstrip"] = json!(true);
    });
    refused("qwen2", "more than one special token before every text", &|file| {
        let template =
            serde_json::from_str::<Value>(&imported("llama-bpe").to_json()).unwrap()["post_processor"]
                .clone();
        file["post_processor"] = template;
        let single = file["post_processor"]["single"].as_array_mut().unwrap();
        single.insert(0, single[0].clone());
    });
    refused("scores", "its pre-tokenizer is \"Metaspace\"; SentencePiece has none", &|file| {
        file["pre_tokenizer"] =
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false });
    });
    refused("scores", "its merges do not follow from a score for each token", &|file| {
        file["model"]["merges"].as_array_mut().unwrap().pop();
    });
    refused("scores", "decoder is \"Fuse\"", &|file| file["decoder"] = json!({ "type": "Fuse" }));
    let word_piece = r###"{"version":"1.0","model":{"type":"WordPiece","unk_token":"?","continuing_subword_prefix":"##",
        "max_input_chars_per_word":9,"vocab":{"?":0,"one":1}},"decoder":{"type":"Fuse"},"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"truncation":null,"padding":null}"###;
    let reason = refusal(Tokenizer::from_json(word_piece).unwrap());
    assert!(reason.contains("its model is \"WordPiece\", not a BPE"), "{reason}");
}

proptest! {
    #[test]
    fn ids_survive_export_and_import(text in any_text(), name in prop::sample::select(&NAMES[..])) {
        let before = imported(name);
        let after = Tokenizer::from_gguf(&exported(&before, &vocabulary(name))).unwrap();
        prop_assert_eq!(before.encode_text(&text).unwrap(), after.encode_text(&text).unwrap());
        prop_assert_eq!(before.encode_special(&text).unwrap(), after.encode_special(&text).unwrap());
    }
}
