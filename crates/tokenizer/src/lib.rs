//! Text to token ids and back.
//!
//! There are four kinds of [`Tokenizer`] (see [`TokenizerKind`]): characters, bytes, GPT-2's byte-level BPE,
//! and a byte-level BPE trained on a corpus. Each one is saved as one `tokenizer.json` that the `tokenizers`
//! and `transformers` libraries of Hugging Face open too, with the same ids, and [`Tokenizer::load`] opens
//! theirs.
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
//! Bytes and trained merges encode any text. Decoding takes any ids, and [`DecodeStream`] takes them one by one
//! and never gives out half a character.
//!
//! A tokenizer from elsewhere is any other `tokenizer.json`, or the vocabulary of a GGUF file
//! ([`Tokenizer::from_gguf`]), and goes into one again where it can ([`Tokenizer::to_gguf`]). Some put a mark before every text: [`Tokenizer::beginning`].
//!
//! A long text may be encoded in parts on several threads: cut where [`Tokenizer::last_border`] says, the ids of
//! the parts are those of the whole.

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
pub use pre_tokenizer::last_border;
pub use special_tokens::SpecialTokens;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
pub use train::BpeProgress;
