use std::path::PathBuf;

/// Where the Hugging Face hub and its cache are, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// The folder of the cache, which Python's `huggingface_hub` uses too.
    pub cache: PathBuf,
    /// For gated and private models.
    pub token: Option<Token>,
    /// Use the cache alone.
    pub is_offline: bool,
}

/// An access token of a hub's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub value: String,
    /// The variable or the file it comes from, for messages.
    pub origin: String,
}

impl Hub {
    /// The address of the Hugging Face hub.
    pub const ENDPOINT: &str = "https://huggingface.co";
}
