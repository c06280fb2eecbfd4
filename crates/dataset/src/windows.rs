//! Samples the windows of a text for each training step, as a pure function.
//!
//! nanoGPT samples uniformly random offsets from one generator whose state advances during training. Here every batch
//! has its own generator, keyed by everything the batch depends on. A resumed run therefore sees exactly the windows of
//! an uninterrupted one, and no generator state is saved.

use std::{ops::Range, sync::Arc};

use rand_chacha::rand_core::Rng;

use crate::{
    Error, Result, Tokens,
    random::{Purpose, below, generator},
};

/// The purpose of a batch. Streams with the same seed are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RngStream {
    /// Training batches.
    Train,
    /// Batches for estimating the loss, of the training or validation part.
    Evaluate,
}

impl RngStream {
    fn purpose(self) -> Purpose {
        match self {
            Self::Train => Purpose::TrainWindows,
            Self::Evaluate => Purpose::EvaluationWindows,
        }
    }
}

/// Identifies a batch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchIndex {
    /// Optimizer step.
    pub step: u64,
    /// Index within the gradient accumulation of the step.
    pub micro_batch: u64,
}

/// Rows of tokens, and the same rows shifted by one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Token ids, `[B, T]` in row-major order.
    pub inputs: Vec<i32>,
    /// The token after each input, `[B, T]` in row-major order.
    pub targets: Vec<i32>,
    /// B, the number of rows.
    pub batch_size: usize,
    /// T, the length of each row.
    pub block_size: usize,
    /// `None` for windows of a text: all targets are trained.
    pub packing: Option<Packing>,
}

/// The parts of a batch of packed examples beside its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// The lengths of the documents in the order of the rows: the examples of a row, and the padding at its end. In each
    /// row they add up to T.
    pub lengths: Vec<usize>,
    /// The indices of trained targets in `[B · T]`, ascending.
    pub trained: Vec<usize>,
    /// The pairs of the batch in the order of the documents; empty for examples that are not pairs.
    pub pairs: Vec<PackedPair>,
    /// The mean over the batches of a step, on all ranks, of this weight times the mean loss of trained targets, or of
    /// pairs, is the mean loss over all of the step.
    pub weight: f64,
}

/// A pair of examples in a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedPair {
    /// The index of the pair in the data.
    pub idx: usize,
    /// The numbers of trained targets of its two examples, which are neighbours among the trained targets.
    pub n_trained: [usize; 2],
    /// The margin of the pair by a reference model; see [`PackedRows::with_reference`](crate::PackedRows::with_reference).
    pub reference: f64,
}

/// Samples batches of windows at uniformly random offsets of a text.
#[derive(Debug, Clone)]
pub struct Windows {
    tokens: Arc<Tokens>,
    block_size: usize,
    batch_size: usize,
    seed: u64,
    stream: RngStream,
    /// The range of rows of each batch that this instance yields.
    rows: Range<usize>,
}

impl Windows {
    /// Batches of `batch_size` windows of `block_size` tokens. Fails if the text is not longer than one window.
    pub fn new(
        tokens: Arc<Tokens>,
        block_size: usize,
        batch_size: usize,
        seed: u64,
        stream: RngStream,
    ) -> Result<Self> {
        if tokens.len() <= block_size {
            return Err(Error::TooShort { n_tokens: tokens.len(), block_size });
        }
        Ok(Self { tokens, block_size, batch_size, seed, stream, rows: 0..batch_size })
    }

    /// The rows of rank `rank` when each batch is divided evenly, in order, among `n` ranks.
    ///
    /// # Panics
    ///
    /// If the batch is not divisible by `n`, or `rank` is not below `n`.
    pub fn share(self, rank: usize, n: usize) -> Self {
        let n_rows = self.rows.len();
        assert!(n > 0 && n_rows.is_multiple_of(n), "{n_rows} windows are not divisible among {n} ranks");
        assert!(rank < n, "rank {rank} of {n}");
        let (size, first) = (n_rows / n, self.rows.start);
        Self { rows: first + rank * size..first + (rank + 1) * size, ..self }
    }

