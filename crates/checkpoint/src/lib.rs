//! The run folder: weights, sizes and tokenizer in Hugging Face layout, and what training goes on from.
//!
//! A run is a folder, and [`RunFolder`] is the one place that knows what is where in it. Whatever is
//! written is there whole or not at all: temporary name, flush, rename.
//!
//! ```
//! use checkpoint::{Marks, RunFolder};
//! use model::GptConfig;
//! use tokenizer::Tokenizer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runs = tempfile::tempdir()?;
//! # let runs = runs.path();
//! let device = kernels::test_device();
//! let tokenizer = Tokenizer::from_chars("to be or not to be".chars())?;
//! let config = GptConfig { vocab_size: tokenizer.vocab_size(), ..GptConfig::debug() };
//! let model = config.init(1337, &device)?;
//!
//! RunFolder::create_with(&runs.join("hamlet"), |run| {
//!     run.save_weights(&model)?;
//!     run.save_description(&config, &tokenizer, &Marks::of(&tokenizer), None)
//! })?;
//!
//! let opened = RunFolder::open(&runs.join("hamlet"))?;
//! assert_eq!(opened.load_model(&device)?.config(), &config);
//! # Ok(())
//! # }
//! ```

mod companions;
mod error;
mod folder;
mod foreign;
mod gguf;
mod hugging_face;
mod layout;
mod lock;
mod marks;
mod nanogpt;
mod session;
mod state;
mod stored;
mod weights;

pub use ::gguf::TensorType;
pub use ::weights::refuse_lfs_pointer;
pub use companions::Companions;
pub use error::{Error, Result};
pub use folder::{RunFolder, WEIGHTS};
pub use foreign::merge_advice;
pub use gguf::{GgufFile, export_gguf};
pub use hugging_face::{Architecture, NoLayout};
pub use lock::RunLock;
pub use marks::Marks;
pub use nanogpt::{check_nanogpt, load_nanogpt, load_nanogpt_tokenizer};
pub use session::Session;
pub use state::{Checkpoint, Interval, Keep, LossStatistics, MODEL, Records, TrainerState};
pub use weights::Precision;
