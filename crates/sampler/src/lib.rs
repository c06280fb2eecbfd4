//! Next-token logits to text: draws one token after another until it is time to stop.
//!
//! The model is a function from ids to logits and the tokenizer a function from an id to its text, so
//! this crate knows neither Burn nor a vocabulary. Each token goes through the same few steps, each of
//! them one small function:
//!
//! | step | function | option |
//! |---|---|---|
//! | chosen logits are raised or lowered | [`add_logit_bias`] | `logit_bias` |
//! | logits of tokens of the prompt and the text are lowered | [`penalize_repetition`] | `repetition_penalty` |
//! | logits are lowered by how often their token was generated | [`penalize_frequency`] | `frequency_penalty` |
//! | logits are lowered if their token was generated at all | [`penalize_presence`] | `presence_penalty` |
//! | only the `k` largest stay | [`top_k`] | `top_k` |
//! | logits become probabilities | [`softmax`] | `temperature` |
//! | only the smallest set with a mass of `p` stays | [`top_p`] | `top_p` |
//! | only those not too far behind the best stay | [`min_p`] | `min_p` |
//! | only the smallest set of the most typical with a mass of `p` stays | [`typical_p`] | `typical_p` |
//! | one of them is drawn | [`draw`] | `seed` |
//!
//! [`generate`] does all of it for a whole text, [`generate_batch`] for several texts at a time, and a [`Sequence`] for one
//! token at a time. [`log_softmax`] and
//! [`logprob`] are for scoring a text that is there already.
//!
//! # Conventions
//!
//! The order is that of Hugging Face transformers, with the frequency and presence penalties where vLLM
//! has them: right after the repetition penalty. The temperature comes **before** the filters, so
//! `top_p = 0.9` is a share of the very distribution that is drawn from. llama.cpp applies the
//! temperature after them by default, so that its `top_p` is a share of the distribution at
//! temperature 1; the two agree at that temperature, and on `top_k` at any. That keeps the same tokens
//! before the temperature as after it, so here it comes first and leaves fewer to be made probabilities of.
//!
//! The repetition penalty is for the tokens of the prompt and of the text generated so far, as in
//! transformers; the frequency and presence penalties are for those of the generated text alone, as
//! OpenAI defines them.
//!
//! Top-k and top-p tell equal logits and probabilities apart by id, the lower one first; min-p and typical-p keep or
//! drop equal ones together. A step that is off changes nothing, to the last bit: with the same seed,
//! `top_p = 1.0` draws the same ids as no `top_p`.
//!
//! # Example
//!
//! A model of three tokens that counts 0, 1, 2, 0, 1, …
//!
//! ```
//! use std::{convert::Infallible, ops::ControlFlow};
//!
//! use sampler::{Options, generate};
//!
//! let letters = ["a", "b", "c"];
//! let next_logits = |ids: &[u32]| -> Result<Vec<f32>, Infallible> {
//!     let mut logits = vec![0.0; 3];
//!     logits[(ids[ids.len() - 1] as usize + 1) % 3] = 5.0;
//!     Ok(logits)
//! };
//!
//! let options = Options { max_tokens: 4, temperature: 0.0, ..Options::default() };
//! let mut streamed = String::new();
//! let sample = generate(
//!     &options,
//!     0,
//!     &[0],
//!     |id| letters[id as usize].to_owned(),
//!     next_logits,
//!     |text| {
//!         streamed.push_str(text);
//!         ControlFlow::Continue(())
//!     },
//! )?;
//! assert_eq!(sample.text, "bcab");
//! assert_eq!(sample.ids, [1, 2, 0, 1]);
//! assert_eq!(streamed, sample.text);
//! # Ok::<(), sampler::Error>(())
//! ```

mod generate;
mod sample;
mod sequence;

mod history;
mod logits;
mod options;

mod bias;
mod candidate;
mod distribution;
mod draw;
mod filter;
mod logprob;
mod penalty;
mod stop;

mod error;

pub use bias::add_logit_bias;
pub use candidate::Candidate;
pub use distribution::{next_token_distribution, softmax};
pub use draw::{draw, random_stream, uniform};
pub use error::{Error, Result};
pub use filter::{min_p, top_k, top_p, typical_p};
pub use generate::{generate, generate_batch};
pub use history::History;
pub use logits::Logits;
pub use logprob::{log_softmax, logprob};
pub use options::Options;
pub use penalty::{penalize_frequency, penalize_presence, penalize_repetition};
pub use sample::{Sample, StoppedBy};
pub use sequence::Sequence;
