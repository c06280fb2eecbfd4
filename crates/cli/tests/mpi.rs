//! Training over processes that `mpirun` starts.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its values are small"
)]

#[path = "cli/support.rs"]
#[allow(dead_code, reason = "the tests of commands use the rest")]
mod support;

use std::{
    fmt::Write,
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use burn::prelude::Device;
use dataset::Progress;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ranks::{Group, Threads};
use support::{kindling, run};
use trainer::{Control, Metrics, NewRun, RecipeRequest, RecipeSource, Split, Training};
use wait_timeout::ChildExt;

/// How long the ranks of a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(100);

/// Largest difference of a loss between one process and several: gradients are added in another order. The largest seen
/// is in `several_ranks_train_like_one_process`.
const LOSS_TOLERANCE: f64 = 1e-4;

/// A run of 120 steps with everything that depends on the rank: accumulation, dropout and shared evaluations.
const SETTINGS: [&str; 9] = [
    "optimizer.kind=adamw",
    "optimizer.grad_accumulation=2",
    "model.dropout=0.1",
    "schedule.max_steps=120",
    "schedule.eval_interval=40",
    "schedule.eval_windows=44", // Five whole batches and a part of one.
    "schedule.checkpoint_interval=60",
    "schedule.log_interval=1",
    "schedule.sample_interval=none",
];

/// Arguments of a new run in `runs/NAME`, on a text of the folder.
fn new_run<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let sets = SETTINGS.iter().chain(more).flat_map(|set| ["--set", set]);
    ["train", "debug", "--data", "text.txt", "--run", name].into_iter().chain(sets).collect()
}

/// A folder with a text.
fn folder_with_text() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"];
    let text: Vec<&str> = (0..4000).map(|idx| words[idx * idx / 7 % words.len()]).collect();
    fs::write(folder.path().join("text.txt"), text.join(" ")).unwrap();
    folder
}

/// Starts ranks in a folder.
fn start(folder: &Path, n_ranks: usize, args: &[&str]) -> Child {
    let rank = kindling(folder, args);
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none", "-n", &n_ranks.to_string()]);
    command.arg(rank.get_program()).args(rank.get_args()).current_dir(folder);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.env_remove("CARGO").env_remove("RUST_LOG").env("RAYON_NUM_THREADS", "2");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether all ranks have succeeded, and their output.
fn finish(mut mpirun: Child) -> (bool, String) {
    let status = mpirun.wait_timeout(LIMIT).unwrap();
    if status.is_none() {
        mpirun.kill().unwrap();
    }
    let mut text = String::new();
    mpirun.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text).unwrap());
    mpirun.stderr.take().map(|mut pipe| pipe.read_to_string(&mut text).unwrap());
    let status = status.unwrap_or_else(|| panic!("the ranks did not end within {LIMIT:?}: {text}"));
    (status.success(), text)
}

#[track_caller]
fn mpirun(folder: &Path, n_ranks: usize, args: &[&str]) -> String {
    let (is_success, text) = finish(start(folder, n_ranks, args));
    assert!(is_success, "{text}");
    text
}