    /// Number of windows per batch.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Splits the windows of a batch, in order, into batches of at most `batch_size`.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero.
    pub fn in_batches(self, at: BatchIndex, batch_size: usize) -> impl ExactSizeIterator<Item = Batch> {
        let rows = self.rows.clone();
        let starts = rows.clone().step_by(batch_size);
        starts.map(move |start| {
            let rows = start..rows.end.min(start + batch_size);
            Self { rows, ..self.clone() }.batch(at)
        })
    }

    /// The batch with this index. It does not depend on previous calls.
    pub fn batch(&self, at: BatchIndex) -> Batch {
        let size = self.rows.len() * self.block_size;
        let mut batch = Batch {
            inputs: Vec::with_capacity(size),
            targets: Vec::with_capacity(size),
            batch_size: self.rows.len(),
            block_size: self.block_size,
            packing: None,
        };
        let mut window = vec![0; self.block_size + 1];
        for offset in self.offsets_of(at, self.rows.clone()) {
            self.tokens.copy_range(offset, &mut window);
            batch.inputs.extend_from_slice(&window[..self.block_size]);
            batch.targets.extend_from_slice(&window[1..]);
        }
        batch
    }

    /// The offsets of the windows of a batch, for all ranks.
    ///
    /// Window i uses the i-th 64-bit output of the generator of (seed, step, micro-batch).
    pub fn offsets(&self, at: BatchIndex) -> Vec<usize> {
        self.offsets_of(at, 0..self.batch_size)
    }

