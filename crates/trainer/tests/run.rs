//! Whole runs, as the command line makes them.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use checkpoint::{RunFolder, WEIGHTS};
use dataset::Tokens;
use model::{Gpt, GptConfig};
use tokenizer::Tokenizer;
use trainer::{Event, Interrupter, Metrics, Outcome, Recipe, Split, Training, preset, train};

const TEXT: &str = "the quick brown fox jumps over the lazy dog, and then the dog jumps over the fox. ";

fn recipe(overrides: &[&str]) -> Recipe {
    let smaller =
        ["model.n_embd=16", "model.block_size=8", "optimizer.batch_size=4", "schedule.max_steps=12"];
    let overrides: Vec<String> = smaller.iter().chain(overrides).map(|&o| o.to_owned()).collect();
    let recipe = Recipe::parse(preset("debug").expect("it is a preset"), &overrides).unwrap();
    Recipe { model: GptConfig { vocab_size: tokenizer().vocab_size(), ..recipe.model }, ..recipe }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_chars(TEXT.chars()).unwrap()
}

fn tokens() -> Arc<Tokens> {
    Arc::new(Tokens::from_vec(tokenizer().encode(&TEXT.repeat(5)).unwrap()))
}

/// A new run in `folder`, or the one that is there.
fn training(recipe: &Recipe, path: &Path) -> Training {
    let device = kernels::test_device();
    let resumed = path.exists();
    let folder = if resumed { RunFolder::open(path).unwrap() } else { RunFolder::create(path).unwrap() };
    folder.save_description(&recipe.model, &tokenizer(), &recipe.to_toml()).unwrap();
    let resume = resumed.then(|| folder.load_checkpoint().unwrap());
    // A resumed run starts from other weights, which its checkpoint has to replace.
    let seed = if resumed { recipe.run.seed + 1 } else { recipe.run.seed };
    let model = recipe.model.init(seed, &device).unwrap();
    let data = Default::default();
    Training { recipe: recipe.clone(), folder, model, train: tokens(), valid: tokens(), data, resume, device }
}

fn run(recipe: &Recipe, path: &Path) -> Outcome {
    train(training(recipe, path), Interrupter::new(), Box::new(|_| ())).unwrap()
}

/// Stops after the step given, as Ctrl-C does.
fn run_until(recipe: &Recipe, path: &Path, last: u64) -> Outcome {
    let interrupter = Interrupter::new();
    let stop = interrupter.clone();
    let observer = move |event: Event<'_>| {
        if matches!(event, Event::Step { step } if step == last) {
            stop.stop(None);
        }
    };
    train(training(recipe, path), interrupter, Box::new(observer)).unwrap()
}

fn metrics(path: &Path) -> Vec<Metrics> {
    let text = fs::read_to_string(RunFolder::open(path).unwrap().metrics_path()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a line says of the run itself: everything but the times.
fn without_times(metrics: Vec<Metrics>) -> Vec<Metrics> {
    metrics
        .into_iter()
        .map(|line| Metrics { tokens_per_second: None, elapsed_seconds: 0.0, ..line })
        .collect()
}

/// The weights of the last checkpoint, parameter after parameter.
fn last_weights(recipe: &Recipe, path: &Path) -> Vec<f32> {
    /// Takes the weights at the end of a run.
    struct Weights(Vec<f32>);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().convert::<f32>().as_slice::<f32>().unwrap());
        }
    }
    let found = Arc::new(Mutex::new(Vec::new()));
    let place = Arc::clone(&found);
    let observer = move |event: Event<'_>| {
        if let Event::Sample { model, .. } = event {
            let mut weights = Weights(Vec::new());
            Gpt::visit(model, &mut weights);
            *place.lock().unwrap() = weights.0;
        }
    };
    // Going on for one step with a rate of zero shows the weights as they are.
    let step = RunFolder::open(path).unwrap().load_checkpoint().unwrap().state.step;
    let mut still = recipe.clone();
    still.schedule.max_steps = step + 1;
    still.optimizer.learning_rate = f64::MIN_POSITIVE;
    still.optimizer.min_learning_rate = 0.0;
    train(training(&still, path), Interrupter::new(), Box::new(observer)).unwrap();
    found.lock().unwrap().clone()
}

