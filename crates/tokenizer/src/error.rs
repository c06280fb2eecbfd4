use std::io;
use std::path::PathBuf;

/// Size of the smallest byte-level BPE: the 256 bytes and `<|endoftext|>`.
pub(crate) const MIN_VOCAB_SIZE: usize = 257;

/// An error while encoding a text, or while training, reading or writing a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a [`TokenizerKind`](crate::TokenizerKind).
    #[error(
        "no tokenizer is called {kind:?}; use char, byte, gpt2 or bpe:N, where N is the number of tokens"
    )]
    UnknownKind { kind: String },

    /// The size of a trained BPE is out of range.
    #[error("a byte-level BPE needs {MIN_VOCAB_SIZE} to {} tokens (got {vocab_size})", u32::MAX)]
    VocabSize {
        /// The requested number of tokens.
        vocab_size: usize,
    },

    #[error("a character vocabulary needs at least one character, but the corpus is empty")]
    NoCharacters,

    /// A character of the text is not in the character vocabulary.
    #[error(
        "character {character:?} (U+{:04X}) at line {line}, column {column} (byte {offset}) is not in the \
         vocabulary; remove it from the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which \
         encode any text",
        u32::from(*character)
    )]
    UnknownCharacter {
        character: char,
        /// Its position in the text, in bytes.
        offset: usize,
        /// Its line in the text, from 1.
        line: usize,
        /// Its position in the line, in characters, from 1.
        column: usize,
    },

    /// The text has a token with an id outside the model's vocabulary.
    #[error(
        "the text has the token {token:?} (id {id}), but the model has only {n_tokens} tokens; remove it from the text"
    )]
    TokenOutOfRange {
        token: String,
        id: u32,
        /// The size of the model's vocabulary.
        n_tokens: usize,
    },

    /// Tokens can't be added, because the next ids are taken by tokens that the model lacks.
    #[error(
        "the tokens {tokens} can't be added: the tokenizer has more tokens than the model, which has {n_tokens}; use a \
         model with a row for each token"
    )]
    NoFreeIds {
        tokens: String,
        /// The size of the model's vocabulary.
        n_tokens: usize,
    },

    #[error("cannot read the training text of the tokenizer")]
    Corpus(#[source] io::Error),

    #[error("cannot train the tokenizer")]
    Train(#[source] tokenizers::Error),

    /// The pipeline of an imported tokenizer failed.
    #[error("the tokenizer cannot encode this text")]
    Encode(#[source] tokenizers::Error),

    /// A string is not a `tokenizer.json`.
    #[error("not a Hugging Face tokenizer.json")]
    Parse(#[source] tokenizers::Error),

    /// The tokens and merges of a GGUF file contradict each other.
    #[error("the GGUF file has an invalid vocabulary")]
    Vocabulary(#[source] tokenizers::Error),

    /// llama.cpp has no equivalent tokenizer.
    #[error("llama.cpp does not support this tokenizer: {reason}")]
    GgufUnsupported {
        /// The unsupported part.
        reason: String,
    },

    #[error("cannot read the tokenizer at {}", .path.display())]
    Read { path: PathBuf, source: io::Error },

    /// A file is not a `tokenizer.json`.
    #[error("{} is not a Hugging Face tokenizer.json", .path.display())]
    ParseFile { path: PathBuf, source: tokenizers::Error },

    /// `vocab.json` or `merges.txt` is invalid or missing, or they do not belong together.
    #[error("cannot load the tokenizer file {}: {reason}", .path.display())]
    ParsePair { path: PathBuf, reason: String },

    #[error("cannot write the tokenizer to {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The result of a tokenizer operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
