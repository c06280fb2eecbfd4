//! The sections of a recipe.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroUsize},
};

use model::{GptConfig, Precision};
use serde::{Deserialize, Serialize};
use tokenizer::TokenizerKind;

use crate::error::Error;

/// Muon's learning rate where a recipe has none, as its author has it.
const MUON_LEARNING_RATE: f64 = 0.02;

/// One complete recipe, as in the files of `configs/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The sizes of the model.
    pub model: GptConfig,
    /// What it learns from.
    pub data: DataRecipe,
    /// How a step changes the weights.
    pub optimizer: OptimizerRecipe,
    /// What happens after which step.
    pub schedule: ScheduleRecipe,
    /// When a step is left out, and when a run ends before its time.
    #[serde(default)]
    pub guards: GuardsRecipe,
    /// What belongs to the run as a whole.
    pub run: RunRecipe,
}

/// What a model learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The name of a known corpus, or the path of a text file or of a folder of them.
    pub corpus: String,
    /// The path of a text to validate on; without it, the end of the corpus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// The share of the corpus, at its end, that is kept for validation.
    pub valid_fraction: f64,
    /// What cuts text into tokens.
    pub tokenizer: TokenizerKind,
    /// The string between documents, which becomes `<|endoftext|>` if the tokenizer has that token; without it, it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
}

/// What changes the matrices of the blocks. Embeddings, head, norms and biases are AdamW's in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// [Loshchilov and Hutter](https://arxiv.org/abs/1711.05101).
    #[default]
    AdamW,
    /// [Jordan et al.](https://kellerjordan.github.io/posts/muon/): the mean of gradients, made orthogonal.
    Muon,
}

impl fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "AdamW",
            Self::Muon => "Muon, and AdamW for embeddings, head, norms and biases",
        })
    }
}

/// How a step changes the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// What changes the matrices of the blocks.
    #[serde(default)]
    pub kind: OptimizerKind,
    /// Sequences in one forward pass.
    pub batch_size: NonZeroUsize,
    /// Forward and backward passes whose gradients are averaged in one step.
    pub grad_accumulation: NonZeroU64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The learning rate after the decay.
    pub min_learning_rate: f64,
    /// How much of the mean of the gradients a step keeps.
    pub beta_1: f32,
    /// How much of the mean of their squares a step keeps.
    pub beta_2: f32,
    /// Decay of matrices and embeddings; biases and norms do not decay.
    pub weight_decay: f32,
    /// The longest gradient, over all parameters together; longer ones are scaled down to it. Without it,
    /// none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_clip: Option<f64>,
    /// The highest learning rate of Muon's matrices, .02 if none is given; it rises and falls with the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_learning_rate: Option<f64>,
    /// How much of the mean of their gradients a step keeps, .95 if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_momentum: Option<f32>,
    /// Decay of them, times their learning rate; none if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_weight_decay: Option<f32>,
}

impl OptimizerRecipe {
    /// The learning rate of Muon's matrices, as a multiple of that of the other weights.
    pub(crate) fn muon_ratio(&self) -> f64 {
        self.muon_learning_rate.unwrap_or(MUON_LEARNING_RATE) / self.learning_rate
    }

    /// The overrides that set the learning rate to another, rounded to one digit. Muon's keeps its ratio to it, as in a
    /// sweep of learning rates, and so does the lowest rate where it would be above it.
    pub fn at_learning_rate(&self, learning_rate: f64) -> Vec<String> {
        let rounded = format!("{learning_rate:.0e}");
        let learning_rate = rounded.parse().unwrap_or(learning_rate);
        let mut set = vec![format!("optimizer.learning_rate={rounded}")];
        if self.kind == OptimizerKind::Muon {
            set.push(format!("optimizer.muon_learning_rate={:.1e}", self.muon_ratio() * learning_rate));
        }
        if self.min_learning_rate > learning_rate {
            let lowest = self.min_learning_rate / self.learning_rate * learning_rate;
            set.push(format!("optimizer.min_learning_rate={lowest:.0e}"));
        }
        set
    }
}

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine down to the lowest rate, as nanoGPT has it.
    #[default]
    Cosine,
    /// At its highest for `stable_steps`, then straight down to the lowest: warm-up, stable, decay
    /// ([MiniCPM](https://arxiv.org/abs/2404.06395), section 4).
    Wsd,
    /// At its highest.
    Constant,
}

