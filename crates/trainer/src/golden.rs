//! Ten optimizer steps compared with PyTorch, and gradient accumulation compared with one large batch.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::prelude::*;
use checkpoint::{RunFolder, WEIGHTS};
use dataset::{Example, Examples};
use families::LoraModule;
use model::{Gpt, GptConfig};
use safetensors::{SafeTensors, tensor::TensorView};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{
    Control, DpoRecipe, Recipe, Schedule, TrainingData,
    batches::{Batches, TokenBatch},
    learner::GptLearner,
    preset,
    reference::with_reference,
    step::optimizer_step,
};

/// The golden values are PyTorch's in f64. PyTorch's f32 losses differ from them by 7.8e-7, its norms by 6.5e-6. Errors
/// that this must detect change a loss by more: no clipping by .25, clipping each tensor by .23, weight decay of the
/// vectors by 9.5e-3, an epsilon of 1e-5 by 2.3e-3.
const LOSS: f32 = 1e-5;
const NORM: f32 = 1e-4;
/// Gradients of about one.
const GRADIENT: f32 = 1e-5;

/// The recipe of the fixture, converted from PyTorch's names.
fn recipe(facts: &serde_json::Value, config: GptConfig) -> Recipe {
    let number = |key: &str| facts[key].as_f64().unwrap_or_else(|| panic!("the fixture has no {key}"));
    let overrides: Vec<String> = [
        ("optimizer.learning_rate", "learning_rate"),
        ("optimizer.min_learning_rate", "min_learning_rate"),
        ("optimizer.beta_1", "beta_1"),
        ("optimizer.beta_2", "beta_2"),
        ("optimizer.weight_decay", "weight_decay"),
        ("optimizer.grad_clip", "grad_clip"),
    ]
    .into_iter()
    .map(|(key, fixture_key)| format!("{key}={:?}", number(fixture_key)))
    .chain(["warmup_steps", "decay_steps", "max_steps"].map(|key| format!("schedule.{key}={}", facts[key])))
    .collect();
    Recipe { model: config, ..Recipe::parse(preset("debug").unwrap(), &overrides).unwrap() }
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The batches of the fixture, stored as `[N, B, T]`.
fn batches(tensors: &SafeTensors<'_>, device: &Device) -> Vec<TokenBatch> {
    let load = |name: &str| -> Tensor<3, Int> {
        let view = tensors.tensor(name).unwrap();
        let ids: Vec<i32> =
            view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        Tensor::from_data(TensorData::new(ids, view.shape().to_vec()), device)
    };
    let (inputs, targets) = (load("adamw.tokens"), load("adamw.targets"));
    inputs
        .iter_dim(0)
        .zip(targets.iter_dim(0))
        .map(|(inputs, targets)| TokenBatch::of_windows(inputs.squeeze_dim(0), targets.squeeze_dim(0)))
        .collect()
}

fn model(tensors: &SafeTensors<'_>, config: &GptConfig, device: &Device) -> Gpt {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&parent.path().join("golden")).unwrap();
    folder.save_description(config, &Tokenizer::byte(), &SpecialTokens::default(), None).unwrap();
    let weights: HashMap<String, TensorView<'_>> = tensors
        .tensors()
        .into_iter()
        .filter_map(|(key, view)| Some((key.strip_prefix("weight.")?.to_owned(), view)))
        .collect();
    fs::write(folder.path().join(WEIGHTS), safetensors::serialize(weights, None).unwrap()).unwrap();
    folder.load_model(device).unwrap()
}

fn fixture_path(name: &str) -> PathBuf {
    // At run time if set: `cargo xtask device-check` runs the tests on another machine than the one that built them.
    let home = env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&home).join("tests/fixtures").join(name)
}

