//! LoRA adapters as GGUF files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use burn::{prelude::*, tensor::Distribution};
use checkpoint::{export_gguf, export_gguf_adapter};
use families::{
    LoraModule, WeightStorage,
    gguf::{FileType, GgufAdapter, GgufFile},
};
use formats::gguf::{self, Gguf, TensorInfo, Value};
use kernels::testing::{test_device, test_tolerance};
use model::{Activation, Gpt, GptConfig, Lora};
use tokenizer::{SpecialTokens, Tokenizer};

const IDS: [i32; 6] = [1, 2, 3, 12, 0, 7];

/// A GPT-2, a Llama (whose rows are interleaved in GGUF) and a Qwen3.
fn configs() -> [GptConfig; 3] {
    let mut gpt2 = GptConfig { bias: true, ..GptConfig::debug() };
    gpt2.feed_forward.activation = Activation::GeluTanh;
    let qwen3 = GptConfig::debug_modern();
    let mut llama = qwen3.clone();
    llama.attention.qk_norm = false;
    [gpt2, llama, qwen3]
}

/// The logits at every position.
fn logits(model: &Gpt) -> Vec<f32> {
    let ids = Tensor::<2, Int>::from_data([IDS], &test_device());
    model.forward(ids).into_data().try_into_vec().unwrap()
}

/// The model with random updates of all modules. The first has another rank and another factor than the others.
fn with_updates(model: Gpt) -> Gpt {
    let device = test_device();
    device.seed(3);
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.3), &device);
    let mut updates: BTreeMap<String, Vec<Lora>> = BTreeMap::new();
    for (idx, module) in LoraModule::all(model.config()).into_iter().enumerate() {
        let ([n_rows, n_in], rank) = (module.shape, if idx == 0 { 3 } else { 2 });
        let scale = if idx == 0 { 0.7 } else { 1.5 };
        let lora = Lora::new(random([rank, n_in]), random([n_rows, rank]), module.first_row, scale);
        updates.entry(module.path).or_default().push(lora);
    }
    model.with_lora(updates)
}

/// The base model in a file, and its updates in another.
fn exported(config: &GptConfig, folder: &Path) -> (Gpt, GgufFile, GgufAdapter) {
    let model = config.init(1337, &test_device()).unwrap();
    let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
    let folder = tempfile::tempdir_in(folder).unwrap().keep();
    let (base, adapter) = (folder.join("base.gguf"), folder.join("adapter.gguf"));
    export_gguf(&model, &tokenizer, &SpecialTokens::default(), "base", FileType::F32, &base).unwrap();
    let updated = with_updates(model);
    export_gguf_adapter(&updated, "adapter", FileType::F32, &adapter).unwrap();
    (updated, GgufFile::open(&base).unwrap(), GgufAdapter::open(&adapter).unwrap())
}

#[test]
fn an_adapter_in_a_file_has_the_updates_of_the_model() {
    let (device, folder) = (test_device(), tempfile::tempdir().unwrap());
    for config in configs() {
        let (updated, base, adapter) = exported(&config, folder.path());
        let expected = logits(&updated);
        let plain = base.load_model(WeightStorage::Owned, &device).unwrap();
        let changes = logits(&plain).iter().zip(&expected).any(|(a, b)| (a - b).abs() > 0.1);
        assert!(changes, "the adapter changes the model");
        for storage in [WeightStorage::Owned, WeightStorage::AsStored] {
            let base = base.load_model(storage, &device).unwrap();
            let found = adapter.add_to(base, &device).unwrap();
            let merged = (storage == WeightStorage::Owned).then(|| found.clone().merged());
            for model in [Some(found), merged].into_iter().flatten() {
                for (found, expected) in logits(&model).iter().zip(&expected) {
                    assert!((found - expected).abs() < test_tolerance(1e-3), "{found} is not {expected}");
                }
            }
        }
    }
}

