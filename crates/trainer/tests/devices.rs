//! Training on the code paths of GPUs: steps that the device checks, and several ranks, which here share one device. A
//! separate test binary, because the switch to GPU paths is global.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use std::{path::Path, sync::LazyLock};

use checkpoint::RunFolder;
use stops::{artifacts, run_until};
use support::{metrics, recipe, run, training};
use trainer::{Control, Ending, Event, Metrics, Recipe, SetupError, Training, train};

const SETTINGS: [&str; 4] = [
    "optimizer.kind=muon",
    "optimizer.grad_accumulation=2",
    "schedule.log_interval=5",
    "schedule.checkpoint_interval=4",
];

const DROPOUTS: [&str; 2] = ["model.dropout=0.0", "model.dropout=0.2"];

/// The metrics of runs whose steps are checked on the host, for each of [`DROPOUTS`]. Afterwards, the CPU uses the GPU
/// paths.
static CHECKED_ON_HOST: LazyLock<[Vec<Metrics>; 2]> = LazyLock::new(|| {
    let runs = tempfile::tempdir().unwrap();
    let measured = DROPOUTS.map(|dropout| {
        let path = runs.path().join(dropout);
        run(&recipe(&with(dropout)), &path);
        metrics(&path)
    });
    kernels::testing::use_gpu_paths_on_cpu();
    measured
});

fn with(dropout: &'static str) -> Vec<&'static str> {
    [&SETTINGS[..], &[dropout]].concat()
}

/// A run on `n_devices` ranks.
fn on_devices(n_devices: usize, recipe: &Recipe, path: &Path) -> Training {
    let training = training(recipe, path);
    let more_devices = vec![training.device.clone(); n_devices - 1];
    Training { more_devices, ..training }
}

/// Asserts that the runs are equal up to rounding: f32 sums may be in another order.
fn assert_same_run(got: &[Metrics], expected: &[Metrics]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(
            (got.step, got.split, got.tokens, got.learning_rate),
            (expected.step, expected.split, expected.tokens, expected.learning_rate)
        );
        let close = |a: Option<f64>, b: Option<f64>| {
            a.is_some() == b.is_some()
                && a.zip(b)
                    .is_none_or(|(a, b)| (a - b).abs() < f64::from(kernels::testing::test_tolerance(1e-4)))
        };
        assert!(close(got.loss, expected.loss), "{got:?} {expected:?}");
        assert!(close(got.grad_norm, expected.grad_norm), "{got:?} {expected:?}");
    }
}

/// Asserts that a run stopped at any of these steps resumes exactly, also between the steps whose losses are read.
fn assert_resumes(n_devices: usize, dropout: usize, steps: impl Iterator<Item = u64>) {
    let runs = tempfile::tempdir().unwrap();
    let recipe = recipe(&with(DROPOUTS[dropout]));
    let start = |path: &Path| on_devices(n_devices, &recipe, path);
    let whole = runs.path().join("whole");
    let outcome = run_until(start(&whole), |_| false);
    assert_eq!((outcome.ending, outcome.state.skipped_steps), (Ending::Finished, 0));
    assert_same_run(&metrics(&whole), &CHECKED_ON_HOST[dropout]);
    let whole = artifacts(&whole);
    for last in steps {
        let path = runs.path().join(format!("stopped-at-{last}"));
        let outcome = run_until(start(&path), move |event| match event {
            Event::Started { step, .. } | Event::Step { step } => *step == last,
            _ => false,
        });
        assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, last));
        run_until(start(&path), |_| false);
        assert_eq!(artifacts(&path), whole, "stopped at {last}");
    }
}

#[test]
fn a_run_checked_on_the_device_is_the_same_run() {
    LazyLock::force(&CHECKED_ON_HOST);
    assert_resumes(1, 0, 0..12);
    assert_resumes(1, 1, [3, 7].into_iter());
    assert!(kernels::testing::n_gpu_paths() > 0, "the CPU used the GPU paths");
}

#[test]
fn several_devices_train_like_one() {
    LazyLock::force(&CHECKED_ON_HOST);
    assert_resumes(2, 0, [1, 5, 8].into_iter());
    assert_resumes(2, 1, [1, 6].into_iter());
    assert_resumes(4, 1, std::iter::empty());
}

#[test]
fn weights_that_are_not_finite_are_detected_before_they_are_saved() {
    LazyLock::force(&CHECKED_ON_HOST);
    let runs = tempfile::tempdir().unwrap();
    let settings = ["optimizer.learning_rate=1e38", "schedule.warmup_steps=0", "schedule.log_interval=4"];
    for n_devices in [1, 2] {
        let path = runs.path().join(n_devices.to_string());
        let training = on_devices(n_devices, &recipe(&settings), &path);
        let error = train(training, Control::new(), Box::new(|_| ())).unwrap_err().to_string();
        assert!(error.contains("diverged at step"), "{error}");
        assert_eq!(RunFolder::open(&path).unwrap().load_checkpoint().unwrap().unwrap().state.step, 0);
    }
}

#[test]
fn a_batch_that_devices_cannot_share_equally_is_an_error() {
    LazyLock::force(&CHECKED_ON_HOST);
    let runs = tempfile::tempdir().unwrap();
    let training = on_devices(3, &recipe(&[]), &runs.path().join("run"));
    let error = train(training, Control::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("a batch of 4 windows can't be divided equally among 3 devices"), "{error}");
}

#[test]
fn a_base_with_fewer_bits_is_refused_on_a_gpu() {
    LazyLock::force(&CHECKED_ON_HOST);
    let device = burn::prelude::Device::flex();
    let storage = |base: &str| {
        let lora = format!("lora.base={base}");
        let recipe = recipe(&["lora.rank=4", "lora.alpha=8", &lora]);
        recipe.lora.expect("it is set").storage(&device)
    };
    for base in ["q8_0", "q4_0", "bf16"] {
        let error = storage(base).unwrap_err();
        assert!(matches!(error, SetupError::PackedBase { .. }), "{error}");
        let expected = format!("lora.base = \"{base}\" needs the CPU; leave it out, or use --device cpu");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(storage("f32").unwrap(), families::WeightStorage::Mapped);
}
