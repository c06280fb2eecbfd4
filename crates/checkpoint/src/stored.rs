//! The weights of a run: which step `model.safetensors` is from, and the weights of checkpoints.

use std::fs;

use burn::{module::Module, prelude::Device, store::ModuleRecord, tensor::Bytes};
use families::WeightStorage;
use model::Gpt;
use serde::Deserialize;

use crate::{Error, Result, RunFolder};

/// In a checkpoint's record, the names of the model's parameters begin with this field.
#[derive(Module, Debug)]
struct Recorded {
    gpt: Gpt,
}

/// An evaluation in `metrics.jsonl`.
#[derive(Deserialize)]
struct Evaluation {
    step: u64,
    split: String,
    loss: Option<f64>,
}

impl RunFolder {
    /// Loads the model with the weights of the checkpoint of a step.
    ///
    /// # Errors
    ///
    /// If there is no such checkpoint, or it is damaged.
    pub fn load_checkpoint_model(&self, step: u64, device: &Device) -> Result<Gpt> {
        let bytes = Bytes::from_bytes_vec(self.checkpoint_weights(step)?);
        let record = ModuleRecord::from_bytes(bytes)
            .map_err(|source| Error::Record { path: self.checkpoint_path(step), source })?;
        if self.is_adapter() {
            let recorded = Recorded { gpt: self.load_adapter_model(WeightStorage::Owned, device)? };
            // The record has the adapter alone.
            return Ok(recorded.load_record(record.allow_partial(true)).gpt.merged());
        }
        let zeros = self.config()?.zeros(device);
        let zeros =
            zeros.map_err(|source| families::Error::Sizes { path: self.path().to_owned(), source })?;
        Ok(Recorded { gpt: zeros }.load_record(record).gpt)
    }

    /// The step of the weights in `model.safetensors`: the first step with the lowest validation loss, or with
    /// `run.keep_weights = "last"` the step of the newest checkpoint. `None` if unknown.
    pub fn kept_step(&self) -> Option<u64> {
        if self.keeps_last() {
            return self.trainer_state().map(|state| state.step);
        }
        let metrics = fs::read_to_string(self.metrics_path()).unwrap_or_default();
        let evaluations = metrics.lines().filter_map(|line| serde_json::from_str::<Evaluation>(line).ok());
        let losses =
            evaluations.filter(|line| line.split == "valid").filter_map(|it| Some((it.step, it.loss?)));
        losses.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(step, _)| step)
    }

    fn keeps_last(&self) -> bool {
        let recipe = fs::read_to_string(self.recipe_path()).unwrap_or_default();
        let recipe: toml::Table = recipe.parse().unwrap_or_default();
        let kept = recipe.get("run").and_then(|run| run.get("keep_weights"));
        kept.and_then(toml::Value::as_str) == Some("last")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_step_is_the_first_best_or_the_last() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        assert_eq!(run.kept_step(), None);
        let line = |step: u64, split: &str, loss: &str| {
            format!("{{\"step\":{step},\"split\":\"{split}\",\"loss\":{loss}}}\n")
        };
        let lines = [(0, "valid", "4.0"), (5, "train", "1.0"), (5, "valid", "2.5"), (10, "valid", "2.5")];
        let lines = lines.map(|(step, split, loss)| line(step, split, loss)).concat();
        fs::write(run.metrics_path(), lines + &line(15, "valid", "null") + "cut o").unwrap();
        assert_eq!(run.kept_step(), Some(5));
        fs::write(run.recipe_path(), "[run]\nkeep_weights = \"last\"\n").unwrap();
        assert_eq!(run.kept_step(), None, "the run has no checkpoint");
        fs::write(run.recipe_path(), "[run]\nkeep_weights = \"best\"\n").unwrap();
        assert_eq!(run.kept_step(), Some(5));
    }
}
