//! How far a long piece of work is, told to the caller, who may draw it.

use std::fmt;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Downloading a text.
    Fetch,
    /// Reading the text for the first time: checking its encoding, counting, hashing.
    Read,
    /// Counting the words that the merges of a byte-level BPE are learned from.
    CountWords,
    /// Learning these merges.
    LearnMerges,
    /// Turning text into tokens and writing them.
    Encode,
    /// Checking the checksums of what was prepared before.
    Verify,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done; merges in [`Phase::LearnMerges`].
    pub done: u64,
    /// Bytes or merges to be done in this phase, where that is known.
    pub total: Option<u64>,
}

/// Is called now and then, from one thread at a time.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

impl Phase {
    /// What its progress is counted in.
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
