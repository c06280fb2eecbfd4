//! Tokenizers as vocabularies of GGUF files: what came from one, or from a `tokenizer.json` of anyone's.

use formats::gguf::{Joins, Pattern, TokenKind, Vocabulary};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::{Error, Tokenizer};

use crate::common::{TEXT, all, any_text};
use crate::imported::{NAMES, imported, vocabulary};

/// A vocabulary whose unused tokens are called as those that come back are.
fn as_it_comes_back(mut vocabulary: Vocabulary) -> Vocabulary {
    for (id, token) in vocabulary.tokens.iter_mut().enumerate() {
        if token.kind == TokenKind::Unused {
            token.text = format!("[PAD{id}]");
        }
    }
    vocabulary
}

fn exported(tokenizer: &Tokenizer, like: &Vocabulary) -> Vocabulary {
    let (mut vocabulary, differences) = tokenizer.to_gguf().expect("it came from one");
    assert!(differences.is_empty(), "{differences:?}");
    // What a tokenizer.json does not say.
    vocabulary.pad(like.tokens.len());
    vocabulary.ends_of_text.clone_from(&like.ends_of_text);
    if !vocabulary.adds_begin {
        vocabulary.begin_of_text = like.begin_of_text;
    }
    vocabulary
}

#[test]
fn a_vocabulary_goes_out_as_it_came_in() {
    for name in NAMES {
        let before = vocabulary(name);
        let after = exported(&imported(name), &before);
        assert_eq!(after, as_it_comes_back(before), "{name}");
        let again = Tokenizer::from_gguf(&after).unwrap();
        assert_eq!(again.fingerprint(), imported(name).fingerprint(), "{name}");
    }
}

#[test]
fn tokenizers_of_ours_are_of_their_kind_again() {
    for tokenizer in all() {
        let (vocabulary, differences) = tokenizer.to_gguf().unwrap();
        assert!(differences.is_empty(), "{differences:?}");
        assert_eq!(vocabulary.ends_of_text, Vec::from_iter(tokenizer.end_of_text()));
        let again = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert_eq!((again.kind(), again.fingerprint()), (tokenizer.kind(), tokenizer.fingerprint()));
        assert_eq!(again.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
    }
}

/// The `tokenizer.json` of a fixture, changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Tokenizer {
    let mut file = serde_json::from_str(&imported(name).to_json()).expect("a tokenizer is JSON");
    change(&mut file);
    Tokenizer::from_json(&file.to_string()).expect("it is one yet")
}

#[test]
fn what_hugging_face_writes_otherwise_is_the_same_vocabulary() {
    // Qwen2's: characters are composed, and where a token came from is told in another way.
    let qwen = changed("qwen2", |file| {
        file["normalizer"] = json!({ "type": "NFC" });
        file["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = json!(false);
        file["post_processor"] = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": false });
    });
    let (vocabulary, differences) = qwen.to_gguf().unwrap();
    assert!(differences[0].contains("(NFC)"), "{differences:?}");
    assert_eq!(vocabulary.joins, imported("qwen2").to_gguf().unwrap().0.joins);
    // Llama 3's: the mark is in one of two processors.
    let llama = changed("llama-bpe", |file| {
        let processors = [
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
            "use_regex": true }),
            file["post_processor"].clone(),
        ];
        file["post_processor"] = json!({ "type": "Sequence", "processors": processors });
    });
    let (vocabulary, _) = llama.to_gguf().unwrap();
    assert_eq!((vocabulary.begin_of_text, vocabulary.adds_begin), (Some(340), true));
    assert!(matches!(vocabulary.joins, Joins::Merges { pattern: Pattern::Llama3, .. }));
    // GPT-2's way of cutting with more marks than GPT-2 has is none of our kinds.
    let marks = imported("gpt-2");
    assert_eq!(marks.kind(), None);
    // Parts of a piece may be listed in any order, as long as pieces are.
    let llama2 = changed("scores", |file| {
        let merges = file["model"]["merges"].as_array_mut().unwrap();
        let result = |merge: &Value| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        let twin = (1..merges.len()).find(|&idx| result(&merges[idx - 1]) == result(&merges[idx]));
        let twin = twin.expect("some piece can be made of different parts");
        merges.swap(twin - 1, twin);
    });
    assert_eq!(llama2.to_gguf().unwrap().0.joins, vocabulary_of("scores").joins);
}

