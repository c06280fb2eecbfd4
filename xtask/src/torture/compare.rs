//! Whether a run is the reference run, bit for bit.
//!
//! Left out is what tells when and by whom: the times in the metrics and in a checkpoint's state, the holder of the
//! lock, the log of sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::run_folder::{self, MANIFEST, METRICS, STATE, names};

/// Files whose contents are those of a session or have the run's name in them; the pictures are made of the metrics.
const OF_SESSIONS: [&str; 5] = ["run.lock", "sessions.jsonl", "README.md", "loss.svg", "loss.png"];

/// How the names of TensorBoard's files begin, one for each session.
const EVENTS: &str = "events.out.tfevents.";

const CHECKPOINTS: &str = "checkpoints";

/// More than a few lines of metrics that differ say nothing more.
const N_SHOWN: usize = 3;

/// What differs between two run folders that are done, one sentence each.
///
/// Checkpoints that are in both have to be the same, and the last one has to be in both. A checkpoint of a step that
/// `checkpoint_interval` does not divide was asked for by a signal, and may be kept in place of one of the
/// reference's; its manifest has to be right.
pub(crate) fn differences(
    reference: &Path,
    run: &Path,
    checkpoint_interval: u64,
) -> anyhow::Result<Vec<String>> {
    let (mut expected, mut found) = (names(reference)?, names(run)?);
    for names in [&mut expected, &mut found] {
        names.retain(|name| !name.starts_with(EVENTS));
    }
    let mut differences = unequal_names(&expected, &found);
    for name in expected.iter().filter(|name| found.contains(name)) {
        match name.as_str() {
            CHECKPOINTS => differences.extend(in_checkpoints(reference, run, checkpoint_interval)?),
            METRICS => differences.extend(in_metrics(reference, run)?),
            name if OF_SESSIONS.contains(&name) => {}
            name => differences.extend(in_file(reference, run, name)?),
        }
    }
    Ok(differences)
}

fn unequal_names(expected: &[String], found: &[String]) -> Vec<String> {
    let missing = expected.iter().filter(|name| !found.contains(name));
    let unknown = found.iter().filter(|name| !expected.contains(name));
    let missing = missing.map(|name| format!("{name} is missing"));
    missing.chain(unknown.map(|name| format!("{name} is left over"))).collect()
}

fn in_file(reference: &Path, run: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let read = |folder: &Path| fs::read(folder.join(name)).with_context(|| format!("read {name}"));
    let (expected, found) = (read(reference)?, read(run)?);
    let first = expected.iter().zip(&found).position(|(a, b)| a != b);
    Ok(match first {
        Some(byte_idx) => Some(format!("{name} differs from byte {byte_idx} on")),
        None if expected.len() != found.len() => {
            Some(format!("{name} has {} bytes instead of {}", found.len(), expected.len()))
        }
        None => None,
    })
}

fn in_checkpoints(reference: &Path, run: &Path, checkpoint_interval: u64) -> anyhow::Result<Vec<String>> {
    let (expected, found) = (run_folder::steps(reference)?, run_folder::steps(run)?);
    let mut differences: Vec<String> = names(&run.join(CHECKPOINTS))?
        .iter()
        .filter(|name| run_folder::step_of(name).is_none())
        .map(|name| format!("{CHECKPOINTS}/{name} is left over"))
        .collect();
    if expected.last() != found.last() {
        differences.push(format!(
            "the last checkpoint is of step {:?}, not {:?}",
            found.last(),
            expected.last()
        ));
    }
    if expected.len() != found.len() {
        differences.push(format!("{} checkpoints are kept instead of {}", found.len(), expected.len()));
    }
    for &step in &found {
        if expected.contains(&step) {
            differences.extend(in_checkpoint(reference, run, step)?);
        } else if step.is_multiple_of(checkpoint_interval) {
            differences
                .push(format!("the checkpoint of step {step} is kept, which the reference does not keep"));
        }
        let damage = run_folder::damage(&run_folder::checkpoint(run, step));
        differences
            .extend(damage.map(|damage| format!("the checkpoint of step {step} is damaged: {damage}")));
    }
    Ok(differences)
}

