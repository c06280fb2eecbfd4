//! Exporting models to GGUF and importing them: every value is where llama.cpp expects it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

mod support;

use std::fs;

use checkpoint::{RunFolder, WEIGHTS, export_gguf};
use families::{
    WeightStorage,
    gguf::{FileType, GgufFile},
};
use formats::{
    gguf,
    weights::{self, FloatType},
};
use model::{Activation, Decoder, FeedForwardConfig, GptConfig};
use serde::Deserialize;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::support::{fixture, logits, model};

#[test]
fn a_gguf_file_has_every_weight_where_llama_cpp_expects_it() {
    let model = model("untied_exact");
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let notes =
        export_gguf(&model, &tokenizer, &SpecialTokens::default(), "odd", FileType::F32, &path).unwrap();
    assert!(notes[0].contains("tanh form of GELU"), "{notes:?}");

    let bytes = fs::read(&path).unwrap();
    let again = export_gguf(&model, &tokenizer, &SpecialTokens::default(), "other", FileType::F32, &path);
    assert!(again.unwrap_err().to_string().contains("model.gguf"));
    assert_eq!(fs::read(&path).unwrap(), bytes, "an existing file is kept");
    let file = gguf::Gguf::parse(&bytes).unwrap();
    let number = |key: &str| file.value(key).and_then(gguf::Value::as_u64).unwrap();
    assert_eq!(file.value("general.architecture").and_then(gguf::Value::as_str), Some("gpt2"));
    assert_eq!([number("gpt2.context_length"), number("gpt2.attention.head_count")], [8, 3]);
    assert_eq!(file.tensors().len(), 2 + 2 * 12 + 2 + 1);

    let saved = folder.path().join("saved");
    RunFolder::export(&saved, &model, &tokenizer, &SpecialTokens::default(), FloatType::F32).unwrap();
    let saved = weights::Weights::open(&saved.join(WEIGHTS)).unwrap();
    let values = |key: &str| saved.get(key).unwrap().read().unwrap();
    let tensor = |name: &str| file.tensor(name).unwrap().to_f32();
    assert_eq!(tensor("token_embd.weight"), values("transformer.wte.weight"));
    assert_eq!(tensor("output.weight"), values("lm_head.weight"));
    assert_eq!(tensor("blk.1.ffn_up.bias"), values("transformer.h.1.mlp.c_fc.bias"));
    // GGUF stores `[out, in]`, GPT-2 stores `[in, out]`.
    let (theirs, ours) = (tensor("blk.1.attn_qkv.weight"), values("transformer.h.1.attn.c_attn.weight"));
    let width = 15;
    for (input, output) in [(0, 0), (0, 44), (14, 0), (3, 7), (14, 44)] {
        assert_eq!(theirs[output * width + input].to_bits(), ours[input * 3 * width + output].to_bits());
    }
}

#[test]
fn a_llama_gguf_file_has_separate_heads_and_adjacent_rope_pairs() {
    let letters: String = ('a'..='w').collect();
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama_grouped", "qwen3_grouped"] {
        let model = model(name);
        let config = model.config();
        let tokenizer = Tokenizer::from_chars(letters.chars().take(config.vocab_size)).unwrap();
        let path = folder.path().join(name);
        let q8_0 = folder.path().join(format!("{name}-q8_0"));
        let notes =
            export_gguf(&model, &tokenizer, &SpecialTokens::default(), name, FileType::Q8_0, &q8_0).unwrap();
        assert!(notes[0].contains("continues at untrained positions beyond it"), "{notes:?}");
        assert!(notes[1].contains(" and 24 and "), "{notes:?}");
        export_gguf(&model, &tokenizer, &SpecialTokens::default(), name, FileType::F32, &path).unwrap();

        let bytes = fs::read(&path).unwrap();
        let file = gguf::Gguf::parse(&bytes).unwrap();
        let saved = weights::Weights::open(&fixture(name).join(WEIGHTS)).unwrap();
        let values = |key: &str| saved.get(&format!("model.layers.1.{key}.weight")).unwrap().read().unwrap();
        let tensor = |name: &str| file.tensor(&format!("blk.1.{name}.weight")).unwrap().to_f32();
        assert_eq!(tensor("attn_v"), values("self_attn.v_proj"));
        assert_eq!(tensor("ffn_gate"), values("mlp.gate_proj"));
        assert_eq!(tensor("ffn_down"), values("mlp.down_proj"));
        // The first row is unchanged. In a Llama, the second row was half a head away.
        let (keys, theirs) = (values("self_attn.k_proj"), tensor("attn_k"));
        let partner = if name.starts_with("llama") { config.head_dim() / 2 } else { 1 };
        let width = config.n_embd;
        assert_eq!(theirs[..width], keys[..width], "{name}");
        assert_eq!(theirs[width..][..width], keys[partner * width..][..width], "{name}");
        assert_eq!(file.tensor("output.weight").is_some(), !config.tie_embeddings);
    }
}

