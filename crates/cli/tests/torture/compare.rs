//! Compares a finished run with the reference run, bit for bit, except for times, the lock and the log of sessions.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

use crate::{
    process::CHECKPOINT_INTERVAL,
    run_folder::{self, MANIFEST, METRICS, STATE, names},
};

/// Files that depend on the session or the run's name. Charts follow from the metrics.
const SESSION_FILES: [&str; 5] = ["run.lock", "sessions.jsonl", "README.md", "loss.svg", "loss.png"];

/// Prefix of TensorBoard's event files, one per session.
const EVENTS: &str = "events.out.tfevents.";

/// Number of bytes printed from the first difference on.
const EXCERPT_BYTES: usize = 30;

/// The differences between a finished run folder and the reference, one sentence each.
///
/// Checkpoints in both folders must be equal, and both must have the last one. A checkpoint at a step that is not a
/// multiple of [`CHECKPOINT_INTERVAL`] was requested by a signal. It may replace another, and must be whole.
pub(crate) fn differences(reference: &Path, run: &Path) -> anyhow::Result<Vec<String>> {
    let is_compared =
        |name: &str| !name.starts_with(EVENTS) && !SESSION_FILES.contains(&name) && name != "checkpoints";
    let mut differences = in_folders(reference, run, &is_compared)?;

    let (expected, found) = (run_folder::steps(reference)?, run_folder::steps(run)?);
    let others =
        names(&run.join("checkpoints"))?.into_iter().filter(|name| run_folder::step_of(name).is_none());
    differences.extend(others.map(|name| format!("checkpoints/{name} is left over")));
    if expected.last() != found.last() || expected.len() != found.len() {
        differences.push(format!("the checkpoints are of steps {found:?}, not {expected:?}"));
    }
    for step in found {
        if expected.contains(&step) {
            let [reference, run] = [reference, run].map(|run| run_folder::checkpoint(run, step));
            let unequal = in_folders(&reference, &run, &|_| true)?;
            differences.extend(unequal.into_iter().map(|difference| format!("step {step}: {difference}")));
        } else if step.is_multiple_of(CHECKPOINT_INTERVAL) {
            differences.push(format!("the checkpoint of step {step} is kept"));
        }
        differences.extend(run_folder::check_whole(run, step).err().map(|damage| format!("{damage:#}")));
    }
    Ok(differences)
}