/// What happens after which step. All counts are optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRecipe {
    /// How the learning rate goes.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// Steps in the run.
    pub max_steps: u64,
    /// Steps before the learning rate is at its highest.
    pub warmup_steps: u64,
    /// The step at which it begins to fall; of the kind `wsd` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_steps: Option<u64>,
    /// The step at which it is at its lowest; without it, the end of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// Steps between evaluations.
    pub eval_interval: NonZeroU64,
    /// Windows in an evaluation, the same ones each time, whatever the batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_windows: Option<NonZeroU64>,
    /// The older way to say how many: batches, whose windows depend on the batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_batches: Option<NonZeroU64>,
    /// Steps between checkpoints.
    pub checkpoint_interval: NonZeroU64,
    /// Number of newest checkpoints that are kept.
    #[serde(default = "two")]
    pub keep_last: NonZeroUsize,
    /// Steps between checkpoints that are kept in addition; without it, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<NonZeroU64>,
    /// Steps between lines of training metrics.
    pub log_interval: NonZeroU64,
    /// Steps between samples; without it, none but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_interval: Option<NonZeroU64>,
    /// The last change of the learning rate on resume. Training writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

/// Where a resumed run met another curve of the learning rate than the one it had followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Steps done at that moment.
    pub step: u64,
    /// The rate of the last of them.
    pub learning_rate: f64,
}

fn two() -> NonZeroUsize {
    const { NonZeroUsize::new(2).unwrap() }
}

/// When a step is left out, and when a run ends before its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardsRecipe {
    /// Steps in a row whose loss or gradient is not finite, and which are therefore left out, before the run ends.
    pub max_not_finite: u64,
    /// Steps whose loss is more than so many standard deviations above the ones before it are left out, as in
    /// [OLMo 2](https://arxiv.org/abs/2501.00656), section 3. Without it, none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike_z_score: Option<f64>,
    /// Evaluations without a better loss before the run ends. Without it, it goes on to its last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<NonZeroU64>,
}

impl GuardsRecipe {
    /// The guards of a recipe that names none.
    pub const DEFAULT: Self = Self { max_not_finite: 10, spike_z_score: None, patience: None };
}

impl Default for GuardsRecipe {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What belongs to the run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// What every random draw follows from: weights, windows, dropout, samples.
    pub seed: u64,
    /// What the products of linear layers and of the head are computed in, where the device can; the weights are
    /// f32 in any case.
    #[serde(default)]
    pub precision: Precision,
    /// The weights that `model.safetensors` holds.
    #[serde(default, skip_serializing_if = "KeepWeights::is_default")]
    pub keep_weights: KeepWeights,
}

/// The weights that a run's `model.safetensors` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepWeights {
    /// Those with the lowest validation loss.
    #[default]
    Best,
    /// Those of the last checkpoint, whatever the validation loss: to memorise a text on purpose.
    Last,
}

impl KeepWeights {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The windows of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationSize {
    /// So many, drawn together.
    Windows(NonZeroU64),
    /// Those of so many batches, each drawn by itself.
    Batches(NonZeroU64),
}

impl ScheduleRecipe {
    /// The windows of an evaluation, by whichever key is set.
    ///
    /// # Panics
    ///
    /// If neither is, which [`Recipe::parse`] refuses.
    pub fn evaluation_size(&self) -> EvaluationSize {
        let batches =
            || EvaluationSize::Batches(self.eval_batches.expect("a recipe that was parsed has either key"));
        self.eval_windows.map_or_else(batches, EvaluationSize::Windows)
    }
}

impl Recipe {
    /// The overrides that give a recipe the sizes of a model, all but its dropout.
    pub fn sizes(config: &GptConfig) -> Vec<String> {
        let sized = GptConfig { dropout: 0.0, ..config.clone() };
        let table = toml::Table::try_from(sized).expect("sizes are numbers, words and bools");
        let keys = table.iter().filter(|(key, _)| *key != "dropout");
        // A width that follows from others is none of the recipe's either.
        let absent = ["n_kv_head", "head_dim", "n_inner"].into_iter().filter(|key| !table.contains_key(*key));
        let set = keys.map(|(key, value)| format!("model.{key}={value}"));
        set.chain(absent.map(|key| format!("model.{key}=none"))).collect()
    }

    /// The recipe as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("sections of numbers and strings become TOML")
    }

    /// Tokens in one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        let batch_size = self.optimizer.batch_size.get() as u64;
        self.optimizer.grad_accumulation.get() * batch_size * self.model.block_size as u64
    }

    /// Makes sure that so many devices can have equal shares of each batch.
    ///
    /// # Errors
    ///
    /// If they can't.
    pub fn check_shares(&self, n_devices: usize) -> Result<(), Error> {
        let batch_size = self.optimizer.batch_size.get();
        if batch_size.is_multiple_of(n_devices) {
            Ok(())
        } else {
            Err(Error::Shares { batch_size, n_devices })
        }
    }
}
