//! Blocks that llama.cpp's Python package made, unpacked.

use formats::gguf::{Gguf, TensorType};

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
