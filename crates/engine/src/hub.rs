//! Models on the Hugging Face hub.

#[cfg(feature = "hub")]
mod client;
mod download;
mod error;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod gguf_files;
mod name;
mod progress;
mod settings;

pub use self::{
    error::HubError,
    name::HubName,
    progress::{Download, Progress},
    settings::{Hub, Token},
};
