//! Blocks that llama.cpp's Python package made, and the structure of a whole, small GPT-2, against what is committed.

use gguf::gpt2::{Config, Token, TokenKind, Vocabulary};
use gguf::{Gguf, TensorType};

const EXPECTED: &str = include_str!("fixtures/gpt2.txt");

#[test]
fn a_gpt2_has_the_committed_structure() {
    let mut vocabulary = Vocabulary::from_chars(&['\n', ' ', 'a', 'é', '🙂']);
    vocabulary.end_of_text = Some(5);
    vocabulary.tokens.push(Token { text: "<|endoftext|>".to_owned(), kind: TokenKind::Control });
    vocabulary.pad(7);
    let config = Config {
        name: "golden".to_owned(),
        context_length: 8,
        embedding_length: 32,
        feed_forward_length: 48,
        block_count: 1,
        head_count: 2,
        layer_norm_epsilon: 1e-5,
        tied: true,
        ty: TensorType::Q8_0,
        vocabulary,
    };
    let (metadata, tensors) = (config.metadata().unwrap(), config.tensors());
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata, &tensors, |tensor| {
        let n_values: u16 = tensor.dims.iter().product::<usize>().try_into().unwrap();
        Ok::<_, gguf::Error>((0..n_values).map(|place| f32::from(place % 100) / 128.0).collect())
    })
    .unwrap();

    let structure = Gguf::parse(&bytes).unwrap().to_string();
    assert_eq!(structure, EXPECTED, "the structure is now:\n{structure}");
}

/// Made by xtask/golden/gguf_blocks.py.
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
