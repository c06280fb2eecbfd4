//! What is in a run folder, read without the program's own code.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const STATE: &str = "state.json";

/// What a checkpoint is not whole without.
const FILES: [&str; 3] = ["model.bpk", "optimizer.bpk", STATE];

#[derive(Deserialize)]
struct Manifest {
    files: BTreeMap<String, Facts>,
}

#[derive(Deserialize)]
struct Facts {
    size_bytes: u64,
    sha256: String,
}

/// One line of metrics that is whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) step: u64,
    pub(crate) split: String,
    pub(crate) text: String,
}

pub(crate) fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step:08}"))
}

/// The names in a folder, in order; none if it is not there.
pub(crate) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", folder.display()))?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.map(name).collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The step that a checkpoint's folder is named for; None of any other name.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    if digits.len() == 8 { digits.parse().ok() } else { None }
}

/// The steps of all checkpoints, whole or not, oldest first.
pub(crate) fn steps(run: &Path) -> anyhow::Result<Vec<u64>> {
    Ok(names(&run.join("checkpoints"))?.iter().filter_map(|name| step_of(name)).collect())
}

/// The step that a run has to go on from.
pub(crate) fn newest_whole(run: &Path) -> anyhow::Result<Option<u64>> {
    Ok(steps(run)?.into_iter().rev().find(|&step| damage(&checkpoint(run, step)).is_none()))
}

