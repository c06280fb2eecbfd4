//! The weights of a run: the best, the last and those of a step, and the messages about them.

use std::{fs, path::Path};

use crate::support::{run, trained};

const GREEDY: [&str; 5] = ["--temperature", "0", "--max-tokens", "30", "--quiet"];

fn greedy(folder: &Path, model: &str) -> String {
    run(folder, &[&["generate", model], &GREEDY[..]].concat()).success().stdout
}

/// A run whose validation text has other letters than the training text, so its validation loss rises from the first
/// step.
fn overfitting_run(folder: &Path, more: &[&str]) -> String {
    fs::write(folder.join("lower.txt"), "the cat sat on the mat, and the dog sat on the cat. ".repeat(40))
        .unwrap();
    fs::write(folder.join("upper.txt"), "HOW NOW BROWN COW, SAID THE OTHER COW TO IT. ".repeat(20)).unwrap();
    let train =
        ["train", "debug", "--data", "lower.txt", "--valid", "upper.txt", "--run", "r", "--lr", "0.01"];
    run(folder, &[&train[..], more].concat()).success().stderr
}

#[test]
fn weights_of_any_kept_step_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stderr =
        overfitting_run(folder, &["--set", "schedule.keep_every=10", "--set", "schedule.keep_last=1"]);
    assert!(stderr.contains("warning: the weights of step 0 have the lowest validation loss"), "{stderr}");
    assert!(stderr.contains("the last weights are at runs/r@last"), "{stderr}");
    let last = greedy(folder, "r@last");
    assert_ne!(greedy(folder, "r"), last);
    for same in ["runs/r@40", "runs/r/checkpoints/step-00000040", "runs/r/checkpoints/step-00000040/", "r@40"]
    {
        assert_eq!(greedy(folder, same), last, "{same}");
    }
    let middle = greedy(folder, "r@10");
    assert!(middle != last && middle != greedy(folder, "r@30"));
    assert_eq!(greedy(folder, "r@0"), greedy(folder, "r"), "the best weights are from step 0");
    assert_eq!(greedy(folder, "r@best"), greedy(folder, "r"));
    let error = run(folder, &["generate", "r@15"]).failure();
    assert!(
        error.contains("no weights of step 15; it has runs/r@0, runs/r@10, runs/r@20, runs/r@30, runs/r@40"),
        "{error}"
    );
    let error = run(folder, &["generate", "r@first"]).usage_failure();
    assert!(error.contains("after @, give a step, `last` or `best`"), "{error}");
    // From inside the run folder.
    let info = |inside: &str, model: &str| run(&folder.join(inside), &["info", model]).success().stdout;
    assert!(info("runs/r", "checkpoints/step-00000040").contains(", of step 40"));
    assert!(info("runs/r/checkpoints", "step-00000040").contains(", of step 40"));
    let error = run(folder, &["generate", "nothere@last"]).failure();
    assert!(error.contains("there is no run, folder or GGUF file nothere"), "{error}");
}

#[test]
fn every_command_accepts_the_weights_of_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    overfitting_run(folder, &[]);
    let last = greedy(folder, "r@last");
    run(folder, &["export", "r@last", "--format", "safetensors", "-o", "last"]).success();
    assert_eq!(greedy(folder, "last"), last);
    run(folder, &["export", "r@last", "--format", "gguf"]).success();
    assert_eq!(greedy(folder, "r-step-40.gguf"), last);
    run(folder, &["import", "r@last", "--run", "imported"]).success();
    assert_eq!(greedy(folder, "imported"), last);
    run(
        folder,
        &[
            "train",
            "debug",
            "--init-from",
            "r@last",
            "--data",
            "lower.txt",
            "--run",
            "on",
            "--max-steps",
            "0",
        ],
    )
    .success();
    assert_eq!(greedy(folder, "on"), last);
    let info = run(folder, &["info", "r@last"]).success().stdout;
    assert!(info.contains(", of step 40"), "{info}");
    assert!(run(folder, &["info", "r"]).success().stdout.contains(", of step 0"));
    let loss = |model: &str| {
        let ran = run(folder, &["eval", model, "--data", "lower.txt", "--json"]).success().stdout;
        serde_json::from_str::<serde_json::Value>(&ran).unwrap()["loss"].as_f64().unwrap()
    };
    assert!(loss("r@last") < loss("r"));
    run(folder, &["score", "r@last", "--text", "the cat"]).success();
    run(folder, &["bench", "r@last", "--only", "decode", "--decode", "2"]).success();
}

#[test]
fn keep_weights_last_keeps_the_last_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stderr = overfitting_run(folder, &["--set", "run.keep_weights=last"]);
    assert!(stderr.contains("; runs/r has the weights of step 40"), "{stderr}");
    assert_eq!(greedy(folder, "r"), greedy(folder, "r@last"));
    let back = ["train", "--resume", "--run", "r", "--max-steps", "50", "--set", "run.keep_weights=best"];
    let error = run(folder, &back).usage_failure();
    assert!(error.contains("the best weights so far were not kept"), "{error}");
    run(folder, &back[..6]).success();
    assert_eq!(greedy(folder, "r"), greedy(folder, "r@50"));
}

#[test]
fn the_sample_of_a_model_card_is_from_the_weights_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    overfitting_run(folder, &[]);
    let card = fs::read_to_string(folder.join("runs/r/README.md")).unwrap();
    assert!(card.contains("by these weights (step 0)"), "{card}");
    let sample = run(folder, &["generate", "r", "--seed", "1337", "--top-k", "200"]).success().stdout;
    let sample = sample.trim();
    assert!(sample.len() > 100 && card.contains(sample), "{sample:?} is not in {card}");
    // An existing sample of the same weights is reused.
    let card = fs::read_to_string(trained().join("runs/debug/README.md")).unwrap();
    let samples = fs::read_to_string(trained().join("runs/debug/samples.txt")).unwrap();
    let (_, last) = samples.rsplit_once("--- step 40 ---\n").unwrap();
    assert!(card.contains("by these weights (step 40)") && card.contains(last.trim_end()), "{card}");
}

#[test]
fn the_end_of_a_run_advises_on_training_further() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ran = run(folder, &["train", "debug", "--run", "more", "--quiet"]).success();
    assert_eq!(ran.stderr, "");
    let stderr = run(folder, &["train", "debug", "--run", "mine"]).success().stderr;
    let (_, advice) =
        stderr.split_once("the last weights are the best, so more steps would help: kindling ").unwrap();
    let advice: Vec<&str> = advice.lines().next().unwrap().split(' ').collect();
    run(folder, &advice).success();
    // One repeated sentence, validated on another: the validation loss falls at first and then rises.
    fs::write(folder.join("one.txt"), "the quick brown fox jumps over the lazy dog. ".repeat(30)).unwrap();
    fs::write(folder.join("two.txt"), "a dog that is lazy may jump over what a fox is quick to. ".repeat(9))
        .unwrap();
    let train = ["train", "debug", "one.txt"];
    let error = run(folder, &train).code;
    assert_eq!(error, 2, "only one positional argument");
    let train =
        ["train", "debug", "--data", "one.txt", "--valid", "two.txt", "--max-steps", "400", "--lr", "0.01"];
    let stderr = run(folder, &train).success().stderr;
    assert!(stderr.contains("overfitting since step ") && stderr.contains("@last"), "{stderr}");
}