/// The metrics of a run without times.
fn metrics(folder: &Path, name: &str) -> Vec<Metrics> {
    let text = fs::read_to_string(folder.join("runs").join(name).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let without_times =
        |line| Metrics { tokens_per_second: None, waiting_share: None, elapsed_seconds: 0.0, ..line };
    lines.map(without_times).collect()
}

/// The names of a run's checkpoints, in order.
fn checkpoints(folder: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join("runs").join(name).join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The weights and the optimizer state of the last checkpoint, and the best weights; of an adapter, no best weights.
fn weights(folder: &Path, name: &str) -> [Vec<u8>; 3] {
    let run = folder.join("runs").join(name);
    let last = checkpoints(folder, name).pop().unwrap();
    let [model, optimizer] = ["model.bpk", "optimizer.bpk"]
        .map(|file| fs::read(run.join("checkpoints").join(&last).join(file)).unwrap());
    [model, optimizer, fs::read(run.join("model.safetensors")).unwrap_or_default()]
}

#[track_caller]
fn assert_same(folder: &Path, got: &str, expected: &str) {
    assert_eq!(metrics(folder, got), metrics(folder, expected), "{got} and {expected}");
    assert!(weights(folder, got) == weights(folder, expected), "the weights of {got} and {expected} differ");
}

/// The largest difference of a loss.
fn distance(folder: &Path, got: &str, expected: &str) -> f64 {
    let (got, expected) = (metrics(folder, got), metrics(folder, expected));
    assert_eq!(got.len(), expected.len());
    let both = got.iter().zip(&expected);
    let differences = both.map(|(got, expected)| {
        assert_eq!((got.step, got.split, got.tokens), (expected.step, expected.split, expected.tokens));
        (got.loss.unwrap() - expected.loss.unwrap()).abs()
    });
    differences.fold(0.0, f64::max)
}

/// Trains on threads of this process, with a copy of the recipe of `like`.
fn train_on_threads(folder: &Path, name: &str, like: &str, n_threads: usize) {
    let runs = folder.join("runs");
    let source = RecipeSource::saved(&runs.join(like).join("recipe.toml")).unwrap();
    let request = RecipeRequest { source, overrides: Vec::new(), epochs: None };
    let new = NewRun::new(request, None, n_threads);
    let data = new.recipe().unwrap().data;
    let show = |_: Progress| ();
    let planned = new.plan(data, &folder.join("datasets"), &show).unwrap();
    let devices = vec![Device::flex(); n_threads];
    let model = planned.random_model(&devices[0]).unwrap();
    let training = planned.create(&runs.join(name), model, None, &devices).unwrap();
    trainer::train(training, Control::new(), Box::new(|_| ())).unwrap();
}

/// Like [`train_on_threads`], with ranks as processes have them, each with a folder of its own.
fn train_on_separate_ranks(folder: &Path, name: &str, like: &str) {
    let request = || {
        let source = RecipeSource::saved(&folder.join("runs").join(like).join("recipe.toml")).unwrap();
        RecipeRequest { source, overrides: Vec::new(), epochs: None }
    };
    let train = |group: Threads| {
        let rank_name = if group.index() == 0 { name.to_owned() } else { format!("{name}-other") };
        let new = NewRun::new(request(), None, 2);
        let data = new.recipe().unwrap().data;
        let show = |_: Progress| ();
        let planned = new.plan(data, &folder.join("datasets"), &show).unwrap();
        let device = [Device::flex()];
        let model = planned.random_model(&device[0]).unwrap();
        let training = planned.create(&folder.join("runs").join(rank_name), model, None, &device).unwrap();
        let group: Arc<dyn Group> = Arc::new(group);
        let training = Training { group: group.clone(), ..training };
        trainer::train(training, Control::new(), Box::new(|_| ())).unwrap();
        group.finish().unwrap();
    };
    std::thread::scope(|scope| {
        for group in Threads::group(2) {
            scope.spawn(|| train(group));
        }
    });
}

/// Waits until the log of a run has a step.
fn wait_for_step(folder: &Path, name: &str, step: u64) {
    let path = folder.join("runs").join(name).join("metrics.jsonl");
    let start = Instant::now();
    let has_step = || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.contains(&format!("{{\"step\":{step},\"split\":\"train\""))
    };
    while !has_step() {
        assert!(start.elapsed() < LIMIT, "{name} did not reach step {step}");
        std::thread::yield_now();
    }
}

/// The process of a rank, by the environment that `mpirun` gives it.
fn process_of_rank(mpirun: &Child, rank: usize) -> Pid {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", mpirun.id())).unwrap();
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_rank = |pid: &&str| {
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables.split(|byte| *byte == 0).any(|it| it == variable.as_bytes())
    };
    Pid::from_raw(children.split_whitespace().find(is_rank).unwrap().parse().unwrap())
}

#[test]
fn several_ranks_train_like_one_process() {
    let folder = folder_with_text();
    let folder = folder.path();
    run(folder, &new_run("alone", &[])).success();
    mpirun(folder, 1, &new_run("mpi-1", &[]));
    assert_same(folder, "mpi-1", "alone");

    let text = mpirun(folder, 2, &new_run("mpi-2", &[]));
    assert!(text.contains("2 ranks on 1 host, 2 threads each"), "{text}");
    assert_eq!(text.matches("done in").count(), 1, "only rank 0 prints: {text}");
    train_on_threads(folder, "threads", "mpi-2", 2);
    assert_same(folder, "mpi-2", "threads");
    let distance_of_2 = distance(folder, "mpi-2", "alone");
    assert!(distance_of_2 > 0.0 && distance_of_2 < LOSS_TOLERANCE, "{distance_of_2}");

    // Evaluations are shared, and have the bits of one process.
    let valid = |name: &str| metrics(folder, name).into_iter().filter(|line| line.split == Split::Valid);
    assert_eq!(valid("mpi-2").next(), valid("alone").next());

    // Dropout would otherwise be another on each rank.
    let without = ["model.dropout=0.0", "schedule.max_steps=3"];
    run(folder, &new_run("undropped", &without)).success();
    assert!(metrics(folder, "undropped")[1] != metrics(folder, "alone")[1], "there is dropout");
}

#[test]
fn the_default_recipe_with_muon_trains_on_ranks_like_on_one_process() {
    let folder = folder_with_text();
    let folder = folder.path();
    let new_run = |name: &'static str| {
        let settings = ["schedule.max_steps=40", "schedule.log_interval=1", "schedule.sample_interval=none"];
        let sets = settings.into_iter().flat_map(|set| ["--set", set]);
        ["train", "tiny", "--data", "text.txt", "--run", name].into_iter().chain(sets).collect::<Vec<_>>()
    };
    run(folder, &new_run("alone")).success();
    mpirun(folder, 2, &new_run("ranks"));
    let recipe = fs::read_to_string(folder.join("runs/ranks/recipe.toml")).unwrap();
    assert!(recipe.contains("kind = \"muon\""), "{recipe}");
    // Rounding reached 6e-6, and grows as the text is learned by heart. Accumulation has other windows: 3e-2.
    let distance = distance(folder, "ranks", "alone");
    assert!(distance > 0.0 && distance < LOSS_TOLERANCE, "{distance}");
}

