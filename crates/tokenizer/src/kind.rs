//! The kinds of tokenizer, as named in recipes and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::MIN_VOCAB_SIZE;
use crate::{Error, Result};

/// The kind of a tokenizer, written as `char`, `byte`, `gpt2` or `bpe:N`.
///
/// ```
/// use tokenizer::TokenizerKind;
///
/// assert_eq!("bpe:1024".parse::<TokenizerKind>()?, TokenizerKind::Bpe { vocab_size: 1024 });
/// assert_eq!(TokenizerKind::Char.to_string(), "char");
/// # Ok::<(), tokenizer::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum TokenizerKind {
    /// One id per character of the corpus, in the order of code points, as in nanoGPT.
    Char,
    /// One id per UTF-8 byte, 256 tokens.
    Byte,
    /// The byte-level BPE of GPT-2, 50257 tokens.
    Gpt2,
    /// A byte-level BPE trained on the corpus.
    Bpe {
        /// Number of tokens, including `<|endoftext|>`.
        vocab_size: usize,
    },
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char => f.write_str("char"),
            Self::Byte => f.write_str("byte"),
            Self::Gpt2 => f.write_str("gpt2"),
            Self::Bpe { vocab_size } => write!(f, "bpe:{vocab_size}"),
        }
    }
}

impl FromStr for TokenizerKind {
    type Err = Error;

    fn from_str(kind: &str) -> Result<Self> {
        let unknown = || Error::UnknownKind { kind: kind.to_owned() };
        match kind {
            "char" => Ok(Self::Char),
            "byte" => Ok(Self::Byte),
            "gpt2" => Ok(Self::Gpt2),
            _ => {
                let digits = kind.strip_prefix("bpe:").ok_or_else(unknown)?;
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(unknown());
                }
                let vocab_size = digits.parse().map_err(|_| unknown())?;
                check_vocab_size(vocab_size)?;
                Ok(Self::Bpe { vocab_size })
            }
        }
    }
}

/// Fails with [`Error::VocabSize`] if the size is out of range.
pub(crate) fn check_vocab_size(vocab_size: usize) -> Result<()> {
    if vocab_size < MIN_VOCAB_SIZE || u32::try_from(vocab_size).is_err() {
        return Err(Error::VocabSize { vocab_size });
    }
    Ok(())
}

impl From<TokenizerKind> for String {
    fn from(kind: TokenizerKind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for TokenizerKind {
    type Error = Error;

    fn try_from(kind: String) -> Result<Self> {
        kind.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_survives_the_round_trip() {
        for spelling in ["char", "byte", "gpt2", "bpe:257", "bpe:50000", "bpe:4294967295"] {
            let kind: TokenizerKind = spelling.parse().unwrap();
            assert_eq!(kind.to_string(), spelling);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{spelling}\""));
            assert_eq!(serde_json::from_str::<TokenizerKind>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn other_spellings_are_refused_with_the_list_of_kinds() {
        for spelling in ["", "Char", "bytes", "gpt-2", "bpe", "bpe:", "bpe:+300", "bpe:many", "bpe: 300"] {
            let error = spelling.parse::<TokenizerKind>().unwrap_err().to_string();
            assert!(error.contains("char, byte, gpt2 or bpe:N"), "{spelling}: {error}");
            assert!(error.contains(&format!("{spelling:?}")), "{spelling}: {error}");
        }
    }

    #[test]
    fn a_size_out_of_range_is_refused_with_the_limits() {
        for spelling in ["bpe:0", "bpe:256", "bpe:4294967296"] {
            let error = spelling.parse::<TokenizerKind>().unwrap_err().to_string();
            assert!(error.contains("257"), "{spelling}: {error}");
        }
    }
}
