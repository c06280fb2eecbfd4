//! A GPT as Burn modules: embeddings, residual blocks of causal multi-head attention and feed-forward networks, and the
//! output head.
//!
//! There is one implementation of the forward pass: training, evaluation and decoding run the same blocks. The crate
//! does no input or output.
//!
//! Axes in shapes: B batch, T time, C `n_embd`, H `n_head`, KV `n_kv_head`, D head dimension, I `n_inner`, V
//! vocabulary, S sequences of a step, N rows of a step, R rank of a low-rank update.
//!
//! ```
//! use burn::prelude::*;
//! use model::GptConfig;
//!
//! let device = kernels::testing::test_device();
//! let model = GptConfig::debug().init(1337, &device)?;
//! let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3], [4, 5, 6]], &device);
//! assert_eq!(model.forward(tokens).dims(), [2, 3, 13]);
//! # Ok::<(), model::ConfigError>(())
//! ```

mod attention;
mod block;
mod config;
mod config_check;
mod decoder;
mod feed_forward;
mod gpt;
mod init;
mod linear;
mod lora;
mod loss;
mod norm;
mod presets;
mod random;
mod score;
mod settings;
mod training_pass;

pub use config::{
    Activation, AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, NormKind, Position, PositionConfig,
};
pub use config_check::ConfigError;
pub use decoder::{Context, Decoder, Piece, window_start};
pub use gpt::{Feed, Gpt, LogitRows, estimate_slots};
pub use init::dropout_seed;
pub use kernels::{Documents, Precision, Slot, SlotType};
pub use lora::Lora;
pub use loss::Targets;
pub use score::score;
pub use training_pass::{Activations, TrainingPass};
