//! Finished runs that are trained further or with other settings, and runs of older versions.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::support::{fixture, run};

/// Makes the finished run `runs/mine`, whose learning rate decays to zero as in the default recipe.
fn finished(folder: &Path, more: &[&str]) {
    let sets = [
        "model.n_layer=1",
        "model.n_embd=16",
        "model.block_size=16",
        "schedule.warmup_steps=5",
        "schedule.eval_interval=10",
        "schedule.eval_windows=20",
        "schedule.sample_interval=none",
        "schedule.log_interval=1",
    ];
    let sets = sets.iter().chain(more).flat_map(|set| ["--set", set]);
    let train = ["train", "--run", "mine", "--max-steps", "30"].into_iter().chain(sets);
    run(folder, &train.collect::<Vec<_>>()).success();
}

fn resume(folder: &Path, more: &[&str]) -> crate::support::Ran {
    run(folder, &[&["train", "--resume", "--run", "mine"], more].concat())
}

/// The learning rate of each step.
fn rates(folder: &Path) -> Vec<f64> {
    let metrics = fs::read_to_string(folder.join("runs/mine/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["learning_rate"].as_f64()).collect()
}

fn recipe(folder: &Path) -> toml::Table {
    fs::read_to_string(folder.join("runs/mine/recipe.toml")).unwrap().parse().unwrap()
}

#[test]
fn the_command_suggested_for_a_finished_run_trains_it_further() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &[]);
    let weights = || fs::read(folder.join("runs/mine/checkpoints/step-00000060/model.bpk"));
    let before = fs::read(folder.join("runs/mine/checkpoints/step-00000030/model.bpk")).unwrap();
    let error = resume(folder, &[]).failure();
    let (_, advice) = error.trim().split_once("to train further: kindling ").unwrap();
    let ran = run(folder, &advice.split(' ').collect::<Vec<_>>()).success();
    assert!(ran.stderr.contains("changed: schedule.max_steps from 30 to 60"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("the learning rate goes from ") && ran.stderr.contains(" in 4 steps"),
        "{}",
        ran.stderr
    );
    assert_ne!(weights().unwrap(), before);
    let rates = rates(folder);
    assert_eq!(rates.len(), 60);
    // Linear warm-up over three steps, a tenth of the 30 remaining, then decay to the new end.
    assert!(rates[29] < 3e-5 && rates[30..34].is_sorted_by(|a, b| a < b), "{:?}", &rates[29..34]);
    assert!(rates[33] > 2e-3 && rates[33..].is_sorted_by(|a, b| a > b), "{:?}", &rates[33..]);
    assert!(rates[59] > 0.0);
    let schedule = recipe(folder)["schedule"].as_table().unwrap().clone();
    assert_eq!(schedule["restart"]["step"].as_integer(), Some(30));
    assert_eq!(schedule["restart"]["learning_rate"].as_float(), Some(rates[29]));
    assert!(!schedule.contains_key("decay_steps"), "{schedule}");
}

#[test]
fn an_extended_run_stopped_during_its_warmup_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &["schedule.checkpoint_interval=1", "schedule.keep_last=50"]);
    resume(folder, &["--max-steps", "50"]).success();
    let checkpoint = |step: u64| folder.join(format!("runs/mine/checkpoints/step-{step:08}"));
    let weights = || fs::read(checkpoint(50).join("model.bpk")).unwrap();
    let whole = weights();
    (32..=50).for_each(|step| fs::remove_dir_all(checkpoint(step)).unwrap());
    let ran = resume(folder, &[]).success();
    assert!(ran.stderr.contains("from step 31 of 50"), "{}", ran.stderr);
    assert_eq!(weights(), whole);
    // Without a checkpoint after the change, the change is undone too.
    (30..=50).for_each(|step| fs::remove_dir_all(checkpoint(step)).unwrap());
    resume(folder, &[]).success();
    assert!(!recipe(folder)["schedule"].as_table().unwrap().contains_key("restart"));
}

