//! The sections of a recipe.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroUsize},
};

use chat::TrainOn;
use families::gguf::FileType;
use model::{Activations, GptConfig, Precision};
use serde::{Deserialize, Serialize};
use tokenizer::TokenizerKind;
use toml::value::Date;

use crate::error::Error;

/// Muon's default learning rate, as in its reference implementation.
const MUON_LEARNING_RATE: f64 = 0.02;

/// A complete recipe, as in the files of `configs/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Sizes and architecture options of the model.
    pub model: GptConfig,
    pub data: DataRecipe,
    /// Fine-tuning on conversations; without it, the data is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatRecipe>,
    /// Preference tuning on pairs of answers; without it, all answers are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoRecipe>,
    /// Training of low-rank updates of a base model; without it, all weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraRecipe>,
    pub optimizer: OptimizerRecipe,
    pub schedule: ScheduleRecipe,
    #[serde(default)]
    pub guards: GuardsRecipe,
    pub run: RunRecipe,
}

/// `[data]`: the training and validation text, and its tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The name of a known corpus, or the path of a text file or of a folder of them.
    pub corpus: String,
    /// The path of a validation text. If not set, the end of the corpus is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<String>,
    /// The share of the corpus, at its end, that is used for validation.
    pub valid_fraction: f64,
    pub tokenizer: TokenizerKind,
    /// The string between documents. It is encoded as `<|endoftext|>` if the tokenizer has that token. If not set,
    /// separators are plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
}

/// `[chat]`: fine-tuning on conversations. `data.corpus` is then a file or folder of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRecipe {
    /// The answers that are trained: all of the assistant, or the last one.
    pub train_on: TrainOn,
    /// The date of a chat template that prints today's, so that conversations stay the same when the run is resumed. If
    /// not set, a new run with such a template stores the date of its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Date>,
}

/// `[dpo]`: direct preference optimisation ([Rafailov et al., 2023](https://arxiv.org/abs/2305.18290)). `data.corpus` is then
/// a file or folder of pairs of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpoRecipe {
    /// How much the model is held to the initial one. With a larger `beta` it moves away less.
    pub beta: f64,
}

/// `[lora]`: training of low-rank updates ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)). The weights of the base
/// model do not change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraRecipe {
    /// The rank of the updates, R.
    pub rank: NonZeroUsize,
    /// The updates are scaled by `alpha` / R.
    pub alpha: f64,
    /// The dropout probability of the input of the updates.
    #[serde(default)]
    pub dropout: f64,
    /// The updated modules, by the ends of their names in Hugging Face layout, such as `q_proj`. If not set, all linear
    /// layers of the blocks are updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// The type of the base model's weights in memory. With fewer bits than f32 they take less memory, as in QLoRA
    /// ([Dettmers et al., 2023](https://arxiv.org/abs/2305.14314)); on the CPU only.
    #[serde(default)]
    pub base: FileType,
}

/// The optimizer of the matrices in the blocks. Embeddings, head, norms and biases always use AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// [Loshchilov and Hutter](https://arxiv.org/abs/1711.05101).
    #[default]
    AdamW,
    /// [Jordan et al.](https://kellerjordan.github.io/posts/muon/): orthogonalised momentum.
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

/// `[optimizer]`: batch size, learning rates and optimizer settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// The optimizer of the matrices in the blocks.
    #[serde(default)]
    pub kind: OptimizerKind,
    /// Sequences in one forward pass.
    pub batch_size: NonZeroUsize,
    /// Micro-batches per step, whose gradients are averaged.
    pub grad_accumulation: NonZeroU64,
    /// The maximum learning rate.
    pub learning_rate: f64,
    /// The learning rate at the end of the decay.
    pub min_learning_rate: f64,
    /// Decay of the first moment per step.
    pub beta_1: f32,
    /// Decay of the second moment per step.
    pub beta_2: f32,
    /// Weight decay of matrices and embeddings; biases and norms have none.
    pub weight_decay: f32,
    /// The maximum global gradient norm; larger gradients are scaled down to it. If not set, gradients are not clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_clip: Option<f64>,
    /// The maximum learning rate of Muon's matrices, by default .02. It follows the same schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_learning_rate: Option<f64>,
    /// Muon's momentum, by default .95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_momentum: Option<f32>,
    /// Weight decay of Muon's matrices, multiplied by their learning rate; by default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon_weight_decay: Option<f32>,
}