/// Blocks of 0.8M weights: the gradients of all but the first leave before the backward pass has ended.
const WIDE: [&str; 5] = [
    "model.n_embd=256",
    "model.n_layer=4",
    "optimizer.kind=muon",
    "schedule.max_steps=6",
    "schedule.eval_interval=6",
];

#[test]
fn overlap_changes_no_bit() {
    let folder = folder_with_text();
    let folder = folder.path();
    mpirun(folder, 2, &new_run("overlapped", &WIDE));
    for (name, set) in [("waiting", "run.overlap=false"), ("recomputed", "run.activations=recompute")] {
        mpirun(folder, 2, &new_run(name, &[&WIDE[..], &[set]].concat()));
        assert_same(folder, name, "overlapped");
    }
    train_on_threads(folder, "threads", "overlapped", 2);
    assert_same(folder, "threads", "overlapped");

    let lines = fs::read_to_string(folder.join("runs/overlapped/metrics.jsonl")).unwrap();
    let shares =
        lines.lines().filter_map(|line| serde_json::from_str::<Metrics>(line).unwrap().waiting_share);
    let shares: Vec<f64> = shares.collect();
    assert!(shares.len() == 6 && shares.iter().all(|share| *share > 0.0 && *share < 1.0), "{shares:?}");
}

/// Largest difference of a loss between gradients exchanged in bf16 and in f32, over 120 steps. The largest seen is 3.6e-4, with 2
/// and with 4 ranks.
const BF16_TOLERANCE: f64 = 2e-3;

#[test]
fn gradients_in_bf16_train_like_those_in_f32() {
    let folder = folder_with_text();
    let folder = folder.path();
    mpirun(folder, 2, &new_run("f32", &[]));
    mpirun(folder, 2, &new_run("bf16", &["run.gradient_precision=bf16"]));
    let distance = distance(folder, "bf16", "f32");
    assert!(distance > LOSS_TOLERANCE / 10.0 && distance < BF16_TOLERANCE, "{distance}");
    train_on_threads(folder, "threads", "bf16", 2);
    assert_same(folder, "threads", "bf16");
}

#[test]
fn divided_optimizer_states_change_no_bit() {
    let folder = folder_with_text();
    let folder = folder.path();
    for kind in ["optimizer.kind=adamw", "optimizer.kind=muon"] {
        let settings = [kind, "schedule.decay_steps=120", "guards.spike_z_score=3.0"];
        let divided = [&settings[..], &["run.shard_optimizer=true"]].concat();
        let name = |name: &str| format!("{name}-{}", &kind[15..]);
        let [whole, shards, with, without] = ["whole", "shards", "with", "without"].map(name);
        mpirun(folder, 2, &new_run(&whole, &settings));
        mpirun(folder, 2, &new_run(&shards, &divided));
        assert_same(folder, &shards, &whole);

        // Resumed without shards and with them, both from step 80.
        for (name, before, after) in [(&with, &divided[..], "false"), (&without, &settings[..], "true")] {
            mpirun(folder, 2, &new_run(name, &[before, &["schedule.max_steps=80"]].concat()));
            let set = format!("run.shard_optimizer={after}");
            mpirun(folder, 2, &["train", "--resume", "--run", name, "--max-steps", "120", "--set", &set]);
            assert_same(folder, name, &whole);
        }
    }
}