#[test]
fn a_run_learns_and_leaves_a_model() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&["schedule.max_steps=60", "optimizer.learning_rate=1e-2"]);
    let outcome = run(&recipe, &path);
    assert!(!outcome.interrupted);
    assert_eq!(outcome.state.step, 60);
    assert_eq!(outcome.state.tokens, 60 * 4 * 8);

    let valid: Vec<f64> =
        metrics(&path).iter().filter(|m| m.split == Split::Valid).map(|m| m.loss.unwrap()).collect();
    let uniform = (tokenizer().vocab_size() as f64).ln();
    assert!((valid[0] - uniform).abs() < 0.1, "an untrained model guesses: {}", valid[0]);
    assert!(valid[valid.len() - 1] < 0.75 * valid[0], "it learnt: {valid:?}");
    assert_eq!(outcome.state.best_loss, valid.iter().copied().reduce(f64::min));

    // The best weights are there for whoever opens the folder.
    let model = RunFolder::open(&path).unwrap().load_model(&kernels::test_device()).unwrap();
    assert_eq!(model.config(), &recipe.model);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let runs = tempfile::tempdir().unwrap();
    // Dropout draws random numbers, accumulation counts micro-batches, the cosine moves: all have to resume.
    let recipe = recipe(&[
        "model.dropout=0.2",
        "optimizer.grad_accumulation=2",
        "schedule.log_interval=1",
        "schedule.eval_interval=4",
        "schedule.checkpoint_interval=100",
    ]);
    let whole = runs.path().join("whole");
    run(&recipe, &whole);

    let parts = runs.path().join("parts");
    assert!(run_until(&recipe, &parts, 5).interrupted);
    assert_eq!(RunFolder::open(&parts).unwrap().load_checkpoint().unwrap().state.step, 5);
    assert!(run_until(&recipe, &parts, 7).interrupted);
    let outcome = run(&recipe, &parts);
    assert_eq!(outcome.state.step, 12);

    assert_eq!(without_times(metrics(&parts)), without_times(metrics(&whole)));
    let best = |path: &Path| fs::read(path.join(WEIGHTS)).unwrap();
    assert_eq!(best(&parts), best(&whole), "the best weights, bit for bit");
    assert_eq!(last_weights(&recipe, &parts), last_weights(&recipe, &whole), "the last ones as well");
}

#[test]
fn a_run_stopped_before_its_first_step_can_go_on() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&[]);
    let interrupter = Interrupter::new();
    interrupter.stop(None);
    let outcome = train(training(&recipe, &path), interrupter, Box::new(|_| ())).unwrap();
    assert!(outcome.interrupted);
    assert_eq!(run(&recipe, &path).state.step, 12);
}

#[test]
fn weights_lost_in_the_last_step_are_no_checkpoint() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&["optimizer.learning_rate=1e38", "schedule.max_steps=1", "schedule.warmup_steps=0"]);
    let error =
        train(training(&recipe, &path), Interrupter::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    assert!(RunFolder::open(&path).unwrap().load_checkpoint().is_err());
}

#[test]
fn another_seed_is_another_run() {
    let runs = tempfile::tempdir().unwrap();
    let (first, second) = (runs.path().join("1"), runs.path().join("2"));
    run(&recipe(&[]), &first);
    run(&recipe(&["run.seed=2"]), &second);
    assert_ne!(without_times(metrics(&first)), without_times(metrics(&second)));
}

#[test]
fn metrics_count_steps_and_tokens() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    run(&recipe(&["schedule.log_interval=5", "schedule.eval_interval=6"]), &path);
    let steps =
        |split| -> Vec<u64> { metrics(&path).iter().filter(|m| m.split == split).map(|m| m.step).collect() };
    assert_eq!(steps(Split::Train), [5, 10, 12]);
    assert_eq!(steps(Split::Valid), [0, 6, 12]);
    for line in metrics(&path) {
        assert_eq!(line.tokens, line.step * 4 * 8);
        assert!((line.perplexity.unwrap() - line.loss.unwrap().exp()).abs() < 1e-9);
        assert_eq!(line.grad_norm.is_some(), line.split == Split::Train);
    }
}

#[test]
fn a_diverging_run_stops_and_says_so() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe =
        recipe(&["optimizer.learning_rate=1e30", "optimizer.weight_decay=0.0", "schedule.log_interval=1"]);
    let error =
        train(training(&recipe, &path), Interrupter::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("learning_rate"), "{error}");
    // The weights from before it are still there.
    RunFolder::open(&path).unwrap().load_model(&kernels::test_device()).unwrap();
}

#[test]
fn a_text_shorter_than_a_block_is_refused() {
    let runs = tempfile::tempdir().unwrap();
    let recipe = recipe(&[]);
    let short = Arc::new(Tokens::from_vec(vec![1; 8]));
    let training = Training { valid: short, ..training(&recipe, &runs.path().join("run")) };
    let error = train(training, Interrupter::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains('8'), "{error}");
}