impl OptimizerRecipe {
    /// The ratio of Muon's learning rate to AdamW's.
    pub(crate) fn muon_ratio(&self) -> f64 {
        self.muon_learning_rate.unwrap_or(MUON_LEARNING_RATE) / self.learning_rate
    }

    /// The overrides that set another learning rate, rounded to one digit. Muon's rate keeps its ratio to it, as in a
    /// learning-rate sweep, and so does the minimum if it would exceed the new rate.
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

/// The shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Cosine decay to the minimum, as in nanoGPT.
    #[default]
    Cosine,
    /// Warm-up, stable, decay: constant until `stable_steps`, then linear decay to the minimum
    /// ([MiniCPM](https://arxiv.org/abs/2404.06395), section 4).
    Wsd,
    /// Constant at the maximum.
    Constant,
}

/// `[schedule]`: the learning-rate schedule and the intervals of evaluations, checkpoints, logs and samples. All counts
/// are optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRecipe {
    /// The shape of the learning rate.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// Number of steps in the run.
    pub max_steps: u64,
    /// Steps before the learning rate reaches its maximum.
    pub warmup_steps: u64,
    /// The step at which the decay of `wsd` begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_steps: Option<u64>,
    /// The step at which the learning rate reaches its minimum. If not set, the end of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// Steps between evaluations.
    pub eval_interval: NonZeroU64,
    /// Number of windows in an evaluation. They are the same each time and do not depend on the batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_windows: Option<NonZeroU64>,
    /// The older way to set the size of an evaluation: a number of batches, whose windows depend on the batch size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_batches: Option<NonZeroU64>,
    /// Steps between checkpoints.
    pub checkpoint_interval: NonZeroU64,
    /// Number of most recent checkpoints to keep.
    #[serde(default = "two")]
    pub keep_last: NonZeroUsize,
    /// Steps between additional checkpoints that are kept permanently. If not set, only `keep_last` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<NonZeroU64>,
    /// Steps between lines of training metrics.
    pub log_interval: NonZeroU64,
    /// Steps between samples. If not set, there is only a sample at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_interval: Option<NonZeroU64>,
    /// The last jump of the learning rate on resume. Written by training, not by users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

/// The step at which a resumed run changed to another learning-rate curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Steps done at that point.
    pub step: u64,
    /// The rate of the last of these steps.
    pub learning_rate: f64,
}

fn two() -> NonZeroUsize {
    const { NonZeroUsize::new(2).unwrap() }
}

/// `[guards]`: skipped steps and early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardsRecipe {
    /// Maximum number of consecutive skipped steps with a non-finite loss or gradient; one more ends the run.
    pub max_not_finite: u64,
    /// Steps whose loss is more than this many standard deviations above recent losses are skipped, as in
    /// [OLMo 2](https://arxiv.org/abs/2501.00656), section 3. If not set, spikes are not detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike_z_score: Option<f64>,
    /// Early stopping: evaluations without a lower loss before the run ends. If not set, the run continues to its last
    /// step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<NonZeroU64>,
}

impl GuardsRecipe {
    /// The guards of a recipe without `[guards]`.
    pub const DEFAULT: Self = Self { max_not_finite: 10, spike_z_score: None, patience: None };
}

impl Default for GuardsRecipe {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// `[run]`: seed, precision and the weights to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// Seed of all random numbers: initial weights, windows, dropout, samples.
    pub seed: u64,
    /// Precision of the matrix products in linear layers and the head, if the device supports it. Weights are always
    /// f32.
    #[serde(default)]
    pub precision: Precision,
    /// Whether the values inside blocks are kept for the backward pass, or computed again there. If not set, they
    /// are kept, except with a packed base of LoRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<Activations>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_weights: KeepWeights,
    /// Whether ranks send gradients while the backward pass computes others; if not set, they do. It changes no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<bool>,
    /// Precision in which ranks exchange gradients; they add them in f32.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradient_precision: Precision,
    /// Whether each rank keeps the optimizer states of its own share of the parameters alone, as in ZeRO-1
    /// ([Rajbhandari et al., 2020](https://arxiv.org/abs/1910.02054)). With f32 gradients, it changes no result.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shard_optimizer: bool,
    /// Steps that each rank takes by itself before all synchronise, as in DiLoCo
    /// ([Douillard et al., 2023](https://arxiv.org/abs/2311.08105)). If not set, 1: ranks exchange gradients at each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_interval: Option<NonZeroU64>,
}

impl RunRecipe {
    /// Whether ranks send gradients while the backward pass computes others.
    pub(crate) fn overlap(&self) -> bool {
        self.overlap.unwrap_or(true)
    }

