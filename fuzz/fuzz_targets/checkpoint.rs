//! A run folder with one fuzzed file: the state of the newest checkpoint with a matching checksum, its manifest, any of its
//! files without a matching checksum, or `config.json`.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::RunFolder;
use fuzz::{assert_names, within};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const FILES: [&str; 4] = ["model.bpk", "optimizer.bpk", "scheduler.bpk", "state.json"];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, contents)) = input.split_first() else { return };
    let folder = tempfile::tempdir().expect("the temporary folder exists");
    let path = folder.path();
    fs::write(path.join("config.json"), "{}").expect("the disk has space");
    write_checkpoint(path, 5, &state(5));
    let newest = match choice % 4 {
        // With a matching manifest.
        0 => write_checkpoint(path, 10, contents),
        _ => write_checkpoint(path, 10, &state(10)),
    };
    let changed = match choice % 4 {
        0 => None,
        1 => Some(newest.join("manifest.json")),
        2 => Some(newest.join(FILES[usize::from(choice / 4) % FILES.len()])),
        _ => Some(path.join("config.json")),
    };
    if let Some(changed) = changed {
        fs::write(changed, contents).expect("the disk has space");
    }
    // Other contents have other checksums.
    let expected = match choice % 4 {
        2 if !contents.is_empty() && contents != state(10) => Some(5),
        3 => Some(10),
        _ => None,
    };
    within((1 << 20) + (1 << 8) * contents.len(), || load(path, expected));
});

/// The trainer state after a step.
fn state(step: u64) -> Vec<u8> {
    let state = json!({
        "step": step, "tokens": 50, "elapsed_seconds": 0.5, "best_loss": null, "best_step": 0, "data": ["a", "b"],
    });
    state.to_string().into_bytes()
}

/// Writes a checkpoint with empty weights and moments, and returns its folder.
fn write_checkpoint(run: &Path, step: u64, state: &[u8]) -> PathBuf {
    let folder = run.join(format!("checkpoints/step-{step:08}"));
    fs::create_dir_all(&folder).expect("the disk has space");
    let files = FILES.map(|name| (name, if name == "state.json" { state } else { b"" }));
    for (name, contents) in files {
        fs::write(folder.join(name), contents).expect("the disk has space");
    }
    fs::write(folder.join("manifest.json"), manifest(&files)).expect("the disk has space");
    folder
}

/// The manifest of a checkpoint.
fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let facts = |contents: &[u8]| {
        let sha256: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"size_bytes": contents.len(), "sha256": sha256})
    };
    let files: Map<String, Value> =
        files.iter().map(|(name, contents)| ((*name).to_owned(), facts(contents))).collect();
    json!({ "files": files }).to_string().into_bytes()
}

/// Loads the newest undamaged checkpoint; there is always one.
fn load(path: &Path, expected_step: Option<u64>) {
    let run = RunFolder::open(path).expect("the folder has a config.json");
    let loaded = run.load_checkpoint().expect("the older one is undamaged").expect("there are two");
    assert!(expected_step.is_none_or(|step| step == loaded.state.step), "{:?}", loaded.state);
    drop((run.trainer_state(), run.special_tokens()));
    match run.config() {
        Ok(config) => assert!(config.check().is_ok()),
        Err(error) => assert_names(&error, &path.display().to_string()),
    }
}