#[test]
fn unsupported_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let tokenizer = Tokenizer::from_chars("abcdefg".chars()).unwrap();
    let inner = model("inner");
    let error = export_gguf(&inner, &tokenizer, &SpecialTokens::default(), "inner", FileType::F32, &path)
        .unwrap_err();
    let reason = "the tanh form of GELU, this model `activation` = \"relu2\"";
    assert!(error.to_string().contains(reason), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_model_survives_a_gguf_round_trip() {
    let device = kernels::testing::test_device();
    let modern = GptConfig::debug_modern();
    let mut gpt2 = GptConfig { bias: true, ..GptConfig::debug() };
    gpt2.feed_forward = FeedForwardConfig { n_inner: Some(20), activation: Activation::GeluTanh };
    let mut llama = GptConfig { n_embd: 24, ..modern.clone() };
    (llama.attention.n_kv_head, llama.attention.head_dim) = (None, None);
    llama.attention.qk_norm = false;
    llama.feed_forward.n_inner = None;
    let mut qwen3 = GptConfig { tie_embeddings: true, ..modern };
    qwen3.position.rope_theta = 5e5;
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    for (idx, config) in [gpt2, llama, qwen3].into_iter().enumerate() {
        let model = config.init(1337, &device).unwrap();
        let path = folder.path().join(format!("{idx}.gguf"));
        export_gguf(&model, &tokenizer, &SpecialTokens::default(), "small", FileType::F32, &path).unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.config(), &config);
        assert_eq!(file.tokenizer().fingerprint(), tokenizer.fingerprint());
        assert!(file.special_tokens().eos.is_empty());
        let again = file.load_model(WeightStorage::Owned, &device).unwrap();
        let ids = [1, 2, 3, 12, 0, 7];
        assert_eq!(logits(&again, &ids), logits(&model, &ids), "{config:?}");
    }
}

#[test]
fn a_tokenizer_survives_a_gguf_round_trip() {
    let device = kernels::testing::test_device();
    let folder = tempfile::tempdir().unwrap();
    for name in ["smollm", "llama-bpe", "scores"] {
        let bytes =
            fs::read(fixture("../../../../tokenizer/tests/fixtures/gguf").join(format!("{name}.gguf")));
        let bytes = bytes.expect("the fixture is committed");
        let first = gguf::Vocabulary::read(&gguf::Gguf::parse(&bytes).unwrap()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&first).unwrap();
        let vocab_size = first.tokens.len();
        let mut config = GptConfig { vocab_size, n_embd: 16, ..GptConfig::debug_modern() };
        config.attention.qk_norm = false;
        let model = config.init(1337, &device).unwrap();
        let tokens = SpecialTokens { bos: first.bos, eos: first.eos.clone(), ..SpecialTokens::default() };

        // Through a run folder, which stores the special tokens beside the tokenizer.
        let run =
            RunFolder::create_model(&folder.path().join(name), &model, &tokenizer, &tokens, FloatType::F32);
        let run = run.unwrap();
        let found = run.special_tokens().unwrap();
        assert_eq!((found.bos, found.eos), (tokens.bos, tokens.eos.clone()), "{name}");
        let path = folder.path().join(format!("{name}.gguf"));
        let tokenizer = run.load_tokenizer().unwrap();
        export_gguf(&model, &tokenizer, &run.special_tokens().unwrap(), name, FileType::F32, &path).unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.tokenizer().fingerprint(), tokenizer.fingerprint());
        assert_eq!(
            (file.special_tokens().bos, &file.special_tokens().eos, file.config()),
            (tokens.bos, &tokens.eos, &config)
        );
        let bytes = fs::read(&path).unwrap();
        let second = gguf::Vocabulary::read(&gguf::Gguf::parse(&bytes).unwrap()).unwrap();
        assert_eq!((second.bpe, second.adds_bos), (first.bpe, first.adds_bos));
    }

    let model = model("one_head");
    let words = r#"{"version":"1.0","model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"one":1}},"decoder":null,
        "added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"truncation":null,"padding":null}"#;
    let words = Tokenizer::from_json(words).unwrap();
    let path = folder.path().join("words.gguf");
    let error =
        export_gguf(&model, &words, &SpecialTokens::default(), "words", FileType::F32, &path).unwrap_err();
    assert!(
        error.to_string().contains("words.gguf; export the model with --format safetensors instead"),
        "{error}"
    );
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("its model is \"WordLevel\", not a BPE"), "{reason}");
}

