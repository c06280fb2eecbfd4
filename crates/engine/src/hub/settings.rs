use std::path::PathBuf;

/// Settings of the Hugging Face hub: its address, the cache and the access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The address, without a trailing slash.
    pub endpoint: String,
    /// The folder of the cache, shared with Python's `huggingface_hub`.
    pub cache: PathBuf,
    /// For gated and private models.
    pub token: Option<Token>,
    /// Whether to use only the cache.
    pub is_offline: bool,
}

/// An access token of a hub account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub value: String,
    /// Its environment variable or file, for messages.
    pub origin: String,
}

impl Hub {
    /// The address of the Hugging Face hub.
    pub const ENDPOINT: &str = "https://huggingface.co";
}
