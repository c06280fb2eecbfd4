//! Weights that stay as their file has them, or are quantised as they are loaded, compared with the same weights in f32.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path};

use checkpoint::{RunFolder, export_gguf};
use families::{
    WeightStorage,
    gguf::{FileType, GgufFile},
};
use formats::gguf::{Gguf, TensorType};
use kernels::testing::{test_device, test_tolerance};
use model::{Activation, FeedForwardConfig, Gpt, GptConfig};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::support::{fixture, logits, model};

const IDS: [i32; 6] = [1, 2, 3, 12, 0, 7];

/// A GPT-2, a Llama (whose rows are interleaved in GGUF) and a Qwen3, with rows of whole blocks.
fn configs() -> [GptConfig; 3] {
    let wide = |config: GptConfig| GptConfig { n_embd: 256, ..config };
    let mut gpt2 = wide(GptConfig { bias: true, ..GptConfig::debug() });
    gpt2.attention.n_head = 4;
    gpt2.feed_forward = FeedForwardConfig { n_inner: Some(512), activation: Activation::GeluTanh };
    let mut modern = wide(GptConfig::debug_modern());
    (modern.attention.n_head, modern.attention.n_kv_head) = (4, Some(2));
    let mut llama = modern.clone();
    (llama.attention.n_kv_head, llama.attention.head_dim) = (None, None);
    llama.attention.qk_norm = false;
    llama.feed_forward.n_inner = Some(512);
    let mut qwen3 = GptConfig { tie_embeddings: true, ..modern };
    qwen3.attention.head_dim = Some(64);
    qwen3.feed_forward.n_inner = Some(512);
    [gpt2, llama, qwen3]
}

fn exported(model: &Gpt, ty: FileType, path: &Path) -> GgufFile {
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    export_gguf(model, &tokenizer, &SpecialTokens::default(), "wide", ty, path).unwrap();
    GgufFile::open(path).unwrap()
}

/// The largest difference of two lists of logits, as a part of the largest logit.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(x, y)| (x - y).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn packed_weights_give_the_logits_of_unpacked_ones() {
    let (device, folder) = (test_device(), tempfile::tempdir().unwrap());
    for (idx, config) in configs().into_iter().enumerate() {
        let model = config.init(1337, &device).unwrap();
        for ty in FileType::ALL {
            let file = exported(&model, ty, &folder.path().join(format!("{idx}-{ty}.gguf")));
            let [packed, unpacked] = [WeightStorage::AsStored, WeightStorage::Owned]
                .map(|storage| file.load_model(storage, &device).unwrap());
            let (found, expected) = (logits(&packed, &IDS), logits(&unpacked, &IDS));
            let difference = difference(&found, &expected);
            let has_16_bits = matches!(ty, FileType::F32 | FileType::F16 | FileType::BF16);
            // Other sums, and activations of 8 bits.
            let tolerance = if has_16_bits { test_tolerance(1e-5) } else { 0.02 };
            assert!(difference < tolerance, "{idx}, {ty}: {difference}");
            if !device.is_autodiff() && kernels::has_fused_operations(&device) {
                let is_below = packed.weight_bytes() < unpacked.weight_bytes();
                assert_eq!(is_below, ty != FileType::F32, "{idx}, {ty}");
                assert!(has_16_bits || difference > 0.0, "{idx}, {ty}: the weights were unpacked");
            }
        }
    }
}

#[test]
fn weights_quantised_while_loading_equal_those_of_a_quantised_file() {
    let (device, folder) = (test_device(), tempfile::tempdir().unwrap());
    for (idx, config) in configs().into_iter().enumerate() {
        let model = config.init(7, &device).unwrap();
        let original = exported(&model, FileType::F32, &folder.path().join(format!("{idx}.gguf")));
        for ty in [FileType::BF16, FileType::Q8_0, FileType::Q5_1, FileType::Q4KM, FileType::Q6K] {
            let file = exported(&model, ty, &folder.path().join(format!("{idx}-{ty}.gguf")));
            let stored = file.load_model(WeightStorage::AsStored, &device).unwrap();
            let quantised = original.load_model(WeightStorage::Quantised(ty), &device).unwrap();
            let again = file.load_model(WeightStorage::Quantised(ty), &device).unwrap();
            assert_eq!(quantised.weight_bytes(), stored.weight_bytes(), "{idx}, {ty}");
            if kernels::has_fused_operations(&device) {
                assert_eq!(logits(&quantised, &IDS), logits(&stored, &IDS), "{idx}, {ty}");
                assert_eq!(logits(&again, &IDS), logits(&stored, &IDS), "{idx}, {ty}");
            }
        }
    }
}

#[test]
fn folders_with_16_bits_stay_as_they_are() {
    let device = test_device();
    for (name, is_smaller) in
        [("f16", true), ("llama_old_bf16", true), ("untied_exact", false), ("pickle_bf16", false)]
    {
        let folder = RunFolder::open(&fixture(name)).unwrap();
        let stored = folder.load_model_with(WeightStorage::AsStored, &device).unwrap();
        let own = model(name);
        let difference = difference(&logits(&stored, &[1, 2, 3, 0]), &logits(&own, &[1, 2, 3, 0]));
        assert!(difference < test_tolerance(1e-5), "{name}: {difference}");
        if kernels::has_fused_operations(&device) {
            assert_eq!(2 * stored.weight_bytes() == own.weight_bytes(), is_smaller, "{name}");
        }
    }
}

#[test]
fn a_scale_that_is_not_finite_is_refused() {
    let (device, folder) = (test_device(), tempfile::tempdir().unwrap());
    let [config, ..] = configs();
    let path = folder.path().join("model.gguf");
    exported(&config.init(3, &device).unwrap(), FileType::Q8_0, &path);
    let mut bytes = fs::read(&path).unwrap();
    let start = {
        let file = Gguf::parse(&bytes).unwrap();
        let tensor = file.tensor("blk.1.ffn_up.weight").unwrap();
        assert_eq!(tensor.ty, TensorType::Packed(quant::Format::Q8_0));
        tensor.bytes.as_ptr().addr() - bytes.as_ptr().addr()
    };
    // The scale of the third block becomes infinite.
    bytes[start + 2 * 34..][..2].copy_from_slice(&[0x00, 0x7C]);
    fs::write(&path, &bytes).unwrap();
    let file = GgufFile::open(&path).unwrap();
    for storage in [WeightStorage::AsStored, WeightStorage::Owned] {
        let error = file.load_model(storage, &device).unwrap_err().to_string();
        assert!(error.contains("blk.1.ffn_up.weight"), "{error}");
    }
}
