//! Runs that are stopped, killed or damaged, and resumed.

use std::{fs, path::Path};

use crate::support::{kindling, run};

/// Makes a run of ten steps with a checkpoint every two steps.
fn ten_steps(folder: &Path) {
    let sets = ["schedule.max_steps=10", "schedule.checkpoint_interval=2", "schedule.eval_interval=5"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    run(folder, &["train", "debug", "--run", "mine"].into_iter().chain(sets).collect::<Vec<_>>()).success();
}

fn damage(folder: &Path, step: &str) {
    fs::write(folder.join("runs/mine/checkpoints").join(step).join("optimizer.bpk"), "not this").unwrap();
}

#[test]
fn a_damaged_checkpoint_is_skipped_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    ten_steps(folder.path());
    let weights = || fs::read(folder.path().join("runs/mine/checkpoints/step-00000010/model.bpk")).unwrap();
    let before = weights();
    damage(folder.path(), "step-00000010");
    let ran = run(folder.path(), &["train", "--resume"]).success();
    assert!(ran.stderr.contains("step-00000010 is damaged: optimizer.bpk"), "{}", ran.stderr);
    assert!(ran.stderr.contains("from step 8 of 10"), "{}", ran.stderr);
    assert_eq!(weights(), before, "the same steps again");

    ["step-00000008", "step-00000010"].iter().for_each(|step| damage(folder.path(), step));
    let error = run(folder.path(), &["train", "--resume"]).failure();
    assert!(error.contains("all 2 checkpoints of runs/mine are damaged"), "{error}");
}

#[test]
fn best_weights_of_undone_steps_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    ten_steps(folder.path());
    let path = folder.path().join("runs/mine");
    let best = fs::read(path.join("model.safetensors")).unwrap();
    damage(folder.path(), "step-00000010");
    let sets = ["optimizer.learning_rate=1e-6", "optimizer.min_learning_rate=1e-6"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let resume = ["train", "--resume"].into_iter().chain(sets).collect::<Vec<_>>();
    let ran = run(folder.path(), &resume).success();
    assert!(
        ran.stderr.contains("are from a step that this resume undoes; they are kept in"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read(path.join("model.step-00000010.safetensors")).unwrap(), best);
    assert_ne!(fs::read(path.join("model.safetensors")).unwrap(), best, "the run has new best weights");
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    ten_steps(folder.path());
    let path = folder.path().join("runs/mine");
    let metrics = || {
        let text = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        let without_times = |line: &str| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["elapsed_seconds"].take();
            line["tokens_per_second"].take();
            line
        };
        text.lines().map(without_times).collect::<Vec<_>>()
    };
    let whole = metrics();

    // The state right after the folder was made: the initial weights and nothing else.
    let first = ["train", "debug", "--run", "first", "--set", "schedule.max_steps=0"];
    run(folder.path(), &first).success();
    fs::copy(folder.path().join("runs/first/model.safetensors"), path.join("model.safetensors")).unwrap();
    fs::remove_dir_all(path.join("checkpoints")).unwrap();
    let error = run(folder.path(), &["train", "--resume", "--run", "mine"]).failure();
    assert!(
        error.contains("has no checkpoint left to resume from"),
        "a run with metrics does not start again: {error}"
    );
    assert_eq!(metrics(), whole);
    fs::remove_file(path.join("metrics.jsonl")).unwrap();
    let ran = run(folder.path(), &["train", "--resume", "--run", "mine"]).success();
    assert!(ran.stderr.contains("training runs/mine"), "{}", ran.stderr);
    assert_eq!(metrics(), whole);
}

