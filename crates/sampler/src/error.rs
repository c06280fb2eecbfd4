/// Why no text could be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The option `temperature` is out of range.
    #[error("temperature is {0}; it must be 0 (always the most probable token) or a larger finite number")]
    Temperature(f32),

    /// The option `top_k` is out of range.
    #[error("top_k is 0; it must be at least 1 (leave it out to keep every token)")]
    TopK,

    /// The option `top_p` is out of range.
    #[error("top_p is {0}; it must be above 0 and at most 1 (1 keeps every token)")]
    TopP(f32),

    /// The option `min_p` is out of range.
    #[error("min_p is {0}; it must be between 0 and 1 (0 keeps every token)")]
    MinP(f32),

    /// The option `typical_p` is out of range.
    #[error("typical_p is {0}; it must be above 0 and at most 1 (1 keeps every token)")]
    TypicalP(f32),

    /// The option `repetition_penalty` is out of range.
    #[error("repetition_penalty is {0}; it must be a finite number above 0 (1 is off)")]
    RepetitionPenalty(f32),

    /// The option `frequency_penalty` is out of range.
    #[error("frequency_penalty is {0}; it must be between -2 and 2 (0 is off)")]
    FrequencyPenalty(f32),

    /// The option `presence_penalty` is out of range.
    #[error("presence_penalty is {0}; it must be between -2 and 2 (0 is off)")]
    PresencePenalty(f32),

    /// A number of the option `logit_bias` is out of range.
    #[error("logit_bias of token {id} is {bias}; it must be between -100 and 100 (0 is off)")]
    LogitBias {
        /// The first token of which this is so.
        id: u32,
        /// The number that was to be added.
        bias: f32,
    },

    /// The option `logit_bias` has a token that the model does not have.
    #[error(
        "logit_bias names token {id}, but the model has a vocabulary of {vocab_size} tokens, numbered from 0; \
         leave it out or look up its number in this model's tokenizer"
    )]
    UnknownBiasToken {
        /// The first token of which this is so.
        id: u32,
        /// How many logits there are.
        vocab_size: usize,
    },

    /// One of the stop strings is empty.
    #[error("stop string {number} is empty, and would stop before the first token; leave it out")]
    EmptyStop {
        /// Its place among the stop strings, from 1.
        number: usize,
    },

    /// There is no token to go on from.
    #[error("the prompt is empty; give at least one token to go on from, for example a line break")]
    EmptyPrompt,

    /// A model without a vocabulary.
    #[error("the model returned no logits at all; its vocabulary seems to be empty")]
    NoLogits,

    /// Not a number, or infinitely probable.
    #[error(
        "token {id} has the logit {logit}; the weights may come from a run that diverged: \
         try an earlier checkpoint"
    )]
    BadLogit {
        /// The first token of which this is so.
        id: u32,
        /// NaN or positive infinity.
        logit: f32,
    },

    /// Every token is impossible.
    #[error("all {vocab_size} logits are -inf, so there is no token to draw; check the model's weights")]
    NothingToDraw {
        /// How many logits there are.
        vocab_size: usize,
    },

    /// The function that computes the logits failed.
    #[error("the model could not compute the next token's logits")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The result of a sampler operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
