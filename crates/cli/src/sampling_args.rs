//! Sampling options, the seed and prompt lookup, for `generate`, `chat` and `serve`.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use console::report;
use engine::{MAX_PROMPT_LOOKUP, token_id};
use sampler::Options;
use tokenizer::Tokenizer;

use crate::usage::{ResultExt, at_least};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Sampling temperature; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,

    /// Sample from the K most probable tokens.
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    top_k: Option<usize>,

    /// Sample from the most probable tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,

    /// Sample from the tokens at least P times as probable as the most probable one.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,

    /// Sample from the tokens whose surprisal is nearest to the entropy, up to a total probability of P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f32>,

    /// Penalize tokens of the prompt and of the generated text; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,

    /// Subtract X from a token's logit for each time it was generated; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Subtract X from the logit of each token generated at least once; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Add X to the logit of a token, given as its text, or as # and its id; repeatable.
    #[arg(long, value_name = "TOKEN=X", allow_hyphen_values = true)]
    logit_bias: Vec<String>,
}

/// The option of speculation, which does not change the text.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speed")]
pub(crate) struct PromptLookupArgs {
    /// Guess up to N tokens at a time, if the last tokens occurred earlier in the prompt or the text, and check them in
    /// one step. Text that repeats itself is generated faster, and stays the same on the CPU in f32; 0 is off.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true,
        value_parser = parse_prompt_lookup
    )]
    prompt_lookup: usize,
}

impl PromptLookupArgs {
    /// Maximum number of tokens to guess at a time; 0 is off.
    pub(crate) fn n_max(&self) -> usize {
        self.prompt_lookup
    }
}

impl SamplingArgs {
    /// The options that need no tokenizer.
    pub(crate) fn plain_options(&self) -> Options {
        Options {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            ..Options::default()
        }
    }

    /// The bias of each token that `--logit-bias` names.
    pub(crate) fn logit_bias(&self, tokenizer: &Tokenizer) -> anyhow::Result<BTreeMap<u32, f32>> {
        let mut biases = BTreeMap::new();
        for bias in &self.logit_bias {
            let malformed = || anyhow!("--logit-bias must be TOKEN=X, where X is a number (got {bias:?})");
            let (token, x) = bias.rsplit_once('=').ok_or_else(malformed).usage()?;
            let x = x.trim().parse().map_err(|_| malformed()).usage()?;
            biases.insert(token_id(tokenizer, token).context("--logit-bias")?, x);
        }
        Ok(biases)
    }
}

fn parse_prompt_lookup(text: &str) -> Result<usize, String> {
    let n = text.parse().ok().filter(|n| *n <= MAX_PROMPT_LOOKUP);
    n.ok_or_else(|| format!("must be a whole number from 0 to {MAX_PROMPT_LOOKUP}"))
}

/// The given seed, or a random one below 2⁵³, which JSON readers with only f64 keep exactly.
pub(crate) fn seed_or_random(given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| rand::random::<u64>() >> 11)
}

/// Prints the seed unless it was given.
pub(crate) fn report_seed(given: Option<u64>, seed: u64) {
    if given.is_none() {
        report(format_args!("seed {seed}"));
    }
}
