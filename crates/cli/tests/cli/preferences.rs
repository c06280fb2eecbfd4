//! Preference tuning on pairs of answers.

use std::{fs, sync::LazyLock};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ran, run};

/// A folder with a model `tuned`, which knows both answers, and pairs `pairs.jsonl` that prefer one of them.
static TUNED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let train = ["train", "debug", "--run", "base", "--max-steps", "20", "--block-size", "128"];
    run(here, &[&train[..], &["--set", "data.tokenizer=bpe:300"]].concat()).success();
    let chat = |n: usize| {
        let answer = ["yes", "no"][n % 2];
        json!({ "prompt": format!("{n}?"), "completion": answer })
    };
    fs::write(here.join("chats.jsonl"), (0..40).map(|n| format!("{}\n", chat(n))).collect::<String>())
        .unwrap();
    fs::write(here.join("pairs.jsonl"), pairs(40)).unwrap();
    let sft = ["train", "sft", "--init-from", "base", "--data", "chats.jsonl", "--run", "tuned"];
    run(here, &[&sft[..], &["--max-steps", "30", "--lr", "1e-2"]].concat()).success();
    folder
});

fn pairs(n: u32) -> String {
    let pair = |n: u32| json!({ "prompt": format!("{n}?"), "chosen": "yes", "rejected": "no" });
    (0..n).map(|n| format!("{}\n", pair(n))).collect()
}

const LORA: [&str; 4] = ["--set", "lora.rank=4", "--set", "lora.alpha=8"];

fn train(name: &str, more: &[&str]) -> Ran {
    train_on("pairs.jsonl", name, more)
}

fn train_on(data: &str, name: &str, more: &[&str]) -> Ran {
    let args = ["train", "dpo", "--init-from", "tuned", "--data", data, "--run", name];
    let fixed = ["--set", "schedule.warmup_steps=0", "--set", "schedule.checkpoint_interval=5"];
    run(TUNED.path(), &[&args[..], &fixed, &["--set", "optimizer.grad_accumulation=2"], more].concat())
}

fn losses(name: &str) -> Vec<f64> {
    values(name, "valid", "loss").iter().map(|loss| loss.as_f64().unwrap()).collect()
}

/// The values of a key in the metrics of a run.
fn values(name: &str, split: &str, key: &str) -> Vec<Value> {
    let metrics = fs::read_to_string(TUNED.path().join(format!("runs/{name}/metrics.jsonl"))).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["split"] == split).map(|line| line[key].clone()).collect()
}

