//! Which windows of a text a training step sees, as a pure function.
//!
//! nanoGPT draws uniformly random offsets from a generator whose state runs through the training. Here every
//! draw has its own generator, keyed with all that the draw depends on, so that a resumed run sees exactly what
//! an uninterrupted one would have seen, and nothing needs to be saved.

use std::{ops::Range, sync::Arc};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Error, Result, Tokens};

/// What windows are drawn for. Two streams of one seed have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Windows to learn from.
    Train,
    /// Windows to estimate a loss on, of the training part or of the validation part.
    Evaluate,
}

impl Stream {
    /// The nonce of the generator. A run's data order depends on these numbers: never change them.
    fn nonce(self) -> u64 {
        match self {
            Self::Train => 0,
            Self::Evaluate => 1,
        }
    }
}

/// Which batch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw {
    /// Optimizer step.
    pub step: u64,
    /// Which of the batches whose gradients the step accumulates.
    pub micro_batch: u64,
}

/// Some windows of a text, and the same windows moved on by one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `[B, T]` in row-major order.
    pub inputs: Vec<i32>,
    /// What follows each of the inputs, `[B, T]` in row-major order.
    pub targets: Vec<i32>,
    /// B, the number of windows.
    pub batch_size: usize,
    /// T, the length of each.
    pub block_size: usize,
}

/// Draws batches of windows at uniformly random offsets of a text.
#[derive(Debug, Clone)]
pub struct Windows {
    tokens: Arc<Tokens>,
    block_size: usize,
    batch_size: usize,
    seed: u64,
    stream: Stream,
    /// Which windows of each batch.
    rows: Range<usize>,
}

impl Windows {
    /// Windows of `block_size` tokens, `batch_size` at a time; fails if the text is not longer than one.
    pub fn new(
        tokens: Arc<Tokens>,
        block_size: usize,
        batch_size: usize,
        seed: u64,
        stream: Stream,
    ) -> Result<Self> {
        if tokens.len() <= block_size {
            return Err(Error::TooShort { n_tokens: tokens.len(), block_size });
        }
        Ok(Self { tokens, block_size, batch_size, seed, stream, rows: 0..batch_size })
    }

    /// The windows that one of `n` has where `n` share each batch evenly and in order, the one with number `rank`.
    ///
    /// # Panics
    ///
    /// If a batch has no `n` equal shares, or there are not so many ranks.
    pub fn share(self, rank: usize, n: usize) -> Self {
        let n_rows = self.rows.len();
        assert!(n > 0 && n_rows.is_multiple_of(n), "{n_rows} windows have no {n} equal shares");
        assert!(rank < n, "share {rank} of {n}");
        let (size, first) = (n_rows / n, self.rows.start);
        Self { rows: first + rank * size..first + (rank + 1) * size, ..self }
    }

    /// Number of windows in each draw.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The windows of one draw, in the same order, in batches of at most so many.
    ///
    /// # Panics
    ///
    /// If `batch_size` is zero.
    pub fn in_batches(self, at: Draw, batch_size: usize) -> impl Iterator<Item = Batch> {
        let rows = self.rows.clone();
        let starts = rows.clone().step_by(batch_size);
        starts.map(move |start| {
            let rows = start..rows.end.min(start + batch_size);
            Self { rows, ..self.clone() }.batch(at)
        })
    }

    /// The batch of a draw: the same one whenever, and in whatever order, it is asked for.
    pub fn batch(&self, at: Draw) -> Batch {
        let size = self.rows.len() * self.block_size;
        let mut batch = Batch {
            inputs: Vec::with_capacity(size),
            targets: Vec::with_capacity(size),
            batch_size: self.rows.len(),
            block_size: self.block_size,
        };
        let mut window = vec![0; self.block_size + 1];
        for offset in self.offsets_of(at, self.rows.clone()) {
            self.tokens.copy_range(offset, &mut window);
            batch.inputs.extend_from_slice(&window[..self.block_size]);
            batch.targets.extend_from_slice(&window[1..]);
        }
        batch
    }

    /// Where the windows of a draw begin, those of all shares.
    ///
    /// The generator is ChaCha with 8 rounds. Its key is (seed, step, micro-batch, 0), each as 8 bytes
    /// little-endian, and its nonce the stream; window i takes its i-th 64-bit output.
    pub fn offsets(&self, at: Draw) -> Vec<usize> {
        self.offsets_of(at, 0..self.batch_size)
    }

    fn offsets_of(&self, at: Draw, rows: Range<usize>) -> Vec<usize> {
        let mut key = [0; 32];
        for (part, number) in
            key.as_chunks_mut::<8>().0.iter_mut().zip([self.seed, at.step, at.micro_batch, 0])
        {
            *part = number.to_le_bytes();
        }
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(self.stream.nonce());
        generator.set_word_pos(2 * rows.start as u128); // Words have 32 bits.

        // The last window leaves one token for its last target.
        let n_offsets = self.tokens.len() - self.block_size;
        rows.map(|_| below(n_offsets, generator.next_u64())).collect()
    }
}

