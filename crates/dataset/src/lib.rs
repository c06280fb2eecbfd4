//! Corpora as token shards on disk, and the batches of windows that training reads from them.
//!
//! Four steps lead from a `--data` value to a batch:
//! 1. [`Source::resolve`] parses the value: a known [`Corpus`], a path or a URL.
//! 2. [`prepare()`] tokenises the text into shards, or reuses existing ones.
//! 3. [`Windows`] samples the windows of a step, as a pure function of the seed and the step.
//! 4. [`Prefetch`] builds batches ahead of time.
//!
//! ```
//! use dataset::{Options, Prefetch, RngStream, Source, TokenizerChoice, Windows, prepare};
//! use tokenizer::TokenizerKind;
//!
//! # let folder = tempfile::tempdir()?;
//! let source = Source::resolve("shakespeare")?;
//! let options = Options { root: folder.path().into(), ..Options::default() };
//! let corpus = prepare(&source, &TokenizerChoice::Kind(TokenizerKind::Char), &options, &|_| ())?;
//!
//! let (block_size, batch_size, seed) = (64, 12, 1337);
//! let windows = Windows::new(corpus.train, block_size, batch_size, seed, RngStream::Train)?;
//! let mut batches = Prefetch::new(windows, 0, 1);
//! let batch = batches.next().expect("training batches are endless");
//! assert_eq!(batch.inputs.len(), batch_size * block_size);
//! assert_eq!(batch.inputs[1..block_size], batch.targets[..block_size - 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate does not depend on a tensor library. Downloads need the feature `fetch`, which is on by default.

mod chunks;
mod corpus;
mod documents;
mod dtype;
mod error;
mod examples;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(not(feature = "fetch"))]
#[path = "fetch_off.rs"]
mod fetch;
mod files;
mod listing;
mod meta;
mod not_text;
mod packed_rows;
mod packing;
mod path_serde;
mod prefetch;
mod prepare;
mod prepared;
mod progress;
mod random;
mod reuse;
mod rules;
mod samples;
mod scan;
mod shard;
mod sniff;
mod source;
mod source_file;
mod stream;
mod text;
mod text_file;
mod texts;
mod tokens;
mod windows;

pub use corpus::{Corpus, CorpusSource, default_text};
pub use documents::{Documents, END_OF_TEXT};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use examples::{Example, Examples};
pub use meta::{Meta, Part, SourceText, Split};
pub use not_text::NotText;
pub use packed_rows::{PackedRows, StepShape};
pub use prefetch::Prefetch;
pub use prepare::prepare;
pub use prepared::{Options, Outcome, Prepared, TokenizerChoice};
pub use progress::{OnProgress, Phase, Progress};
pub use rules::Rules;
pub use samples::Samples;
pub use source::Source;
pub use source_file::SourceFile;
pub use stream::{is_stream, read_text, save_stream};
pub use texts::rules_matter;
pub use tokens::Tokens;
pub use windows::{Batch, BatchIndex, PackedPair, Packing, RngStream, Windows};