fn in_folders(
    reference: &Path,
    run: &Path,
    is_compared: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<String>> {
    let [expected, found] = [reference, run].map(names);
    let (expected, found) = (expected?, found?);
    let mut differences = Vec::new();
    for name in expected.iter().filter(|name| is_compared(name)) {
        if found.contains(name) {
            differences.extend(in_file(&reference.join(name), &run.join(name), name)?);
        } else {
            differences.push(format!("{name} is missing"));
        }
    }
    let unknown = found.iter().filter(|name| is_compared(name) && !expected.contains(name));
    differences.extend(unknown.map(|name| format!("{name} is left over")));
    Ok(differences)
}

fn in_file(reference: &Path, run: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let (expected, found) = (contents(reference, name)?, contents(run, name)?);
    if expected == found {
        return Ok(None);
    }
    let is_equal = |(a, b): &(&u8, &u8)| a == b;
    let byte_idx = expected.iter().zip(&found).take_while(is_equal).count();
    let excerpt = |bytes: &[u8]| bytes[byte_idx..].iter().take(EXCERPT_BYTES).copied().collect::<Vec<_>>();
    let (expected, found) = (excerpt(&expected), excerpt(&found));
    let (expected, found) = (expected.escape_ascii(), found.escape_ascii());
    Ok(Some(format!("{name} differs from byte {byte_idx} on: {found} instead of {expected}")))
}

/// The contents of a file without times. Numbers stay text, because parsing may lose their last bit.
fn contents(path: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let is_time = |field: &&str| {
        let name = field.trim_start();
        name.starts_with("\"elapsed_seconds\":") || name.starts_with("\"tokens_per_second\":")
    };
    Ok(match name {
        METRICS | STATE => {
            let text = String::from_utf8_lossy(&bytes).replace('}', ",}");
            text.split(',').filter(|field| !is_time(field)).collect::<Vec<_>>().join(",").into_bytes()
        }
        MANIFEST => {
            let mut manifest: Value = serde_json::from_slice(&bytes)?;
            manifest["files"].as_object_mut().context("no files")?.remove(STATE); // It contains times.
            manifest.to_string().into_bytes()
        }
        _ => bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_folder::tests::{line, write_checkpoint, write_run};

    /// The differences after `change` to a copy of a run of ten steps.
    fn found(change: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (reference, run) = (folder.path().join("reference"), folder.path().join("run"));
        write_run(&reference, 10);
        run_folder::copy(&reference, &run).unwrap();
        change(&run);
        differences(&reference, &run).unwrap()
    }

    /// Like [`found`], after a change to the lines of the metrics.
    fn found_in_metrics(change: impl FnOnce(&mut Vec<String>)) -> Vec<String> {
        found(|run| {
            let path = run.join(METRICS);
            let text = fs::read_to_string(&path).unwrap();
            let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            change(&mut lines);
            fs::write(path, lines.concat()).unwrap();
        })
    }

    #[test]
    fn times_and_files_of_sessions_may_differ() {
        assert_eq!(found(|_| {}), [""; 0]);
        let in_times = found_in_metrics(|lines| {
            lines[4] = lines[4].replace(r#""elapsed_seconds":0.5"#, r#""elapsed_seconds":0.75"#);
            lines[5] = lines[5].replace("\"tokens_per_second\":null", "\"tokens_per_second\":7.5");
        });
        assert_eq!(in_times, [""; 0]);
        let in_others = found(|run| {
            write_checkpoint(run, 10, 77.25);
            fs::write(run.join("run.lock"), "7").unwrap();
            fs::write(run.join(format!("{EVENTS}7")), "").unwrap();
        });
        assert_eq!(in_others, [""; 0]);
    }

    #[test]
    fn one_bit_of_any_file_is_found() {
        let weights = found(|run| fs::write(run.join("model.safetensors"), "besu").unwrap());
        assert_eq!(weights, ["model.safetensors differs from byte 3 on: u instead of t"]);
        let shorter = found(|run| fs::write(run.join("model.safetensors"), "bes").unwrap());
        assert_eq!(shorter, ["model.safetensors differs from byte 3 on:  instead of t"]);
        let state = found(|run| {
            let path = run_folder::checkpoint(run, 9).join(STATE);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("\"step\": 9", "\"step\": 8")).unwrap();
        });
        assert!(state[0].starts_with("step 9: state.json differs from byte 12 on: 8"), "{state:?}");
        assert_eq!(state[1], "state.json of step 9 does not match manifest.json");
    }

    #[test]
    fn one_digit_or_line_of_the_metrics_is_found() {
        let digit = found_in_metrics(|lines| lines[2] = line(3, "3.2500000000000001", 0.5));
        assert!(digit.len() == 1 && digit[0].contains("on: 00000000000001,"), "{digit:?}");
        for (change, what) in [
            ((|lines| drop(lines.remove(6))) as fn(&mut Vec<String>), "missing"),
            (|lines| lines.insert(3, lines[3].clone()), "twice"),
            (|lines| lines.push(line(11, "3.25", 0.5)), "unknown"),
            (|lines| lines.swap(0, 1), "out of order"),
            (|lines| drop(lines[9].split_off(10)), "torn"),
        ] {
            assert_eq!(found_in_metrics(change).len(), 1, "{what}");
        }
    }

    #[test]
    fn a_missing_or_unknown_file_is_found() {
        let missing = found(|run| fs::remove_file(run.join("model.safetensors")).unwrap());
        assert_eq!(missing, ["model.safetensors is missing"]);
        let unknown = found(|run| fs::write(run.join("model.safetensors.partial"), "be").unwrap());
        assert_eq!(unknown, ["model.safetensors.partial is left over"]);
        let partial = found(|run| fs::create_dir(run.join("checkpoints/step-00000008.partial")).unwrap());
        assert_eq!(partial, ["checkpoints/step-00000008.partial is left over"]);
    }

    #[test]
    fn a_requested_checkpoint_may_replace_any_but_the_last() {
        let replace = |with: u64, removed: u64| {
            found(move |run| {
                write_checkpoint(run, with, 0.5);
                fs::remove_dir_all(run_folder::checkpoint(run, removed)).unwrap();
            })
        };
        assert_eq!(replace(7, 9), [""; 0]);
        assert_eq!(replace(8, 9), ["the checkpoint of step 8 is kept"]);
        assert_eq!(replace(7, 10), ["the checkpoints are of steps [7, 9], not [9, 10]"]);
        let more = found(|run| write_checkpoint(run, 7, 0.5));
        assert_eq!(more, ["the checkpoints are of steps [7, 9, 10], not [9, 10]"]);
    }
}
