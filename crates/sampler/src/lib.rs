//! Text generation from next-token logits: penalties, filters, sampling, stopping and streaming.
//!
//! The model is a function from token ids to logits, and the tokenizer a function from an id to its text, so this crate
//! depends on neither Burn nor a vocabulary. The steps for each token, in order:
//!
//! | step | function | option |
//! |---|---|---|
//! | add a bias to the logits of chosen tokens | [`add_logit_bias`] | `logit_bias` |
//! | penalize tokens of the prompt and the generated text | [`penalize_repetition`] | `repetition_penalty` |
//! | penalize each generated token by its count | [`penalize_frequency`] | `frequency_penalty` |
//! | penalize each generated token once | [`penalize_presence`] | `presence_penalty` |
//! | keep the `k` largest logits | [`top_k`] | `top_k` |
//! | compute probabilities | [`softmax`] | `temperature` |
//! | keep the smallest set of tokens with a total probability of `p` | [`top_p`] | `top_p` |
//! | drop tokens far less probable than the most probable one | [`min_p`] | `min_p` |
//! | keep the smallest set of most typical tokens with a total probability of `p` | [`typical_p`] | `typical_p` |
//! | sample a token | [`sample_token`] | `seed` |
//!
//! [`generate`] runs them for a whole text, [`generate_batch`] for several texts in parallel, and [`Sequence`] for one
//! token of one text. [`log_softmax`] and [`logprob`] score existing text.
//!
//! # Conventions
//!
//! The order follows Hugging Face transformers. The frequency and presence penalties follow the repetition penalty,
//! as in vLLM. The temperature is applied **before** the filters, so `top_p = 0.9` refers to the distribution that
//! tokens are sampled from. llama.cpp applies it after them by default, so its `top_p` refers to the distribution at
//! temperature 1. The two agree at that temperature. Top-k keeps the same tokens at any temperature, so it runs before
//! the softmax, which then has fewer probabilities to compute.
//!
//! The repetition penalty applies to the tokens of the prompt and of the generated text, as in transformers. The
//! frequency and presence penalties apply to generated tokens only, as OpenAI defines them.
//!
//! Top-k and top-p break ties by id, the lower first; min-p and typical-p keep or drop equal tokens together. A
//! disabled step changes no bit: with the same seed, `top_p = 1.0` samples the same ids as no `top_p`.
//!
//! # Example
//!
//! The model has three tokens and counts 0, 1, 2, 0, 1, …
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

mod constraint;
mod history;
mod logits;
mod options;

mod bias;
mod candidate;
mod distribution;
mod filter;
mod logprob;
mod penalty;
mod sample_token;
mod stop;

mod error;

pub use bias::add_logit_bias;
pub use candidate::Candidate;
pub use constraint::Constraint;
pub use distribution::{next_token_distribution, softmax};
pub use error::{Error, Result};
pub use filter::{min_p, top_k, top_p, typical_p};
pub use generate::{generate, generate_batch};
pub use history::History;
pub use logits::Logits;
pub use logprob::{log_softmax, logprob, top_logprobs};
pub use options::Options;
pub use penalty::{penalize_frequency, penalize_presence, penalize_repetition};
pub use sample::{Sample, StoppedBy};
pub use sample_token::{random_stream, sample_token, uniform};
pub use sequence::Sequence;
