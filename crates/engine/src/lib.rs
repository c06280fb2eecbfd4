//! Inference: opens any model, generates text with it, and scores text.
//!
//! A model is a run, a run's checkpoint (`RUN@STEP`, `RUN@last`), a folder in Hugging Face layout or a GGUF file;
//! [`Models`] finds it by its name or path. A model of the Hugging Face hub is downloaded first (`hub`), nanoGPT's
//! `ckpt.pt` is opened by [`open_nanogpt`]. Nothing here prints, or reads arguments or the environment: warnings go through
//! `tracing`, progress to a [`Progress`], and a [`Hub`] says where the hub is.
//!
//! ```
//! use engine::{Generation, Models, encode_prompt};
//! use sampler::Options;
//!
//! # fn main() -> Result<(), engine::Error> {
//! # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/story");
//! let device = kernels::testing::test_device();
//! let model = Models::default().open(&folder)?.load(&device)?;
//!
//! let options = Options { max_tokens: 20, temperature: 0.0, ..Options::default() };
//! let prompt = encode_prompt(&model.tokenizer, "the cat")?;
//! let mut text = String::new();
//! for piece in Generation::begin(&model.gpt, &model.tokenizer, options, &prompt, 0..1)? {
//!     text += &piece?.text; // Some characters at a time, as they come.
//! }
//! println!("the cat{text}");
//! # assert_eq!(text, " saw it.\nthe hen sle");
//! # Ok(())
//! # }
//! ```

mod hub;
mod lookup;
mod nanogpt;
mod source;
mod stored_weights;

mod generation;
mod next_logits;
mod prompt;
mod side_by_side;

mod evaluation;
mod score;
mod speed;

mod advice;
mod error;

pub use advice::{did_you_mean, quoted};
pub use error::{Error, Result};
pub use evaluation::{Evaluation, MeasuredText};
pub use families::Memory;
pub use generation::{Generation, Piece, SIDE_BY_SIDE};
pub use hub::{Download, Hub, HubError, HubName, Progress, Token};
pub use lookup::{Models, is_gguf};
pub use nanogpt::open_nanogpt;
pub use prompt::{encode_prompt, prompt_start, token_id, with_start};
pub use score::{ScoredText, score_texts, window_stride};
pub use source::{Model, Source, check_vocabulary};
pub use speed::{time_decode, time_prefill};
pub use stored_weights::{ModelFolder, StoredWeights};
