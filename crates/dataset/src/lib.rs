//! A corpus as token shards on disk, and as the windows that a training step sees.
//!
//! Four steps lead from what a user names to a batch:
//! 1. [`Source::resolve`] understands a `--data` value: a known [`Corpus`], a path or an address.
//! 2. [`prepare()`] turns its text into tokens on the disk, or finds them there.
//! 3. [`Windows`] says which windows of the tokens a step sees, as a pure function of the seed and the step.
//! 4. [`Prefetch`] makes them ahead of time.
//!
//! ```
//! use dataset::{Options, Prefetch, Source, Stream, TokenizerChoice, Windows, prepare};
//! use tokenizer::TokenizerKind;
//!
//! # let folder = tempfile::tempdir()?;
//! let source = Source::resolve("shakespeare")?;
//! let options = Options { root: folder.path().into(), ..Options::default() };
//! let corpus = prepare(&source, &TokenizerChoice::Kind(TokenizerKind::Char), &options, &|_| ())?;
//!
//! let (block_size, batch_size, seed) = (64, 12, 1337);
//! let windows = Windows::new(corpus.train, block_size, batch_size, seed, Stream::Train)?;
//! let mut batches = Prefetch::new(windows, 0, 1);
//! let batch = batches.next().expect("batches have no end");
//! assert_eq!(batch.inputs.len(), batch_size * block_size);
//! assert_eq!(batch.inputs[1..block_size], batch.targets[..block_size - 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here knows of tensors. Downloads are the default feature `fetch`.

mod chunks;
mod corpus;
mod documents;
mod dtype;
mod error;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(not(feature = "fetch"))]
#[path = "fetch_off.rs"]
mod fetch;
mod files;
mod listing;
mod meta;
mod not_text;
mod path_text;
mod prefetch;
mod prepare;
mod prepared;
mod progress;
mod reuse;
mod rules;
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
pub use meta::{Meta, Part, SourceText, Split};
pub use not_text::NotText;
pub use prefetch::Prefetch;
pub use prepare::prepare;
pub use prepared::{Options, Outcome, Prepared, TokenizerChoice};
pub use progress::{OnProgress, Phase, Progress};
pub use rules::Rules;
pub use source::Source;
pub use source_file::SourceFile;
pub use stream::{is_stream, keep_stream, read_text};
pub use texts::rules_matter;
pub use tokens::Tokens;
pub use windows::{Batch, Draw, Stream, Windows};
