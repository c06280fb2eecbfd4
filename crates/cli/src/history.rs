//! What a run's folder says of the run.

use std::{fs, io, path::Path};

use anyhow::Context;
use checkpoint::{RunFolder, Session, TrainerState};
use model::GptConfig;
use trainer::{Metrics, Recipe, Split, best_evaluation, read_metrics};

/// What is known of a run, or of a model from elsewhere, without its weights.
pub(crate) struct History {
    pub(crate) folder: RunFolder,
    pub(crate) config: GptConfig,
    /// A model from elsewhere has none.
    pub(crate) recipe: Option<Recipe>,
    /// Where its newest checkpoint stands.
    pub(crate) state: Option<TrainerState>,
    pub(crate) metrics: Vec<Metrics>,
    pub(crate) sessions: Vec<Session>,
}

impl History {
    pub(crate) fn open(folder: RunFolder) -> anyhow::Result<Self> {
        let recipe = match fs::read_to_string(folder.recipe_path()) {
            Ok(text) => {
                Some(Recipe::parse(&text, &[]).with_context(|| folder.recipe_path().display().to_string())?)
            }
            Err(_) => None,
        };
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
    pub(crate) fn model(&self) -> GptConfig {
        let zero_init = self.recipe.as_ref().map_or(self.config.zero_init, |recipe| recipe.model.zero_init);
        GptConfig { zero_init, ..self.config.clone() }
    }

    /// The name of the recipe that it was begun with.
    pub(crate) fn recipe_name(&self) -> Option<&str> {
        self.sessions.first()?.recipe.as_deref()
    }

    /// Tokens of the text that it was trained on.
    pub(crate) fn train_tokens(&self) -> Option<u64> {
        self.sessions.iter().rev().find_map(|session| session.train_tokens)
    }

    /// The lines of one split.
    pub(crate) fn of(&self, split: Split) -> impl Iterator<Item = &Metrics> {
        self.metrics.iter().filter(move |line| line.split == split)
    }

    /// The evaluation with the lowest loss, the first of several.
    pub(crate) fn best(&self) -> Option<&Metrics> {
        best_evaluation(&self.metrics)
    }
}

/// What all files in a folder take, in bytes.
pub(crate) fn size_of(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        total += if facts.is_dir() { size_of(&entry.path())? } else { facts.len() };
    }
    Ok(total)
}
