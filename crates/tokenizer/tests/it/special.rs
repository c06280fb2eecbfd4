//! Special tokens, compared with transformers. `xtask/golden/special_tokens.py` makes the fixtures.

use std::path::{Path, PathBuf};

use formats::gguf::BpeModel;
use serde::Deserialize;
use tokenizer::{Error, Tokenizer};

/// The ids of a text in transformers.
#[derive(Deserialize)]
struct Golden {
    text: String,
    special: Vec<u32>,
    plain: Vec<u32>,
}

const NAMES: [&str; 7] = [
    "metaspace_first",
    "metaspace_first_split",
    "metaspace_always",
    "metaspace_never",
    "prepend",
    "stripping",
    "two_files",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/special").join(name)
}

fn load(name: &str) -> Tokenizer {
    let file = |file: &str| folder(name).join(file);
    match name {
        "two_files" => {
            Tokenizer::load_byte_level(&file("vocab.json"), &file("merges.txt")).expect("a fixture")
        }
        _ => Tokenizer::load(&file("tokenizer.json")).expect("a fixture"),
    }
}

fn golden(name: &str) -> Vec<Golden> {
    let text = std::fs::read(folder(name).join("ids.json")).expect("the fixture is committed");
    serde_json::from_slice(&text).expect("a fixture")
}

#[test]
fn ids_match_transformers() {
    for name in NAMES {
        let (tokenizer, golden) = (load(name), golden(name));
        assert!(golden.len() >= 100);
        for Golden { text, special, plain } in &golden {
            assert_eq!(tokenizer.encode_special(text).unwrap(), *special, "{name}: {text:?}");
            assert_eq!(tokenizer.encode(text).unwrap(), *plain, "{name}: {text:?}");
        }
        assert!(golden.iter().any(|case| case.special != case.plain), "{name} has special tokens");
    }
}