#[test]
fn invalid_gguf_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let open_error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = GgufFile::open(&path).unwrap_err();
        let reason = std::error::Error::source(&error).expect("the error has a source").to_string();
        (error.to_string(), reason)
    };
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF\x03\0\0\0", "truncated"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "no `general.architecture`"),
    ] {
        let (error, reason) = open_error(bytes);
        assert_eq!(error, format!("cannot read {}", path.display()));
        assert!(reason.contains(expected), "{reason}");
    }
    fs::remove_file(&path).unwrap();
    assert!(GgufFile::open(&path).unwrap_err().to_string().contains("model.gguf"));
}

#[test]
fn a_llama_with_biases_is_exported_with_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama_biased_shards", "llama_attention_bias"] {
        let path = folder.path().join(name);
        let model = model(name);
        let letters: String = ('a'..).take(model.config().vocab_size).collect();
        let tokenizer = Tokenizer::from_chars(letters.chars()).unwrap();
        export_gguf(&model, &tokenizer, &SpecialTokens::default(), name, FileType::F32, &path).unwrap();
        let again = GgufFile::open(&path)
            .unwrap()
            .load_model(WeightStorage::Owned, &kernels::testing::test_device())
            .unwrap();
        assert_eq!(logits(&again, &[3, 1, 4, 1, 5]), logits(&model, &[3, 1, 4, 1, 5]), "{name}");
        let bytes = fs::read(&path).unwrap();
        let file = gguf::Gguf::parse(&bytes).unwrap();
        assert!(file.tensor("blk.0.attn_k.bias").unwrap().to_f32().iter().any(|&x| x != 0.0));
    }
}

/// The output of transformers.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<i32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

/// `xtask/golden/gguf_models.py` checks that llama.cpp computes the same logits, within the rounding of its cache.
#[test]
fn logits_and_greedy_text_match_transformers() {
    for name in ["llama_grouped", "llama_attention_bias", "qwen3_grouped"] {
        let golden: Golden =
            serde_json::from_str(&fs::read_to_string(fixture(name).join("golden.json")).unwrap()).unwrap();
        let path = fixture("..").join("gguf").join(format!("{name}.gguf"));
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(
            (file.special_tokens().bos, &file.special_tokens().eos[..]),
            (Some(1), &[2][..]),
            "{name}"
        );
        assert_eq!(file.tokenizer().prompt_prefix(), [1], "{name}");
        assert_eq!(
            file.tokenizer().encode("cab").unwrap(),
            [5, 3, 4],
            "{name}: the ids of letters follow three special tokens"
        );

        let model = file.load_model(WeightStorage::Owned, &kernels::testing::test_device()).unwrap();
        let got = logits(&model, &golden.ids);
        assert_eq!(got.len(), golden.logits.len(), "{name}");
        let largest = got.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // As for the same weights in Hugging Face layout.
        assert!(largest < kernels::testing::test_tolerance(2e-5), "{name}: a logit is off by {largest:e}");

        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        let n_prompt = model.config().block_size / 2;
        let mut pending: Vec<u32> = golden.ids[..n_prompt].iter().map(|&id| id.cast_unsigned()).collect();
        for (step, &expected) in golden.greedy.iter().enumerate() {
            let best: i32 = decoder.next_logits(&mut context, &pending).argmax(0).into_scalar();
            assert_eq!(best.cast_unsigned(), expected, "{name}, token {step}");
            pending = vec![expected];
        }
    }
}
