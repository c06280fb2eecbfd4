/// An error while generating text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("temperature is {0}; it must be 0 (always the most probable token) or a larger finite number")]
    Temperature(f32),

    #[error("top_k is 0; it must be at least 1 (leave it out to keep every token)")]
    TopK,

    #[error("top_p is {0}; it must be above 0 and at most 1 (1 keeps every token)")]
    TopP(f32),

    #[error("min_p is {0}; it must be between 0 and 1 (0 keeps every token)")]
    MinP(f32),

    #[error("typical_p is {0}; it must be above 0 and at most 1 (1 keeps every token)")]
    TypicalP(f32),

    #[error("repetition_penalty is {0}; it must be a finite number above 0 (1 is off)")]
    RepetitionPenalty(f32),

    #[error("frequency_penalty is {0}; it must be between -2 and 2 (0 is off)")]
    FrequencyPenalty(f32),

    #[error("presence_penalty is {0}; it must be between -2 and 2 (0 is off)")]
    PresencePenalty(f32),

    #[error("logit_bias of token {id} is {bias}; it must be between -100 and 100 (0 is off)")]
    LogitBias { id: u32, bias: f32 },

    #[error(
        "logit_bias names token {id}, but the model has a vocabulary of {vocab_size} tokens, with ids from 0; \
         remove it or look up its id in this model's tokenizer"
    )]
    UnknownBiasToken {
        /// The lowest unknown id.
        id: u32,
        vocab_size: usize,
    },

    #[error("stop string {number} is empty, which would stop before the first token; remove it")]
    EmptyStop {
        /// From 1.
        number: usize,
    },

    #[error("the prompt is empty; it needs at least one token, for example a line break")]
    EmptyPrompt,

    #[error("the text can't be constrained")]
    Constraint(#[source] Box<dyn std::error::Error + Send + Sync>),

    #[error("the model returned no logits; its vocabulary seems to be empty")]
    NoLogits,

    #[error(
        "token {id} has the logit {logit}; the weights may come from a run that diverged: \
         try an earlier checkpoint"
    )]
    BadLogit {
        /// The lowest id with such a logit.
        id: u32,
        /// NaN or positive infinity.
        logit: f32,
    },

    #[error("all {vocab_size} logits are -inf, so no token can be sampled; check the model's weights")]
    NoPossibleToken { vocab_size: usize },

    #[error("cannot compute the next token's logits")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The result of a sampler operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
