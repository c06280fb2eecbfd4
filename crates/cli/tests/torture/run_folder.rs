//! Reads the files of a run folder, independently of the code under test.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const STATE: &str = "state.json";

/// Files that a checkpoint must have.
const FILES: [&str; 3] = ["model.bpk", "optimizer.bpk", STATE];

/// One line of metrics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) step: u64,
    is_train: bool,
    text: String,
}

pub(crate) fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step:08}"))
}

/// The sorted names in a folder; empty if the folder does not exist.
pub(crate) fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.map(name).collect::<anyhow::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The step in a checkpoint's name; None for any other name.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-").filter(|digits| digits.len() == 8)?.parse().ok()
}

/// The steps of all checkpoints, whole or not, oldest first.
pub(crate) fn steps(run: &Path) -> anyhow::Result<Vec<u64>> {
    Ok(names(&run.join("checkpoints"))?.iter().filter_map(|name| step_of(name)).collect())
}

/// The newest whole checkpoint, from which a run must resume.
pub(crate) fn newest_whole(run: &Path) -> anyhow::Result<Option<u64>> {
    Ok(steps(run)?.into_iter().rev().find(|&step| check_whole(run, step).is_ok()))
}

/// Compares a checkpoint with its manifest.
pub(crate) fn check_whole(run: &Path, step: u64) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Manifest {
        files: BTreeMap<String, Facts>,
    }
    #[derive(Deserialize)]
    struct Facts {
        size_bytes: u64,
        sha256: String,
    }
    let folder = checkpoint(run, step);
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST))?)?;
    for name in FILES {
        ensure!(manifest.files.contains_key(name), "{MANIFEST} of step {step} does not list {name}");
    }
    for (name, facts) in manifest.files {
        let contents = fs::read(folder.join(&name))?;
        let is_intact = contents.len() as u64 == facts.size_bytes && sha256(&contents) == facts.sha256;
        ensure!(is_intact, "{name} of step {step} does not match {MANIFEST}");
    }
    Ok(())
}

