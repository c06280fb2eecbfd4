use std::io;
use std::path::PathBuf;

/// Tokens of the smallest byte-level BPE: the 256 bytes and `<|endoftext|>`.
pub(crate) const MIN_VOCAB_SIZE: usize = 257;

/// Why text could not become tokens, or a tokenizer could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spelling that is no [`TokenizerKind`](crate::TokenizerKind).
    #[error(
        "no tokenizer is called {kind:?}; use char, byte, gpt2 or bpe:N, where N is the number of tokens"
    )]
    UnknownKind {
        /// What was asked for.
        kind: String,
    },

    /// A size that a trained BPE cannot have.
    #[error(
        "a BPE of {vocab_size} tokens cannot be; ask for {MIN_VOCAB_SIZE} (256 bytes and <|endoftext|>) to {} \
         tokens",
        u32::MAX
    )]
    VocabSize {
        /// The number of tokens asked for.
        vocab_size: usize,
    },

    /// A character vocabulary of no characters.
    #[error("a character vocabulary needs at least one character; is the corpus empty?")]
    NoCharacters,

    /// A text has a character that the character vocabulary lacks.
    #[error(
        "character {character:?} (U+{:04X}) at line {line}, column {column} (byte {offset}) is not in the \
         vocabulary; take it out of the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which \
         know every character",
        u32::from(*character)
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Bytes before it in the text given.
        offset: usize,
        /// Its line in the text given, from 1.
        line: usize,
        /// Its place in the line, in characters, from 1.
        column: usize,
    },

    /// A text needs a token that the model lacks.
    #[error(
        "this text has the token {token:?} (id {id}), and the model has only {n_tokens} tokens; leave it out of the text"
    )]
    Beyond {
        /// The token's text.
        token: String,
        /// Its id.
        id: u32,
        /// How many tokens the model has.
        n_tokens: usize,
    },

    /// The corpus of a BPE could not be read to its end.
    #[error("cannot read the text to train the tokenizer on")]
    Corpus(#[source] io::Error),

    /// The BPE trainer of the `tokenizers` library failed.
    #[error("cannot train the tokenizer")]
    Train(#[source] tokenizers::Error),

    /// The pipeline of a tokenizer that is not ours failed.
    #[error("the tokenizer cannot encode this text")]
    Encode(#[source] tokenizers::Error),

    /// A string is not a `tokenizer.json`.
    #[error("this is not a tokenizer.json of Hugging Face's")]
    Parse(#[source] tokenizers::Error),

    /// The vocabulary of a GGUF file contradicts itself.
    #[error("the vocabulary of the GGUF file makes no tokenizer")]
    Vocabulary(#[source] tokenizers::Error),

    /// A tokenizer that llama.cpp has nothing like.
    #[error("a GGUF file cannot hold this tokenizer: {reason}")]
    NoVocabulary {
        /// What it does otherwise.
        reason: String,
    },

    /// A tokenizer file could not be read.
    #[error("cannot read the tokenizer at {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },

    /// A file is not a `tokenizer.json`.
    #[error("{} is not a tokenizer.json of Hugging Face's", .path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: tokenizers::Error,
    },

    /// One of `vocab.json` and `merges.txt` is not what it should be, or they do not belong together.
    #[error("{} can't be used: {reason}", .path.display())]
    ParsePair {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A tokenizer file could not be written.
    #[error("cannot write the tokenizer to {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// The result of a tokenizer operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
