//! A resumed run equals an uninterrupted one.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use burn::tensor::Bytes;
use checkpoint::RunFolder;
use stops::{artifacts, run_until};
use support::{recipe, run, training};
use trainer::{Ending, Event, Split};

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    resumes_exactly(&["optimizer.kind=adamw"]);
    resumes_exactly(&["optimizer.kind=muon"]);
    let options =
        ["position=\"rope\"", "norm=\"rms_norm\"", "activation=\"swiglu\"", "qk_norm=true", "n_kv_head=1"];
    let options = options.map(|option| format!("model.{option}"));
    let modern: Vec<&str> = options.iter().map(String::as_str).chain(["optimizer.kind=muon"]).collect();
    resumes_exactly(&modern);
}

/// The number of Muon's momentum tensors and of AdamW's first moments in the optimizer state.
fn n_states(optimizer: &[u8]) -> (usize, usize) {
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(optimizer.to_vec())).unwrap();
    let names: Vec<String> = reader.into_tensors().unwrap().into_iter().map(|tensor| tensor.name).collect();
    let n_with = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    (n_with(".mean"), n_with("moment_1"))
}

fn resumes_exactly(settings: &[&str]) {
    let runs = tempfile::tempdir().unwrap();
    // All that carries state over steps is on: dropout, gradient accumulation, the cosine schedule, lines of metrics
    // over several steps, patience and spike statistics.
    let common = [
        "model.dropout=0.2",
        "optimizer.grad_accumulation=2",
        "schedule.log_interval=5",
        "schedule.eval_interval=4",
        "schedule.checkpoint_interval=100",
        "guards.patience=50",
        "guards.spike_z_score=3.0",
    ];
    let recipe = recipe(&[&common, settings].concat());
    let whole = runs.path().join("whole");
    assert_eq!(run(&recipe, &whole).ending, Ending::Finished);
    let whole = artifacts(&whole);
    assert_eq!(whole.state.step, 12);
    let has_muon = settings.contains(&"optimizer.kind=muon");
    let n_matrices = if has_muon { 4 * recipe.model.n_layer } else { 0 };
    assert_eq!(n_states(&whole.optimizer).0, n_matrices, "the matrices of the blocks, with {settings:?}");
    assert!(n_states(&whole.optimizer).1 > 0, "embeddings and norms use AdamW");

    for last in 0..12 {
        let path = runs.path().join(format!("stopped-at-{last}"));
        let outcome = run_until(training(&recipe, &path), move |event| match event {
            Event::Started { step, .. } | Event::Step { step } => *step == last,
            _ => false,
        });
        assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, last));
        let state = RunFolder::open(&path).unwrap().load_checkpoint().unwrap().unwrap().state;
        assert_eq!(state, outcome.state, "the reported state is on disk");
        run(&recipe, &path);
        assert_eq!(artifacts(&path), whole, "stopped at {last}");
    }

    // Stopped twice, the second time in the middle of the last evaluation, which has several batches.
    let path = runs.path().join("stopped-twice");
    run_until(training(&recipe, &path), |event| matches!(event, Event::Step { step: 7 }));
    let in_evaluation = |event: &Event<'_>| matches!(event, Event::Metrics(metrics) if metrics.split == Split::Train && metrics.step == 12);
    let outcome = run_until(training(&recipe, &path), in_evaluation);
    assert_eq!((outcome.ending, outcome.state.evaluation_pending), (Ending::Interrupted, true));
    assert_eq!(run(&recipe, &path).ending, Ending::Finished);
    assert_eq!(artifacts(&path), whole);
}