/// The fixture's bytes, model config and recipe.
fn fixture() -> (Vec<u8>, GptConfig, serde_json::Value) {
    let bytes = fs::read(fixture_path("gpt_tiny_adamw.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let config: GptConfig = serde_json::from_str(&metadata["config"]).unwrap();
    let config = GptConfig { vocab_size: metadata["vocab_size"].parse().unwrap(), ..config };
    let facts = serde_json::from_str(&metadata["recipe"]).unwrap();
    (bytes, config, facts)
}

/// A learner before its first step.
fn learner(gpt: Gpt, recipe: &Recipe) -> GptLearner {
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    GptLearner::new(gpt, recipe, Arc::new(move |step| schedule.at(step)), 0)
}

/// Trains on all batches. Returns the losses, and the gradient norms before clipping.
fn steps(
    learner: &mut GptLearner,
    recipe: &Recipe,
    batches: Vec<TokenBatch>,
    device: &Device,
) -> (Vec<f32>, Vec<f32>) {
    let n_steps = batches.len() as u64 / recipe.optimizer.grad_accumulation.get();
    let mut batches = batches.into_iter();
    (0..n_steps)
        .map(|step| {
            let step = optimizer_step(learner, &mut batches, recipe, step, device, |_| true).unwrap();
            (step.loss as f32, step.grad_norm as f32)
        })
        .unzip()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let largest = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(
        largest <= kernels::testing::test_tolerance(tolerance),
        "{got:?}\n{expected:?}\nthe largest difference is {largest:e}"
    );
}

#[test]
fn ten_steps_match_pytorch() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let recipe = recipe(&facts, config.clone());
    let mut learner = learner(model(&tensors, &config, &kernels::testing::test_device()), &recipe);
    let (losses, norms) = steps(&mut learner, &recipe, batches(&tensors, &device), &device);
    assert_close(&losses, &floats(&tensors.tensor("adamw.losses").unwrap()), LOSS);
    assert_close(&norms, &floats(&tensors.tensor("adamw.grad_norms").unwrap()), NORM);

    // Some norms are above the limit and some below, so both cases of clipping are tested.
    let limit = recipe.optimizer.grad_clip.unwrap() as f32;
    assert!(norms.iter().any(|&norm| norm > limit) && norms.iter().any(|&norm| norm < limit));
}

/// The examples of `sft.json`, and PyTorch's losses and gradient norms: `xtask/golden/sft.py` trains on one example at a
/// time, without packing.
#[derive(serde::Deserialize)]
struct FineTuning {
    examples: Vec<GoldenExample>,
    losses: Vec<f32>,
    grad_norms: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct GoldenExample {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

#[test]
fn ten_steps_on_packed_examples_match_pytorch() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let golden: FineTuning = serde_json::from_slice(&fs::read(fixture_path("sft.json")).unwrap()).unwrap();
    let mut examples = Examples::default();
    for GoldenExample { ids, trained } in &golden.examples {
        examples.push(Example { ids, trained });
    }
    // Each step has all rows; the batches of a step differ in their numbers of trained tokens.
    for batch_size in [1, 5] {
        let mut recipe = recipe(&facts, config.clone());
        recipe.optimizer.batch_size = batch_size.try_into().unwrap();
        let data = TrainingData::Examples { train: Arc::new(examples.clone()), valid: Arc::default() };
        let n_rows = data.tokens_per_epoch(&recipe).unwrap() / config.block_size;
        assert_eq!(n_rows, 5, "46 positions fit into 5 rows of 11");
        recipe.optimizer.grad_accumulation = ((n_rows / batch_size) as u64).try_into().unwrap();
        let samples = data.training_samples(&recipe).unwrap();
        let n_batches = recipe.optimizer.grad_accumulation.get();
        let batches = Batches::for_steps(samples, 0..10, n_batches, &device);
        let mut learner = learner(model(&tensors, &config, &kernels::testing::test_device()), &recipe);
        let (losses, norms) = steps(&mut learner, &recipe, batches.collect(), &device);
        assert_close(&losses, &golden.losses, LOSS);
        assert_close(&norms, &golden.grad_norms, NORM);
    }
}

/// The pairs of `dpo.json`, and PyTorch's losses and gradient norms: `xtask/golden/dpo.py` trains on one answer at a time,
/// without packing.
#[derive(serde::Deserialize)]
struct PreferenceTuning {
    beta: f64,
    pairs: Vec<[GoldenExample; 2]>,
    /// The reference of each pair.
    reference: Vec<f32>,
    losses: Vec<f32>,
    grad_norms: Vec<f32>,
}

#[test]
fn ten_steps_on_packed_pairs_match_pytorch() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let golden: PreferenceTuning =
        serde_json::from_slice(&fs::read(fixture_path("dpo.json")).unwrap()).unwrap();
    let mut examples = Examples::default();
    for GoldenExample { ids, trained } in golden.pairs.iter().flatten() {
        examples.push(Example { ids, trained });
    }
    let examples = Arc::new(examples);
    // Each step has all rows; the batches of a step differ in their numbers of pairs.
    for batch_size in [1, 2, 4] {
        let mut recipe = recipe(&facts, config.clone());
        recipe.optimizer.batch_size = batch_size.try_into().unwrap();
        recipe.dpo = Some(DpoRecipe { beta: golden.beta });
        let data = TrainingData::Pairs { train: examples.clone(), valid: examples.clone(), reference: None };
        let n_rows = data.tokens_per_epoch(&recipe).unwrap() / config.block_size;
        assert_eq!(n_rows, 4, "36 positions in pairs fit into 4 rows of 11");
        recipe.optimizer.grad_accumulation = ((n_rows / batch_size) as u64).try_into().unwrap();
        let gpt = model(&tensors, &config, &kernels::testing::test_device());
        let data = with_reference(data, &recipe, &gpt, &Control::new()).unwrap().unwrap();
        let TrainingData::Pairs { reference: Some([reference, _]), .. } = &data else { panic!("{data:?}") };
        assert_close(&reference.iter().map(|&it| it as f32).collect::<Vec<_>>(), &golden.reference, LOSS);

        let samples = data.training_samples(&recipe).unwrap();
        let n_batches = recipe.optimizer.grad_accumulation.get();
        let batches = Batches::for_steps(samples, 0..10, n_batches, &device);
        let mut learner = learner(gpt, &recipe);
        let (losses, norms) = steps(&mut learner, &recipe, batches.collect(), &device);
        assert_close(&losses, &golden.losses, LOSS);
        assert_close(&norms, &golden.grad_norms, NORM);
    }
}

/// PEFT's losses and gradient norms, and the gradients of the first step by PEFT's names: `xtask/golden/lora.py`.
#[derive(serde::Deserialize)]
struct LowRankTuning {
    losses: Vec<f32>,
    grad_norms: Vec<f32>,
    gradients: BTreeMap<String, Vec<f32>>,
}

/// The model of the fixture with the adapter that PEFT wrote.
fn model_with_adapter(tensors: &SafeTensors<'_>, config: &GptConfig) -> Gpt {
    let (device, folder) = (kernels::testing::test_device(), fixture_path("lora"));
    let gpt = model(tensors, config, &device);
    families::with_adapter(gpt, &folder, &folder.join(families::ADAPTER_WEIGHTS), &device).unwrap()
}

#[test]
fn the_gradients_of_an_adapter_match_peft() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let golden: LowRankTuning =
        serde_json::from_slice(&fs::read(fixture_path("lora/golden.json")).unwrap()).unwrap();
    let gpt = model_with_adapter(&tensors, &config);
    let modules = LoraModule::all(gpt.config());
    let learner = learner(gpt, &recipe(&facts, config));
    let batch = batches(&tensors, &device).remove(0);
    let grads = learner.train_step(batch).grads;
    let updates = learner.model().into_gpt().lora();
    let mut n_compared = 0;
    for module in modules {
        let mut all = updates[&module.path].iter();
        let lora = all.find(|lora| lora.first_row() == module.first_row).unwrap();
        for (matrix, id) in ["lora_A", "lora_B"].into_iter().zip(lora.ids()) {
            let name = format!("base_model.model.{}.{matrix}.weight", module.name);
            let grad: Tensor<2> = grads.get(id).unwrap_or_else(|| panic!("{name} has no gradient"));
            let grad: Vec<f32> = grad.into_data().try_into_vec().unwrap();
            assert_close(&grad, &golden.gradients[&name], GRADIENT);
            n_compared += 1;
        }
    }
    assert_eq!(
        (n_compared, grads.len()),
        (golden.gradients.len(), n_compared),
        "only updates have gradients"
    );
}