fn file(path: &str) -> Vec<u8> {
    fs::read(TUNED.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_model_learns_to_prefer_one_of_two_answers() {
    for (name, rate, more) in [("dpo", "5e-3", &[][..]), ("dpo-lora", "3e-2", &LORA)] {
        let steps = ["--max-steps", "20", "--lr", rate, "--set", "schedule.eval_interval=10"];
        let ran = train(name, &[&steps[..], more].concat()).success();
        assert!(ran.stderr.contains("38 pairs to train on and 2 to validate on"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("computing the log-probabilities of 40 pairs with the initial model"),
            "{}",
            ran.stderr
        );
        let share = |line: &str| line.split_once("rejected one in ").map(|(_, rest)| rest.to_owned());
        let shares: Vec<String> = ran.stderr.lines().filter_map(share).collect();
        assert_eq!(shares.len(), 3, "{}", ran.stderr);
        assert!(
            shares[0].ends_with("of 2 pairs, mean margin 0.000") || shares[0].contains("-0.000"),
            "{shares:?}"
        );
        assert!(shares[2].starts_with("100 % of 2 pairs"), "{shares:?}");
        let losses = losses(name);
        assert!((losses[0] - 2f64.ln()).abs() < 1e-5, "{losses:?}");
        assert!(losses[2] < 0.6 && losses[2] < losses[1], "{losses:?}");
        let accuracies = values(name, "valid", "accuracy");
        assert_eq!(accuracies[2], json!(1.0), "{accuracies:?}");
        let margins = values(name, "valid", "margin");
        assert!(margins[0].as_f64().unwrap().abs() < 1e-5 && margins[2].as_f64() > Some(0.1), "{margins:?}");
        assert!(values(name, "train", "accuracy").iter().all(Value::is_null));
    }
}

/// The files of a checkpoint.
fn checkpoint(run: &str, step: u64) -> [Vec<u8>; 2] {
    ["model.bpk", "optimizer.bpk"].map(|name| file(&format!("runs/{run}/checkpoints/step-{step:08}/{name}")))
}

#[test]
fn preference_tuning_resumes_bit_for_bit() {
    for (name, more) in [("all", &[][..]), ("lora", &LORA)] {
        let (whole, parts) = (format!("{name}-whole"), format!("{name}-parts"));
        let same = ["--lr", "1e-3", "--set", "schedule.decay_steps=10", "--set", "schedule.eval_interval=5"];
        train(&whole, &[&same[..], more, &["--max-steps", "10"]].concat()).success();
        train(&parts, &[&same[..], more, &["--max-steps", "5"]].concat()).success();
        let reference = file(&format!("runs/{parts}/reference.safetensors"));
        let resumed =
            run(TUNED.path(), &["train", "--resume", "--run", &parts, "--max-steps", "10"]).success();
        assert!(!resumed.stderr.contains("initial model"), "it is computed once: {}", resumed.stderr);
        assert_eq!(file(&format!("runs/{parts}/reference.safetensors")), reference);
        assert_eq!(file(&format!("runs/{whole}/reference.safetensors")), reference);
        assert_eq!(checkpoint(&parts, 10), checkpoint(&whole, 10), "{name}");
        assert_eq!(losses(&parts), losses(&whole));
    }
}

#[test]
fn a_run_does_not_resume_without_its_reference() {
    train("lost", &["--max-steps", "1"]).success();
    fs::remove_file(TUNED.path().join("runs/lost/reference.safetensors")).unwrap();
    let error = run(TUNED.path(), &["train", "--resume", "--run", "lost", "--max-steps", "2"]).failure();
    assert!(error.contains("lost/reference.safetensors can't be used: it is missing"), "{error}");
}

#[test]
fn invalid_preference_data_is_refused() {
    let write = |name: &str, text: &str| fs::write(TUNED.path().join(name), text).unwrap();
    write("one-pair.jsonl", &pairs(1));
    write("same.jsonl", &pairs(3).replace("\"no\"", "\"yes\""));
    let no_target = ["--set", "lora.targets=[\"no\"]"];
    for (data, args, expected) in [
        ("same.jsonl", &[][..], "3 rows, first at "),
        ("same.jsonl", &[], "same.jsonl:1: `chosen` and `rejected` are the same answer"),
        (
            "one-pair.jsonl",
            &[],
            "one-pair.jsonl has 1 pair; a run needs one pair to train on and another one",
        ),
        (
            "pairs.jsonl",
            &["--block-size", "8"],
            "pairs.jsonl has 40 pairs, and model.block_size=8 is too short for all",
        ),
        ("pairs.jsonl", &["--block-size", "8"], "use --block-size "),
        ("pairs.jsonl", &[&LORA[..], &no_target].concat(), "lora.targets"),
    ] {
        let error = train_on(data, "refused", args).failure();
        assert!(error.contains(expected), "{data}, {args:?}: {error}");
    }
    for (set, expected) in [
        ("dpo.beta=0", "`dpo.beta` must be above 0"),
        ("chat.train_on=assistant", "[dpo] compares the last answers"),
    ] {
        let error = train("refused", &["--set", set]).usage_failure();
        assert!(error.contains(expected), "{set}: {error}");
    }
    let error = train_on("chats.jsonl", "refused", &[]).usage_failure();
    assert!(error.contains("chats.jsonl has conversations; train on them with `train sft`"), "{error}");
    let beta = ["train", "sft", "--init-from", "tuned", "--data", "chats.jsonl", "--set", "dpo.beta=-1"];
    let error = run(TUNED.path(), &beta).usage_failure();
    assert!(error.contains("`dpo.beta` must be above 0 (got -1)"), "{error}");
    let without_chat = ["train", "debug", "--set", "dpo.beta=0.1"];
    let error = run(TUNED.path(), &without_chat).usage_failure();
    assert!(error.contains("[dpo] needs [chat]"), "{error}");
    assert!(!TUNED.path().join("runs/refused").exists());
}

#[test]
fn one_batch_starts_at_the_loss_of_the_initial_model() {
    // The preset has several batches in a step, of which this one is a share.
    let args = ["train", "dpo", "--init-from", "tuned", "--data", "pairs.jsonl", "--overfit-one-batch"];
    let ran = run(TUNED.path(), &[&args[..], &["--lr", "1e-2"]].concat());
    assert!(ran.stderr.contains("step    1  loss 0.6931"), "ln 2: {}", ran.stderr);
}
