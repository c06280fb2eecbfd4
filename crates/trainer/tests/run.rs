//! Whole runs, as the command line makes them.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use std::sync::Arc;

use checkpoint::RunFolder;
use dataset::Tokens;
use support::{metrics, recipe, run, tokenizer, training, without_times};
use trainer::{Interrupter, Split, Training, train};

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
