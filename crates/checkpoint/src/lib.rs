//! The run folder: weights, config and tokenizer in Hugging Face layout, and checkpoints to resume from.
//!
//! A run is a folder, and only [`RunFolder`] knows its layout. All writes are atomic: write under a temporary name,
//! flush, rename.
//!
//! ```
//! use checkpoint::RunFolder;
//! use model::GptConfig;
//! use tokenizer::{SpecialTokens, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runs = tempfile::tempdir()?;
//! # let runs = runs.path();
//! let device = kernels::testing::test_device();
//! let tokenizer = Tokenizer::from_chars("to be or not to be".chars())?;
//! let config = GptConfig { vocab_size: tokenizer.vocab_size(), ..GptConfig::debug() };
//! let model = config.init(1337, &device)?;
//!
//! RunFolder::create_with(&runs.join("hamlet"), |run| {
//!     run.save_weights(&model)?;
//!     run.save_description(&config, &tokenizer, &SpecialTokens::of(&tokenizer), None)
//! })?;
//!
//! let opened = RunFolder::open(&runs.join("hamlet"))?;
//! assert_eq!(opened.load_model(&device)?.config(), &config);
//! # Ok(())
//! # }
//! ```

mod adapter;
mod adapter_base;
mod error;
mod export;
mod folder;
mod lock;
mod reference;
mod session;
mod state;
mod stored;
mod version;

pub use adapter_base::Base;
pub use error::{Error, Result};
pub use export::{export_gguf, export_gguf_adapter};
pub use folder::{RunFolder, WEIGHTS};
pub use lock::RunLock;
pub use session::Session;
pub use state::{Checkpoint, Interval, Keep, LossStatistics, MODEL, Records, TrainerState};
