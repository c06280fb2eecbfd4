//! What was generated.

/// What was generated after a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The text, without the prompt and without the stop string or stop token.
    pub text: String,
    /// Every token drawn, including those that completed a stop string and the stop token.
    pub ids: Vec<u32>,
    /// For each token of `ids`, the natural logarithm of its probability given all before it, as the
    /// model has it: of the softmax of the raw logits, before bias, penalties, temperature and filters. Empty without
    /// [`Options::logprobs`](crate::Options::logprobs).
    pub logprobs: Vec<f32>,
    /// Why there is no more.
    pub stopped_by: StoppedBy,
}

/// Why generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedBy {
    /// [`Options::max_tokens`](crate::Options::max_tokens) were sampled.
    MaxTokens,
    /// The text ended in this one of [`Options::stop`](crate::Options::stop).
    StopString(String),
    /// The model sampled one of [`Options::stop_tokens`](crate::Options::stop_tokens), the last of [`Sample::ids`].
    StopToken,
    /// The caller asked for it, and there was no other reason.
    Interrupted,
}
