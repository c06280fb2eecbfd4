//! The history of a run, read from its folder.

use checkpoint::{RunFolder, Session, TrainerState};
use model::GptConfig;
use trainer::{Metrics, Recipe, RecipeSource, Split, best_evaluation, read_metrics};

use crate::Result;

/// A run or an imported model without its weights: configuration, metrics and sessions.
#[derive(Debug, Clone)]
pub struct History {
    pub folder: RunFolder,
    /// From `config.json`.
    pub config: GptConfig,
    /// `None` for an imported model.
    pub recipe: Option<Recipe>,
    /// From the newest checkpoint.
    pub state: Option<TrainerState>,
    /// All lines of `metrics.jsonl`.
    pub metrics: Vec<Metrics>,
    /// One for each time the run was started or resumed.
    pub sessions: Vec<Session>,
}

impl History {
    /// Reads the folder. Truncated lines of metrics are skipped.
    ///
    /// # Errors
    ///
    /// If `config.json` or `recipe.toml` is invalid.
    pub fn open(folder: RunFolder) -> Result<Self> {
        let recipe = RecipeSource::saved(&folder.recipe_path()).ok().map(|source| source.parse(&[]));
        Ok(Self {
            config: folder.config()?,
            recipe: recipe.transpose()?,
            state: folder.trainer_state(),
            metrics: read_metrics(&folder),
            sessions: folder.sessions(),
            folder,
        })
    }

    /// The model's configuration, including `zero_init`, for which Hugging Face layouts have no key.
    pub fn model(&self) -> GptConfig {
        let zero_init = self.recipe.as_ref().map_or(self.config.zero_init, |recipe| recipe.model.zero_init);
        GptConfig { zero_init, ..self.config.clone() }
    }

    /// The name of the recipe that the run was started with.
    pub fn recipe_name(&self) -> Option<&str> {
        self.sessions.first()?.recipe.as_deref()
    }

    /// The number of tokens in the training text.
    pub fn train_tokens(&self) -> Option<u64> {
        self.sessions.iter().rev().find_map(|session| session.train_tokens)
    }

    /// The metrics of one split.
    pub fn metrics_of(&self, split: Split) -> impl Iterator<Item = &Metrics> {
        self.metrics.iter().filter(move |line| line.split == split)
    }

    /// The evaluation with the lowest loss; of equal ones, the first.
    pub fn best(&self) -> Option<&Metrics> {
        best_evaluation(&self.metrics)
    }
}