fn sha256(contents: &[u8]) -> String {
    Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of the metrics; an error if one is incomplete.
pub(crate) fn metrics(run: &Path) -> anyhow::Result<Vec<Line>> {
    let text = metrics_text(run)?;
    let lines = text.split_inclusive('\n').enumerate();
    lines
        .map(|(idx, line)| parse(line).with_context(|| format!("{METRICS}: line {} is torn", idx + 1)))
        .collect()
}

/// The last step in the metrics, 0 if there is none. The last line may be incomplete.
pub(crate) fn last_step(run: &Path) -> anyhow::Result<u64> {
    let text = metrics_text(run)?;
    let mut lines = text.split_inclusive('\n').rev().filter_map(parse);
    Ok(lines.find(|line| line.is_train).map_or(0, |line| line.step))
}

fn metrics_text(run: &Path) -> anyhow::Result<String> {
    match fs::read(run.join(METRICS)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        bytes => Ok(String::from_utf8_lossy(&bytes.context("cannot read the metrics")?).into_owned()),
    }
}

fn parse(line: &str) -> Option<Line> {
    #[derive(Deserialize)]
    struct Key {
        step: u64,
        split: String,
    }
    let text = line.strip_suffix('\n')?;
    let Key { step, split } = serde_json::from_str(text).ok()?;
    Some(Line { step, is_train: split == "train", text: text.to_owned() })
}

/// The step from which a session continued, by the lines before and after it.
///
/// A repeated line differs from the old one in its time.
pub(crate) fn resumed_from(before: &[Line], after: &[Line]) -> Option<u64> {
    let mut trained = after.iter().filter(|line| line.is_train);
    trained.find(|line| !before.contains(line)).map(|line| line.step - 1)
}

/// Checks that a killed process left no incomplete metrics and no damaged checkpoint under its final name. A checkpoint
/// older than a whole one may be half removed.
pub(crate) fn check_not_torn(run: &Path) -> anyhow::Result<()> {
    metrics(run)?;
    let newest = newest_whole(run)?;
    for step in steps(run)?.into_iter().filter(|&step| Some(step) > newest) {
        check_whole(run, step)?;
    }
    Ok(())
}

/// Copies a run folder.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-R").args([from, to]).status()?;
    if !status.success() {
        bail!("cannot copy {} to {}", from.display(), to.display());
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
        let lines = (1..=max_steps).map(|step| line(step, "3.25", 0.5));
        fs::write(run.join(METRICS), lines.collect::<String>()).unwrap();
        fs::write(run.join("model.safetensors"), "best").unwrap();
    }

    pub(crate) fn line(step: u64, loss: &str, elapsed_seconds: f64) -> String {
        format!(
            r#"{{"step":{step},"split":"train","loss":{loss},"tokens_per_second":null,"elapsed_seconds":{elapsed_seconds}}}"#
        ) + "\n"
    }

    pub(crate) fn write_checkpoint(run: &Path, step: u64, elapsed_seconds: f64) {
        let folder = checkpoint(run, step);
        fs::create_dir_all(&folder).unwrap();
        let state = format!("{{\n  \"step\": {step},\n  \"elapsed_seconds\": {elapsed_seconds}\n}}\n");
        let mut files = serde_json::Map::new();
        for name in FILES {
            let contents = if name == STATE { state.clone() } else { format!("{name} {step}") };
            fs::write(folder.join(name), &contents).unwrap();
            let sha256 = sha256(contents.as_bytes());
            files.insert(
                name.to_owned(),
                serde_json::json!({ "size_bytes": contents.len(), "sha256": sha256 }),
            );
        }
        fs::write(folder.join(MANIFEST), serde_json::json!({ "files": files }).to_string()).unwrap();
    }

    #[test]
    fn the_newest_whole_checkpoint_is_found() {
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
        let error = check_whole(run, 10).unwrap_err().to_string();
        assert_eq!(error, "model.bpk of step 10 does not match manifest.json");
        assert_eq!(newest_whole(run).unwrap(), Some(9));
        fs::write(checkpoint(run, 9).join(MANIFEST), r#"{"files":{}}"#).unwrap();
        let error = check_whole(run, 9).unwrap_err().to_string();
        assert_eq!(error, "manifest.json of step 9 does not list model.bpk");
    }

    #[test]
    fn incomplete_files_after_a_kill_are_found() {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        write_run(run, 4);
        check_not_torn(run).unwrap();
        fs::remove_file(checkpoint(run, 3).join("optimizer.bpk")).unwrap();
        check_not_torn(run).expect("a newer one is whole");
        fs::remove_file(checkpoint(run, 4).join("optimizer.bpk")).unwrap();
        check_not_torn(run).unwrap_err();
        write_run(run, 4);
        let text = fs::read_to_string(run.join(METRICS)).unwrap();
        fs::write(run.join(METRICS), &text[..text.len() - 1]).unwrap();
        assert_eq!(check_not_torn(run).unwrap_err().to_string(), "metrics.jsonl: line 4 is torn");
        assert_eq!(last_step(run).unwrap(), 3);
    }

    #[test]
    fn the_first_new_line_shows_where_a_session_resumed() {
        let lines = |seconds: &[f64]| -> Vec<Line> {
            let steps = 1..=seconds.len() as u64;
            steps.zip(seconds).filter_map(|(step, &seconds)| parse(&line(step, "3.5", seconds))).collect()
        };
        let before = lines(&[0.1, 0.2, 0.3]);
        assert_eq!(resumed_from(&before, &lines(&[0.1, 0.2, 0.35, 0.45])), Some(2));
        assert_eq!(resumed_from(&before, &lines(&[0.1, 0.2, 0.3, 0.45])), Some(3));
        assert_eq!(resumed_from(&[], &lines(&[0.1])), Some(0));
        assert_eq!(resumed_from(&before, &before), None);
    }
}