/// The same file with other keys or tensors.
fn edited(
    path: &Path,
    edit: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<(TensorInfo, Vec<f32>)>),
) -> families::Result<GgufAdapter> {
    let bytes = fs::read(path).unwrap();
    let file = Gguf::parse(&bytes).unwrap();
    let mut metadata: Vec<_> =
        file.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let tensor = |tensor: &gguf::TensorView<'_>| {
        let info = TensorInfo { name: tensor.name.to_owned(), dims: tensor.dims.clone(), ty: tensor.ty };
        (info, tensor.to_f32())
    };
    let mut tensors: Vec<_> = file.tensors().iter().map(tensor).collect();
    edit(&mut metadata, &mut tensors);
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let values = |info: &TensorInfo| -> gguf::Result<Cow<'_, [f32]>> {
        Ok(tensors.iter().find(|(it, _)| it.name == info.name).unwrap().1.as_slice().into())
    };
    let mut out = Vec::new();
    gguf::write(&mut out, &metadata, &infos, values).unwrap();
    let copy = path.with_extension("edited.gguf");
    let _ = fs::remove_file(&copy); // An earlier copy may still be mapped.
    fs::write(&copy, out).unwrap();
    GgufAdapter::open(&copy)
}

/// An error with its causes.
fn message(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", message(source)))
}

fn set(metadata: &mut [(String, Value)], key: &str, value: &str) {
    metadata.iter_mut().find(|(it, _)| it == key).unwrap().1 = value.into();
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_with_the_tensor() {
    let (device, folder) = (test_device(), tempfile::tempdir().unwrap());
    let [gpt2, llama, _] = configs();
    let (_, base, adapter) = exported(&llama, folder.path());
    let path = adapter.path();
    let refusal = |adapter: GgufAdapter| {
        let base = base.load_model(WeightStorage::Owned, &device).unwrap();
        message(&adapter.add_to(base, &device).unwrap_err())
    };
    let without = |name: &'static str| {
        edited(path, |_, tensors| tensors.retain(|(info, _)| info.name != name)).unwrap()
    };
    for (adapter, expected) in [
        (without("blk.0.attn_q.weight.lora_b"), "blk.0.attn_q.weight.lora_b is missing"),
        (without("blk.1.ffn_up.weight.lora_a"), "blk.1.ffn_up.weight.lora_a is missing"),
        (
            edited(path, |_, tensors| tensors[0].0.name = "token_embd.weight.lora_a".to_owned()).unwrap(),
            "token_embd.weight.lora_a is not a matrix of a linear layer",
        ),
        (
            edited(path, |_, tensors| {
                let (info, values) = &mut tensors[1];
                info.dims[1] -= 1;
                values.truncate(info.dims.iter().product());
            })
            .unwrap(),
            "blk.0.attn_q.weight.lora_a and blk.0.attn_q.weight.lora_b are matrices of",
        ),
        (
            edited(path, |_, tensors| (tensors[0].0.dims, tensors[0].1) = (vec![2], vec![0.0; 2])).unwrap(),
            "which do not fit",
        ),
        (edited(path, |_, tensors| tensors.clear()).unwrap(), "it has no matrices"),
    ] {
        let error = refusal(adapter);
        assert!(error.contains(expected), "{error}");
    }
    let model = gpt2.init(1, &device).unwrap();
    let error = message(&GgufAdapter::open(path).unwrap().add_to(model, &device).unwrap_err());
    assert!(error.contains("it is an adapter of a llama model, and the base model is gpt2"), "{error}");
}

#[test]
fn a_file_without_a_lora_adapter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [_, llama, _] = configs();
    let (_, base, adapter) = exported(&llama, folder.path());
    let error = message(&GgufAdapter::open(base.path()).unwrap_err());
    assert!(error.contains("it is not a LoRA adapter: `general.type` is \"model\""), "{error}");
    let error = message(&GgufFile::open(adapter.path()).unwrap_err());
    assert!(error.contains("give its base model, and this file with --adapter"), "{error}");
    let error = edited(adapter.path(), |metadata, _| set(metadata, "adapter.type", "control_vector"));
    assert!(message(&error.unwrap_err()).contains("`adapter.type` is \"control_vector\", not \"lora\""));
    let error = edited(adapter.path(), |metadata, _| {
        metadata.push(("adapter.alora.invocation_tokens".to_owned(), vec![1].into()));
    });
    assert!(message(&error.unwrap_err()).contains("a kind that is not supported"));
}
