//! Errors of the setup of a run.

use std::path::PathBuf;

use checkpoint::{RunFolder, TrainerState};
use families::gguf::FileType;
use model::ConfigError;
use toml::value::Date;

use crate::{Ending, Error, Recipe, RecipeError};

/// An error of starting or resuming a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(
        "--epochs {epochs:e} is too large: it takes {n_steps:.0e} steps, and the limit is {max_steps:.0e}"
    )]
    TooManySteps { epochs: f64, n_steps: f64, max_steps: f64 },
    /// A block longer than the base model's.
    #[error(
        "model.block_size={block_size} is too large: {base_model} was trained with {n_positions} positions, and the \
         block can be shortened but not extended"
    )]
    LongBlock {
        block_size: usize,
        base_model: String,
        /// The base model's block size.
        n_positions: usize,
    },
    /// A part of the text that is shorter than one window.
    #[error(
        "{part} has {}, and model.block_size={block_size} needs at least {}; add {}",
        tokens(*.n_tokens), block_size + 1, advice.join(", or ")
    )]
    ShortText {
        /// The text, or the part of it.
        part: String,
        n_tokens: usize,
        block_size: usize,
        /// Options that solve the problem.
        advice: Vec<String>,
    },
    /// Rows of chat data that can't be trained on.
    #[error(
        "{}: {n_flawed} of {} can't be trained on; correct or remove {}\n{}",
        .path.display(), rows(*.n_rows), if *.n_flawed == 1 { "it" } else { "them" }, flaws.join("\n")
    )]
    Flaws {
        path: PathBuf,
        n_rows: usize,
        n_flawed: usize,
        /// The kinds of flaws, each with the place of its first row.
        flaws: Vec<String>,
    },
    /// Chat data whose rows are valid, but can't be encoded for the model.
    #[error(
        "{}: no row can be trained on with the chat template and the tokenizer of the model\n{}",
        .path.display(), flaws.join("\n")
    )]
    NotEncoded {
        path: PathBuf,
        /// As for [`SetupError::Flaws`].
        flaws: Vec<String>,
    },
    /// Conversations for preference tuning, or pairs of answers for fine-tuning.
    #[error("{} has {}; train on them with `train {preset}`", .path.display(), rows_of(preset))]
    OtherPreset {
        path: PathBuf,
        /// The preset for the data: `sft` or `dpo`.
        preset: &'static str,
    },
    #[error(
        "{path} {}; a run needs one {noun} to {}; {}add {noun}s{}",
        few_rows(*.n_rows, *.n_too_long, *.block_size, noun),
        if *.n_wanted == 1 { "train on, and one to validate on" } else { "train on and another one to validate on" },
        .needed_block_size.map_or_else(String::new, |n| format!("use --block-size {n} or more, or ")),
        if *.n_wanted == 1 { "" } else { ", or name others to validate on with --valid PATH" }
    )]
    FewRows {
        path: String,
        /// `conversation` or `pair`.
        noun: &'static str,
        n_rows: usize,
        /// Rows that are longer than the block.
        n_too_long: usize,
        /// The number of rows that must fit.
        n_wanted: usize,
        block_size: usize,
        /// The smallest block that enough rows fit, if a longer one helps.
        needed_block_size: Option<usize>,
    },
    /// A text with the rows of chat data, whose markup a model would learn.
    #[error("{path} has {}; a run on text would learn their markup, and all their messages", rows_of(preset))]
    ChatsAsText {
        path: String,
        /// The preset for the data: `sft` or `dpo`.
        preset: &'static str,
    },
    /// `chat.date` for a template that does not print it.
    #[error("chat.date={date} has no effect: the chat template of {base_model} prints no date; leave it out")]
    UnusedDate { date: Date, base_model: String },
    /// `[chat]` or `[lora]` without a base model.
    #[error("a recipe with [{section}] fine-tunes a model; name it with --init-from MODEL")]
    NoBaseModel {
        /// `chat` or `lora`.
        section: &'static str,
    },
    /// Low-rank updates do not train the rows of new tokens.
    #[error(
        "{base_model} has no chat template, and LoRA can't train the special tokens of ChatML; train all weights with \
         `train sft`, or use a model with a chat template"
    )]
    NewTokensOfLora { base_model: String },
    #[error("lora.targets has {target:?}, which is not a linear layer of the model; its linear layers are {}", known.join(", "))]
    UnknownTarget { target: String, known: Vec<String> },
    /// A type of weights that only the CPU computes with.
    #[error("lora.base = \"{ty}\" needs the CPU; leave it out, or use --device cpu")]
    PackedBase { ty: FileType },
    #[error(transparent)]
    Chat(#[from] chat::Error),
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Training(#[from] Error),
    #[error(transparent)]
    Sizes(#[from] ConfigError),
    /// A model without a recipe, which kindling did not train.
    #[error("{} was not trained here and can't be resumed", .path.display())]
    NotTrainedHere { path: PathBuf },
    /// A run that has ended.
    #[error("{} has ended after step {}", .folder.path().display(), .state.step)]
    RunEnded {
        folder: RunFolder,
        ending: Ending,
        state: Box<TrainerState>,
        /// The recipe that it should resume with.
        recipe: Box<Recipe>,
    },
    /// The path of a text in the recipe does not exist.
    #[error("{} names a text that does not exist; if it has moved, add {option}", .recipe.display())]
    MovedText {
        recipe: PathBuf,
        /// The options that set its path.
        option: &'static str,
        source: Box<dataset::Error>,
    },
    /// The training text differs from the run's.
    #[error("{text} is not the text that {} was trained on", .path.display())]
    OtherText {
        text: String,
        /// The validation text, if it is separate.
        valid: Option<String>,
        path: PathBuf,
        /// Whether the run's vocabulary covers the characters of the text, as far as known.
        has_characters: bool,
    },
    /// The conversations differ from the run's.
    #[error(
        "{text} does not have the conversations that {} was trained on; name those with --data PATH, or start a new run with \
         these", .path.display()
    )]
    OtherChats { text: String, path: PathBuf },
    /// The path of conversations in the recipe does not exist.
    #[error("{} names conversations that do not exist; if they have moved, add --data PATH", .recipe.display())]
    MovedChats { recipe: PathBuf, source: Box<chat::Error> },
    /// The validation text differs from the run's.
    #[error("{text} is not the text that {} was validated on; name that text with --valid PATH", .path.display())]
    OtherValidText { text: String, path: PathBuf },
}

fn rows(n: usize) -> String {
    if n == 1 { "1 row".to_owned() } else { format!("{n} rows") }
}

/// The rows of chat data for a preset.
fn rows_of(preset: &str) -> &'static str {
    if preset == "dpo" { "pairs of answers" } else { "conversations" }
}

fn few_rows(n_rows: usize, n_too_long: usize, block_size: usize, noun: &str) -> String {
    let short = || format!("model.block_size={block_size} is too short for");
    match (n_rows, n_too_long) {
        (0, _) => format!("has no {noun}s"),
        (1, 0) => format!("has 1 {noun}"),
        (1, _) => format!("has 1 {noun}, and {} it", short()),
        (_, n) if n == n_rows => format!("has {n_rows} {noun}s, and {} all of them", short()),
        (_, n) => format!("has {n_rows} {noun}s, and {} {n} of them", short()),
    }
}

fn tokens(n: usize) -> String {
    if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") }
}
