//! Progress reports of long operations, for a progress bar.

use std::fmt;

/// A phase of preparing a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Fetch,
    /// The first pass over the text: checks the encoding, counts and hashes.
    Read,
    /// Counts the words that the merges of a byte-level BPE are learned from.
    CountWords,
    LearnMerges,
    /// Tokenises the text and writes the tokens.
    Encode,
    /// Verifies the checksums of existing shards.
    Verify,
}

/// A progress report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// In the unit of the phase ([`Phase::unit`]).
    pub done: u64,
    /// `None` if unknown.
    pub total: Option<u64>,
}

/// A callback for progress reports, called from one thread at a time.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

impl Phase {
    /// The unit of its progress.
    pub fn unit(self) -> &'static str {
        match self {
            Self::LearnMerges => "merges",
            Self::Fetch | Self::Read | Self::CountWords | Self::Encode | Self::Verify => "bytes",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fetch => "fetching",
            Self::Read => "reading",
            Self::CountWords => "counting words",
            Self::LearnMerges => "learning merges",
            Self::Encode => "encoding",
            Self::Verify => "verifying",
        })
    }
}
