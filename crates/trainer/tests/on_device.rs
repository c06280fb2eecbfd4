//! Runs whose steps are judged on the device, as on a GPU. Alone in its program, since it tells all of it to do without fused
//! operations; hence one test.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use checkpoint::RunFolder;
use stops::{left, run_until};
use support::{metrics, recipe, run, training};
use trainer::{Control, Ending, Event, train};

#[test]
fn a_run_judged_on_the_device_is_the_same_run() {
    let runs = tempfile::tempdir().unwrap();
    let settings = [
        "optimizer.kind=muon",
        "optimizer.grad_accumulation=2",
        "schedule.log_interval=5",
        "schedule.eval_interval=4",
    ];
    let recipe = recipe(&settings);
    let at_once = runs.path().join("at-once");
    run(&recipe, &at_once);

    kernels::use_plain_operations(true);
    let on_device = runs.path().join("on-device");
    let outcome = run(&recipe, &on_device);
    assert_eq!((outcome.ending, outcome.state.skipped_steps), (Ending::Finished, 0));
    let (expected, got) = (metrics(&at_once), metrics(&on_device));
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(
            (got.step, got.split, got.learning_rate),
            (expected.step, expected.split, expected.learning_rate)
        );
        let close = |a: Option<f64>, b: Option<f64>| {
            a.is_some() == b.is_some() && a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-4)
        };
        // Twelve steps in f32, summed up in another order.
        assert!(
            close(got.loss, expected.loss) && close(got.grad_norm, expected.grad_norm),
            "{got:?} {expected:?}"
        );
    }

    // Stopped anywhere between the steps whose losses are read, it goes on as if it had not been.
    let whole = left(&on_device);
    for last in 0..12 {
        let path = runs.path().join(format!("stopped-at-{last}"));
        let outcome = run_until(&recipe, &path, move |event| match event {
            Event::Started { step, .. } | Event::Step { step } => *step == last,
            _ => false,
        });
        assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, last));
        run(&recipe, &path);
        assert_eq!(left(&path), whole, "stopped at {last}");
    }

    // Weights that are lost are noticed before they are saved.
    let path = runs.path().join("lost");
    let recipe = support::recipe(&[
        "optimizer.learning_rate=1e38",
        "schedule.warmup_steps=0",
        "schedule.log_interval=4",
    ]);
    let error = train(training(&recipe, &path), Control::new(), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("diverged at step"), "{error}");
    assert_eq!(RunFolder::open(&path).unwrap().load_checkpoint().unwrap().unwrap().state.step, 0);
}
