//! Compares weights in every layout with transformers. The fixtures are made by `xtask/golden/layouts.py`.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::{module::Module, prelude::*};
use checkpoint::{RunFolder, WEIGHTS, export_gguf};
use families::{WeightStorage, gguf::FileType, load_nanogpt};
use formats::weights::{self, FloatType};
use kernels::testing::test_tolerance;
use model::{Activation, Decoder, GptConfig, Position};
use serde::Deserialize;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::support::{fixture, logits, model};

/// Folders in Hugging Face layout.
const FOLDERS: [&str; 16] = [
    "one_head",
    "three_tokens",
    "untied_exact",
    "shards",
    "pickle",
    "pickle_bf16",
    "bare_names_bf16",
    "f16",
    "inner",
    "llama_grouped",
    "llama_tied",
    "llama_biased_shards",
    "llama_old_bf16",
    "llama_attention_bias",
    "qwen3_grouped",
    "qwen3_tied",
];

/// Folders with a `ckpt.pt`: of nanoGPT, of its first version, and minGPT's weights in nanoGPT's format.
const CHECKPOINTS: [&str; 3] = ["nanogpt", "nanogpt_first", "mingpt"];

#[derive(Deserialize)]
struct Golden {
    ids: Vec<i32>,
    /// `[T, V]`.
    logits: Vec<f32>,
    /// The greedy continuation of the first half of the ids.
    greedy: Vec<u32>,
}

fn golden(name: &str) -> Golden {
    serde_json::from_str(&fs::read_to_string(fixture(name).join("golden.json")).unwrap()).unwrap()
}

#[test]
fn logits_and_greedy_text_match_transformers() {
    for name in FOLDERS.into_iter().chain(CHECKPOINTS) {
        let (model, golden) = (model(name), golden(name));
        for (idx, (got, expected)) in logits(&model, &golden.ids).iter().zip(&golden.logits).enumerate() {
            // Logits are up to 10, after two or three blocks in f32; the largest difference seen is 2.5e-6.
            assert!(
                (got - expected).abs() < test_tolerance(2e-5),
                "{name}, logit {idx}: {got} is not {expected}"
            );
        }
        let prompt: Vec<u32> =
            golden.ids[..model.config().block_size / 2].iter().map(|&id| id.cast_unsigned()).collect();
        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        let mut pending = prompt;
        for (step, &expected) in golden.greedy.iter().enumerate() {
            let best: i32 = decoder.next_logits(&mut context, &pending).argmax(0).into_scalar();
            assert_eq!(best.cast_unsigned(), expected, "{name}, token {step}");
            pending = vec![expected];
        }
    }
}

#[test]
fn mapped_weights_equal_weights_in_memory() {
    let device = kernels::testing::test_device();
    let is_copied = ["pickle", "pickle_bf16", "bare_names_bf16", "f16"];
    for name in FOLDERS {
        let folder = RunFolder::open(&fixture(name)).unwrap();
        assert_eq!(folder.is_mapped().unwrap(), !is_copied.contains(&name), "{name}");
        let (mapped, own) = (folder.load_model_with(WeightStorage::Mapped, &device).unwrap(), model(name));
        let ids = golden(name).ids;
        for (mapped, own) in logits(&mapped, &ids).iter().zip(logits(&own, &ids)) {
            // Sums of about a hundred products, in another order if a weight consists of several blocks.
            assert!((mapped - own).abs() < test_tolerance(1e-5), "{name}: {mapped} is not {own}");
        }
    }
}

#[test]
fn unaligned_weights_are_copied() {
    let copy = Copy::of("untied_exact");
    let folder = RunFolder::open(copy.folder.path()).unwrap();
    assert!(folder.is_mapped().unwrap());
    copy.edit("model.safetensors", |bytes| {
        // A header may end with spaces.
        let len = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        bytes[..8].copy_from_slice(&(len + 1).to_le_bytes());
        bytes.insert(8 + len as usize, b' ');
    });
    assert!(!folder.is_mapped().unwrap());
    let copied = folder.load_model_with(WeightStorage::Mapped, &kernels::testing::test_device()).unwrap();
    let ids = golden("untied_exact").ids;
    assert_eq!(logits(&copied, &ids), logits(&model("untied_exact"), &ids));
}

