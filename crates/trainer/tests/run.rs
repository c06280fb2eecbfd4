//! Whole runs, set up like those of the command line.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

mod support;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use burn::prelude::*;
use checkpoint::RunFolder;
use dataset::Tokens;
use support::{metrics, recipe, run, tokenizer, training, without_times};
use trainer::{
    Control, Ending, Event, GuardsRecipe, Recipe, SkipReason, Split, Training, TrainingData, ending, train,
};

#[test]
fn a_run_learns_and_saves_a_model() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&["schedule.max_steps=60", "optimizer.learning_rate=1e-2"]);
    let outcome = run(&recipe, &path);
    assert_eq!(outcome.ending, Ending::Finished);
    assert_eq!(outcome.state.step, 60);
    assert_eq!(outcome.state.tokens, 60 * 4 * 8);

    let valid: Vec<f64> =
        metrics(&path).iter().filter(|m| m.split == Split::Valid).map(|m| m.loss.unwrap()).collect();
    let uniform = (tokenizer().vocab_size() as f64).ln();
    assert!((valid[0] - uniform).abs() < 0.1, "an untrained model predicts uniformly: {}", valid[0]);
    assert!(valid[valid.len() - 1] < 0.75 * valid[0], "it learnt: {valid:?}");
    assert_eq!(outcome.state.best_loss, valid.iter().copied().reduce(f64::min));

    // The folder has the best weights.
    let model = RunFolder::open(&path).unwrap().load_model(&kernels::testing::test_device()).unwrap();
    assert_eq!(model.config(), &recipe.model);
}

#[test]
fn a_run_stopped_before_its_first_step_can_resume() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&[]);
    let control = Control::new();
    control.stop();
    let outcome = train(training(&recipe, &path), control, Box::new(|_| ())).unwrap();
    assert_eq!(outcome.ending, Ending::Interrupted);
    assert_eq!(run(&recipe, &path).state.step, 12);
}

#[test]
fn weights_that_are_not_finite_after_the_last_step_are_not_saved() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&["optimizer.learning_rate=1e38", "schedule.max_steps=1", "schedule.warmup_steps=0"]);
    let error = train(training(&recipe, &path), Control::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("diverged at step 1"), "{error}");
    let last = RunFolder::open(&path).unwrap().load_checkpoint().unwrap().unwrap();
    assert_eq!(last.state.step, 0, "the earlier checkpoint is still there");
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
fn recomputing_activations_changes_no_bit() {
    let runs = tempfile::tempdir().unwrap();
    let (kept, recomputed) = (runs.path().join("kept"), runs.path().join("recomputed"));
    run(&recipe(&["model.dropout=0.1"]), &kept);
    run(&recipe(&["model.dropout=0.1", "run.activations=recompute"]), &recomputed);
    assert_eq!(without_times(metrics(&recomputed)), without_times(metrics(&kept)));
    let weights = |path: &Path| fs::read(path.join("model.safetensors")).unwrap();
    assert!(weights(&recomputed) == weights(&kept));
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
fn a_diverging_run_stops_with_an_error() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe =
        recipe(&["optimizer.learning_rate=1e30", "optimizer.weight_decay=0.0", "schedule.log_interval=1"]);
    let error = train(training(&recipe, &path), Control::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("diverged") && error.contains("learning_rate"), "{error}");
    // The weights from before are still there.
    RunFolder::open(&path).unwrap().load_model(&kernels::testing::test_device()).unwrap();
}

#[test]
fn a_text_shorter_than_a_block_is_an_error() {
    let runs = tempfile::tempdir().unwrap();
    let recipe = recipe(&[]);
    let short = Arc::new(Tokens::from_vec(vec![1; 8]));
    let data = TrainingData::Text { train: support::tokens(), valid: short };
    let training = Training { data, ..training(&recipe, &runs.path().join("run")) };
    let error = train(training, Control::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains('8'), "{error}");
}

#[test]
fn non_finite_steps_are_skipped_and_counted_up_to_a_limit() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    // The first update ruins the weights; no later loss is finite.
    let recipe = recipe(&[
        "optimizer.learning_rate=1e30",
        "optimizer.weight_decay=0.0",
        "schedule.warmup_steps=0",
        "schedule.log_interval=1",
        "schedule.checkpoint_interval=100",
        "guards.max_not_finite=3",
    ]);
    let skipped = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&skipped);
    let observer = move |event: Event<'_>| {
        if let Event::Skipped { step, reason, .. } = event {
            assert_eq!(reason, SkipReason::NotFinite);
            seen.lock().unwrap().push(step);
        }
    };
    let error = train(training(&recipe, &path), Control::new(), Box::new(observer)).unwrap_err().to_string();
    assert!(error.contains("learning_rate") && error.contains("step 0"), "{error}");
    let skipped = skipped.lock().unwrap();
    assert_eq!(skipped.len(), 4, "one more than allowed: {skipped:?}");
    let counted: Vec<u64> = metrics(&path).iter().map(|line| line.skipped_steps).collect();
    assert_eq!(counted.iter().max(), Some(&3), "{counted:?}");
}

#[test]
fn a_run_that_does_not_improve_stops_early() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let recipe = recipe(&[
        "optimizer.learning_rate=1e-30",
        "optimizer.min_learning_rate=0.0",
        "schedule.eval_interval=2",
        "schedule.max_steps=40",
        "guards.patience=3",
    ]);
    let outcome = run(&recipe, &path);
    assert_eq!((outcome.ending, outcome.state.step), (Ending::StoppedEarly, 6));
    assert_eq!(ending(&recipe, &outcome.state), Some(Ending::StoppedEarly));
    let more_patient = Recipe { guards: GuardsRecipe { patience: None, ..recipe.guards.clone() }, ..recipe };
    assert_eq!(ending(&more_patient, &outcome.state), None, "it can resume");
}

