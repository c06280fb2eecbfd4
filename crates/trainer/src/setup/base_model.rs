//! The base model of a run.

use model::GptConfig;
use tokenizer::{SpecialTokens, Tokenizer};

/// A model that a new run is initialised from, instead of random weights. It determines sizes and tokenizer.
#[derive(Debug, Clone)]
pub struct BaseModel {
    /// Name in error messages.
    pub name: String,
    pub config: GptConfig,
    pub tokenizer: Tokenizer,
    pub special_tokens: SpecialTokens,
}