#[test]
fn ten_steps_of_an_adapter_match_peft() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let recipe = recipe(&facts, config.clone());
    let golden: LowRankTuning =
        serde_json::from_slice(&fs::read(fixture_path("lora/golden.json")).unwrap()).unwrap();
    let mut learner = learner(model_with_adapter(&tensors, &config), &recipe);
    let (losses, norms) = steps(&mut learner, &recipe, batches(&tensors, &device), &device);
    assert_close(&losses, &golden.losses, LOSS);
    assert_close(&norms, &golden.grad_norms, NORM);
}

#[test]
fn the_schedule_matches_pytorch() {
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let recipe = recipe(&facts, config);
    let schedule = Schedule::new(&recipe.optimizer, &recipe.schedule);
    let rates: Vec<f32> = (0..10).map(|step| schedule.at(step) as f32).collect();
    assert_close(&rates, &floats(&tensors.tensor("adamw.learning_rates").unwrap()), 1e-8);
}

#[test]
fn small_batches_accumulated_equal_one_large() {
    let device = kernels::testing::test_device().autodiff();
    let (bytes, config, facts) = fixture();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let small = batches(&tensors, &device);
    let large: Vec<TokenBatch> = small
        .chunks(2)
        .map(|pair| {
            let inputs = Tensor::cat(vec![pair[0].inputs.clone(), pair[1].inputs.clone()], 0);
            let targets = Tensor::cat(vec![pair[0].targets.ids(), pair[1].targets.ids()], 0);
            TokenBatch::of_windows(inputs, targets)
        })
        .collect();

    let one = recipe(&facts, config.clone());
    let mut two = one.clone();
    two.optimizer.grad_accumulation = 2.try_into().unwrap();
    let fresh = |recipe: &Recipe| learner(model(&tensors, &config, &kernels::testing::test_device()), recipe);
    let (losses, norms) = steps(&mut fresh(&one), &one, large, &device);
    let (accumulated, accumulated_norms) = steps(&mut fresh(&two), &two, small, &device);
    assert_close(&accumulated, &losses, LOSS);
    assert_close(&accumulated_norms, &norms, NORM);
}
