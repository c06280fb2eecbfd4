//! `metrics.jsonl`: one JSON object per line.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use ::fs::atomic;
use checkpoint::{Interval, RunFolder, TrainerState};
use serde::{Deserialize, Serialize};

use crate::PreferenceFigures;

/// The part of the corpus on which a loss was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Valid,
}

/// One line of metrics. Values that do not apply are null; those of preference tuning are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub step: u64,
    pub split: Split,
    /// Mean loss in nats per token, or per pair of preference tuning, over the steps since the last line or over the
    /// evaluation. Null if it is not finite.
    pub loss: Option<f64>,
    /// `exp(loss)`. Null for a loss of pairs.
    pub perplexity: Option<f64>,
    /// Preference tuning: the share of validation pairs whose chosen answer has gained more than the rejected one since
    /// the initial model, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Preference tuning: the mean of beta times that gain over validation pairs, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// At the last step.
    pub learning_rate: Option<f64>,
    /// At the last step, before clipping.
    pub grad_norm: Option<f64>,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Steps so far whose update the guards skipped.
    #[serde(default)]
    pub skipped_steps: u64,
    /// Training speed since the last line, without the time of evaluations, checkpoints and samples.
    pub tokens_per_second: Option<f64>,
    /// The share of the training time since the last line in which rank 0 waited for gradients of other ranks, from 0 to
    /// 1. Left out without other ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_share: Option<f64>,
    /// Time of the run so far, over all sessions.
    pub elapsed_seconds: f64,
}

impl Metrics {
    /// The line for an evaluation.
    pub(crate) fn of_validation(state: &TrainerState, loss: f64) -> Self {
        Self {
            step: state.step,
            split: Split::Valid,
            loss: finite(loss),
            perplexity: finite(loss.exp()),
            accuracy: None,
            margin: None,
            learning_rate: None,
            grad_norm: None,
            tokens: state.tokens,
            skipped_steps: state.skipped_steps,
            tokens_per_second: None,
            waiting_share: None,
            elapsed_seconds: state.elapsed_seconds,
        }
    }

    /// The line of preference tuning, whose loss has no perplexity.
    pub(crate) fn of_pairs(self) -> Self {
        Self { perplexity: None, ..self }
    }

    /// The line of an evaluation on pairs.
    pub(crate) fn with_preferences(self, figures: PreferenceFigures) -> Self {
        let PreferenceFigures { accuracy, margin, .. } = figures;
        Self { accuracy: finite(accuracy), margin: finite(margin), ..self.of_pairs() }
    }

    /// The line for the steps of an interval, with the learning rate and gradient norm of its last step.
    pub(crate) fn of_training(
        state: &TrainerState,
        Interval { loss_sum, n_losses }: Interval,
        learning_rate: f64,
        grad_norm: f64,
        tokens_per_second: f64,
    ) -> Self {
        let loss = loss_sum / n_losses as f64; // NaN if all steps were skipped.
        Self {
            split: Split::Train,
            learning_rate: Some(learning_rate),
            grad_norm: finite(grad_norm),
            tokens_per_second: finite(tokens_per_second),
            ..Self::of_validation(state, loss)
        }
    }
}

/// Appends lines to a file. A failed write leaves no partial line.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the file for the steps after `state`. Later lines, of an earlier session, are removed.
    pub(crate) fn open(path: &Path, state: &TrainerState) -> io::Result<Self> {
        if path.exists() {
            let kept = lines_up_to(path, state)?;
            atomic::write_file(path, kept.as_bytes()).map_err(|error| error.source)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line, or nothing if the write fails.
    pub(crate) fn write(&mut self, metrics: &Metrics) -> io::Result<()> {
        let mut line = serde_json::to_string(metrics)?;
        line.push('\n');
        let before = self.file.metadata()?.len();
        self.file.write_all(line.as_bytes()).inspect_err(|_| {
            let _ = self.file.set_len(before); // The first error is the cause.
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the file, to flush it to disk.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// The metrics of a run; empty if it has none. Truncated lines are skipped.
pub fn read_metrics(folder: &RunFolder) -> Vec<Metrics> {
    let text = fs::read_to_string(folder.metrics_path()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The evaluation with the lowest loss; of equal ones, the first.
pub fn best_evaluation(metrics: &[Metrics]) -> Option<&Metrics> {
    let measured = metrics.iter().filter(|line| line.split == Split::Valid && line.loss.is_some());
    measured.min_by(|a, b| a.loss.partial_cmp(&b.loss).expect("losses in a log are finite"))
}

/// The lines up to `state`, without truncated ones.
fn lines_up_to(path: &Path, state: &TrainerState) -> io::Result<String> {
    let is_before = |line: &Metrics| {
        let is_pending = line.split == Split::Valid && state.evaluation_pending;
        line.step < state.step || (line.step == state.step && !is_pending)
    };
    let mut kept = String::new();
    // Lossy: invalid UTF-8 makes one line invalid, not the whole file unreadable.
    for line in String::from_utf8_lossy(&fs::read(path)?).lines() {
        if serde_json::from_str::<Metrics>(line).is_ok_and(|metrics| is_before(&metrics)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

/// `None` for values that are not finite, which JSON can't represent.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> Metrics {
        Metrics {
            step,
            split: Split::Train,
            loss: Some(1.5),
            perplexity: Some(1.5f64.exp()),
            accuracy: None,
            margin: None,
            learning_rate: Some(1e-3),
            grad_norm: None,
            tokens: 10 * step,
            skipped_steps: 0,
            tokens_per_second: Some(7000.0),
            waiting_share: None,
            elapsed_seconds: 0.25,
        }
    }

    #[test]
    fn a_resumed_log_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let at = |step| TrainerState { step, ..TrainerState::default() };
        let mut log = MetricsLog::open(&path, &at(0)).unwrap();
        for step in 1..=5 {
            log.write(&line(step)).unwrap();
        }
        // A truncated line.
        log.file.write_all(b"{\"step\":6,\"spl").unwrap();

        let mut log = MetricsLog::open(&path, &at(3)).unwrap();
        log.write(&line(4)).unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<Metrics>(line).unwrap().step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }

    #[test]
    fn a_pending_evaluation_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, &TrainerState::default()).unwrap();
        log.write(&line(4)).unwrap();
        log.write(&Metrics { split: Split::Valid, ..line(4) }).unwrap();
        let n_lines = |evaluation_pending| {
            let state = TrainerState { step: 4, evaluation_pending, ..TrainerState::default() };
            MetricsLog::open(&path, &state).unwrap();
            fs::read_to_string(&path).unwrap().lines().count()
        };
        assert_eq!(n_lines(false), 2);
        assert_eq!(n_lines(true), 1, "it is about to be written again");
    }

    #[test]
    fn keys_are_the_documented_ones() {
        let value = serde_json::to_value(line(1)).unwrap();
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = [
            "elapsed_seconds",
            "grad_norm",
            "learning_rate",
            "loss",
            "perplexity",
            "skipped_steps",
            "split",
            "step",
            "tokens",
            "tokens_per_second",
        ];
        assert_eq!(keys, expected);
        assert_eq!(value["split"], "train");
        let figures = PreferenceFigures { n_pairs: 4, accuracy: 0.75, margin: f64::NAN };
        let value = serde_json::to_value(line(1).with_preferences(figures)).unwrap();
        assert_eq!((&value["accuracy"], value.get("margin")), (&0.75.into(), None), "NaN is no JSON");
        assert!(value["perplexity"].is_null());
        assert!(value["grad_norm"].is_null());
    }
}
