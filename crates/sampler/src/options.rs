use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Options of sampling and stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Maximum number of tokens to generate.
    pub max_tokens: usize,
    /// Sampling temperature, which divides the logits. 0 is greedy decoding: always the most probable token.
    pub temperature: f32,
    /// Sample from the `k` most probable tokens.
    pub top_k: Option<usize>,
    /// Sample from the smallest set of most probable tokens with at least this total probability, in `(0, 1]`.
    pub top_p: Option<f32>,
    /// Sample from tokens with at least this fraction of the highest probability, in `[0, 1]`.
    pub min_p: Option<f32>,
    /// Sample from the smallest set of most typical tokens with at least this total probability, in `(0, 1]`. The
    /// surprisal of a typical token is close to the entropy; see [`typical_p`](crate::typical_p).
    pub typical_p: Option<f32>,
    /// Above 1, makes tokens of the prompt and the generated text less probable; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from a logit for each occurrence of its token in the generated text, in `[-2, 2]`; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each generated token, in `[-2, 2]`; 0 is off.
    pub presence_penalty: f32,
    /// Added to the logits of these ids before penalties and filters, in `[-100, 100]`. -100 effectively forbids a
    /// token and 100 forces it.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Store the log-probability of each token in [`Sample::logprobs`](crate::Sample::logprobs).
    pub logprobs: bool,
    /// Stop strings: generation ends when the generated text contains one. The prompt is not searched.
    pub stop: Vec<String>,
    /// Stop tokens: generation ends when one is sampled. Usually the EOS tokens; without them, text continues past EOS.
    pub stop_tokens: Vec<u32>,
    /// The same seed, options and logits give the same samples on every platform.
    pub seed: u64,
}

/// As nanoGPT's `sample.py`: 500 tokens at temperature 0.8 with `top_k = 200` and seed 1337. Everything else is off.
impl Default for Options {
    fn default() -> Self {
        Self {
            max_tokens: 500,
            temperature: 0.8,
            top_k: Some(200),
            top_p: None,
            min_p: None,
            typical_p: None,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            logprobs: false,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            seed: 1337,
        }
    }
}

impl Options {
    /// Number of largest logits that determine the sampled token: 1 for greedy decoding, otherwise `top_k`. `None` if
    /// every logit is needed: without `top_k`, with a bias or a penalty (which change the order), and for
    /// log-probabilities.
    pub fn n_best(&self) -> Option<usize> {
        let is_unadjusted = self.logit_bias.is_empty()
            && self.repetition_penalty == 1.0
            && self.frequency_penalty == 0.0
            && self.presence_penalty == 0.0;
        let n_kept = if self.temperature == 0.0 { Some(1) } else { self.top_k };
        n_kept.filter(|_| is_unadjusted && !self.logprobs)
    }

    /// Checks the range of every option.
    ///
    /// # Errors
    ///
    /// The [`Error`] variant of the first option out of range.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::Temperature(self.temperature));
        }
        if self.top_k == Some(0) {
            return Err(Error::TopK);
        }
        if let Some(p) = self.top_p.filter(|&p| !(p > 0.0 && p <= 1.0)) {
            return Err(Error::TopP(p));
        }
        if let Some(p) = self.min_p.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(Error::MinP(p));
        }
        if let Some(p) = self.typical_p.filter(|&p| !(p > 0.0 && p <= 1.0)) {
            return Err(Error::TypicalP(p));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return Err(Error::RepetitionPenalty(self.repetition_penalty));
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return Err(Error::FrequencyPenalty(self.frequency_penalty));
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return Err(Error::PresencePenalty(self.presence_penalty));
        }
        if let Some((&id, &bias)) = self.logit_bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(*bias))
        {
            return Err(Error::LogitBias { id, bias });
        }
        if let Some(stop_idx) = self.stop.iter().position(String::is_empty) {
            return Err(Error::EmptyStop { number: stop_idx + 1 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::default()
    }

    fn biased(bias: f32) -> Options {
        Options { logit_bias: BTreeMap::from([(3, 1.0), (7, bias)]), ..options() }
    }

    #[test]
    fn limits_of_the_ranges_are_accepted() {
        let widest = Options {
            max_tokens: 0,
            temperature: 0.0,
            top_k: Some(1),
            top_p: Some(1.0),
            min_p: Some(0.0),
            typical_p: Some(1.0),
            frequency_penalty: -2.0,
            presence_penalty: 2.0,
            logit_bias: BTreeMap::from([(0, -100.0), (1, 100.0)]),
            ..options()
        };
        widest.check().unwrap();
        Options { min_p: Some(1.0), top_k: Some(usize::MAX), ..options() }.check().unwrap();
        options().check().unwrap();
    }

    #[test]
    fn errors_contain_the_value_and_the_range() {
        let cases = [
            (Options { temperature: -0.5, ..options() }, "temperature is -0.5; it must be 0"),
            (Options { temperature: f32::NAN, ..options() }, "temperature is NaN; it must be 0"),
            (Options { temperature: f32::INFINITY, ..options() }, "temperature is inf; it must be 0"),
            (Options { top_k: Some(0), ..options() }, "top_k is 0; it must be at least 1"),
            (Options { top_p: Some(0.0), ..options() }, "top_p is 0; it must be above 0 and at most 1"),
            (Options { top_p: Some(1.5), ..options() }, "top_p is 1.5; it must be above 0 and at most 1"),
            (Options { top_p: Some(f32::NAN), ..options() }, "top_p is NaN; it must be"),
            (Options { min_p: Some(-0.1), ..options() }, "min_p is -0.1; it must be between 0 and 1"),
            (Options { min_p: Some(f32::NAN), ..options() }, "min_p is NaN; it must be between 0 and 1"),
            (Options { repetition_penalty: 0.0, ..options() }, "repetition_penalty is 0; it must be"),
            (
                Options { typical_p: Some(0.0), ..options() },
                "typical_p is 0; it must be above 0 and at most 1",
            ),
            (Options { typical_p: Some(f32::NAN), ..options() }, "typical_p is NaN; it must be"),
            (
                Options { frequency_penalty: 2.5, ..options() },
                "frequency_penalty is 2.5; it must be between -2",
            ),
            (Options { frequency_penalty: f32::NAN, ..options() }, "frequency_penalty is NaN; it must be"),
            (
                Options { presence_penalty: -2.5, ..options() },
                "presence_penalty is -2.5; it must be between -2",
            ),
            (biased(100.5), "logit_bias of token 7 is 100.5; it must be between -100 and 100"),
            (biased(f32::NAN), "logit_bias of token 7 is NaN; it must be"),
            (Options { stop: vec!["\n".into(), String::new()], ..options() }, "stop string 2 is empty"),
        ];
        for (bad, expected) in cases {
            let message = bad.check().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message:?} does not start with {expected:?}");
        }
    }

    #[test]
    fn missing_keys_take_defaults_and_unknown_keys_are_errors() {
        let options: Options = serde_json::from_str(r#"{"temperature": 0.5, "top_p": 0.9}"#).unwrap();
        assert_eq!(options, Options { temperature: 0.5, top_p: Some(0.9), ..Options::default() });
        let options: Options = serde_json::from_str(r#"{"logit_bias": {"50256": -1.5}}"#).unwrap();
        assert_eq!(options.logit_bias, BTreeMap::from([(50_256, -1.5)]));
        let error = serde_json::from_str::<Options>(r#"{"heat": 0.5}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `heat`"), "{error}");
    }
}
