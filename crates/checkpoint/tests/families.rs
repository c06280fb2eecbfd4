//! Compares Kindling-trained models of every family with transformers and llama.cpp. The fixtures are made by
//! `xtask/golden/families.py`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{collections::BTreeMap, fs, path::PathBuf};

use checkpoint::{RunFolder, WEIGHTS, export_gguf};
use families::{
    Family, WeightStorage,
    gguf::{FileType, GgufFile},
};
use formats::{gguf::Gguf, weights::FloatType};
use serde::Deserialize;

use crate::support::{fixture, logits, model};

/// Every family except GPT-2 and Llama, which `layouts.rs` tests.
fn trained() -> impl Iterator<Item = &'static str> {
    Family::model_types().filter(|family| !["gpt2", "llama"].contains(family))
}

/// The output of transformers.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<i32>,
    /// `[T, V]`.
    logits: Vec<f32>,
}

/// The model exported by Kindling.
fn exported(family: &str) -> String {
    format!("{family}_trained")
}

/// The same model converted by llama.cpp.
fn converted(family: &str) -> PathBuf {
    fixture("..").join("gguf").join(format!("{family}_trained.gguf"))
}

#[test]
fn logits_match_transformers() {
    for family in trained() {
        let golden: Golden = serde_json::from_str(
            &fs::read_to_string(fixture(&exported(family)).join("golden.json")).unwrap(),
        )
        .unwrap();
        let folder = model(&exported(family));
        let file = GgufFile::open(&converted(family))
            .unwrap()
            .load_model(WeightStorage::Owned, &kernels::testing::test_device())
            .unwrap();
        for model in [&folder, &file] {
            let got = logits(model, &golden.ids);
            assert_eq!(got.len(), golden.logits.len(), "{family}");
            let largest = got.iter().zip(&golden.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                largest < kernels::testing::test_tolerance(1e-4),
                "{family}: a logit is off by {largest:e}"
            );
        }
        assert_eq!(logits(&folder, &golden.ids), logits(&file, &golden.ids), "{family}");
    }
}

#[test]
fn the_family_is_preserved() {
    for family in trained() {
        let folder = RunFolder::open(&fixture(&exported(family))).unwrap();
        let (model, tokenizer) = (model(&exported(family)), folder.load_tokenizer().unwrap());
        assert_eq!(Family::of(model.config()).unwrap().model_type, family);
        let parent = tempfile::tempdir().unwrap();
        let tokens = folder.special_tokens().unwrap();
        let again =
            RunFolder::export(&parent.path().join("again"), &model, &tokenizer, &tokens, FloatType::F32)
                .unwrap();
        for name in [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"] {
            let read = |folder: &RunFolder| fs::read(folder.path().join(name)).unwrap();
            assert!(read(&again) == read(&folder), "{family}: {name} differs");
        }
    }
}

#[test]
fn gguf_files_match_llama_cpps_converter() {
    for family in trained() {
        let folder = RunFolder::open(&fixture(&exported(family))).unwrap();
        let (model, tokenizer) = (model(&exported(family)), folder.load_tokenizer().unwrap());
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("ours.gguf");
        let tokens = folder.special_tokens().unwrap();
        export_gguf(&model, &tokenizer, &tokens, family, FileType::F32, &path).unwrap();
        let (ours, theirs) = (fs::read(&path).unwrap(), fs::read(converted(family)).unwrap());
        let (ours, theirs) = (Gguf::parse(&ours).unwrap(), Gguf::parse(&theirs).unwrap());

        let tensors = |file: &Gguf<'_>| -> BTreeMap<String, _> {
            let facts = |tensor: &formats::gguf::TensorView<'_>| {
                (tensor.name.to_owned(), (tensor.dims.clone(), tensor.ty, tensor.bytes.to_vec()))
            };
            file.tensors().iter().map(facts).collect()
        };
        assert!(tensors(&ours) == tensors(&theirs), "{family}: {ours}\n{theirs}");
        // Names, licences and sources of the models differ.
        let keys = |file: &Gguf<'_>| -> BTreeMap<String, String> {
            let is_compared = |key: &str| match key.strip_prefix("general.") {
                Some(key) => GENERAL_KEYS.contains(&key),
                None => key != NO_BOS,
            };
            let keys = file.metadata().iter().filter(|(key, _)| is_compared(key));
            keys.map(|(key, value)| ((*key).to_owned(), format!("{value:?}"))).collect()
        };
        assert_eq!(keys(&ours), keys(&theirs), "{family}");
    }
}

/// The keys under `general.` that determine how a file is read.
const GENERAL_KEYS: [&str; 4] = ["architecture", "type", "file_type", "quantization_version"];

/// Kindling writes this key also if no BOS token is added; the converter relies on llama.cpp's default.
const NO_BOS: &str = "tokenizer.ggml.add_bos_token";
