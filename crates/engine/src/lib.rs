//! Inference: finds and loads models, generates text and scores text.
//!
//! A model is a run, a run's checkpoint (`RUN@STEP`, `RUN@last`), a folder in Hugging Face layout or a GGUF file.
//! [`Models::open`] finds it by its name or path without reading the weights, and [`Source::load`] loads it.
//! [`Hub::download`] downloads a model from the Hugging Face hub first, and [`load_nanogpt_model`] loads nanoGPT's
//! `ckpt.pt`. The crate does not print, and does not read arguments or the environment. Warnings go through `tracing`,
//! progress through [`Progress`], and [`Hub`] contains the settings of the hub.
//!
//! ```
//! use engine::{Generation, Models, Request, encode_prompt};
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
//! for piece in Generation::begin(&model.gpt, &model.tokenizer, Request::new(prompt, options))? {
//!     text += &piece?.text; // A few characters at a time.
//! }
//! println!("the cat{text}");
//! # assert_eq!(text, " saw it.\nthe hen sle");
//! # Ok(())
//! # }
//! ```

mod adapter;
mod hub;
mod lookup;
mod nanogpt;
mod source;
mod stored_weights;

mod cache;
mod generation;
mod next_logits;
mod ngrams;
mod prompt;
mod prompt_lookup;
mod request;
mod running;
mod scheduler;

mod comparison;
mod evaluation;
mod score;
mod speed;

mod advice;
mod error;

pub use adapter::Adapter;
pub use advice::{did_you_mean, quoted};
pub use comparison::Comparison;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, EvaluationText};
pub use families::WeightStorage;
pub use generation::{Generation, MAX_BATCH_SIZE, Piece};
pub use hub::{Download, Hub, HubError, HubName, Progress, Token};
pub use lookup::{Models, is_gguf};
pub use nanogpt::load_nanogpt_model;
pub use prompt::{default_prompt, encode_prompt, token_id, with_prompt_prefix};
pub use request::{MAX_PROMPT_LOOKUP, Output, Request, RequestId, SampledToken, ScoredToken};
pub use scheduler::{Load, Scheduler, Totals};
pub use score::{ScoredText, score_texts, window_stride};
pub use source::{Model, Source, check_vocabulary};
pub use speed::{time_decode, time_prefill};
pub use stored_weights::{ModelFolder, StoredWeights};
