//! Decoding of blocks made by llama.cpp's Python package.

use formats::gguf::{Gguf, TensorType};

/// Made by xtask/golden/gguf_files.py.
const BLOCKS: &[u8] = include_bytes!("fixtures/blocks.gguf");

#[test]
fn decoded_blocks_match_llama_cpps_package() {
    let file = Gguf::parse(BLOCKS).unwrap();
    let tensor = |name: String| file.tensor(&name);
    let stored = TensorType::all().filter_map(|ty| Some((ty, tensor(ty.to_string())?)));
    let stored: Vec<_> = stored.collect();
    assert_eq!(2 * stored.len(), file.tensors().len(), "each type with its values");
    for (ty, stored) in stored {
        let values = tensor(format!("{ty}.values")).expect("each type has its values");
        assert_eq!((stored.ty, &stored.dims), (ty, &values.dims));
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(stored.to_f32()), bits(values.to_f32()), "{ty}");
    }
}
