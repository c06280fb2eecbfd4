//! Benchmark cases: model sizes, and the recipes that both programs read.

use clap::ValueEnum;
use roofline::Sizes;
use serde::Serialize;
use serde_json::json;

use crate::common::{is_cpu, name};

/// The kind of work that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// Optimizer steps: forward, backward, clipping, AdamW
    Train,
    /// Process a prompt, up to the logits of the next token
    Prefill,
    /// Generate token by token with the KV cache
    Decode,
}

/// A model: S, M, G and L for CPUs, N and B for GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "UPPER")]
pub(crate) enum Config {
    /// nanoGPT's CPU recipe: 4 layers, 4 heads, 128 wide, block 64, batch 12
    S,
    /// 6 layers, 6 heads, 384 wide, block 256, batch 8
    M,
    /// GPT-2 124M, block 256, batch 4
    G,
    /// Long context: 12 layers, 12 heads, 768 wide, block 1024, batch 1
    L,
    /// nanoGPT's GPU recipe: 6 layers, 6 heads, 384 wide, block 256, batch 64, dropout 0.2
    N,
    /// GPT-2 124M, block 1024, batch 16
    B,
}

/// Precision of matrix products in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Everything in f32
    F32,
    /// Matrix products in bf16: `torch.autocast`, and `run.precision` in Kindling
    Bf16,
}

/// The keys of `[model]` in a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Model {
    pub(crate) n_layer: usize,
    pub(crate) n_head: usize,
    pub(crate) n_embd: usize,
    pub(crate) block_size: usize,
    pub(crate) dropout: f64,
    pub(crate) bias: bool,
    pub(crate) tie_embeddings: bool,
    pub(crate) activation: &'static str,
}

/// A model and a kind of work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) config: Config,
    pub(crate) precision: Precision,
    pub(crate) model: Model,
    pub(crate) vocab_size: usize,
    pub(crate) batch_size: usize,
    /// Training steps, prompt tokens, or generated tokens.
    pub(crate) amount: usize,
}

const GPT2_VOCAB_SIZE: usize = 50_257;
/// Distinct characters of tiny Shakespeare.
const CHAR_VOCAB_SIZE: usize = 65;
/// The longest prompt.
const PROMPT_TOKENS_MAX: usize = 512;
/// The most generated tokens.
const DECODE_TOKENS_MAX: usize = 64;
/// Tokens in the block before the first timed one: a prompt of one token and three warm-up tokens.
const TOKENS_BEFORE_DECODE: usize = 4;

impl Case {
    pub(crate) fn new(work: Work, config: Config, precision: Precision) -> Self {
        let (n_layer, n_head, n_embd, block_size, batch_size) = match config {
            Config::S => (4, 4, 128, 64, 12),
            Config::M => (6, 6, 384, 256, 8),
            Config::G if work == Work::Train => (12, 12, 768, 256, 4),
            Config::N => (6, 6, 384, 256, 64),
            Config::B if work == Work::Train => (12, 12, 768, 1024, 16),
            // GPT-2's block of 1024, because the prompt is longer than the block that G trains with.
            Config::G | Config::B | Config::L => (12, 12, 768, 1024, 1),
        };
        let is_gpt2 = matches!(config, Config::G | Config::B);
        let amount = match (work, config) {
            // A few seconds each, on two cores.
            (Work::Train, Config::S) => 50,
            (Work::Train, Config::M) => 8,
            (Work::Train, Config::G | Config::L) => 3,
            // A few seconds each, on a GPU.
            (Work::Train, Config::N | Config::B) => 20,
            (Work::Prefill, _) => PROMPT_TOKENS_MAX.min(block_size),
            (Work::Decode, _) => DECODE_TOKENS_MAX.min(block_size - TOKENS_BEFORE_DECODE),
        };
        let model = Model {
            n_layer,
            n_head,
            n_embd,
            block_size,
            dropout: if config == Config::N { 0.2 } else { 0.0 },
            bias: is_gpt2,
            tie_embeddings: true,
            activation: if is_gpt2 { "gelu_tanh" } else { "gelu" },
        };
        let vocab_size = if is_gpt2 { GPT2_VOCAB_SIZE } else { CHAR_VOCAB_SIZE };
        Self { work, config, precision, model, vocab_size, batch_size, amount }
    }

    /// The name of files for this case on `device`, without extension.
    pub(crate) fn file_name(&self, device: &str) -> String {
        let precision = match self.precision {
            Precision::F32 => "",
            Precision::Bf16 => "-bf16",
        };
        let device = if is_cpu(device) { String::new() } else { format!("-{}", device.replace(':', "")) };
        format!("{}-{:?}{precision}{device}", name(&self.work), self.config)
    }

    /// Tokens in one measurement: a training step, a prompt, or one token.
    pub(crate) fn tokens(&self) -> usize {
        match self.work {
            Work::Train => self.batch_size * self.model.block_size,
            Work::Prefill => self.amount,
            Work::Decode => 1,
        }
    }

    /// The sizes that determine the number of operations.
    pub(crate) fn sizes(&self) -> Sizes {
        let Model { n_layer, n_embd, .. } = self.model;
        Sizes::gpt2(n_layer, n_embd, self.vocab_size)
    }

    /// Floating-point operations of one measurement.
    pub(crate) fn flops(&self) -> f64 {
        let sizes = self.sizes();
        match self.work {
            Work::Train => sizes.train_flops(self.tokens(), self.model.block_size),
            Work::Prefill => sizes.prefill_flops(self.amount),
            // On average over the generated tokens, half of them are in the cache.
            Work::Decode => sizes.decode_flops(self.amount as f64 / 2.0),
        }
    }

