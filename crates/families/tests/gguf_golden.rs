//! The structure of small models as GGUF files, compared with committed fixtures.

mod support;

use families::gguf::FileType;
use formats::gguf::{BpeModel, Gguf, Pattern, Token, TokenKind, Vocabulary};
use support::{family, sizes, written};

fn check(file: &[u8], expected: &str) {
    let structure = Gguf::parse(file).expect("a valid file").to_string();
    assert_eq!(structure, expected, "the structure is now:\n{structure}");
}

/// A character vocabulary with an EOS token.
fn chars() -> Vocabulary {
    let mut vocabulary = Vocabulary::from_chars(&['\n', ' ', 'a', 'é', '🙂']);
    vocabulary.tokens.push(Token { text: "<|endoftext|>".to_owned(), kind: TokenKind::Control });
    vocabulary.bos = Some(5);
    vocabulary.eos = vec![5];
    vocabulary.pad(7);
    vocabulary
}

#[test]
fn a_gpt2_has_the_committed_structure() {
    check(
        &written(&sizes(family("gpt2")), family("gpt2"), FileType::Q8_0, &chars()),
        include_str!("fixtures/gpt2.txt"),
    );
}

#[test]
fn a_llama_has_the_committed_structure() {
    let token = |text: &str, kind| Token { text: text.to_owned(), kind };
    let vocabulary = Vocabulary {
        tokens: vec![
            token("<unk>", TokenKind::Unknown),
            token("<s>", TokenKind::Control),
            token("</s>", TokenKind::Control),
            token("<0x0A>", TokenKind::Byte),
            token("▁", TokenKind::Normal),
            token("a", TokenKind::Normal),
            token("▁a", TokenKind::Normal),
        ],
        bpe: BpeModel::Scores { scores: vec![0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -1.0], adds_space: true },
        bos: Some(1),
        eos: vec![2],
        adds_bos: true,
    };
    check(
        &written(&sizes(family("llama")), family("llama"), FileType::BF16, &vocabulary),
        include_str!("fixtures/llama.txt"),
    );
}

#[test]
fn a_qwen3_has_the_committed_structure() {
    let mut vocabulary = chars();
    let BpeModel::Merges { pattern, .. } = &mut vocabulary.bpe else { panic!("a BPE") };
    *pattern = Pattern::Qwen2;
    check(
        &written(&sizes(family("qwen3")), family("qwen3"), FileType::F16, &vocabulary),
        include_str!("fixtures/qwen3.txt"),
    );
}