fn in_checkpoint(reference: &Path, run: &Path, step: u64) -> anyhow::Result<Vec<String>> {
    let [reference, run] = [reference, run].map(|run| run_folder::checkpoint(run, step));
    let (expected, found) = (names(&reference)?, names(&run)?);
    let mut differences = unequal_names(&expected, &found);
    for name in expected.iter().filter(|name| found.contains(name)) {
        let differs = match name.as_str() {
            MANIFEST => manifest(&reference)? != manifest(&run)?,
            STATE => state(&reference)? != state(&run)?,
            name => {
                differences.extend(in_file(&reference, &run, name)?);
                false
            }
        };
        if differs {
            differences.push(format!("{name} differs, and not in times alone"));
        }
    }
    Ok(differences.into_iter().map(|difference| format!("step {step}: {difference}")).collect())
}

/// The manifest without what it says of the state, in which there is a time.
fn manifest(checkpoint: &Path) -> anyhow::Result<Option<Value>> {
    let mut manifest: Option<Value> = serde_json::from_slice(&fs::read(checkpoint.join(MANIFEST))?).ok();
    if let Some(files) = manifest.as_mut().and_then(|it| it.get_mut("files")?.as_object_mut()) {
        files.remove(STATE);
    }
    Ok(manifest)
}

/// The lines of the state without the time. As text: numbers that are read may lose their last bit.
fn state(checkpoint: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read(checkpoint.join(STATE))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !is_of_time(line.trim_start()));
    Ok(lines.map(str::to_owned).collect())
}

/// A field of a JSON object, with its name in front.
fn is_of_time(field: &str) -> bool {
    ["\"elapsed_seconds\":", "\"tokens_per_second\":"].iter().any(|name| field.starts_with(name))
}

fn in_metrics(reference: &Path, run: &Path) -> anyhow::Result<Vec<String>> {
    let (expected, _) = run_folder::metrics(reference)?;
    let (found, torn) = run_folder::metrics(run)?;
    let mut differences: Vec<String> =
        torn.iter().map(|number| format!("{METRICS}: line {number} is not whole")).collect();

    let key = |line: &run_folder::Line| (line.step, line.split.clone());
    let mut by_key = BTreeMap::new();
    for line in &found {
        if by_key.insert(key(line), line).is_some() {
            differences.push(format!("{METRICS}: step {} {} is there twice", line.step, line.split));
        }
    }
    for line in &expected {
        match by_key.get(&key(line)) {
            None => differences.push(format!("{METRICS}: step {} {} is missing", line.step, line.split)),
            Some(it) => {
                let differs = unequal_field(&line.text, &it.text);
                differences
                    .extend(differs.map(|it| format!("{METRICS}: step {} {}: {it}", line.step, line.split)));
            }
        }
    }
    let known: BTreeSet<_> = expected.iter().map(key).collect();
    for (step, split) in by_key.keys().filter(|key| !known.contains(key)) {
        differences.push(format!("{METRICS}: step {step} {split} is not of the run"));
    }
    if differences.is_empty() && !expected.iter().map(key).eq(found.iter().map(key)) {
        differences.push(format!("{METRICS}: lines are out of order"));
    }
    let n_more = differences.len().saturating_sub(N_SHOWN);
    differences.truncate(N_SHOWN);
    if n_more > 0 {
        differences.push(format!("{METRICS}: {n_more} more differences"));
    }
    Ok(differences)
}