#[test]
fn every_option_in_config_json_affects_the_logits() {
    for (name, from, to) in [
        ("llama_grouped", "\"rope_theta\": 50.0", "\"rope_theta\": 51.0"),
        ("llama_old_bf16", "\"rope_theta\": 500.0", "\"rope_theta\": 10000.0"),
        ("qwen3_grouped", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 1e-03"),
    ] {
        let copy = Copy::of(name);
        copy.replace("config.json", from, to);
        let other = RunFolder::open(copy.folder.path())
            .unwrap()
            .load_model(&kernels::testing::test_device())
            .unwrap();
        let golden = golden(name);
        let got = logits(&other, &golden.ids);
        let off = got.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) > 1e-3, "{name} has the same logits with {to}");
    }
}

#[test]
fn decoding_with_a_cache_equals_the_full_forward_pass() {
    for name in FOLDERS {
        let (model, golden) = (model(name), golden(name));
        let whole = logits(&model, &golden.ids);
        let decoder = Decoder::new(&model);
        let mut context = decoder.context();
        let rows = whole.chunks(model.config().vocab_size);
        for (position, (&id, row)) in golden.ids.iter().zip(rows).enumerate() {
            let next: Vec<f32> =
                decoder.next_logits(&mut context, &[id.cast_unsigned()]).into_data().try_into_vec().unwrap();
            for (got, expected) in next.iter().zip(row) {
                // The sums have another order, and logits are up to 10.
                assert!(
                    (got - expected).abs() < test_tolerance(2e-5),
                    "{name}, position {position}: {got} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn saved_weights_equal_the_loaded_ones() {
    for name in FOLDERS.into_iter().chain(CHECKPOINTS) {
        let (model, golden) = (model(name), golden(name));
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&parent.path().join("again")).unwrap();
        folder.save_weights(&model).unwrap();
        folder.save_description(model.config(), &Tokenizer::byte(), &SpecialTokens::default(), None).unwrap();
        let again = folder.load_model(&kernels::testing::test_device()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        assert_eq!(logits(&again, &golden.ids), logits(&model, &golden.ids), "{name}");
        // The files are identical, too.
        let bytes = fs::read(folder.path().join(WEIGHTS)).unwrap();
        folder.save_weights(&again).unwrap();
        assert_eq!(fs::read(folder.path().join(WEIGHTS)).unwrap(), bytes, "{name}");
    }
}

/// A copy of a fixture, to be modified.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Self { folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        edit(&mut bytes);
        fs::write(self.path(file), bytes).unwrap();
    }

    /// Replaces the first occurrence of a text.
    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    /// Replaces the first occurrence of a text in a safetensors header, and updates the header's length.
    fn replace_in_header(&self, from: &str, to: &str) {
        self.edit("model.safetensors", |bytes| {
            let len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            let header = String::from_utf8(bytes[8..8 + len].to_vec()).unwrap();
            assert!(header.contains(from), "the header has no {from}: {header}");
            let header = header.replacen(from, to, 1);
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend(header.into_bytes());
            file.extend(&bytes[8 + len..]);
            *bytes = file;
        });
    }

    /// The error of loading the model, which is the same in memory and mapped.
    fn error(&self) -> String {
        let device = kernels::testing::test_device();
        let nanogpt = self.path("ckpt.pt");
        let load = |storage| match nanogpt.exists() {
            true => load_nanogpt(&nanogpt, &device).map_err(Into::into),
            false => RunFolder::open(self.folder.path()).and_then(|it| it.load_model_with(storage, &device)),
        };
        let [own, mapped] = [WeightStorage::Owned, WeightStorage::Mapped]
            .map(|storage| full(&load(storage).expect_err("a broken model was loaded")));
        assert_eq!(own, mapped);
        assert!(own.contains(self.folder.path().to_str().unwrap()), "the error names no file: {own}");
        own
    }
}

/// An error with its causes.
fn full(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", full(cause)))
}

/// A modification of a copy, and a part of the expected error.
type Case<'a> = (&'a dyn Fn(&Copy), &'a str);

/// Modifies a copy of a fixture for each case and checks the error.
fn check_broken(name: &str, cases: &[Case<'_>]) {
    for (idx, (spoil, expected)) in cases.iter().enumerate() {
        let copy = Copy::of(name);
        spoil(&copy);
        let error = copy.error();
        assert!(error.contains(expected), "{name}, case {idx}: {error:?} does not say {expected:?}");
    }
}

const FILE: &str = "model.safetensors";

fn truncated(len: usize) -> impl Fn(&Copy) {
    move |copy| copy.edit(FILE, |bytes| bytes.truncate(len))
}

fn header_length(len: u64) -> impl Fn(&Copy) {
    move |copy| copy.edit(FILE, |bytes| bytes[..8].copy_from_slice(&len.to_le_bytes()))
}

fn header(from: &'static str, to: &'static str) -> impl Fn(&Copy) {
    move |copy| copy.replace_in_header(from, to)
}

fn config(from: &'static str, to: &'static str) -> impl Fn(&Copy) {
    move |copy| copy.replace("config.json", from, to)
}

/// Replaces the last value of the file.
fn last_value(x: f32) -> impl Fn(&Copy) {
    move |copy| {
        copy.edit(FILE, |bytes| {
            let start = bytes.len() - 4;
            bytes[start..].copy_from_slice(&x.to_le_bytes());
        });
    }
}

#[test]
fn broken_safetensors_are_refused() {
    check_broken(
        "one_head",
        &[
            (&truncated(0), "damaged or truncated"),
            (&truncated(5), "it has only 5 bytes"),
            (&truncated(8), "its header would have"),
            (&truncated(100), "its header would have"),
            (&truncated(4000), "its tensors need"),
            (&|copy: &Copy| copy.edit(FILE, |bytes| bytes.extend([0; 4])), "its tensors need"),
            (&header_length(u64::MAX), "its header would have 18446744073709551615 bytes"),
            (&header_length(1 << 62), "its header would have"),
            (&header_length(0), "damaged"),
            (&header_length(17), "damaged"),
            (&header("\"F32\"", "\"F33\""), "unknown variant `F33`"),
            (&header("\"F32\"", "\"I32\""), "has the unsupported type I32; F32, F16 and BF16 are supported"),
            (&header("\"F32\"", "32"), "damaged"),
            (&header("\"shape\":[", "\"shape\":[18446744073709551615,18446744073709551615,"), "damaged"),
            (&header("\"shape\":[", "\"shape\":[-1,"), "damaged"),
            (&header("\"data_offsets\":[0,", "\"data_offsets\":[4,"), "damaged"),
            (&header("\"data_offsets\":[0,", "\"data_offsets\":[0,1000000000"), "damaged"),
            (
                &header("transformer.wpe.weight", "transformer.wqe.weight"),
                "transformer.wpe.weight is missing",
            ),
            (
                &header("transformer.wpe.weight", "transformer.wqe.weight"),
                "wqe.weight is not part of the model",
            ),
            (&header("transformer.wpe.weight", "wte.weight"), "wte.weight occurs twice"),
            (&last_value(f32::NAN), "NaN"),
            (&last_value(f32::INFINITY), "inf"),
            (&|copy: &Copy| fs::write(copy.path(FILE), "weights").unwrap(), "it has only 7 bytes"),
        ],
    );
}

#[test]
fn broken_descriptions_are_refused() {
    check_broken(
        "one_head",
        &[
            (
                &config("\"n_positions\": 9", "\"n_positions\": 10"),
                "[9, 7] in the file and [10, 7] in the model",
            ),
            (&config("\"n_head\": 1", "\"n_head\": 2"), "not a multiple"),
            (&config("\"n_head\": 1", "\"n_head\": 0"), "`n_head` must be at least 1"),
            (&config("\"vocab_size\": 11", "\"vocab_size\": 0"), "`vocab_size` must be at least 1"),
            (&config("\"vocab_size\": 11", "\"vocab_size\": 1000000000000"), "parameters"),
            (&config("\"n_layer\": 1", "\"n_layer\": 18446744073709551615"), "parameters"),
            (&config("\"n_layer\": 1", "\"n_layer\": -1"), "invalid value"),
            (&config("\"n_embd\": 7", "\"n_embd\": \"7\""), "invalid type"),
            (&config("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\""), "missing field"),
            (&config("\"model_type\": \"gpt2\"", "\"model_type\": \"gemma3\""), "\"gemma3\""),
            (&config("gelu_new", "relu"), "\"relu\""),
            (&config("{", "["), "is not a valid model config"),
            (&|copy: &Copy| fs::write(copy.path("config.json"), "").unwrap(), "EOF"),
            (&|copy: &Copy| fs::write(copy.path("config.json"), [0xff, 0xfe]).unwrap(), "config.json"),
            (
                &|copy: &Copy| fs::remove_file(copy.path("config.json")).unwrap(),
                "(model.safetensors) but no config.json",
            ),
            (&|copy: &Copy| fs::remove_file(copy.path(FILE)).unwrap(), "it has no model.safetensors"),
        ],
    );
    check_broken(
        "untied_exact",
        &[(
            &config("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"),
            "lm_head.weight differs from the token embedding",
        )],
    );
    const INDEX: &str = "model.safetensors.index.json";
    let index = |from: &'static str, to: &'static str| move |copy: &Copy| copy.replace(INDEX, from, to);
    check_broken(
        "shards",
        &[
            (
                &index("model-00001-of-00005.safetensors", "../secret.safetensors"),
                "only files in the same folder are supported",
            ),
            (
                &index("model-00001-of-00005.safetensors", "/etc/passwd"),
                "only files in the same folder are supported",
            ),
            (
                &index("model-00001-of-00005.safetensors", "model-00002-of-00005.safetensors"),
                "belong to different models",
            ),
            (&index("\"weight_map\"", "\"weights\""), "missing field `weight_map`"),
            (
                &|copy: &Copy| fs::remove_file(copy.path("model-00003-of-00005.safetensors")).unwrap(),
                "cannot open",
            ),
        ],
    );
}

#[test]
fn llamas_with_a_wrong_config_are_refused() {
    check_broken(
        "llama_grouped",
        &[
            (
                &config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
                "self_attn.k_proj.weight is [8, 18] in the file and [12, 18] in the model",
            ),
            (&config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"), "not a multiple"),
            (
                &config("\"intermediate_size\": 31", "\"intermediate_size\": 30"),
                "mlp.up_proj.weight is [31, 18] in the file and [30, 18] in the model",
            ),
            (&config("\"head_dim\": 4", "\"head_dim\": 5"), "must be even"),
            (&config("\"head_dim\": 4", "\"head_dim\": 0"), "`head_dim` must be at least 1"),
            (
                &config("\"num_attention_heads\": 6", "\"num_attention_heads\": 0"),
                "`n_head` must be at least 1",
            ),
            (
                &config("\"intermediate_size\": 31", "\"intermediate_size\": 18446744073709551615"),
                "parameters",
            ),
            (&config("\"hidden_size\": 18", "\"hidden_size\": 18446744073709551615"), "parameters"),
            (
                &config("\"model_type\": \"llama\"", "\"model_type\": \"qwen3\""),
                "self_attn.q_norm.weight is missing",
            ),
            (&config("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\""), "`rope_parameters` is {"),
            (&config("\"silu\"", "\"gelu\""), "`hidden_act` is \"gelu\""),
            (
                &header("model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.w_proj.weight"),
                "model.layers.1.self_attn.v_proj.weight is missing",
            ),
            (
                &header("model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.w_proj.weight"),
                "model.layers.1.self_attn.w_proj.weight is not part of the model",
            ),
            (&header("model.norm.weight", "layers.0.mlp.up_proj.weight"), "up_proj.weight occurs twice"),
        ],
    );
    check_broken(
        "llama_tied",
        &[(
            &config("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
            "lm_head.weight is missing",
        )],
    );
    check_broken(
        "llama_biased_shards",
        &[
            (
                &config("\"mlp_bias\": true", "\"mlp_bias\": false"),
                "mlp.down_proj.bias is not part of the model",
            ),
            (
                &|copy: &Copy| {
                    copy.replace("config.json", "\"attention_bias\": true", "\"attention_bias\": false");
                    copy.replace("config.json", "\"mlp_bias\": true", "\"mlp_bias\": false");
                },
                "down_proj.bias is not part of the model",
            ),
        ],
    );
}

#[test]
fn a_model_without_a_hugging_face_architecture_is_saved_but_not_exported() {
    let mut config = GptConfig { bias: true, dropout: 0.25, ..GptConfig::debug() };
    config.position.kind = Position::Rope;
    config.feed_forward.activation = Activation::Relu2;
    config.attention.n_kv_head = Some(1);
    let device = kernels::testing::test_device();
    let model = config.init(1337, &device).unwrap();
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name);
    let run =
        RunFolder::create_model(&path("run"), &model, &tokenizer, &SpecialTokens::default(), FloatType::F32)
            .unwrap();
    let again = run.load_model(&device).unwrap();
    assert_eq!(again.config(), &config);
    assert_eq!(logits(&again, &[1, 2, 3]), logits(&model, &[1, 2, 3]));
    let keys = weights::Weights::open(&run.path().join(WEIGHTS)).unwrap();
    assert!(keys.names().any(|key| key == "blocks.1.attention.qkv.bias"));

    let folder =
        RunFolder::export(&path("folder"), &model, &tokenizer, &SpecialTokens::default(), FloatType::F32)
            .unwrap_err();
    let gguf =
        export_gguf(&model, &tokenizer, &SpecialTokens::default(), "odd", FileType::F32, &path("file.gguf"))
            .unwrap_err();
    for error in [folder, gguf] {
        let reason = std::error::Error::source(&error).expect("the error has a source").to_string();
        assert!(reason.contains("`position` = \"rope\" with `norm` = \"layer_norm\""), "{reason}");
    }
    assert!(!path("folder").exists() && !path("file.gguf").exists());
}

#[test]
fn broken_pickles_are_refused_and_not_executed() {
    const PICKLE: &str = "pytorch_model.bin";
    let write = |bytes: &'static [u8]| move |copy: &Copy| fs::write(copy.path(PICKLE), bytes).unwrap();
    // Each would create a file if it were executed.
    let call = b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.";
    let entry = b"\x80\x02}X\x01\x00\x00\x00xcposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85Rs.";
    check_broken(
        "pickle",
        &[
            (&write(call), "cannot read"),
            (&write(entry), "system"),
            (&write(b"\x80\x02}X\x01\x00\x00\x00xK\x01s."), "a number under \"x\""),
            (&write(b"\x80\x02]."), "cannot read"),
            (&write(b"\x80\x02}."), "it has no tensors"),
            (&write(b"\x80\x02X\xff\xff\xff\x7f"), "cannot read"),
            (&write(b"\x80\x02(((((((((("), "cannot read"),
            (&write(b""), "cannot read"),
            // nanoGPT's file has other entries beside the tensors.
            (
                &|copy: &Copy| {
                    fs::copy(fixture("nanogpt/ckpt.pt"), copy.path(PICKLE)).unwrap();
                },
                "which is not a tensor",
            ),
            (&write(b"PK\x03\x04 and no more"), "cannot read"),
            (&|copy: &Copy| copy.edit(PICKLE, |bytes| bytes.truncate(bytes.len() / 2)), "cannot read"),
        ],
    );
    check_broken(
        "stride_zero",
        &[(&|_: &Copy| {}, "its tensors would take 4000000000 bytes, but the file has only")],
    );
    check_broken(
        "nanogpt",
        &[
            (&|copy: &Copy| copy.edit("ckpt.pt", |bytes| bytes.truncate(3000)), "cannot read"),
            (
                &|copy: &Copy| fs::write(copy.path("ckpt.pt"), b"\x80\x02}.").unwrap(),
                "is not a nanoGPT checkpoint: it has no model_args",
            ),
            (&|copy: &Copy| fs::write(copy.path("ckpt.pt"), call).unwrap(), "cannot read"),
        ],
    );
    assert!(!Path::new("executed").exists(), "a pickle was executed");
}

#[test]
fn other_checkpoints_are_named_with_a_conversion_command() {
    let other = |name: &'static str| {
        move |copy: &Copy| {
            fs::copy(fixture("checkpoints").join(name), copy.path("ckpt.pt")).unwrap();
        }
    };
    check_broken(
        "nanogpt",
        &[
            (&other("llama2c.pt"), "is a llama2.c checkpoint (its model_args have dim, but no n_layer)"),
            (&other("llama2c.pt"), "python export.py FOLDER --version -1 --checkpoint "),
            (
                &other("build_nanogpt.pt"),
                "its config is an object of the class __main__.GPTConfig, which is not supported",
            ),
            (
                &other("build_nanogpt.pt"),
                "c[\"model_args\"] = vars(c.pop(\"config\")); torch.save(c, \"ckpt.pt\")",
            ),
            (
                &other("mingpt.pt"),
                "is a bare state dict without the sizes of the model. Convert it, with the number of heads",
            ),
            (
                &other("mingpt.pt"),
                "\"n_layer\": 2, \"n_head\": N_HEAD, \"n_embd\": 6, \"block_size\": 10, \"vocab_size\": 12, \"bias\": True",
            ),
            (
                &other("build_nanogpt.pt"),
                "Convert it: python3 -c 'import torch; GPTConfig = type(\"GPTConfig\", (), {}); c = ",
            ),
            (&other("mingpt.pt"), ": python3 -c 'import torch; torch.save({\"model\": torch.load("),
            (&other("gpt2.pt"), "name it pytorch_model.bin, put GPT-2's config.json into the same folder"),
            (&other("llama.pt"), "name it pytorch_model.bin, put its config.json into the same folder"),
            (&other("no_head.pt"), "its model_args have no n_head; they need n_layer, n_head, n_embd,"),
        ],
    );
    // The message stays short, however many tensors there are.
    let copy = Copy::of("nanogpt");
    other("mingpt.pt")(&copy);
    assert!(copy.error().len() < 900, "{}", copy.error());
}

#[test]
fn the_metadata_of_a_state_dict_is_not_a_tensor() {
    // `torch.save(model.state_dict())`, which makes most pickles, stores module versions under `_metadata`.
    let weights = weights::Weights::open(&fixture("checkpoints/gpt2.pt")).unwrap();
    assert_eq!(weights.names().count(), 2 + 2 * 12 + 2 + 1);
    let entries = weights::entries(&fixture("nanogpt_first/ckpt.pt"), Some("model")).unwrap();
    assert!(entries.len() == 2 + 2 * 12 + 2 + 1 && !entries.contains_key("_metadata"), "{entries:?}");
}

#[test]
fn known_extra_tensors_are_ignored() {
    let golden = golden("llama_tied");
    let with = |names: &[(&str, &[usize])]| {
        let copy = Copy::of("llama_tied");
        let held = weights::Weights::open(&copy.path(FILE)).unwrap();
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for name in held.names() {
            let tensor = held.get(name).unwrap();
            tensors.push((name.to_owned(), tensor.shape().to_vec(), bytes_of(&tensor.read().unwrap())));
        }
        for (name, shape) in names {
            tensors.push(((*name).to_owned(), shape.to_vec(), bytes_of(&vec![0.5; shape.iter().product()])));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name.as_str(),
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        fs::write(copy.path(FILE), safetensors::serialize(views, None).unwrap()).unwrap();
        copy
    };
    let copy = with(&[
        ("v_head.summary.weight", &[1, 12]),
        ("v_head.summary.bias", &[1]),
        ("score.weight", &[2, 12]),
        ("lm_head.weight", &[0]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]),
        ("left.over", &[3, 0]),
    ]);
    let model =
        RunFolder::open(copy.folder.path()).unwrap().load_model(&kernels::testing::test_device()).unwrap();
    for (got, expected) in logits(&model, &golden.ids).iter().zip(&golden.logits) {
        assert!((got - expected).abs() < test_tolerance(2e-5), "{got} is not {expected}");
    }
    let error = with(&[("adapter.weight", &[2, 2])]).error();
    assert!(
        error.contains(": adapter.weight is not part of the model"),
        "the full name is reported: {error}"
    );
    let error = with(&[("model.layers.0.mlp.up_proj.qweight", &[2, 2])]).error();
    assert!(error.contains("its weights are quantized (GPTQ or AWQ), which is not supported"), "{error}");
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn values_out_of_range_for_f16_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let large = model("one_head").map(&mut Enlarge);
    let tokens = SpecialTokens { bos: Some(4), eos: vec![3, 5], ..SpecialTokens::default() };
    let export = |name: &str, precision| {
        RunFolder::export(&parent.path().join(name), &large, &Tokenizer::byte(), &tokens, precision)
    };
    let error = export("f16", FloatType::F16).expect_err("a value above 65504 was written");
    assert!(error.to_string().contains("which float16 cannot represent"), "{error}");
    let folder = export("bf16", FloatType::Bf16).unwrap();
    folder.load_model(&kernels::testing::test_device()).unwrap();
    assert_eq!(folder.special_tokens().unwrap().bos, tokens.bos);
    assert_eq!(folder.special_tokens().unwrap().eos, tokens.eos);
}

struct Enlarge;

impl burn::module::ModuleMapper for Enlarge {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<Tensor<D>>,
    ) -> burn::module::Param<Tensor<D>> {
        param.map(|tensor| tensor * 1e6)
    }
}
