//! What a run's folder says about the run.

use std::fs;

use checkpoint::{RunFolder, Session, TrainerState};
use model::GptConfig;
use trainer::{Metrics, Recipe, Split, best_evaluation, read_metrics};

use crate::{Error, Result};

/// What is known of a run, or of a model from elsewhere, without its weights.
#[derive(Debug, Clone)]
pub struct History {
    /// Where it is.
    pub folder: RunFolder,
    /// The sizes in its `config.json`.
    pub config: GptConfig,
    /// A model from elsewhere has none.
    pub recipe: Option<Recipe>,
    /// The state of its newest checkpoint.
    pub state: Option<TrainerState>,
    /// Every line of its metrics.
    pub metrics: Vec<Metrics>,
    /// Every time it was begun or resumed.
    pub sessions: Vec<Session>,
}

impl History {
    /// Reads what the folder says. Lines of metrics that are cut off are left out.
    ///
    /// # Errors
    ///
    /// If `config.json` or `recipe.toml` are damaged.
    pub fn open(folder: RunFolder) -> Result<Self> {
        let recipe = fs::read_to_string(folder.recipe_path()).ok().map(|text| Recipe::parse(&text, &[]));
        let recipe = recipe.transpose();
        let recipe = recipe.map_err(|source| Error::Recipe { path: folder.recipe_path(), source })?;
        Ok(Self {
            config: folder.config()?,
            recipe,
            state: folder.trainer_state(),
            metrics: read_metrics(&folder),
            sessions: folder.sessions(),
            folder,
        })
    }

    /// The sizes and parts of the model, also those that no layout of Hugging Face's has a key for.
    pub fn model(&self) -> GptConfig {
        let zero_init = self.recipe.as_ref().map_or(self.config.zero_init, |recipe| recipe.model.zero_init);
        GptConfig { zero_init, ..self.config.clone() }
    }

    /// The name of the recipe that it was begun with.
    pub fn recipe_name(&self) -> Option<&str> {
        self.sessions.first()?.recipe.as_deref()
    }

    /// Tokens of the text that it was trained on.
    pub fn train_tokens(&self) -> Option<u64> {
        self.sessions.iter().rev().find_map(|session| session.train_tokens)
    }

    /// The lines of one split.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &Metrics> {
        self.metrics.iter().filter(move |line| line.split == split)
    }

    /// The evaluation with the lowest loss, the first of several.
    pub fn best(&self) -> Option<&Metrics> {
        best_evaluation(&self.metrics)
    }
}