/// Maps 64 random bits to `0..bound` by the upper half of their product.
///
/// Spelled out, so that no release of a random number library moves the windows of a run. An offset is favoured
/// by at most `bound` in 2⁶⁴ ([Lemire 2019](https://arxiv.org/abs/1805.10941), without the rejection).
fn below(bound: usize, random: u64) -> usize {
    let product = u128::from(random) * bound as u128;
    usize::try_from(product >> 64).expect("the upper half is below the bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 1337;

    fn windows(n_tokens: u32, block_size: usize, batch_size: usize, stream: Stream) -> Windows {
        let tokens = Arc::new(Tokens::from_vec((0..n_tokens).collect()));
        Windows::new(tokens, block_size, batch_size, SEED, stream).unwrap()
    }

    fn at(step: u64, micro_batch: u64) -> Draw {
        Draw { step, micro_batch }
    }

    #[test]
    fn targets_are_the_inputs_moved_by_one() {
        let windows = windows(100, 7, 3, Stream::Train);
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
    fn a_batch_is_a_function_of_its_draw() {
        let windows = windows(10_000, 8, 4, Stream::Train);
        let forwards: Vec<_> = (0..20).map(|step| windows.batch(at(step, 1))).collect();
        let backwards: Vec<_> = (0..20).rev().map(|step| windows.batch(at(step, 1))).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
    }

    #[test]
    fn everything_a_draw_depends_on_changes_it() {
        let train = windows(1_000_000, 8, 4, Stream::Train);
        let evaluate = windows(1_000_000, 8, 4, Stream::Evaluate);
        let other_seed = Windows { seed: SEED + 1, ..train.clone() };
        let drawn = [
            train.offsets(at(1, 0)),
            train.offsets(at(0, 1)),
            train.offsets(at(0, 0)),
            train.offsets(at(1 << 32, 0)),
            evaluate.offsets(at(0, 0)),
            other_seed.offsets(at(0, 0)),
        ];
        for (i, one) in drawn.iter().enumerate() {
            assert!(drawn[..i].iter().all(|other| other != one), "draw {i} equals an earlier one");
        }
    }

    #[test]
    fn offsets_are_uniform_up_to_the_last_window() {
        // 20 offsets, the last of which leaves one token for the last target.
        let (n_bins, n_draws) = (20, 5_000);
        let windows = windows(24, 4, 4, Stream::Train);
        let mut counts = vec![0_u32; n_bins];
        for step in 0..n_draws {
            for offset in windows.offsets(at(step, 0)) {
                counts[offset] += 1;
            }
        }
        let expected = (n_draws * 4) as f64 / n_bins as f64;
        let chi_square: f64 =
            counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
        // 43.8 is exceeded by chance once in a thousand seeds, with 19 degrees of freedom.
        assert!(chi_square < 43.8, "{chi_square}: {counts:?}");
        // A generator that is too even is wrong as well: 5.4 is undercut once in a thousand.
        assert!(chi_square > 5.4, "{chi_square}: {counts:?}");
    }

    #[test]
    fn a_text_of_one_window_has_one_offset() {
        let windows = windows(9, 8, 5, Stream::Train);
        assert_eq!(windows.offsets(at(3, 0)), [0; 5]);
    }

    #[test]
    fn a_text_shorter_than_a_window_is_an_error() {
        let tokens = Arc::new(Tokens::from_vec(vec![0; 8]));
        let error = Windows::new(tokens, 8, 1, SEED, Stream::Train).unwrap_err();
        assert!(matches!(error, Error::TooShort { n_tokens: 8, block_size: 8 }));
        assert!(error.to_string().starts_with("a text of 8 tokens is too short for windows of 8"), "{error}");
    }

    /// These offsets must never change: a run that is resumed by a later version depends on them.
    #[test]
    fn offsets_stay_as_they_are() {
        let windows = windows(1_003_854, 64, 4, Stream::Train);
        assert_eq!(windows.offsets(at(0, 0)), GOLDEN[0]);
        assert_eq!(windows.offsets(at(2000, 3)), GOLDEN[1]);
        let windows = Windows { stream: Stream::Evaluate, ..windows };
        assert_eq!(windows.offsets(at(0, 0)), GOLDEN[2]);
    }

    /// Computed apart from this code, by ChaCha8 written out in Python.
    const GOLDEN: [[usize; 4]; 3] = [
        [882_304, 299_919, 483_754, 586_879],
        [392_264, 560_186, 463_374, 206_393],
        [35_161, 311_519, 869_795, 540_399],
    ];

    #[test]
    fn shares_are_the_batch_in_parts() {
        let all = windows(100, 7, 6, Stream::Train);
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
    fn a_draw_in_batches_of_any_size_is_the_same_windows() {
        let all = windows(100, 7, 6, Stream::Evaluate);
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
    #[should_panic(expected = "6 windows have no 4 equal shares")]
    fn uneven_shares_are_refused() {
        let _ = windows(100, 7, 6, Stream::Train).share(0, 4);
    }
}
