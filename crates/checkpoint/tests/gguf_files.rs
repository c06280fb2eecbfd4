//! Models in GGUF files, out and in.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use burn::prelude::*;
use checkpoint::{GgufFile, TensorType, export_gguf};
use model::{Activation, Gpt, GptConfig};
use tokenizer::Tokenizer;

fn logits(model: &Gpt, ids: &[i32]) -> Vec<f32> {
    let ids = Tensor::from_data(TensorData::new(ids.to_vec(), [1, ids.len()]), &kernels::test_device());
    model.forward(ids).into_data().try_into_vec().unwrap()
}

#[test]
fn a_model_comes_back_out_of_a_gguf_file() {
    let device = kernels::test_device();
    let modern = GptConfig::debug_modern();
    let configs = [
        GptConfig { bias: true, activation: Activation::GeluTanh, n_inner: Some(20), ..GptConfig::debug() },
        GptConfig {
            qk_norm: false,
            n_kv_head: None,
            head_dim: None,
            n_inner: None,
            n_embd: 24,
            ..modern.clone()
        },
        GptConfig { tie_embeddings: true, rope_theta: 5e5, ..modern },
    ];
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    for (idx, config) in configs.into_iter().enumerate() {
        let model = config.init(1337, &device).unwrap();
        let path = folder.path().join(format!("{idx}.gguf"));
        export_gguf(&model, &tokenizer, "small", TensorType::F32, &path).unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.config(), &config);
        assert_eq!(file.tokenizer().fingerprint(), tokenizer.fingerprint());
        assert!(file.ends().is_empty());
        let again = file.load_model(&device).unwrap();
        let ids = [1, 2, 3, 12, 0, 7];
        assert_eq!(logits(&again, &ids), logits(&model, &ids), "{config:?}");
    }
}

#[test]
fn gguf_files_without_a_model_of_ours_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let refusal = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = GgufFile::open(&path).unwrap_err();
        let reason = std::error::Error::source(&error).expect("it says why").to_string();
        (error.to_string(), reason)
    };
    for (bytes, expected) in [
        (&b""[..], "not a GGUF file"),
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF\x03\0\0\0", "cut short"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "no `general.architecture`"),
    ] {
        let (error, reason) = refusal(bytes);
        assert_eq!(error, format!("cannot read {}", path.display()));
        assert!(reason.contains(expected), "{reason}");
    }
    fs::remove_file(&path).unwrap();
    assert!(GgufFile::open(&path).unwrap_err().to_string().contains("model.gguf"));

    // A Llama with biases is one of Hugging Face's and none of llama.cpp's.
    let config = GptConfig { bias: true, qk_norm: false, ..GptConfig::debug_modern() };
    let model = config.init(1, &kernels::test_device()).unwrap();
    let error = export_gguf(&model, &Tokenizer::byte(), "biased", TensorType::F32, &path).unwrap_err();
    assert!(error.to_string().contains("`bias` = true"), "{error}");
}
