//! A generated sample.

/// The text and tokens generated after a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Without the prompt, the stop string and the stop token.
    pub text: String,
    /// All sampled tokens, including the stop string and the stop token.
    pub ids: Vec<u32>,
    /// The log-probability of each token in `ids`, by the softmax of the model's logits before bias, penalties,
    /// temperature and filters. Empty without [`Options::logprobs`](crate::Options::logprobs).
    pub logprobs: Vec<f32>,
    pub stopped_by: StoppedBy,
}

/// Why generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedBy {
    /// [`Options::max_tokens`](crate::Options::max_tokens) were sampled.
    MaxTokens,
    /// The text contained this string of [`Options::stop`](crate::Options::stop).
    StopString(String),
    /// The last token of [`Sample::ids`] is one of [`Options::stop_tokens`](crate::Options::stop_tokens).
    StopToken,
    /// The [`Constraint`](crate::Constraint) permits no further token.
    Constraint,
    /// The caller ended an incomplete sample.
    Interrupted,
}