/// Arguments of twelve steps of fine-tuning.
fn fine_tune<'a>(preset: &'a str, base: &'a str, data: &'a str, name: &'a str) -> Vec<&'a str> {
    let settings = ["optimizer.grad_accumulation=2", "schedule.warmup_steps=0", "schedule.log_interval=1"];
    let args = ["train", preset, "--init-from", base, "--data", data, "--run", name, "--batch-size", "2"];
    let sets = settings.into_iter().flat_map(|set| ["--set", set]);
    args.into_iter().chain(["--max-steps", "12"]).chain(sets).collect()
}

#[test]
fn fine_tuning_on_ranks_equals_that_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let base = ["train", "debug", "--run", "base", "--max-steps", "20", "--block-size", "64"];
    run(folder, &[&base[..], &["--set", "data.tokenizer=bpe:300"]].concat()).success();
    let (mut chats, mut pairs) = (String::new(), String::new());
    for n in 0..40 {
        let answer = ["yes", "no"][n % 2];
        writeln!(chats, r#"{{"prompt": "{n}?", "completion": "{answer}"}}"#).unwrap();
        writeln!(pairs, r#"{{"prompt": "{n}?", "chosen": "yes", "rejected": "no"}}"#).unwrap();
    }
    fs::write(folder.join("chats.jsonl"), chats).unwrap();
    fs::write(folder.join("pairs.jsonl"), pairs).unwrap();

    run(folder, &fine_tune("sft", "base", "chats.jsonl", "tuned")).success();
    for (preset, base, data) in
        [("sft", "base", "chats.jsonl"), ("lora", "tuned", "chats.jsonl"), ("dpo", "tuned", "pairs.jsonl")]
    {
        let [alone, ranks, shards] = ["alone", "ranks", "shards"].map(|name| format!("{preset}-{name}"));
        run(folder, &fine_tune(preset, base, data, &alone)).success();
        mpirun(folder, 2, &fine_tune(preset, base, data, &ranks));
        let distance = distance(folder, &ranks, &alone);
        assert!(distance < LOSS_TOLERANCE, "{preset}: {distance}");
        let losses = metrics(folder, &ranks);
        assert!(losses.last().unwrap().loss < losses[0].loss, "{preset} learns: {losses:?}");
        let divided = ["--set", "run.shard_optimizer=true"];
        mpirun(folder, 2, &[&fine_tune(preset, base, data, &shards)[..], &divided].concat());
        assert_same(folder, &shards, &ranks);
    }
}

/// Sends a signal to rank 1 while it trains. Returns whether all ranks succeed, and their output.
fn signal_rank_1(folder: &Path, name: &str, signal: Signal) -> (bool, String) {
    let ranks = start(folder, 2, &new_run(name, &["schedule.keep_last=9"]));
    wait_for_step(folder, name, 20);
    kill(process_of_rank(&ranks, 1), signal).unwrap();
    finish(ranks)
}

#[test]
fn an_interrupted_run_resumes_on_any_number_of_ranks() {
    let folder = folder_with_text();
    let folder = folder.path();
    mpirun(folder, 2, &new_run("whole", &[]));

    let (is_success, text) = signal_rank_1(folder, "stopped", Signal::SIGTERM);
    assert!(is_success, "{text}");
    assert_eq!(text.matches("checkpoint saved; resume with:").count(), 1, "{text}");
    let copy = |name: &str| {
        let args = ["-r", "runs/stopped", &format!("runs/{name}")];
        assert!(Command::new("cp").args(args).current_dir(folder).status().unwrap().success());
    };
    copy("on-one");
    mpirun(folder, 2, &["train", "--resume", "--run", "stopped"]);
    assert_same(folder, "stopped", "whole");
    run(folder, &["train", "--resume", "--run", "on-one"]).success();
    let distance = distance(folder, "on-one", "whole");
    assert!(distance < LOSS_TOLERANCE, "{distance}");

    let halves = ["schedule.decay_steps=120", "schedule.eval_interval=60"];
    run(folder, &new_run("from-one", &[&halves[..], &["schedule.max_steps=60"]].concat())).success();
    mpirun(folder, 2, &["train", "--resume", "--run", "from-one", "--max-steps", "120"]);
    mpirun(folder, 2, &new_run("on-two", &halves));
    let distance = self::distance(folder, "from-one", "on-two");
    assert!(distance < LOSS_TOLERANCE, "{distance}");
}

#[test]
fn a_signal_to_one_rank_saves_once_and_training_continues() {
    let folder = folder_with_text();
    let folder = folder.path();
    let (is_success, text) = signal_rank_1(folder, "saved", Signal::SIGUSR1);
    assert!(is_success, "{text}");
    let planned = [0, 60, 120].map(|step| format!("step-{step:08}"));
    let names = checkpoints(folder, "saved");
    let asked: Vec<_> = names.iter().filter(|name| !planned.contains(name)).collect();
    assert!(names.len() == 4 && asked.len() == 1, "{names:?}");
    mpirun(folder, 2, &new_run("undisturbed", &[]));
    assert_same(folder, "saved", "undisturbed");
}

#[test]
fn a_killed_rank_ends_all_and_the_run_resumes() {
    let folder = folder_with_text();
    let folder = folder.path();
    let sooner = ["schedule.checkpoint_interval=10"];
    let ranks = start(folder, 2, &new_run("killed", &sooner));
    wait_for_step(folder, "killed", 35);
    kill(process_of_rank(&ranks, 1), Signal::SIGKILL).unwrap();
    let (is_success, text) = finish(ranks);
    assert!(!is_success && text.contains("rank 1 "), "{text}");
    mpirun(folder, 2, &["train", "--resume", "--run", "killed"]);
    mpirun(folder, 2, &new_run("whole", &sooner));
    assert_same(folder, "killed", "whole");
}

#[test]
fn a_stopped_rank_is_named_in_time() {
    let folder = folder_with_text();
    let folder = folder.path();
    let limit = ["--rank-timeout", "3"];
    let ranks = start(folder, 2, &[&new_run("stopped", &["schedule.max_steps=100000"])[..], &limit].concat());
    wait_for_step(folder, "stopped", 5);
    let began = Instant::now();
    kill(process_of_rank(&ranks, 1), Signal::SIGSTOP).unwrap();
    let (is_success, text) = finish(ranks);
    assert!(!is_success && text.contains("rank 1 on "), "{text}");
    assert!(text.contains("sent no heartbeat for 3."), "{text}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// The momentum of outer steps in the last checkpoint.
fn outer_momentum(folder: &Path, name: &str) -> Vec<u8> {
    let last = checkpoints(folder, name).pop().unwrap();
    fs::read(folder.join("runs").join(name).join("checkpoints").join(last).join("outer.bpk")).unwrap()
}

#[test]
fn local_steps_over_mpi_equal_those_of_threads_and_resume() {
    let folder = folder_with_text();
    let folder = folder.path();
    let local = ["run.sync_interval=5", "schedule.checkpoint_interval=10"];
    mpirun(folder, 2, &new_run("local", &local));
    train_on_separate_ranks(folder, "threads", "local");
    assert_same(folder, "threads", "local");
    assert!(outer_momentum(folder, "threads") == outer_momentum(folder, "local"));

    let ranks = start(folder, 2, &new_run("killed", &local));
    wait_for_step(folder, "killed", 37);
    kill(process_of_rank(&ranks, 0), Signal::SIGKILL).unwrap();
    let (is_success, text) = finish(ranks);
    assert!(!is_success, "{text}");
    mpirun(folder, 2, &["train", "--resume", "--run", "killed"]);

    let ranks = start(folder, 2, &new_run("stopped", &local));
    wait_for_step(folder, "stopped", 22);
    kill(process_of_rank(&ranks, 1), Signal::SIGTERM).unwrap();
    let (is_success, text) = finish(ranks);
    assert!(is_success, "{text}");
    let last = checkpoints(folder, "stopped").pop().unwrap();
    assert!(last.ends_with(['0', '5']) && last.as_str() < "step-00000120", "{last}");
    mpirun(folder, 2, &["train", "--resume", "--run", "stopped"]);
    for name in ["killed", "stopped"] {
        assert_same(folder, name, "local");
        assert!(outer_momentum(folder, name) == outer_momentum(folder, "local"), "{name}");
    }
}

#[test]
fn a_benchmark_of_ranks_measures_their_exchange() {
    let folder = folder_with_text();
    let folder = folder.path();
    let bench = ["bench", "debug", "--ranks", "--seconds", "4", "--steps", "8"];
    let text = mpirun(folder, 2, &bench);
    for part in [
        "alone ",
        "together ",
        "on each of 2 ranks, 8 times",
        "% efficiency",
        "sent through the host by a rank in a step",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
    }
    let json = |more: &[&str]| -> serde_json::Value {
        let text = mpirun(folder, 2, &[&bench[..], &["--json", "--quiet"], more].concat());
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str(line).unwrap()
    };
    let each_step = json(&[]);
    let of = |report: &serde_json::Value, key: &str| report[key].as_f64().unwrap();
    assert_eq!((of(&each_step, "n_ranks"), of(&each_step, "n_hosts")), (2.0, 1.0));
    assert!(of(&each_step, "efficiency") > 0.0 && of(&each_step, "waiting_share") < 1.0, "{each_step}");
    // With two ranks, each sends half of its gradients and half of the means.
    let gradients = of(&each_step, "bytes_sent_per_step");
    let bf16 = of(&json(&["--set", "run.gradient_precision=bf16"]), "bytes_sent_per_step");
    assert!((bf16 / gradients - 0.5).abs() < 0.01, "{bf16} {gradients}");
    // Weights and two moments every tenth step.
    let local = of(&json(&["--set", "run.sync_interval=10"]), "bytes_sent_per_step");
    assert!((local / gradients - 0.3).abs() < 0.01, "{local} {gradients}");

    let error = run(folder, &["bench", "debug", "--ranks"]).usage_failure();
    assert!(error.contains("mpirun -n 2 --bind-to none kindling bench --ranks"), "{error}");
}

#[test]
fn a_rank_bound_to_one_core_is_warned_of() {
    if std::thread::available_parallelism().unwrap().get() == 1 {
        return; // Its share is one core.
    }
    let folder = folder_with_text();
    let bound = |binding: &str| {
        let rank = kindling(folder.path(), &["train", "debug", "--run", binding, "--max-steps", "1"]);
        let mut command = Command::new("mpirun");
        command.args(["-n", "1", "--bind-to", binding]).arg(rank.get_program()).args(rank.get_args());
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        command.current_dir(folder.path()).env_remove("CARGO").env_remove("RAYON_NUM_THREADS");
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (is_success, text) = finish(command.spawn().unwrap());
        assert!(is_success, "{text}");
        text
    };
    let text = bound("core");
    assert!(text.contains("mpirun has bound rank 0 on ") && text.contains("add --bind-to none"), "{text}");
    assert!(!bound("none").contains("has bound"));
}

/// Each rank runs in its own folder, as on hosts that share none.
#[test]
fn ranks_with_other_data_are_refused_by_name() {
    let folder = folder_with_text();
    let folder = folder.path();
    let rank = kindling(folder, &new_run("run", &["schedule.max_steps=2"]));
    let script = r#"mkdir -p host-$OMPI_COMM_WORLD_RANK && cd host-$OMPI_COMM_WORLD_RANK && cp ../text.txt . &&
        { [ $OMPI_COMM_WORLD_RANK = 0 ] || [ -z "$OTHER" ] || tr q e < ../text.txt > text.txt; } && exec "$0" "$@""#;
    let start = |other: &str| {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "--bind-to", "none", "-n", "2", "sh", "-c", script]);
        command.arg(rank.get_program()).args(rank.get_args()).current_dir(folder).env("OTHER", other);
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        let command = command.env_remove("CARGO").stdin(Stdio::null());
        finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let (is_success, text) = start("1");
    assert!(!is_success, "{text}");
    assert_eq!(text.matches("the ranks would train differently").count(), 1, "{text}");
    assert!(text.contains("training data is ") && text.contains(" on rank 1 ("), "{text}");

    fs::remove_dir_all(folder.join("host-0/runs")).unwrap();
    let (is_success, text) = start("");
    assert!(is_success && !folder.join("host-1/runs").exists(), "{text}");
}