    fn offsets_of(&self, at: BatchIndex, rows: Range<usize>) -> Vec<usize> {
        let mut generator = generator([self.seed, at.step, at.micro_batch], self.stream.purpose());
        generator.set_word_pos(2 * rows.start as u128); // In words of 32 bits.

        // The last window leaves one token, for its last target.
        let n_offsets = self.tokens.len() - self.block_size;
        rows.map(|_| below(n_offsets, generator.next_u64())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 1337;

    fn windows(n_tokens: u32, block_size: usize, batch_size: usize, stream: RngStream) -> Windows {
        let tokens = Arc::new(Tokens::from_vec((0..n_tokens).collect()));
        Windows::new(tokens, block_size, batch_size, SEED, stream).unwrap()
    }

    fn at(step: u64, micro_batch: u64) -> BatchIndex {
        BatchIndex { step, micro_batch }
    }

    #[test]
    fn targets_are_the_inputs_shifted_by_one() {
        let windows = windows(100, 7, 3, RngStream::Train);
        let offsets = windows.offsets(at(5, 0));
        let batch = windows.batch(at(5, 0));
        assert_eq!((batch.inputs.len(), batch.targets.len()), (21, 21));
        for (row, &offset) in offsets.iter().enumerate() {
            let first = i32::try_from(offset).unwrap();
            let row = row * 7..(row + 1) * 7;
            assert_eq!(batch.inputs[row.clone()], (first..first + 7).collect::<Vec<_>>());
            assert_eq!(batch.targets[row], (first + 1..first + 8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_depends_only_on_its_index() {
        let windows = windows(10_000, 8, 4, RngStream::Train);
        let forwards: Vec<_> = (0..20).map(|step| windows.batch(at(step, 1))).collect();
        let backwards: Vec<_> = (0..20).rev().map(|step| windows.batch(at(step, 1))).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
    }

    #[test]
    fn every_part_of_the_key_changes_the_offsets() {
        let train = windows(1_000_000, 8, 4, RngStream::Train);
        let evaluate = windows(1_000_000, 8, 4, RngStream::Evaluate);
        let other_seed = Windows { seed: SEED + 1, ..train.clone() };
        let offsets = [
            train.offsets(at(1, 0)),
            train.offsets(at(0, 1)),
            train.offsets(at(0, 0)),
            train.offsets(at(1 << 32, 0)),
            evaluate.offsets(at(0, 0)),
            other_seed.offsets(at(0, 0)),
        ];
        for (i, one) in offsets.iter().enumerate() {
            assert!(offsets[..i].iter().all(|other| other != one), "case {i} equals an earlier one");
        }
    }

    #[test]
    fn offsets_are_uniform_up_to_the_last_window() {
        // 20 offsets, the last of which leaves one token for the last target.
        let (n_bins, n_batches) = (20, 5_000);
        let windows = windows(24, 4, 4, RngStream::Train);
        let mut counts = vec![0_u32; n_bins];
        for step in 0..n_batches {
            for offset in windows.offsets(at(step, 0)) {
                counts[offset] += 1;
            }
        }
        let expected = (n_batches * 4) as f64 / n_bins as f64;
        let chi_square: f64 =
            counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        // 43.8 is exceeded by chance once in a thousand seeds, with 19 degrees of freedom.
        assert!(chi_square < 43.8, "{chi_square}: {counts:?}");
        // A generator that is too even is wrong as well: 5.4 is undercut once in a thousand.
        assert!(chi_square > 5.4, "{chi_square}: {counts:?}");
    }

    #[test]
    fn a_text_of_one_window_has_one_offset() {
        let windows = windows(9, 8, 5, RngStream::Train);
        assert_eq!(windows.offsets(at(3, 0)), [0; 5]);
    }

    #[test]
    fn a_text_shorter_than_a_window_is_an_error() {
        let tokens = Arc::new(Tokens::from_vec(vec![0; 8]));
        let error = Windows::new(tokens, 8, 1, SEED, RngStream::Train).unwrap_err();
        assert!(matches!(error, Error::TooShort { n_tokens: 8, block_size: 8 }));
        assert!(error.to_string().starts_with("a text of 8 tokens is too short for windows of 8"), "{error}");
    }

    /// These offsets must never change: runs resumed by later versions depend on them.
    #[test]
    fn offsets_never_change() {
        let windows = windows(1_003_854, 64, 4, RngStream::Train);
        assert_eq!(windows.offsets(at(0, 0)), GOLDEN[0]);
        assert_eq!(windows.offsets(at(2000, 3)), GOLDEN[1]);
        let windows = Windows { stream: RngStream::Evaluate, ..windows };
        assert_eq!(windows.offsets(at(0, 0)), GOLDEN[2]);
    }

    /// Computed independently, with an implementation of ChaCha8 in Python.
    const GOLDEN: [[usize; 4]; 3] = [
        [882_304, 299_919, 483_754, 586_879],
        [392_264, 560_186, 463_374, 206_393],
        [35_161, 311_519, 869_795, 540_399],
    ];

    #[test]
    fn shares_add_up_to_the_batch() {
        let all = windows(100, 7, 6, RngStream::Train);
        let whole = all.batch(at(5, 1));
        for n in [1, 2, 3, 6] {
            let shares: Vec<_> = (0..n).map(|rank| all.clone().share(rank, n).batch(at(5, 1))).collect();
            assert!(shares.iter().all(|share| share.batch_size == 6 / n));
            let inputs: Vec<i32> = shares.iter().flat_map(|share| share.inputs.clone()).collect();
            let targets: Vec<i32> = shares.iter().flat_map(|share| share.targets.clone()).collect();
            assert_eq!((inputs, targets), (whole.inputs.clone(), whole.targets.clone()));
        }
    }

    #[test]
    fn in_batches_yields_the_same_windows_for_any_size() {
        let all = windows(100, 7, 6, RngStream::Evaluate);
        let whole = all.batch(at(0, 0));
        for (batch_size, sizes) in [(1, &[1; 6][..]), (2, &[2, 2, 2]), (4, &[4, 2]), (6, &[6]), (9, &[6])] {
            let batches: Vec<_> = all.clone().in_batches(at(0, 0), batch_size).collect();
            assert_eq!(batches.iter().map(|batch| batch.batch_size).collect::<Vec<_>>(), sizes);
            let inputs: Vec<i32> = batches.iter().flat_map(|batch| batch.inputs.clone()).collect();
            let targets: Vec<i32> = batches.iter().flat_map(|batch| batch.targets.clone()).collect();
            assert_eq!((inputs, targets), (whole.inputs.clone(), whole.targets.clone()));
        }
    }

    #[test]
    #[should_panic(expected = "6 windows are not divisible among 4 ranks")]
    fn uneven_shares_panic() {
        let _ = windows(100, 7, 6, RngStream::Train).share(0, 4);
    }
}
