//! Runs on several processes, which are threads here, each with its own folder.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

#[path = "support/stops.rs"]
mod stops;
mod support;

use std::{fs, path::Path, sync::Arc, thread};

use checkpoint::RunFolder;
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
    let checkpoint = RunFolder::open(&folder.path().join("rank-0")).unwrap().load_checkpoint();
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

/// Copies the checkpoints of rank 0 to rank 1, as the command line sends them when a run resumes.
fn share_checkpoints(folder: &Path) {
    let [from, to] = [0, 1].map(|rank| folder.join(format!("rank-{rank}/checkpoints")));
    for checkpoint in fs::read_dir(from).unwrap() {
        let checkpoint = checkpoint.unwrap();
        let to = to.join(checkpoint.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(checkpoint.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

fn outer_momentum(run: &Path) -> Vec<u8> {
    RunFolder::open(run).unwrap().load_checkpoint().unwrap().unwrap().outer().unwrap().unwrap()
}

#[test]
fn local_steps_stop_and_save_at_synchronisations_and_resume_bit_for_bit() {
    for kind in ["optimizer.kind=adamw", "optimizer.kind=muon"] {
        let recipe = recipe(&[&SETTINGS[..], &[kind, "run.sync_interval=4"]].concat());
        let folder = tempfile::tempdir().unwrap();
        let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
        on_processes(&recipe, &whole, |_, _, _| ());
        let [of_0, of_1] = ["rank-0", "rank-1"].map(|rank| whole.join(rank));
        assert_eq!(without_times(metrics(&of_0)), without_times(metrics(&of_1)), "{kind}");

        let outcomes = on_processes(&recipe, &stopped, |index, control, event| {
            if matches!(event, Event::Step { step: 5 }) && index == 1 {
                control.save();
                control.stop();
            }
        });
        for outcome in &outcomes {
            assert_eq!((outcome.ending, outcome.state.step), (Ending::Interrupted, 8), "{kind}");
        }
        share_checkpoints(&stopped);
        let outcomes = on_processes(&recipe, &stopped, |_, _, _| ());
        assert_eq!(outcomes[1].ending, Ending::Finished);
        let resumed = stopped.join("rank-0");
        assert_eq!(artifacts(&resumed), artifacts(&of_0), "{kind}");
        assert_eq!(outer_momentum(&resumed), outer_momentum(&of_0), "{kind}");
    }
}

#[test]
fn the_last_step_synchronises_and_one_process_resumes_local_steps() {
    let set = |steps| recipe(&[&SETTINGS[..], &["run.sync_interval=4", steps]].concat());
    let folder = tempfile::tempdir().unwrap();
    let outcomes = on_processes(&set("schedule.max_steps=6"), folder.path(), |_, _, _| ());
    assert_eq!(outcomes[0].state.step, 6);
    let run_path = folder.path().join("rank-0");
    let before = outer_momentum(&run_path);
    let outcome = run(&set("schedule.max_steps=12"), &run_path);
    assert_eq!((outcome.ending, outcome.state.step), (Ending::Finished, 12));
    assert_ne!(outer_momentum(&run_path), before);
    let losses: Vec<f64> = metrics(&run_path)
        .iter()
        .filter(|line| line.grad_norm.is_none())
        .filter_map(|line| line.loss)
        .collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

#[test]
fn a_sync_interval_of_1_exchanges_gradients() {
    let folder = tempfile::tempdir().unwrap();
    for (name, set) in [("unset", "run.sync_interval=none"), ("one", "run.sync_interval=1")] {
        on_processes(&recipe(&[&SETTINGS[..], &[set]].concat()), &folder.path().join(name), |_, _, _| ());
    }
    let [unset, one] = ["unset", "one"].map(|name| folder.path().join(name).join("rank-0"));
    assert_eq!(artifacts(&one), artifacts(&unset));
    assert!(!one.join("checkpoints/step-00000012/outer.bpk").exists());
}

#[test]
fn local_steps_of_several_devices_are_refused() {
    let (folder, recipe) = (tempfile::tempdir().unwrap(), recipe(&["run.sync_interval=4"]));
    let training = training(&recipe, &folder.path().join("run"));
    let more_devices = vec![training.device.clone()];
    let error = train(Training { more_devices, ..training }, Control::new(), Box::new(|_| ())).unwrap_err();
    assert!(error.to_string().contains("add --set run.sync_interval=1"), "{error}");
}