fn vocabulary_of(name: &str) -> Vocabulary {
    imported(name).to_gguf().expect("it came from one").0
}

#[test]
fn an_id_without_a_token_is_an_unused_one() {
    let sparse = changed("qwen2", |file| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        vocab.insert("QQQ".to_owned(), json!(350));
    });
    let (vocabulary, _) = sparse.to_gguf().unwrap();
    let kinds = [349, 350].map(|id: usize| (vocabulary.tokens[id].text.as_str(), vocabulary.tokens[id].kind));
    assert_eq!(kinds, [("[PAD349]", TokenKind::Unused), ("QQQ", TokenKind::Normal)]);
}

#[test]
fn what_llama_cpp_does_otherwise_is_refused_by_name() {
    let refusal = |tokenizer: Tokenizer| match tokenizer.to_gguf() {
        Err(Error::NoVocabulary { reason }) => reason,
        other => panic!("it was exported: {other:?}"),
    };
    let refused = |name: &str, expected: &str, change: &dyn Fn(&mut Value)| {
        let reason = refusal(changed(name, change));
        assert!(reason.contains(expected), "{reason}");
    };
    refused("qwen2", "than those of GPT-2, SmolLM, Qwen2 and Llama 3", &|file| {
        file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\p{L}+|.");
    });
    refused("gpt-2", "(\"ByteLevel\")", &|file| file["pre_tokenizer"]["add_prefix_space"] = json!(true));
    refused("gpt-2", "cuts text as gpt-2 and has `ignore_merges` = true", &|file| {
        file["model"]["ignore_merges"] = json!(true);
    });
    refused("llama-bpe", "cuts text as llama-bpe and has `ignore_merges` = false", &|file| {
        file["model"]["ignore_merges"] = json!(false);
    });
    refused("qwen2", "changes text (\"Lowercase\") first", &|file| {
        file["normalizer"] = json!({ "type": "Lowercase" })
    });
    refused("qwen2", "its BPE has `dropout` = 0.5", &|file| file["model"]["dropout"] = json!(0.5));
    refused("qwen2", "\"<tool>\" has `lstrip` = true", &|file| {
        let added = file["added_tokens"].as_array_mut().unwrap();
        added.last_mut().unwrap()["lstrip"] = json!(true);
    });
    refused("qwen2", "more than one token before every text", &|file| {
        let template =
            serde_json::from_str::<Value>(&imported("llama-bpe").to_json()).unwrap()["post_processor"]
                .clone();
        file["post_processor"] = template;
        let single = file["post_processor"]["single"].as_array_mut().unwrap();
        single.insert(0, single[0].clone());
    });
    refused("scores", "cuts text (\"Metaspace\"), which SentencePiece does not", &|file| {
        file["pre_tokenizer"] =
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false });
    });
    refused("scores", "not those that a score for each token makes", &|file| {
        file["model"]["merges"].as_array_mut().unwrap().pop();
    });
    refused("scores", "decoder is \"Fuse\"", &|file| file["decoder"] = json!({ "type": "Fuse" }));
    let pieces = r###"{"version":"1.0","model":{"type":"WordPiece","unk_token":"?","continuing_subword_prefix":"##",
        "max_input_chars_per_word":9,"vocab":{"?":0,"one":1}},"decoder":{"type":"Fuse"},"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"truncation":null,"padding":null}"###;
    let reason = refusal(Tokenizer::from_json(pieces).unwrap());
    assert!(reason.contains("its model is \"WordPiece\", and no BPE"), "{reason}");
}

proptest! {
    #[test]
    fn ids_are_the_same_out_and_in_again(text in any_text(), name in prop::sample::select(&NAMES[..])) {
        let before = imported(name);
        let after = Tokenizer::from_gguf(&exported(&before, &vocabulary(name))).unwrap();
        prop_assert_eq!(before.encode_text(&text).unwrap(), after.encode_text(&text).unwrap());
        prop_assert_eq!(before.encode_special(&text).unwrap(), after.encode_special(&text).unwrap());
    }
}
