//! Runs on a text of one sentence, set up like those of the command line.

use std::{fs, path::Path, sync::Arc};

use checkpoint::RunFolder;
use dataset::Tokens;
use model::GptConfig;
use tokenizer::{SpecialTokens, Tokenizer};
use trainer::{Control, Metrics, Outcome, Recipe, Training, TrainingData, preset, train};

const TEXT: &str = "the quick brown fox jumps over the lazy dog, and then the dog jumps over the fox. ";

pub(crate) fn recipe(overrides: &[&str]) -> Recipe {
    let smaller =
        ["model.n_embd=16", "model.block_size=8", "optimizer.batch_size=4", "schedule.max_steps=12"];
    let overrides: Vec<String> = smaller.iter().chain(overrides).map(|&o| o.to_owned()).collect();
    let recipe = Recipe::parse(preset("debug").expect("it is a preset"), &overrides).unwrap();
    Recipe { model: GptConfig { vocab_size: tokenizer().vocab_size(), ..recipe.model }, ..recipe }
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::from_chars(TEXT.chars()).unwrap()
}

pub(crate) fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens::from_vec(tokenizer().encode(&TEXT.repeat(5)).unwrap()))
}

/// A new run in the folder `path`, or the one that is there to resume.
pub(crate) fn training(recipe: &Recipe, path: &Path) -> Training {
    let device = kernels::testing::test_device();
    let resumed = path.exists();
    let folder = if resumed { RunFolder::open(path).unwrap() } else { RunFolder::create(path).unwrap() };
    folder
        .save_description(&recipe.model, &tokenizer(), &SpecialTokens::default(), Some(&recipe.to_toml()))
        .unwrap();
    let resume = resumed.then(|| folder.load_checkpoint().unwrap().unwrap());
    // A resumed run is given other weights, which its checkpoint must replace.
    let seed = if resumed { recipe.run.seed + 1 } else { recipe.run.seed };
    let model = recipe.model.init(seed, &device).unwrap();
    let lock = folder.lock().unwrap();
    Training {
        recipe: recipe.clone(),
        folder,
        lock,
        model,
        data: TrainingData::Text { train: tokens(), valid: tokens() },
        checksums: Default::default(),
        resume,
        device,
        more_devices: Vec::new(),
        group: Arc::new(ranks::Alone::new()),
    }
}

pub(crate) fn run(recipe: &Recipe, path: &Path) -> Outcome {
    train(training(recipe, path), Control::new(), Box::new(|_| ())).unwrap()
}

pub(crate) fn metrics(path: &Path) -> Vec<Metrics> {
    let text = fs::read_to_string(RunFolder::open(path).unwrap().metrics_path()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The metrics without durations and speeds.
pub(crate) fn without_times(metrics: Vec<Metrics>) -> Vec<Metrics> {
    metrics
        .into_iter()
        .map(|line| Metrics { tokens_per_second: None, waiting_share: None, elapsed_seconds: 0.0, ..line })
        .collect()
}