    /// The recipe for `kindling bench` and for the PyTorch script.
    pub(crate) fn recipe(&self) -> Result<String, toml::ser::Error> {
        let mut recipe = json!({
            "model": &self.model,
            "data": {
                "corpus": "shakespeare",
                "valid_fraction": 0.1,
                "tokenizer": if self.vocab_size == GPT2_VOCAB_SIZE { "gpt2" } else { "char" },
            },
            "optimizer": {
                "batch_size": self.batch_size,
                "grad_accumulation": 1,
                "learning_rate": 6e-4,
                "min_learning_rate": 6e-5,
                "beta_1": 0.9,
                "beta_2": 0.95,
                "weight_decay": 0.1,
                "grad_clip": 1.0,
            },
            "schedule": {
                "max_steps": 1000,
                "warmup_steps": 100,
                "decay_steps": 1000,
                "eval_interval": 1000,
                "eval_batches": 1,
                "checkpoint_interval": 1000,
                "log_interval": 100,
            },
            "run": { "seed": 1337 },
        });
        if self.precision == Precision::Bf16 {
            recipe["run"]["precision"] = json!("bf16");
        }
        toml::to_string(&recipe)
    }
}

impl Config {
    /// The default configs for `device`.
    pub(crate) fn usual(device: &str) -> &'static [Self] {
        if is_cpu(device) { &[Self::S, Self::M, Self::G, Self::L] } else { &[Self::N, Self::B] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(work: Work, config: Config, precision: Precision) -> toml::Table {
        Case::new(work, config, precision).recipe().unwrap().parse().unwrap()
    }

    #[test]
    fn a_recipe_has_the_sizes_of_its_config() {
        let recipe = recipe(Work::Train, Config::M, Precision::F32);
        let model = &recipe["model"];
        let sizes = ["n_layer", "n_head", "n_embd", "block_size"].map(|key| model[key].as_integer().unwrap());
        assert_eq!(sizes, [6, 6, 384, 256]);
        assert_eq!(model["bias"].as_bool(), Some(false));
        assert_eq!(recipe["optimizer"]["batch_size"].as_integer(), Some(8));
        assert_eq!(recipe["optimizer"]["grad_clip"].as_float(), Some(1.0), "a float stays one");
    }

    #[test]
    fn gpt2_cases_have_its_vocabulary_biases_and_block() {
        let train = recipe(Work::Train, Config::G, Precision::F32);
        assert_eq!(train["data"]["tokenizer"].as_str(), Some("gpt2"));
        assert_eq!(train["model"]["bias"].as_bool(), Some(true));
        assert_eq!(train["model"]["activation"].as_str(), Some("gelu_tanh"));
        assert_eq!(train["model"]["block_size"].as_integer(), Some(256));
        let prefill = recipe(Work::Prefill, Config::G, Precision::F32);
        assert_eq!(prefill["model"]["block_size"].as_integer(), Some(1024));
    }

    #[test]
    fn a_recipe_names_only_bf16() {
        let run = |precision| recipe(Work::Train, Config::S, precision)["run"].clone();
        assert_eq!(run(Precision::F32).get("precision"), None);
        assert_eq!(run(Precision::Bf16)["precision"].as_str(), Some("bf16"));
    }

    #[test]
    fn prompts_and_generated_tokens_fit_the_block() {
        for config in Config::value_variants() {
            let prefill = Case::new(Work::Prefill, *config, Precision::F32);
            assert!(prefill.amount <= prefill.model.block_size, "{config:?}");
            let decode = Case::new(Work::Decode, *config, Precision::F32);
            assert!(decode.amount + TOKENS_BEFORE_DECODE <= decode.model.block_size, "{config:?}");
        }
        assert_eq!(Case::new(Work::Prefill, Config::G, Precision::F32).amount, 512);
        assert_eq!(Case::new(Work::Decode, Config::M, Precision::F32).amount, 64);
    }

    #[test]
    fn file_names_differ_by_precision_and_device() {
        let name = |precision, device| Case::new(Work::Train, Config::M, precision).file_name(device);
        assert_eq!(name(Precision::F32, "cpu"), "train-M");
        assert_eq!(name(Precision::Bf16, "cpu"), "train-M-bf16");
        assert_eq!(name(Precision::Bf16, "cuda:1"), "train-M-bf16-cuda1");
    }

    #[test]
    fn cpus_and_gpus_have_different_configs() {
        let [cpu, gpu] = ["cpu", "cuda:1"].map(Config::usual);
        assert!(Config::value_variants().iter().all(|config| cpu.contains(config) != gpu.contains(config)));

        let preset: toml::Table = include_str!("../../../configs/nanogpt-gpu.toml").parse().unwrap();
        let ours = recipe(Work::Train, Config::N, Precision::F32);
        for (key, value) in ours["model"].as_table().unwrap() {
            assert_eq!(&preset["model"][key], value, "{key} differs from nanogpt-gpu");
        }
        assert_eq!(ours["optimizer"]["batch_size"], preset["optimizer"]["batch_size"]);

        let gpt2 = Case::new(Work::Train, Config::B, Precision::Bf16);
        assert_eq!((gpt2.tokens(), gpt2.vocab_size), (16 * 1024, 50_257));
        // 6 N + 12 L C T per token.
        let flops = 6.0 * 123_532_032.0 + 12.0 * 12.0 * 768.0 * 1024.0;
        assert_eq!(gpt2.flops(), 16.0 * 1024.0 * flops);
    }
}