/// The first field in which two lines of metrics differ, but for times. As text, for the same reason as the state.
fn unequal_field(expected: &str, found: &str) -> Option<String> {
    let fields = |line: &str| -> Vec<String> {
        let fields = line.trim_matches(['{', '}']).split(',').filter(|field| !is_of_time(field));
        fields.map(str::to_owned).collect()
    };
    let (expected, found) = (fields(expected), fields(found));
    if expected.len() != found.len() {
        return Some(format!("{} fields instead of {}", found.len(), expected.len()));
    }
    let mut pairs = expected.iter().zip(&found);
    pairs.find(|(a, b)| a != b).map(|(expected, found)| format!("{found} instead of {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::run_folder::tests::{line, write_checkpoint, write_run};

    const INTERVAL: u64 = 3;

    /// What is found to differ after `change` is made to a copy of a run of ten steps.
    fn found(change: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
        write_run(&reference, 10);
        run_folder::copy(&reference, &run).unwrap();
        change(&run);
        differences(&reference, &run, INTERVAL).unwrap()
    }

    fn edit_metrics(run: &Path, edit: impl FnOnce(&mut Vec<String>)) {
        let path = run.join(METRICS);
        let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        edit(&mut lines);
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    #[test]
    fn times_sessions_and_locks_may_differ() {
        assert_eq!(found(|_| {}), [""; 0]);
        let differences = found(|run| {
            write_checkpoint(run, 10, 77.25);
            edit_metrics(run, |lines| {
                lines[4] = lines[4].replace(r#""elapsed_seconds":0.5"#, r#""elapsed_seconds":0.75"#);
                lines[5] = lines[5].replace("\"tokens_per_second\":null", "\"tokens_per_second\":7.5");
            });
        });
        assert_eq!(differences, [""; 0]);
    }

    #[test]
    fn one_bit_of_any_file_is_told() {
        let weights = found(|run| fs::write(run.join("model.safetensors"), "besu").unwrap());
        assert_eq!(weights, ["model.safetensors differs from byte 3 on"]);
        let shorter = found(|run| fs::write(run.join("model.safetensors"), "bes").unwrap());
        assert_eq!(shorter, ["model.safetensors has 3 bytes instead of 4"]);
        let state = found(|run| {
            let path = run_folder::checkpoint(run, 9).join(STATE);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("\"step\": 9", "\"step\": 8")).unwrap();
        });
        assert_eq!(state[0], "step 9: state.json differs, and not in times alone");
        assert_eq!(
            state[1],
            "the checkpoint of step 9 is damaged: state.json is not what manifest.json says"
        );
    }

    #[test]
    fn the_last_digit_of_a_loss_is_told() {
        let differences =
            found(|run| edit_metrics(run, |lines| lines[2] = line(3, "train", "3.2500000000000001", 0.5)));
        assert_eq!(
            differences,
            [r#"metrics.jsonl: step 3 train: "loss":3.2500000000000001 instead of "loss":3.25"#]
        );
    }

    #[test]
    fn a_step_that_is_missing_doubled_or_unknown_is_told() {
        let missing = found(|run| edit_metrics(run, |lines| drop(lines.remove(6))));
        assert_eq!(missing, ["metrics.jsonl: step 7 train is missing"]);
        let twice = found(|run| edit_metrics(run, |lines| lines.insert(3, lines[3].clone())));
        assert_eq!(twice, ["metrics.jsonl: step 4 train is there twice"]);
        let unknown = found(|run| edit_metrics(run, |lines| lines.push(line(11, "train", "3.25", 0.5))));
        assert_eq!(unknown, ["metrics.jsonl: step 11 train is not of the run"]);
        let swapped = found(|run| edit_metrics(run, |lines| lines.swap(0, 1)));
        assert_eq!(swapped, ["metrics.jsonl: lines are out of order"]);
        let torn = found(|run| edit_metrics(run, |lines| drop(lines[9].split_off(10))));
        assert_eq!(torn, ["metrics.jsonl: line 10 is not whole", "metrics.jsonl: step 10 train is missing"]);
    }

    #[test]
    fn a_file_that_is_missing_or_unknown_is_told() {
        let missing = found(|run| fs::remove_file(run.join("model.safetensors")).unwrap());
        assert_eq!(missing, ["model.safetensors is missing"]);
        let unknown = found(|run| fs::write(run.join("model.safetensors.partial"), "be").unwrap());
        assert_eq!(unknown, ["model.safetensors.partial is left over"]);
        let partial = found(|run| fs::create_dir(run.join("checkpoints/step-00000008.partial")).unwrap());
        assert_eq!(partial, ["checkpoints/step-00000008.partial is left over"]);
    }

    #[test]
    fn a_checkpoint_asked_for_may_take_the_place_of_another_but_the_last() {
        let replace = |with: u64, removed: u64| {
            found(move |run| {
                write_checkpoint(run, with, 0.5);
                fs::remove_dir_all(run_folder::checkpoint(run, removed)).unwrap();
            })
        };
        assert_eq!(replace(8, 9), [""; 0]);
        assert_eq!(replace(6, 9), ["the checkpoint of step 6 is kept, which the reference does not keep"]);
        assert_eq!(replace(8, 10), ["the last checkpoint is of step Some(9), not Some(10)"]);
        let more = found(|run| write_checkpoint(run, 8, 0.5));
        assert_eq!(more, ["3 checkpoints are kept instead of 2"]);
    }
}
