//! Errors of setting up a run.

use std::{io, path::PathBuf};

use checkpoint::{RunFolder, TrainerState};
use model::ConfigError;

use crate::{Ending, Error, Recipe, RecipeError};

/// Why a run can't be started or resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// An override, a plan that ends with steps that change nothing, or a key that can't change on resume.
    #[error(transparent)]
    Key(#[from] RecipeError),
    /// An invalid recipe.
    #[error("invalid recipe {name}")]
    Recipe {
        /// A preset, or a file.
        name: String,
        /// Whether overrides are laid over it.
        has_overrides: bool,
        /// What is wrong with it.
        source: Box<RecipeError>,
    },
    /// A recipe without the sizes of a model.
    #[error("the recipe {name} has no sizes: it starts from a model, which --init-from MODEL names")]
    NoSizes {
        /// A preset, or a file.
        name: String,
    },
    /// More steps than a run can have.
    #[error(
        "--epochs {epochs:e} is too long: it makes {n_steps:.0e} steps, and at most {max_steps:.0e} can be"
    )]
    TooManySteps {
        /// What was asked for.
        epochs: f64,
        /// What they come to.
        n_steps: f64,
        /// The most.
        max_steps: f64,
    },
    /// A block that is longer than that of the model to start from.
    #[error(
        "model.block_size={block_size} is too long: {origin} has learnt {n_positions} positions; its block can be cropped \
         and not grown"
    )]
    LongBlock {
        /// What was asked for.
        block_size: usize,
        /// The model.
        origin: String,
        /// The block of the model.
        n_positions: usize,
    },
    /// A part of the text without a window in it.
    #[error(
        "{part} has {}, and model.block_size={block_size} needs at least {}; add {}",
        tokens(*.n_tokens), block_size + 1, advice.join(", or ")
    )]
    ShortText {
        /// Which text, or which part of it.
        part: String,
        /// Tokens of the part.
        n_tokens: usize,
        /// Tokens of a window.
        block_size: usize,
        /// Options, each of which helps.
        advice: Vec<String>,
    },
    /// The text can't be read, or its tokens not written.
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    /// The run folder can't be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// Devices can't have equal shares of a batch.
    #[error(transparent)]
    Training(#[from] Error),
    /// Sizes that no model can have.
    #[error(transparent)]
    Sizes(#[from] ConfigError),
    /// A recipe that can't be read.
    #[error("cannot read {}", .path.display())]
    ReadRecipe {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A model without a recipe.
    #[error("{} was not trained here and can't be resumed", .path.display())]
    NotTrainedHere {
        /// Its folder.
        path: PathBuf,
    },
    /// A run that is over.
    #[error("{} is over after step {}", .folder.path().display(), .state.step)]
    Over {
        /// Its folder.
        folder: RunFolder,
        /// Why it ended.
        ending: Ending,
        /// Where it stands.
        state: Box<TrainerState>,
        /// The recipe that it was to resume with.
        recipe: Box<Recipe>,
    },
    /// The text of a run is not where its recipe says.
    #[error("{} names a text that is not there; if it has moved, add {option}", .recipe.display())]
    MovedText {
        /// The run's recipe.
        recipe: PathBuf,
        /// The options that name it.
        option: &'static str,
        /// What is missing.
        source: Box<dataset::Error>,
    },
    /// Another text than the run has trained on.
    #[error("{text} is not the text that {} has trained on", .path.display())]
    OtherText {
        /// What was named.
        text: String,
        /// The text to validate on, if it is another.
        valid: Option<String>,
        /// The run's folder.
        path: PathBuf,
        /// Whether the run's vocabulary has the characters of the text, as far as is known.
        has_characters: bool,
    },
    /// Another text than the run has validated on.
    #[error(
        "{text} is not the text that {} has validated on; name that text with --valid PATH", .path.display()
    )]
    OtherValidText {
        /// What was named.
        text: String,
        /// The run's folder.
        path: PathBuf,
    },
}

fn tokens(n: usize) -> String {
    if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") }
}