#[test]
fn changes_on_resume_are_printed_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    ten_steps(folder.path());
    let more = ["--set", "schedule.max_steps=12", "--set", "optimizer.learning_rate=1e-3"];
    let ran = run(folder.path(), &[["train", "--resume"].as_slice(), &more].concat()).success();
    assert!(ran.stderr.contains("changed: schedule.max_steps from 10 to 12"), "{}", ran.stderr);
    assert!(ran.stderr.contains("changed: optimizer.learning_rate from 0.003 to 0.001"), "{}", ran.stderr);
    let sessions = fs::read_to_string(folder.path().join("runs/mine/sessions.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(sessions.lines().last().unwrap()).unwrap();
    assert_eq!(last["step"], 10);
    assert_eq!(last["changes"]["schedule.max_steps"], serde_json::json!(["10", "12"]));
    let recipe = fs::read_to_string(folder.path().join("runs/mine/recipe.toml")).unwrap();
    assert!(recipe.contains("max_steps = 12"), "{recipe}");
}

#[test]
fn a_run_that_stopped_early_says_how_to_train_further() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [
        "optimizer.learning_rate=1e-30",
        "optimizer.min_learning_rate=0.0",
        "schedule.eval_interval=2",
        "guards.patience=3",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["train", "debug", "--run", "mine"].into_iter().chain(sets).collect();
    let ran = run(folder.path(), &args).success();
    assert!(
        ran.stderr.contains("stopped early: the validation loss did not improve in 3 evaluations"),
        "{}",
        ran.stderr
    );
    let error = run(folder.path(), &["train", "--resume"]).failure();
    assert!(
        error.contains("stopped early at step 6") && error.contains("--set guards.patience=6"),
        "{error}"
    );
    run(folder.path(), &["train", "--resume", "--set", "guards.patience=none"]).success();
}

#[cfg(unix)]
mod signals {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Child, ChildStderr, Command, Stdio},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    /// An endless run, in its first steps.
    struct Running {
        child: Child,
        stderr: BufReader<ChildStderr>,
    }

    const ENDLESS: [&str; 8] = [
        "train",
        "debug",
        "--run",
        "mine",
        "--max-steps",
        "1000000000",
        "--set",
        "schedule.checkpoint_interval=1000000000",
    ];

    impl Running {
        fn start(folder: &Path) -> Self {
            Self::of(kindling(folder, &ENDLESS))
        }

        fn of(mut command: Command) -> Self {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let mut running = Self { child, stderr };
            running.read_until("tokens/s");
            running
        }

        fn read_until(&mut self, word: &str) {
            let mut output = String::new();
            while !output.contains(word) {
                assert_ne!(self.stderr.read_line(&mut output).unwrap(), 0, "it ended early:\n{output}");
            }
        }

        fn send(&self, signal: Signal) {
            kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        }

        /// The exit code, if no signal ended it, and the remaining output.
        fn end(mut self) -> (Option<i32>, String) {
            let mut output = String::new();
            self.stderr.read_to_string(&mut output).unwrap();
            (self.child.wait().unwrap().code(), output)
        }
    }

    fn n_checkpoints(folder: &Path) -> usize {
        fs::read_dir(folder.join("runs/mine/checkpoints")).unwrap().count()
    }

    #[test]
    fn sigusr1_saves_and_sigterm_stops() {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Running::start(folder.path());
        assert_eq!(n_checkpoints(folder.path()), 1, "only the checkpoint of step 0");
        running.send(Signal::SIGUSR1);
        running.read_until("saving after this step");
        running.read_until("saved after step");
        running.read_until("tokens/s"); // Training continues.
        assert_eq!(n_checkpoints(folder.path()), 2);
        running.send(Signal::SIGTERM);
        let (code, output) = running.end();
        assert_eq!(code, Some(143), "{output}");
        assert!(output.contains("kindling train --resume --run runs/mine"), "{output}");
    }

    /// `timeout` of coreutils sends a signal to its child and then to its process group.
    #[test]
    fn signals_that_come_together_are_one_request() {
        let folder = tempfile::tempdir().unwrap();
        for (first, second, code) in
            [(Signal::SIGTERM, Signal::SIGTERM, 143), (Signal::SIGINT, Signal::SIGTERM, 130)]
        {
            let running = Running::start(folder.path());
            running.send(first);
            running.send(second);
            let (ended, output) = running.end();
            assert!(output.contains("checkpoint saved; resume with:"), "{output}");
            // The first counts, but the system may deliver two different signals in any order.
            assert!(ended == Some(code) || (first != second && ended == Some(143)), "{ended:?}: {output}");
            fs::remove_dir_all(folder.path().join("runs")).unwrap();
        }
    }

    #[test]
    fn sighup_saves_and_stops_unless_it_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(folder.path()); // Its stderr is a pipe.
        running.send(Signal::SIGHUP);
        let (code, output) = running.end();
        assert_eq!(code, Some(129), "{output}");
        assert!(output.contains("kindling train --resume --run runs/mine"), "{output}");
        fs::remove_dir_all(folder.path().join("runs")).unwrap();

        // As under nohup.
        let plain = kindling(folder.path(), &ENDLESS);
        let mut ignoring = Command::new("sh");
        ignoring
            .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
            .arg(plain.get_program())
            .args(plain.get_args());
        ignoring.current_dir(folder.path()).env_remove("CARGO");
        let mut running = Running::of(ignoring);
        running.send(Signal::SIGHUP);
        running.send(Signal::SIGUSR1);
        running.read_until("saved after step");
        running.send(Signal::SIGTERM);
        assert_eq!(running.end().0, Some(143));
    }

    #[test]
    fn a_second_process_is_refused_and_a_killed_one_leaves_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(folder.path());
        let resume = ["train", "--resume", "--run", "mine", "--set", "schedule.max_steps=1"];
        let error = run(folder.path(), &resume).failure();
        assert!(error.contains(&format!("process {} on", running.child.id())), "{error}");
        running.send(Signal::SIGKILL);
        assert_eq!(running.end().0, None);
        run(folder.path(), &resume).success();
    }
}