/// What is wrong with a checkpoint's folder, by its manifest.
pub(crate) fn damage(checkpoint: &Path) -> Option<String> {
    let Ok(text) = fs::read(checkpoint.join(MANIFEST)) else {
        return Some(format!("{MANIFEST} can't be read"));
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else {
        return Some(format!("{MANIFEST} is not understood"));
    };
    if let Some(name) = FILES.iter().find(|name| !manifest.files.contains_key(**name)) {
        return Some(format!("{MANIFEST} does not list {name}"));
    }
    manifest.files.iter().find_map(|(name, facts)| {
        let contents = fs::read(checkpoint.join(name)).ok();
        let is_as_written = contents.is_some_and(|contents| {
            contents.len() as u64 == facts.size_bytes && sha256(&contents) == facts.sha256
        });
        (!is_as_written).then(|| format!("{name} is not what {MANIFEST} says"))
    })
}

fn sha256(contents: &[u8]) -> String {
    Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The whole lines of the metrics, and the numbers of those that are not, from 1.
pub(crate) fn metrics(run: &Path) -> anyhow::Result<(Vec<Line>, Vec<usize>)> {
    let text = metrics_text(run)?;
    let (mut lines, mut torn) = (Vec::new(), Vec::new());
    for (line_idx, line) in text.split_inclusive('\n').enumerate() {
        match whole_line(line) {
            Some(line) => lines.push(line),
            None => torn.push(line_idx + 1),
        }
    }
    Ok((lines, torn))
}

/// The last step that the metrics have, 0 before the first.
pub(crate) fn last_step(run: &Path) -> anyhow::Result<u64> {
    let text = metrics_text(run)?;
    let mut lines = text.split_inclusive('\n').rev().filter_map(whole_line);
    Ok(lines.find(|line| line.split == "train").map_or(0, |line| line.step))
}

fn metrics_text(run: &Path) -> anyhow::Result<String> {
    match fs::read(run.join(METRICS)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        bytes => {
            let bytes = bytes.with_context(|| format!("read {METRICS} of {}", run.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}

fn whole_line(line: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Key {
        step: u64,
        split: String,
    }
    let text = line.strip_suffix('\n')?;
    let Key { step, split } = serde_json::from_str(text).ok()?;
    Some(Line { step, split, text: text.to_owned() })
}

/// The step after which the lines of `after` were made anew: where the session that made them began.
///
/// A line that was there before is the same to the last digit of its time; one that is made again is not.
pub(crate) fn resumed_from(before: &[Line], after: &[Line]) -> Option<u64> {
    let mut trained = after.iter().filter(|line| line.split == "train");
    trained.find(|line| !before.contains(line)).map(|line| line.step - 1)
}

/// Copies a folder and everything in it.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of two checkpoints, with a line of metrics for each step.
    pub(crate) fn write_run(run: &Path, max_steps: u64) {
        for step in [max_steps - 1, max_steps] {
            write_checkpoint(run, step, 0.5);
        }
        let lines = (1..=max_steps).map(|step| line(step, "train", "3.25", 0.5) + "\n");
        fs::write(run.join(METRICS), lines.collect::<String>()).unwrap();
        fs::write(run.join("model.safetensors"), "best").unwrap();
    }

    pub(crate) fn line(step: u64, split: &str, loss: &str, elapsed_seconds: f64) -> String {
        format!(
            r#"{{"step":{step},"split":"{split}","loss":{loss},"tokens_per_second":null,"elapsed_seconds":{elapsed_seconds}}}"#
        )
    }

    pub(crate) fn write_checkpoint(run: &Path, step: u64, elapsed_seconds: f64) {
        let folder = checkpoint(run, step);
        fs::create_dir_all(&folder).unwrap();
        let state = format!("{{\n  \"step\": {step},\n  \"elapsed_seconds\": {elapsed_seconds}\n}}\n");
        let mut files = BTreeMap::new();
        for name in FILES {
            let contents = if name == STATE { state.clone() } else { format!("{name} {step}") };
            fs::write(folder.join(name), &contents).unwrap();
            let facts = serde_json::json!({
                "size_bytes": contents.len(),
                "sha256": sha256(contents.as_bytes()),
            });
            files.insert(name, facts);
        }
        let manifest = serde_json::json!({ "files": files });
        fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
    }

    #[test]
    fn the_newest_checkpoint_counts_if_it_is_whole() {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        assert_eq!(newest_whole(run).unwrap(), None);
        write_run(run, 10);
        assert_eq!(newest_whole(run).unwrap(), Some(10));
        for other in ["step-00000011.partial", "step-12", "mine"] {
            copy(&checkpoint(run, 10), &run.join("checkpoints").join(other)).unwrap();
        }
        assert_eq!(steps(run).unwrap(), [9, 10]);

        fs::write(checkpoint(run, 10).join("model.bpk"), "model.bpk 11").unwrap();
        assert_eq!(damage(&checkpoint(run, 10)).unwrap(), "model.bpk is not what manifest.json says");
        assert_eq!(newest_whole(run).unwrap(), Some(9));
        fs::remove_file(checkpoint(run, 9).join(STATE)).unwrap();
        assert_eq!(newest_whole(run).unwrap(), None);
    }

    #[test]
    fn a_manifest_has_to_list_every_file() {
        let run = tempfile::tempdir().unwrap();
        write_checkpoint(run.path(), 1, 0.5);
        let folder = checkpoint(run.path(), 1);
        assert_eq!(damage(&folder), None);
        fs::write(folder.join(MANIFEST), r#"{"files":{}}"#).unwrap();
        assert_eq!(damage(&folder).unwrap(), "manifest.json does not list model.bpk");
    }

    #[test]
    fn a_torn_line_is_found() {
        let run = tempfile::tempdir().unwrap();
        let text = [line(1, "train", "3.5", 0.1), line(2, "train", "3.5", 0.2)].join("\n");
        fs::write(run.path().join(METRICS), &text).unwrap();
        let (lines, torn) = metrics(run.path()).unwrap();
        assert_eq!((lines.len(), torn), (1, vec![2]), "the last line has no end");
        assert_eq!(last_step(run.path()).unwrap(), 1);
    }

    #[test]
    fn the_first_line_that_is_new_tells_where_a_session_began() {
        let lines = |seconds: &[f64]| -> Vec<Line> {
            let line = |(idx, &seconds): (usize, &f64)| line(idx as u64 + 1, "train", "3.5", seconds) + "\n";
            seconds.iter().enumerate().filter_map(|pair| whole_line(&line(pair))).collect()
        };
        let before = lines(&[0.1, 0.2, 0.3]);
        assert_eq!(resumed_from(&before, &lines(&[0.1, 0.2, 0.35, 0.45])), Some(2));
        assert_eq!(resumed_from(&before, &lines(&[0.1, 0.2, 0.3, 0.45])), Some(3));
        assert_eq!(resumed_from(&[], &lines(&[0.1])), Some(0));
        assert_eq!(resumed_from(&before, &before), None);
    }
}
