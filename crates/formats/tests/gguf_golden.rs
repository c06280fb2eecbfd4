//! Decoding of blocks made by llama.cpp's Python package.

use formats::gguf::{Gguf, TensorType};

/// Made by xtask/golden/gguf_files.py.
const BLOCKS: &[u8] = include_bytes!("fixtures/blocks.gguf");

#[test]
fn decoded_blocks_match_llama_cpps_package() {
    let file = Gguf::parse(BLOCKS).unwrap();
    let types = TensorType::ALL.into_iter().filter(|&ty| ty != TensorType::F32);
    for ty in types {
        let tensor = |name: &str| file.tensor(name).expect(name);
        let (stored, values) = (tensor(&ty.to_string()), tensor(&format!("{ty}.values")));
        assert_eq!((stored.ty, &stored.dims), (ty, &values.dims));
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(stored.to_f32()), bits(values.to_f32()), "{ty}");
    }
}
