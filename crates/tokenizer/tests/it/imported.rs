//! Import of GGUF vocabularies, compared with llama.cpp.

use std::path::Path;

use formats::gguf::{BpeModel, Gguf, Token, TokenKind, Vocabulary};
use proptest::prelude::*;
use serde::Deserialize;
use tokenizer::{Tokenizer, TokenizerKind};

use crate::common::{COMPLETE, any_text};

/// The ids of a text in llama.cpp, made by xtask/golden/gguf_vocabularies.py.
#[derive(Debug, Deserialize)]
struct Golden {
    text: String,
    plain: Vec<u32>,
    special: Vec<u32>,
}

pub(crate) const NAMES: [&str; 6] = ["gpt-2", "smollm", "qwen2", "llama-bpe", "scores", "scores-no-space"];

fn read(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf");
    std::fs::read(folder.join(file)).expect("the fixture is committed")
}

pub(crate) fn vocabulary(name: &str) -> Vocabulary {
    let bytes = read(&format!("{name}.gguf"));
    Vocabulary::read(&Gguf::parse(&bytes).expect("a fixture")).expect("a fixture")
}

pub(crate) fn imported(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&vocabulary(name)).expect("a fixture")
}

#[test]
fn ids_match_llama_cpp() {
    for name in NAMES {
        let tokenizer = imported(name);
        let golden: Vec<Golden> = serde_json::from_slice(&read(&format!("{name}.json"))).unwrap();
        for Golden { text, plain, special } in &golden {
            assert_eq!(tokenizer.encode_text(text).unwrap(), *plain, "{name}: {text:?}");
            assert_eq!(tokenizer.encode_special(text).unwrap(), *special, "{name}: {text:?}");
        }
        // The fixtures tell the patterns apart.
        for other in NAMES.into_iter().filter(|&other| other != name) {
            let other = imported(other);
            assert!(
                golden.iter().any(|golden| other.encode_special(&golden.text).unwrap() != golden.special)
            );
        }
    }
}

#[test]
fn a_bos_token_is_added_if_the_file_says_so() {
    // 340 is the first id after 256 bytes and 84 merges.
    let prefixes = NAMES.map(|name| imported(name).prompt_prefix().to_vec());
    assert_eq!(prefixes, [vec![], vec![], vec![], vec![340], vec![1], vec![1]]);
    let (plain, with_bos) = (imported("qwen2"), imported("llama-bpe"));
    assert!(plain.encode_text("").unwrap().is_empty());
    assert_eq!(with_bos.encode_text("").unwrap(), [340]);
    assert!(with_bos.encode("").unwrap().is_empty());
    assert_eq!(with_bos.hugging_face_config(64)["bos_token"], "<|begin|>");
    assert_eq!(plain.hugging_face_config(64)["bos_token"], serde_json::Value::Null);
}

#[test]
fn a_saved_tokenizer_is_loaded_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let (tokenizer, path) = (imported(name), folder.path().join("tokenizer.json"));
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
        assert_eq!(loaded.prompt_prefix(), tokenizer.prompt_prefix());
        assert_eq!(loaded.vocab_size(), tokenizer.vocab_size());
        let text = "  the kettle\n on <|begin|> 12 你";
        assert_eq!(loaded.encode_text(text).unwrap(), tokenizer.encode_text(text).unwrap());
        assert_eq!(loaded.decode(&loaded.encode(text).unwrap()), text);
    }
}

#[test]
fn padding_tokens_are_left_out() {
    let (vocabulary, tokenizer) = (vocabulary("smollm"), imported("smollm"));
    assert_eq!(vocabulary.tokens.last().unwrap().kind, TokenKind::Unused);
    assert_eq!(tokenizer.vocab_size() + 1, vocabulary.tokens.len());
    assert_eq!(tokenizer.token_bytes(342), Some(&b"<tool>"[..]));
    assert_eq!(tokenizer.token_bytes(343), None);
}

#[test]
fn a_space_is_stripped_only_at_the_start_of_a_text() {
    let tokenizer = imported("scores");
    let ids = tokenizer.encode("the kettle").unwrap();
    assert_eq!(tokenizer.token_bytes(ids[0]), Some(&b" the"[..]));
    assert_eq!(tokenizer.id_of(" the"), Some(ids[0]));
    let streamed = |mut stream: tokenizer::DecodeStream<'_>| -> String {
        ids.iter().map(|&id| stream.push(id)).chain([String::new()]).collect()
    };
    assert_eq!(streamed(tokenizer.decode_stream()), "the kettle");
    assert_eq!(streamed(tokenizer.decode_stream_after(&ids)), " the kettle");
    // A special token is not text.
    assert_eq!(streamed(tokenizer.decode_stream_after(&[1])), "the kettle");
    let other = imported("scores-no-space");
    let ids = other.encode(" the kettle").unwrap();
    assert_eq!(other.decode(&ids), " the kettle");
}

