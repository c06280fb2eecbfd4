//! A resumed run equals an uninterrupted one.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use burn::tensor::Bytes;
use checkpoint::RunFolder;
use stops::{left, run_until};
use support::{recipe, run, training};
use trainer::{Ending, Event, Split};

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    resumes_exactly(&["optimizer.kind=adamw"]);
    resumes_exactly(&["optimizer.kind=muon"]);
    let parts =
        ["position=\"rope\"", "norm=\"rms_norm\"", "activation=\"swiglu\"", "qk_norm=true", "n_kv_head=1"];
    let parts = parts.map(|part| format!("model.{part}"));
    let modern: Vec<&str> = parts.iter().map(String::as_str).chain(["optimizer.kind=muon"]).collect();
    resumes_exactly(&modern);
}

/// What the optimizer keeps: how many tensors of Muon's, and how many first moments of AdamW's.
fn kept(optimizer: &[u8]) -> (usize, usize) {
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(optimizer.to_vec())).unwrap();
    let names: Vec<String> = reader.into_tensors().unwrap().into_iter().map(|tensor| tensor.name).collect();
    let n_with = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    (n_with(".mean"), n_with("moment_1"))
}

fn resumes_exactly(settings: &[&str]) {
    let runs = tempfile::tempdir().unwrap();
    // Dropout draws random numbers, accumulation counts micro-batches, the cosine moves, a line of metrics is over
    // several steps, patience and spikes have a past: all have to resume.
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
    let whole = left(&whole);
    assert_eq!(whole.state.step, 12);
    let has_muon = settings.contains(&"optimizer.kind=muon");
    let n_matrices = if has_muon { 4 * recipe.model.n_layer } else { 0 };
    assert_eq!(kept(&whole.optimizer).0, n_matrices, "those of the blocks, by {settings:?}");
    assert!(kept(&whole.optimizer).1 > 0, "embeddings and norms are AdamW's");

    for last in 0..12 {
        let path = runs.path().join(format!("stopped-at-{last}"));
        let outcome = run_until(training(&recipe, &path), move |event| match event {
            Event::Started { step, .. } | Event::Step { step } => *step == last,
            _ => false,
        });
        assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, last));
        let state = RunFolder::open(&path).unwrap().load_checkpoint().unwrap().unwrap().state;
        assert_eq!(state, outcome.state, "what it says is on disk");
        run(&recipe, &path);
        assert_eq!(left(&path), whole, "stopped at {last}");
    }

    // Twice, and once in the middle of the last evaluation, whose first batch is not the last.
    let path = runs.path().join("stopped-twice");
    run_until(training(&recipe, &path), |event| matches!(event, Event::Step { step: 7 }));
    let in_evaluation = |event: &Event<'_>| matches!(event, Event::Metrics(metrics) if metrics.split == Split::Train && metrics.step == 12);
    let outcome = run_until(training(&recipe, &path), in_evaluation);
    assert_eq!((outcome.ending, outcome.state.evaluation_pending), (Ending::Interrupted, true));
    assert_eq!(run(&recipe, &path).ending, Ending::Finished);
    assert_eq!(left(&path), whole);
}
