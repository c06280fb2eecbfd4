//! The source of a run's batches: windows of a text, or packed examples.

use crate::{Batch, BatchIndex, PackedRows, Windows};

/// The rows that batches are made of.
#[derive(Debug, Clone)]
pub enum Samples {
    Windows(Windows),
    Packed(PackedRows),
}

impl Samples {
    /// The rows of rank `rank` when each batch is divided evenly, in order, among `n` ranks.
    ///
    /// # Panics
    ///
    /// If the batch is not divisible by `n`, or `rank` is not below `n`.
    pub fn share(self, rank: usize, n: usize) -> Self {
        match self {
            Self::Windows(windows) => Self::Windows(windows.share(rank, n)),
            Self::Packed(rows) => Self::Packed(rows.share(rank, n)),
        }
    }

    /// The batch with this index. It does not depend on previous calls.
    ///
    /// # Panics
    ///
    /// As [`PackedRows::batch`].
    pub fn batch(&mut self, at: BatchIndex) -> Batch {
        match self {
            Self::Windows(windows) => windows.batch(at),
            Self::Packed(rows) => rows.batch(at),
        }
    }
}

impl From<Windows> for Samples {
    fn from(windows: Windows) -> Self {
        Self::Windows(windows)
    }
}

impl From<PackedRows> for Samples {
    fn from(rows: PackedRows) -> Self {
        Self::Packed(rows)
    }
}