#[test]
fn a_checkpoint_can_be_requested() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let control = Control::new();
    let asked = control.clone();
    let saved = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&saved);
    let observer = move |event: Event<'_>| match event {
        Event::Step { step: 5 } => asked.save(),
        Event::Saved { step, asked } => seen.lock().unwrap().push((step, asked)),
        _ => {}
    };
    let recipe = recipe(&["schedule.checkpoint_interval=100"]);
    assert_eq!(
        train(training(&recipe, &path), control, Box::new(observer)).unwrap().ending,
        Ending::Finished
    );
    assert_eq!(*saved.lock().unwrap(), [(0, false), (5, true), (12, false)]);
}

#[test]
fn the_first_step_of_a_session_is_reported_once() {
    let runs = tempfile::tempdir().unwrap();
    let reported = |log_interval: u64, folder: &str| {
        let log_interval = format!("schedule.log_interval={log_interval}");
        let reported = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&reported);
        let observer = move |event: Event<'_>| {
            if let Event::FirstStep { seconds, usual_seconds } = event {
                assert!(seconds > 0.0 && usual_seconds > 0.0);
                *seen.lock().unwrap() += 1;
            }
        };
        let path = runs.path().join(folder);
        train(training(&recipe(&[&log_interval]), &path), Control::new(), Box::new(observer)).unwrap();
        let lines = metrics(&path);
        assert!(lines.iter().all(|line| line.split == Split::Valid || line.tokens_per_second.is_some()));
        *reported.lock().unwrap()
    };
    assert_eq!(reported(4, "four"), 1);
    assert_eq!(reported(1, "one"), 0, "each line has one step, so there is no other to compare with");
}

#[test]
fn keep_last_sets_the_number_of_checkpoints() {
    let runs = tempfile::tempdir().unwrap();
    for keep_last in [1, 3] {
        let path = runs.path().join(keep_last.to_string());
        let keep = format!("schedule.keep_last={keep_last}");
        run(&recipe(&["schedule.checkpoint_interval=2", &keep]), &path);
        assert_eq!(fs::read_dir(path.join("checkpoints")).unwrap().count(), keep_last);
    }
}

#[test]
fn a_removed_folder_ends_the_run_with_an_error() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let gone = path.clone();
    let observer = move |event: Event<'_>| {
        if matches!(event, Event::Step { step: 5 }) {
            let _ = fs::rename(&gone, gone.with_file_name("elsewhere"));
        }
    };
    let recipe = recipe(&["schedule.checkpoint_interval=7", "schedule.eval_interval=100"]);
    let error = train(training(&recipe, &path), Control::new(), Box::new(observer)).unwrap_err().to_string();
    assert!(error.contains("is gone") || error.contains(&path.display().to_string()), "{error}");
    assert!(!path.exists(), "it is not created again");
}

/// The validation loss of a run's initial weights.
fn first_loss(settings: &[&str]) -> f64 {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    run(&recipe(&[&["schedule.max_steps=0"], settings].concat()), &path);
    metrics(&path)[0].loss.unwrap()
}

/// Means over batches of other sizes are rounded differently: by 2e-7 of a loss of 3.4.
const ROUNDING: f64 = 1e-6;

#[test]
fn an_evaluation_does_not_depend_on_the_batch_size() {
    let windows = |batch_size: &str| first_loss(&["schedule.eval_windows=10", batch_size]);
    let with_four = windows("optimizer.batch_size=4"); // The last batch has two.
    for other in ["optimizer.batch_size=1", "optimizer.batch_size=5", "optimizer.batch_size=32"] {
        assert!(
            (windows(other) - with_four).abs() < ROUNDING,
            "{other}: {} is not {with_four}",
            windows(other)
        );
    }
    assert!(
        (first_loss(&["schedule.eval_windows=11"]) - with_four).abs() > 100.0 * ROUNDING,
        "one window more"
    );
    // The older key samples windows for each batch, so they depend on the batch size.
    let batches = |batch_size: &str| first_loss(&["schedule.eval_batches=1", batch_size]);
    assert!(
        (batches("optimizer.batch_size=5") - batches("optimizer.batch_size=10")).abs() > 100.0 * ROUNDING
    );
}

#[test]
fn a_checkpoint_has_the_weights_of_its_step() {
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let keep = ["schedule.keep_every=5", "schedule.checkpoint_interval=100", "run.keep_weights=last"];
    run(&recipe(&keep), &path);
    let folder = RunFolder::open(&path).unwrap();
    assert_eq!(folder.checkpoint_steps().unwrap(), [5, 10, 12], "`keep_every` also creates them");
    let device = kernels::testing::test_device();
    let inputs = Tensor::<2, Int>::from_data([[1, 2, 3, 4]], &device);
    let logits = |model: model::Gpt| model.forward(inputs.clone()).into_data();
    let of_step = |step| logits(folder.load_checkpoint_model(step, &device).unwrap());
    assert_eq!(
        of_step(12),
        logits(folder.load_model(&device).unwrap()),
        "`keep_weights=last` has the last weights"
    );
    assert_ne!(of_step(5), of_step(10));
    assert!(folder.load_checkpoint_model(7, &device).is_err());
}