#[test]
fn a_stream_continues_if_decoding_depends_on_previous_ids() {
    // WordPiece appends tokens that start with ## to the previous word.
    let json = r###"{"version":"1.0","model":{"type":"WordPiece","unk_token":"?","continuing_subword_prefix":"##",
        "max_input_chars_per_word":9,"vocab":{"?":0,"one":1,"##s":2,"two":3}},"decoder":{"type":"WordPiece",
        "prefix":"##","cleanup":false},"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},
        "post_processor":null,"truncation":null,"padding":null}"###;
    let tokenizer = Tokenizer::from_json(json).unwrap();
    let after = |before: &[u32], ids: &[u32]| -> String {
        let mut stream = tokenizer.decode_stream_after(before);
        ids.iter().map(|&id| stream.push(id)).collect()
    };
    assert_eq!(tokenizer.decode(&[1, 2, 3]), "ones two");
    assert_eq!(after(&[1], &[2, 3]), "s two");
    assert_eq!(after(&[], &[1, 2]), "ones");
    assert_eq!(after(&[3; 20], &[1]), " one");
}

#[test]
fn byte_tokens_become_characters() {
    let tokenizer = imported("scores");
    let ids = tokenizer.encode("🙂").unwrap();
    assert_eq!(ids.len(), 5, "a space and four bytes: {ids:?}");
    let mut stream = tokenizer.decode_stream();
    let texts: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(texts, ["", "", "", "", "🙂"]);
    assert_eq!(tokenizer.decode(&ids[..3]), "\u{FFFD}");
}

#[test]
fn kinds_are_recognised_after_import() {
    let kind = |vocabulary: &Vocabulary| Tokenizer::from_gguf(vocabulary).unwrap().kind();
    let mut bytes = Vocabulary::bytes();
    assert_eq!(kind(&bytes), Some(TokenizerKind::Byte));
    bytes.pad(260);
    assert_eq!(kind(&bytes), Some(TokenizerKind::Byte));
    let mut chars = Vocabulary::from_chars(&['z', 'ü', 'a', '🙂']);
    chars.pad(6);
    let of_chars = Tokenizer::from_gguf(&chars).unwrap();
    assert_eq!(of_chars.kind(), Some(TokenizerKind::Char));
    assert_eq!(of_chars.encode("a🙂z").unwrap(), [2, 3, 0]);

    for tokenizer in COMPLETE.iter().filter(|tokenizer| tokenizer.end_of_text().is_some()) {
        let end = tokenizer.end_of_text().unwrap();
        let token = |id: u32| {
            let eos = Token { text: "<|endoftext|>".to_owned(), kind: TokenKind::Control };
            if id == end { eos } else { Token::normal(tokenizer.token_bytes(id).unwrap()) }
        };
        let n_tokens = u32::try_from(tokenizer.vocab_size()).unwrap();
        let vocabulary = Vocabulary {
            bos: Some(end),
            eos: vec![end],
            ..Vocabulary::merges((0..n_tokens).map(token).collect(), tokenizer.merges())
        };
        let read = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert_eq!(read.kind(), tokenizer.kind());
        assert_eq!(read.fingerprint(), tokenizer.fingerprint());
    }
}

#[test]
fn a_merge_without_a_result_is_refused() {
    let mut broken = vocabulary("qwen2");
    let BpeModel::Merges { merges, .. } = &mut broken.bpe else { panic!("{broken:?}") };
    merges.push(("Q".to_owned(), "Q".to_owned()));
    let error = Tokenizer::from_gguf(&broken).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("makes \"QQ\", which is not a token"), "{cause}");
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in any_text(), name in prop::sample::select(&NAMES[..])) {
        // `▁` spells a space, so it would be decoded as one.
        let text = text.replace('▁', "_");
        let tokenizer = imported(name);
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        let mut stream = tokenizer.decode_stream();
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed.push_str(&stream.finish());
        prop_assert_eq!(streamed, text);
    }

    #[test]
    fn any_vocabulary_is_a_tokenizer_or_an_error(
        texts in prop::collection::vec(("[a-c▁<>0xAĠ]{0,6}", 1_i32..7), 0..12),
        merges in prop::collection::vec(("[a-cĠ]{1,2}", "[a-cĠ]{1,2}"), 0..4),
        scored in any::<bool>(),
        adds_bos in any::<bool>(),
    ) {
        let kinds = [
            TokenKind::Normal, TokenKind::Unknown, TokenKind::Control,
            TokenKind::UserDefined, TokenKind::Unused, TokenKind::Byte,
        ];
        let token = |(text, kind): (String, i32)| Token { text, kind: kinds[kind as usize - 1] };
        let mut vocabulary = Vocabulary::merges(texts.into_iter().map(token).collect(), merges);
        vocabulary.bos = Some(0);
        vocabulary.adds_bos = adds_bos;
        if scored {
            let scores = vec![0.5; vocabulary.tokens.len()];
            vocabulary.bpe = BpeModel::Scores { scores, adds_space: true };
        }
        if let Ok(tokenizer) = Tokenizer::from_gguf(&vocabulary) {
            let _ = tokenizer.encode_text("ab  c<0xA0>");
            tokenizer.decode(&[0, 1, 2, 3]);
            prop_assert!(tokenizer.vocab_size() <= vocabulary.tokens.len());
        }
    }
}
