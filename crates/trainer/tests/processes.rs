//! Runs on several processes, which are threads here, each with its own folder.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use std::{path::Path, sync::Arc, thread};

use ranks::{Group, Threads};
use stops::{artifacts, run_until};
use support::{metrics, recipe, run, training, without_times};
use trainer::{Control, Ending, Event, Outcome, Recipe, Training, train};

const SETTINGS: [&str; 5] = [
    "model.dropout=0.2",
    "optimizer.grad_accumulation=2",
    "schedule.log_interval=1",
    "schedule.eval_windows=10", // Two whole batches and a part of one.
    "schedule.eval_interval=4",
];

/// The largest difference of a loss seen is 2e-7: gradients are added in another order.
const TOLERANCE: f64 = 1e-5;

fn with(kind: &'static str) -> Recipe {
    recipe(&[&SETTINGS[..], &[kind]].concat())
}

/// Trains on two processes, in the folders `rank-0` and `rank-1`. `observe` receives the rank, its control and its events.
fn on_processes(
    recipe: &Recipe,
    folder: &Path,
    observe: impl Fn(usize, &Control, Event<'_>) + Send + Sync + 'static,
) -> Vec<Outcome> {
    let observe = Arc::new(observe);
    let start = |(index, group): (usize, Threads)| {
        let training = training(recipe, &folder.join(format!("rank-{index}")));
        let group: Arc<dyn Group> = Arc::new(group);
        let training = Training { group: group.clone(), ..training };
        let (observe, control) = (observe.clone(), Control::new());
        let observed = control.clone();
        thread::spawn(move || {
            let observer = Box::new(move |event: Event<'_>| observe(index, &observed, event));
            let outcome = train(training, control, observer).unwrap();
            group.finish().unwrap();
            outcome
        })
    };
    let ranks: Vec<_> = Threads::group(2).into_iter().enumerate().map(start).collect();
    ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
}

#[test]
fn processes_train_bit_for_bit_like_devices_and_like_one_up_to_rounding() {
    for kind in ["optimizer.kind=adamw", "optimizer.kind=muon"] {
        let (folder, recipe) = (tempfile::tempdir().unwrap(), with(kind));
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        run(&recipe, &one);
        let of_two = training(&recipe, &two);
        let more_devices = vec![of_two.device.clone()];
        run_until(Training { more_devices, ..of_two }, |_| false);
        on_processes(&recipe, folder.path(), |_, _, _| ());

        assert_eq!(artifacts(&folder.path().join("rank-0")), artifacts(&two), "{kind}");
        let other = folder.path().join("rank-1");
        assert!(!other.join("checkpoints").exists() && !other.join(checkpoint::WEIGHTS).exists());
        assert_eq!(without_times(metrics(&other)), without_times(metrics(&two)), "{kind}");

        let (one, two) = (metrics(&one), metrics(&two));
        assert_eq!(one.len(), two.len());
        let differences = one.iter().zip(&two).map(|(a, b)| (a.loss.unwrap() - b.loss.unwrap()).abs());
        let difference = differences.fold(0.0, f64::max);
        assert!(difference < TOLERANCE, "{kind}: {difference}");
        assert_eq!(one[0].loss, two[0].loss, "evaluations of equal weights have the same bits");
    }
}

#[test]
fn a_request_to_any_process_reaches_all_after_the_same_step() {
    let (folder, recipe) = (tempfile::tempdir().unwrap(), with("optimizer.kind=adamw"));
    let outcomes = on_processes(&recipe, folder.path(), |index, control, event| {
        if matches!(event, Event::Step { step: 5 }) && index == 1 {
            control.stop();
        }
    });
    for outcome in &outcomes {
        assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, 6));
    }
    let checkpoint = checkpoint::RunFolder::open(&folder.path().join("rank-0")).unwrap().load_checkpoint();
    assert_eq!(checkpoint.unwrap().unwrap().state.step, 6);
}

#[test]
fn a_stop_during_an_evaluation_leaves_it_pending_on_all() {
    let (folder, recipe) = (tempfile::tempdir().unwrap(), with("optimizer.kind=adamw"));
    let outcomes = on_processes(&recipe, folder.path(), |index, control, event| {
        // The evaluation of step 4 follows its metrics.
        if matches!(event, Event::Metrics(line) if line.step == 4) && index == 1 {
            control.stop();
        }
    });
    for outcome in &outcomes {
        let state = &outcome.state;
        assert_eq!((outcome.ending, state.step, state.evaluation_pending), (Ending::Interrupted, 4, true));
    }
}

#[test]
fn processes_with_other_weights_are_refused() {
    let (folder, recipe) = (tempfile::tempdir().unwrap(), with("optimizer.kind=adamw"));
    let start = |(index, group): (usize, Threads)| {
        let training = training(&recipe, &folder.path().join(format!("rank-{index}")));
        let model = recipe.model.init(index as u64, &training.device).unwrap();
        let training = Training { group: Arc::new(group), model, ..training };
        thread::spawn(move || train(training, Control::new(), Box::new(|_| ())).unwrap_err().to_string())
    };
    let ranks: Vec<_> = Threads::group(2).into_iter().enumerate().map(start).collect();
    for rank in ranks {
        let error = rank.join().unwrap();
        assert!(error.contains("would train differently: initial weights is "), "{error}");
    }
}