#[test]
fn a_learning_rate_changed_on_resume_takes_effect() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &["schedule.kind=constant"]);
    resume(folder, &["--max-steps", "40", "--lr", "1e-4"]).success();
    let rates = rates(folder);
    assert_eq!((rates[29], &rates[30..]), (6e-3, &[1e-4; 10][..]), "a lower rate applies immediately");
    resume(folder, &["--max-steps", "60", "--lr", "1e-3"]).success();
    let rates = self::rates(folder);
    assert!(rates[40] < 1e-3 && rates[40..43].is_sorted_by(|a, b| a < b), "{:?}", &rates[40..]);
    assert_eq!(rates[42..], [1e-3; 18]);
}

#[test]
fn a_new_run_longer_than_its_preset_has_a_learning_rate_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &[]);
    let rates = rates(folder);
    assert!(rates[28] > 1e-5, "{rates:?}");
    let zero =
        ["train", "debug", "--set", "optimizer.min_learning_rate=0.0", "--set", "schedule.decay_steps=9"];
    let error = run(folder, &zero).usage_failure();
    assert!(error.contains("the learning rate is 0 from step 9 of 40 on"), "{error}");
    // The suggested key works.
    let (_, advice) = error.split_once("add --set ").unwrap();
    let advice = advice.split_whitespace().next().unwrap();
    run(folder, &[&zero[..], &["--set", advice]].concat()).success();
}

#[test]
fn a_run_whose_learning_rate_is_zero_to_its_end_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &[]);
    // As older versions extended a run: the learning rate falls to zero at step 30, and the run ends at 40.
    let path = folder.join("runs/mine/recipe.toml");
    let recipe = fs::read_to_string(&path).unwrap();
    let old = recipe.replace("max_steps = 30", "max_steps = 40\ndecay_steps = 30");
    fs::write(&path, &old).unwrap();
    let ran = resume(folder, &[]).success();
    assert!(ran.stderr.contains("warning: the learning rate is 0 from step 30 of 40 on"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), old, "the recipe is unchanged");
    assert!(
        !ran.stderr.contains("hardly changed"),
        "no advice from the losses of steps that changed nothing: {}",
        ran.stderr
    );
    let error = resume(folder, &["--max-steps", "50"]).usage_failure();
    assert!(error.contains("the learning rate is 0 from step 30 of 50 on"), "{error}");
    for advice in [resume(folder, &[]).failure(), ran.stderr] {
        let (_, advice) = advice.split_once("kindling train --resume --run runs/mine ").unwrap();
        let advice = advice.lines().next().unwrap();
        assert_eq!(advice, "--max-steps 80 --set schedule.decay_steps=none");
    }
    resume(folder, &["--max-steps", "80", "--set", "schedule.decay_steps=none"]).success();
    assert!(rates(folder)[44..].iter().all(|&rate| rate > 0.0));
}

#[test]
fn the_kind_of_schedule_can_change_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    finished(folder, &["schedule.kind=wsd", "schedule.stable_steps=20"]);
    let error = resume(folder, &["--max-steps", "40", "--set", "schedule.kind=constant"]).usage_failure();
    let (_, advice) = error.split_once("add --set ").unwrap();
    let advice = advice.split(',').next().unwrap();
    let leave = ["--max-steps", "40", "--set", "schedule.kind=constant", "--set", advice];
    resume(folder, &leave).success();
    assert_eq!(rates(folder).last(), Some(&6e-3));
    // The decay starts where stable_steps says and ends with the run.
    resume(folder, &["--max-steps", "60", "--set", "schedule.kind=wsd", "--set", "schedule.stable_steps=50"])
        .success();
    let rates = rates(folder);
    assert_eq!((rates[50], rates[55]), (6e-3, 3e-3));
    for unset in
        ["optimizer.muon_momentum=none", "optimizer.muon_weight_decay=none", "optimizer.grad_clip=none"]
    {
        resume(folder, &["--max-steps", "61", "--set", unset, "--dry-run"]).success();
    }
}

/// The metrics of a run without times.
fn metrics(path: &Path) -> Vec<Value> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["elapsed_seconds"].take();
        line["tokens_per_second"].take();
        line
    };
    fs::read_to_string(path).unwrap().lines().map(line).collect()
}

/// Losses differ by about 1e-6 between CPUs, because sums are taken in another order.
const LOSS: f64 = 1e-5;

