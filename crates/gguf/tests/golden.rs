//! Blocks that llama.cpp's Python package made, its names, and the structure of whole, small models,
//! against what is committed.

mod support;

use gguf::{Architecture, Gguf, Joins, Pattern, TensorType, Token, TokenKind, Vocabulary};
use support::{sizes, written};

fn check(file: &[u8], expected: &str) {
    let structure = Gguf::parse(file).expect("it was written").to_string();
    assert_eq!(structure, expected, "the structure is now:\n{structure}");
}

/// Characters, and a mark that ends a text.
fn chars() -> Vocabulary {
    let mut vocabulary = Vocabulary::from_chars(&['\n', ' ', 'a', 'é', '🙂']);
    vocabulary.tokens.push(Token { text: "<|endoftext|>".to_owned(), kind: TokenKind::Control });
    vocabulary.begin_of_text = Some(5);
    vocabulary.ends_of_text = vec![5];
    vocabulary.pad(7);
    vocabulary
}

#[test]
fn a_gpt2_has_the_committed_structure() {
    check(
        &written(&sizes(Architecture::Gpt2), TensorType::Q8_0, &chars()),
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
        joins: Joins::Scores { scores: vec![0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -1.0], adds_space: true },
        begin_of_text: Some(1),
        ends_of_text: vec![2],
        adds_begin: true,
    };
    check(
        &written(&sizes(Architecture::Llama), TensorType::BF16, &vocabulary),
        include_str!("fixtures/llama.txt"),
    );
}

#[test]
fn a_qwen3_has_the_committed_structure() {
    let mut vocabulary = chars();
    let Joins::Merges { pattern, .. } = &mut vocabulary.joins else { panic!("a BPE") };
    *pattern = Pattern::Qwen2;
    check(
        &written(&sizes(Architecture::Qwen3), TensorType::F16, &vocabulary),
        include_str!("fixtures/qwen3.txt"),
    );
}

/// Made by xtask/golden/gguf_files.py: lines of an architecture, Hugging Face's key and the tensor's name.
#[test]
fn names_are_those_of_llama_cpps_package() {
    for line in include_str!("fixtures/names.txt").lines() {
        let [architecture, key, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let architecture = Architecture::from_name(architecture).expect(line);
        assert_eq!(architecture.tensor_name(key).expect(line).name, name);
        assert_eq!(architecture.key(name).expect(line).name, key);
    }
}

/// Made by xtask/golden/gguf_files.py.
const BLOCKS: &[u8] = include_bytes!("fixtures/blocks.gguf");

#[test]
fn blocks_are_unpacked_to_the_numbers_that_llama_cpps_package_has() {
    let file = Gguf::parse(BLOCKS).unwrap();
    let types = TensorType::ALL.into_iter().filter(|&ty| ty != TensorType::F32);
    for ty in types {
        let of = |name: &str| file.tensor(name).expect(name);
        let (stored, values) = (of(&ty.to_string()), of(&format!("{ty}.values")));
        assert_eq!((stored.ty, &stored.dims), (ty, &values.dims));
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(stored.to_f32()), bits(values.to_f32()), "{ty}");
    }
}