    /// The steps between synchronisations of the ranks.
    pub(crate) fn sync_interval(&self) -> u64 {
        self.sync_interval.map_or(1, NonZeroU64::get)
    }

    /// Whether ranks take steps by themselves, and exchange no gradients.
    pub(crate) fn has_local_steps(&self) -> bool {
        self.sync_interval() > 1
    }

    pub(crate) fn exchange_precision(&self) -> ranks::Precision {
        match self.gradient_precision {
            Precision::F32 => ranks::Precision::F32,
            Precision::Bf16 => ranks::Precision::Bf16,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which weights a run's `model.safetensors` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepWeights {
    /// The weights with the lowest validation loss.
    #[default]
    Best,
    /// The weights of the last checkpoint, whatever their validation loss; for memorising a text on purpose.
    Last,
}

/// The windows of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationSize {
    /// This number of windows, sampled together.
    Windows(NonZeroU64),
    /// The windows of this number of batches, each sampled separately.
    Batches(NonZeroU64),
}

impl EvaluationSize {
    /// The number of rows, with batches of `batch_size`.
    pub(crate) fn n_rows(self, batch_size: usize) -> usize {
        match self {
            Self::Windows(n) => usize::try_from(n.get()).unwrap_or(usize::MAX),
            Self::Batches(n) => usize::try_from(n.get()).unwrap_or(usize::MAX).saturating_mul(batch_size),
        }
    }
}

impl ScheduleRecipe {
    /// The windows of an evaluation, from `eval_windows` or `eval_batches`.
    ///
    /// # Panics
    ///
    /// If neither is set, which [`Recipe::parse`] rejects.
    pub fn evaluation_size(&self) -> EvaluationSize {
        let batches =
            || EvaluationSize::Batches(self.eval_batches.expect("a parsed recipe has one of both keys"));
        self.eval_windows.map_or_else(batches, EvaluationSize::Windows)
    }
}

impl Recipe {
    /// The overrides that set a recipe's `[model]` to `config`, except for dropout.
    pub fn sizes(config: &GptConfig) -> Vec<String> {
        let sized = GptConfig { dropout: 0.0, ..config.clone() };
        let table = toml::Table::try_from(sized).expect("sizes are numbers, strings and bools");
        let keys = table.iter().filter(|(key, _)| *key != "dropout");
        // Widths that derive from others in `config` must not be set in the recipe either.
        let absent = ["n_kv_head", "head_dim", "n_inner"].into_iter().filter(|key| !table.contains_key(*key));
        let set = keys.map(|(key, value)| format!("model.{key}={value}"));
        set.chain(absent.map(|key| format!("model.{key}=none"))).collect()
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("sections of numbers and strings become TOML")
    }

    /// Whether the values inside blocks are kept or recomputed. A packed base of LoRA is chosen to save memory, so the
    /// default is then to recompute.
    pub fn activations(&self) -> Activations {
        let is_packed = self.lora.as_ref().is_some_and(|lora| lora.base != FileType::F32);
        let default = if is_packed { Activations::Recompute } else { Activations::Keep };
        self.run.activations.unwrap_or(default)
    }

    /// The data in a message: a text, or chat data.
    pub fn data_noun(&self) -> &'static str {
        if self.chat.is_some() { "data" } else { "text" }
    }

    /// The key of the dropout that counters overfitting.
    pub fn dropout_key(&self) -> &'static str {
        if self.lora.is_some() { "lora.dropout" } else { "model.dropout" }
    }

    /// Tokens in one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        let batch_size = self.optimizer.batch_size.get() as u64;
        self.optimizer.grad_accumulation.get() * batch_size * self.model.block_size as u64
    }

    /// Whether all ranks have the same weights after `step` steps. The last step of a run synchronises them too.
    pub(crate) fn synchronises_after(&self, step: u64) -> bool {
        step.is_multiple_of(self.run.sync_interval()) || step == self.schedule.max_steps
    }

    /// Checks that the batch can be divided equally among `n_devices`.
    ///
    /// # Errors
    ///
    /// If `optimizer.batch_size` is not a multiple of `n_devices`.
    pub fn check_device_count(&self, n_devices: usize) -> Result<(), Error> {
        let batch_size = self.optimizer.batch_size.get();
        if batch_size.is_multiple_of(n_devices) {
            Ok(())
        } else {
            Err(Error::UnevenBatch { batch_size, n_devices })
        }
    }
}