/// Copies the run of a fixture with its checkpoint of this step to `runs/mine`.
fn copy_run(fixture: &Path, step: &str, folder: &Path) -> PathBuf {
    let mine = folder.join("runs/mine");
    let checkpoint = format!("checkpoints/{step}");
    fs::create_dir_all(mine.join(&checkpoint)).unwrap();
    for entry in [".", &checkpoint] {
        for file in fs::read_dir(fixture.join("run").join(entry)).unwrap().map(|file| file.unwrap().path()) {
            if file.is_file() {
                fs::copy(&file, mine.join(entry).join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    mine
}

/// Asserts equal metrics, with losses within the tolerance.
fn assert_close(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for exact in ["step", "split", "learning_rate", "tokens"] {
            assert_eq!(found[exact], expected[exact]);
        }
        let [found, expected] = [found, expected].map(|line| line["loss"].as_f64().unwrap());
        assert!((found - expected).abs() < LOSS, "{found} is not {expected}");
    }
}

#[test]
fn a_run_of_an_older_version_resumes_with_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let old = fixture("tests/fixtures/resume");
    let mine = copy_run(&old, "step-00000006", folder.path());
    let recipe = fs::read(mine.join("recipe.toml")).unwrap();
    resume(folder.path(), &[]).success();
    assert_eq!(fs::read(mine.join("recipe.toml")).unwrap(), recipe, "the recipe is unchanged");
    assert_close(&metrics(&mine.join("metrics.jsonl")), &metrics(&old.join("metrics-at-the-end.jsonl")));
}

/// Whether this CPU has the vector instructions that the fixture was made with.
fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Size and checksum of weights and optimizer state, from a checkpoint's manifest.
fn checksums(manifest: &Path) -> [Value; 2] {
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    ["model.bpk", "optimizer.bpk"].map(|file| manifest["files"][file].clone())
}

#[test]
fn a_run_of_the_current_format_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let old = fixture("tests/fixtures/resume-bits");
    let mine = copy_run(&old, "step-00000005", folder.path());
    let stderr = resume(folder.path(), &["--data", old.join("text.txt").to_str().unwrap()]).success().stderr;
    assert!(!stderr.contains("older version"), "{stderr}");
    let [found, expected] =
        [&mine, &old.join("expected")].map(|folder| metrics(&folder.join("metrics.jsonl")));
    assert_close(&found, &expected);
    if has_avx512() {
        assert_eq!(found, expected);
        assert_eq!(
            checksums(&mine.join("checkpoints/step-00000012/manifest.json")),
            checksums(&old.join("expected/manifest.json"))
        );
    }
}

/// The weights of a folder by name.
fn weights(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: TensorView<'_>| {
        view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    file.iter().map(|(name, view)| (name.to_owned(), values(view))).collect()
}

#[test]
fn a_run_with_transposed_matrices_resumes_equal_up_to_rounding_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let old = fixture("tests/fixtures/resume-in-out");
    let mine = copy_run(&old, "step-00000005", folder.path());
    // Step 5 has the best loss, so its checkpoint equals the kept weights bit for bit.
    run(folder.path(), &["export", "runs/mine@5", "--format", "safetensors", "--output", "step-5"]).success();
    let kept = fs::read(mine.join("model.safetensors")).unwrap();
    assert_eq!(fs::read(folder.path().join("step-5/model.safetensors")).unwrap(), kept);

    let data = old.join("text.txt");
    let stderr = resume(folder.path(), &["--data", data.to_str().unwrap()]).success().stderr;
    assert!(stderr.contains("an older version of kindling saved this run"), "{stderr}");
    let found = metrics(&mine.join("metrics.jsonl"));
    assert_close(&found, &metrics(&old.join("expected/metrics.jsonl")));
    let (found, expected) = (weights(&mine), weights(&old.join("expected")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        for (found, expected) in found[&name].iter().zip(&expected) {
            // Seven steps at a rate of 1e-2 move a weight by about 0.07. AdamW divides a small gradient by its own
            // magnitude, so rounding of 1e-7 is about 1e-5 of a step.
            assert!((found - expected).abs() < 1e-5, "{name}: {found} is not {expected}");
        }
    }

    // A checkpoint saved by this version resumes without the note.
    let stderr = resume(folder.path(), &["--max-steps", "14"]).success().stderr;
    assert!(!stderr.contains("older version"), "{stderr}");
}
