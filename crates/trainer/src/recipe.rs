//! A recipe: everything that decides what a run learns.

mod changes;
mod check;
mod error;
mod overrides;
mod plan;

pub use changes::Changes;
pub use error::RecipeError;
pub use plan::Restart;

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};

use model::{GptConfig, Precision};
use serde::{Deserialize, Serialize};
use tokenizer::TokenizerKind;

use crate::{Error, optimizer::MUON_LEARNING_RATE};

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

    /// Reads a recipe, with `section.key=value` overrides laid over it. The value `none` switches off what is
    /// optional.
    ///
    /// # Errors
    ///
    /// If the text is no TOML, a key is unknown or missing, or a number is out of range. What is wrong with an
    /// override names it.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        let recipe: Self = if overrides.is_empty() {
            toml::from_str(text)? // An error shows the line of the file that it is about.
        } else {
            overrides::lay_over(text, overrides)?
        };
        recipe.check()?;
        Ok(recipe)
    }

    /// All keys of a recipe, `section.key` each.
    pub fn keys() -> Vec<String> {
        overrides::keys().collect()
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

/// The recipes that come with the program, by name; the first is the default.
pub const PRESETS: [(&str, &str); 8] = [
    ("tiny", include_str!("../../../configs/tiny.toml")),
    ("small", include_str!("../../../configs/small.toml")),
    ("gpu", include_str!("../../../configs/gpu.toml")),
    ("nanogpt-cpu", include_str!("../../../configs/nanogpt-cpu.toml")),
    ("nanogpt-gpu", include_str!("../../../configs/nanogpt-gpu.toml")),
    ("gpt2", include_str!("../../../configs/gpt2.toml")),
    ("finetune", include_str!("../../../configs/finetune.toml")),
    ("debug", include_str!("../../../configs/debug.toml")),
];

/// The text of the preset of that name.
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|&(_, text)| text)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    #[test]
    fn a_recipe_takes_the_overrides_of_another_learning_rate() {
        let at = |name: &str, rate: f64| {
            let text = crate::preset(name).unwrap();
            let sizes = Recipe::sizes(&GptConfig::debug());
            let set = Recipe::parse(text, &sizes).unwrap().optimizer.at_learning_rate(rate);
            let optimizer = Recipe::parse(text, &[sizes, set.clone()].concat()).unwrap().optimizer;
            (set.join(" "), optimizer)
        };
        let (set, _) = at("debug", 0.0234);
        assert_eq!(set, "optimizer.learning_rate=2e-2");
        // Lower than the lowest rate of the recipe, which is a tenth of its highest.
        let (set, _) = at("debug", 2.6e-4);
        assert_eq!(set, "optimizer.learning_rate=3e-4");
        let (set, _) = at("debug", 2.4e-4);
        assert_eq!(set, "optimizer.learning_rate=2e-4 optimizer.min_learning_rate=2e-5");
        let (set, _) = at("finetune", 1.1e-6);
        assert_eq!(set, "optimizer.learning_rate=1e-6 optimizer.min_learning_rate=1e-6");
        // The sweep multiplies both rates of Muon.
        let (set, optimizer) = at("tiny", 3.1e-3);
        assert_eq!(set, "optimizer.learning_rate=3e-3 optimizer.muon_learning_rate=1.0e-2");
        assert!((optimizer.muon_ratio() - 0.02 / 6e-3).abs() < 0.01);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn any_recipe_is_understood_or_refused(
            (_, text) in prop::sample::select(PRESETS.to_vec()),
            (from, to) in any::<(Index, Index)>(),
            put in "[-0-9a-z_.=\\[\\]\"\n é]{0,8}",
            set in "[a-z_]{0,10}\\.?[a-z_]{0,14}=?[-0-9a-z.\"]{0,9}",
        ) {
            let (from, to) = (from.index(text.len()), to.index(text.len())); // All of them are ASCII.
            let text = format!("{}{put}{}", &text[..from.min(to)], &text[from.max(to)..]);
            for overrides in [&[][..], &[set]] {
                match Recipe::parse(&text, overrides) {
                    Ok(recipe) => {
                        prop_assert_eq!(Recipe::parse(&recipe.to_toml(), &[]).unwrap(), recipe.clone());
                        prop_assert!(crate::estimate_memory(&recipe) > 0 && recipe.tokens_per_step() > 0);
                    }
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }

        #[test]
        fn a_number_of_any_size_is_understood_or_refused(
            key in prop::sample::select(vec![
                "model.n_layer", "model.n_embd", "model.block_size", "optimizer.batch_size",
                "optimizer.grad_accumulation", "optimizer.learning_rate", "schedule.max_steps", "run.seed",
            ]),
            number in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|x| format!("{x:?}"))],
        ) {
            if let Ok(recipe) = Recipe::parse(PRESETS[0].1, &[format!("{key}={number}")]) {
                prop_assert!(crate::estimate_memory(&recipe) > 0);
                let _ = recipe.tokens_per_step();
            }
        }
    }

    fn debug(overrides: &[&str]) -> Result<Recipe, RecipeError> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Recipe::parse(preset("debug").expect("it is a preset"), &overrides)
    }

    #[test]
    fn presets_are_valid_and_survive_the_round_trip() {
        let sizes = Recipe::sizes(&GptConfig::nanogpt_cpu());
        for (name, text) in PRESETS {
            let given = if name == "finetune" { sizes.as_slice() } else { &[] };
            let recipe = Recipe::parse(text, given).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Recipe::parse(&recipe.to_toml(), &[]).unwrap(), recipe, "{name}");
        }
    }

    #[test]
    fn nanogpt_presets_are_nanogpts_models() {
        for (name, expected) in
            [("nanogpt-cpu", GptConfig::nanogpt_cpu()), ("nanogpt-gpu", GptConfig::nanogpt_gpu())]
        {
            let recipe = Recipe::parse(preset(name).unwrap(), &[]).unwrap();
            assert_eq!(GptConfig { vocab_size: 65, ..recipe.model }, expected, "{name}");
        }
    }

    #[test]
    fn a_schedule_says_when_it_falls_if_it_does_so_late() {
        let wsd = "schedule.kind=wsd";
        debug(&[wsd, "schedule.stable_steps=20"]).unwrap();
        debug(&["schedule.kind=constant"]).unwrap();
        let message = |overrides: &[&str]| debug(overrides).unwrap_err().to_string();
        assert!(message(&[wsd]).contains("needs `schedule.stable_steps`"));
        assert!(message(&["schedule.stable_steps=20"]).contains("has no effect"));
        assert!(
            message(&["optimizer.muon_momentum=0.9"])
                .contains("has no effect without `optimizer.kind` = muon")
        );
        debug(&["optimizer.kind=muon", "optimizer.muon_momentum=0.9"]).unwrap();
        assert!(message(&["optimizer.kind=muon", "optimizer.muon_momentum=1.0"]).contains("below 1"));
        assert!(message(&[wsd, "schedule.stable_steps=1000"]).contains("is above `schedule.max_steps`"));
        let late = [wsd, "schedule.stable_steps=39", "schedule.decay_steps=38"];
        assert!(message(&late).contains("is above `schedule.decay_steps`"));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let message = |overrides: &[&str]| debug(overrides).unwrap_err().to_string();
        assert_eq!(
            message(&["optimizer.beta_2=1.0"]),
            "`optimizer.beta_2` = 1: has to be at least 0 and below 1"
        );
        assert_eq!(
            message(&["data.valid_fraction=0.0"]),
            "`data.valid_fraction` = 0: has to be above 0 and below 1"
        );
        assert_eq!(
            message(&["optimizer.learning_rate=1e-4"]),
            "`optimizer.min_learning_rate` = 0.0003 is above `optimizer.learning_rate` = 0.0001; add --set \
             optimizer.min_learning_rate=0.0001, or raise the other"
        );
    }
}