#[test]
fn a_saved_tokenizer_has_the_same_ids() {
    for name in NAMES {
        let saved = Tokenizer::from_json(&load(name).to_json()).unwrap();
        for Golden { text, special, .. } in golden(name) {
            assert_eq!(saved.encode_special(&text).unwrap(), special, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_gguf_file_has_the_same_ids_except_as_noted() {
    const AT_START: &str =
        "llama.cpp adds a space before a text that starts with a space; this tokenizer does not";
    const AFTER: &str = "llama.cpp adds a space after a special token; this tokenizer does not";
    for (name, adds, expected) in [
        ("metaspace_first", true, &[AT_START, AFTER][..]),
        ("metaspace_first_split", true, &[AT_START, AFTER]),
        ("metaspace_always", true, &[AT_START]),
        ("metaspace_never", false, &[]),
        ("prepend", true, &[]),
    ] {
        let (vocabulary, notes) = load(name).to_gguf().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(
            matches!(vocabulary.bpe, BpeModel::Scores { adds_space, .. } if adds_space == adds),
            "{name}"
        );
        assert_eq!(notes, expected, "{name}");
        let exported = Tokenizer::from_gguf(&vocabulary).unwrap();
        let special_tokens = ["<unk>", "<s>", "</s>"];
        let mut n_other = 0;
        for Golden { text, special, plain } in golden(name) {
            // The cases of the two notes.
            let starts_with_space = |part: &str| part.starts_with([' ', '▁']);
            let after: Vec<&str> =
                special_tokens.iter().flat_map(|token| text.split(token).skip(1)).collect();
            let may_differ = notes.contains(&AT_START.to_owned())
                && (starts_with_space(&text) || after.iter().any(|part| starts_with_space(part)));
            let may_differ_after = notes.contains(&AFTER.to_owned()) && !after.is_empty();
            if !may_differ {
                assert_eq!(exported.encode(&text).unwrap(), plain, "{name}: {text:?}");
            }
            if !may_differ && !may_differ_after {
                assert_eq!(exported.encode_special(&text).unwrap(), special, "{name}: {text:?}");
            }
            n_other += usize::from(exported.encode_special(&text).unwrap() != special);
        }
        assert_eq!(n_other > 0, !expected.is_empty(), "{name}: {n_other} texts have other ids");
    }
}

#[test]
fn stripped_spaces_are_noted_at_export() {
    let mut file: serde_json::Value = serde_json::from_str(&load("stripping").to_json()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.retain(|token| token["single_word"] == false);
    let (_, notes) = Tokenizer::from_json(&file.to_string()).unwrap().to_gguf().unwrap();
    let note =
        "llama.cpp keeps the spaces around \"<mask>\", \"<sep>\", \"<pad>\"; this tokenizer strips them";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");
}

#[test]
fn special_tokens_in_a_text_are_found() {
    let tokenizer = load("stripping");
    assert_eq!(tokenizer.special_in("one <sep> two <mask>").as_deref(), Some("<sep>"));
    assert_eq!(tokenizer.special_in("<think> is found in any text"), None);
}

/// Tokenizers of each kind, with two more special tokens.
fn with_chat_tokens() -> Vec<(Tokenizer, Tokenizer)> {
    let plain = [
        Tokenizer::from_chars("abc <|>_stardenim\n".chars()).expect("not empty"),
        Tokenizer::byte(),
        Tokenizer::gpt2(),
    ];
    let added = |tokenizer: Tokenizer| {
        let with_tokens =
            tokenizer.with_special_tokens(&["<|im_start|>", "<|im_end|>"]).expect("ids are free");
        (tokenizer, with_tokens)
    };
    plain.into_iter().map(added).collect()
}

#[test]
fn added_special_tokens_get_the_next_ids() {
    for (plain, tokenizer) in with_chat_tokens() {
        let n = u32::try_from(plain.vocab_size()).unwrap();
        assert_eq!(tokenizer.vocab_size(), plain.vocab_size() + 2);
        assert_eq!(["<|im_start|>", "<|im_end|>"].map(|it| tokenizer.id_of(it)), [Some(n), Some(n + 1)]);
        assert!(tokenizer.is_special(n) && tokenizer.is_special(n + 1));
        assert_eq!(tokenizer.kind(), None);

        let text = "<|im_start|>a ca<|im_end|>\nb<|im_e";
        let of_plain = |text: &str| plain.encode(text).unwrap();
        let ids = [&[n][..], &of_plain("a ca"), &[n + 1], &of_plain("\nb<|im_e")].concat();
        assert_eq!(tokenizer.encode_special(text).unwrap(), ids);
        assert_eq!(tokenizer.encode(text).unwrap(), of_plain(text), "as ordinary text");
        assert_eq!(tokenizer.decode(&ids), text);

        let saved = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!((saved.vocab_size(), saved.kind()), (tokenizer.vocab_size(), None));
        assert_eq!(saved.encode_special(text).unwrap(), ids);
        // The library finds the same tokens.
        let mut library: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
        library.set_encode_special_tokens(false);
        assert_eq!(library.encode(text, false).unwrap().get_ids(), ids);
    }
}

#[test]
fn characters_outside_the_vocabulary_stay_errors_beside_special_tokens() {
    let (_, chars) = with_chat_tokens().remove(0);
    assert!(matches!(chars.encode_special("<|im_start|>ab!"), Err(Error::UnknownCharacter { .. })));
}

#[test]
fn a_token_of_the_vocabulary_becomes_special_and_keeps_its_id() {
    let tokenizer = Tokenizer::gpt2();
    let with_hello = tokenizer.with_special_tokens(&["Hello", "<|endoftext|>"]).unwrap();
    assert_eq!(with_hello.vocab_size(), tokenizer.vocab_size());
    assert!(with_hello.is_special(15496));
    assert_eq!(with_hello.encode_special("Hello<|endoftext|>").unwrap(), [15496, 50256]);
}

#[test]
fn tokens_are_not_added_beyond_the_vocabulary_of_a_model() {
    let limited = Tokenizer::gpt2().limited_to(100);
    let error = limited.with_special_tokens(&["<|im_end|>"]).unwrap_err();
    assert!(matches!(error, Error::NoFreeIds { n_tokens: 100, .. }), "{error}");
}
