//! Tokenizers: text to token ids and back.
//!
//! A [`Tokenizer`] has one of four kinds (see [`TokenizerKind`]): characters, bytes, GPT-2's byte-level BPE, or a
//! byte-level BPE trained on a corpus. Each is saved as a Hugging Face `tokenizer.json`, which the `tokenizers` and
//! `transformers` libraries open with the same ids.
//!
//! ```
//! use tokenizer::Tokenizer;
//!
//! let text = "First Citizen:\nBefore we proceed any further, hear me speak.\n";
//! let tokenizer = Tokenizer::from_chars(text.chars())?;
//!
//! let ids = tokenizer.encode("we speak")?;
//! assert_eq!(tokenizer.decode(&ids), "we speak");
//!
//! let error = tokenizer.encode("we\nspeak Χ").unwrap_err().to_string();
//! assert!(error.starts_with("character 'Χ' (U+03A7) at line 2, column 7 (byte 9) is not in the vocabulary"));
//! # Ok::<(), tokenizer::Error>(())
//! ```
//!
//! All kinds but `char` encode any text. Decoding accepts any ids. [`DecodeStream`] decodes ids one by one and returns
//! only whole characters.
//!
//! [`Tokenizer::load`] also reads any other `tokenizer.json`, and [`Tokenizer::from_gguf`] the vocabulary of a GGUF
//! file. [`Tokenizer::to_gguf`] exports a tokenizer where llama.cpp supports it. Some tokenizers put a BOS token before
//! every text: [`Tokenizer::prompt_prefix`].
//!
//! A long text may be encoded in parts on several threads. Cut at [`Tokenizer::last_boundary`], the parts have the same
//! ids as the whole.

mod added;
mod byte_alphabet;
mod byte_level_bpe;
mod char_vocabulary;
mod companions;
mod decoding;
mod error;
mod exported;
mod file;
mod gpt2;
mod imported;
mod kind;
mod long_pieces;
mod pipeline;
mod pre_tokenizer;
mod recognize;
mod special_tokens;
mod stream;
mod tokenizer;
mod train;
mod untrusted;

pub use companions::Companions;
pub use error::{Error, Result};
pub use kind::TokenizerKind;
pub use pre_tokenizer::last_boundary;
pub use special_tokens::SpecialTokens;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
pub use train::BpeProgress;
