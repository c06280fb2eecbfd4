//! Decoding: one token after another, for as long as one likes.

use burn::{module::Module, prelude::*};

use crate::{Cache, Gpt};

/// What a model has read so far, ready for the next token.
///
/// Positions are absolute, so a full block can't simply drop its oldest token: every later one would move
/// to another position and all keys and values change. When the block is full it slides by an eighth of its
/// size and what stays is read again at its new positions, so the extra work is amortised over that many
/// tokens. [`window_start`] is the rule, and decoding with and without the cache both follow it.
///
/// It reads one sequence, or several of the same length side by side.
#[derive(Debug)]
pub struct Decoder {
    model: Gpt,
    cache: Cache,
    /// Every token read so far, of each sequence.
    sequences: Vec<Vec<u32>>,
}

impl Decoder {
    /// Starts from nothing read, with one sequence.
    pub fn new(model: &Gpt) -> Self {
        let model = model.valid();
        let cache = model.cache(1);
        Self { model, cache, sequences: vec![Vec::new()] }
    }

    /// Goes on with the sequences of these numbers, each as often as it is named.
    ///
    /// # Panics
    ///
    /// If there is no sequence of such a number.
    pub fn select(&mut self, sequences: &[usize]) {
        if sequences.iter().copied().eq(0..self.sequences.len()) {
            return; // They are those that there are.
        }
        self.cache = self.cache.select(sequences);
        self.sequences = sequences.iter().map(|&idx| self.sequences[idx].clone()).collect();
    }

    /// Reads `ids` and returns the logits of the token after them.
    ///
    /// # Shapes
    ///
    /// - output: `[V]`
    ///
    /// # Panics
    ///
    /// If nothing has been read at all, an id is outside the vocabulary, or there are several sequences.
    pub fn next_logits(&mut self, ids: &[u32]) -> Tensor<1> {
        self.next_logits_of_each(&[ids]).squeeze_dim(0)
    }

    /// Reads as many ids for each sequence, and returns the logits of the tokens after them.
    ///
    /// # Shapes
    ///
    /// - `ids`: N each, for all sequences
    /// - output: `[B, V]`
    ///
    /// # Panics
    ///
    /// If nothing has been read at all, an id is outside the vocabulary, or the ids are not as many for each
    /// sequence.
    pub fn next_logits_of_each(&mut self, ids: &[&[u32]]) -> Tensor<2> {
        assert_eq!(ids.len(), self.sequences.len(), "ids for each sequence");
        let block_size = self.model.config().block_size;
        let read = self.sequences[0].len();
        for (sequence, ids) in self.sequences.iter_mut().zip(ids) {
            sequence.extend_from_slice(ids);
        }
        let len = self.sequences[0].len();
        let start = window_start(len, block_size);
        let unread = if start == window_start(read, block_size) {
            read
        } else {
            self.cache.clear();
            start
        };
        let unread: Vec<&[u32]> = self.sequences.iter().map(|ids| &ids[unread.max(start)..]).collect();
        let tokens = token_tensor(&unread, &self.model.devices()[0]);
        self.model.next_logits(tokens, &mut self.cache)
    }
}

/// Index of the oldest token in sight once `len` have been read.
///
/// Zero while they fit the block; afterwards a multiple of an eighth of the block.
///
/// ```
/// assert_eq!(model::window_start(64, 64), 0);
/// assert_eq!(model::window_start(65, 64), 8);
/// assert_eq!(model::window_start(72, 64), 8);
/// assert_eq!(model::window_start(73, 64), 16);
/// ```
pub fn window_start(len: usize, block_size: usize) -> usize {
    let stride = (block_size / 8).max(1);
    len.saturating_sub(block_size).div_ceil(stride) * stride
}

/// Sequences of ids as a batch, `[B, T]`.
///
/// # Panics
///
/// If they are empty or not of one length.
fn token_tensor(sequences: &[&[u32]], device: &Device) -> Tensor<2, Int> {
    let len = sequences[0].len();
    assert!(len > 0, "a model needs at least one token to say what follows");
    assert!(
        sequences.iter().all(|ids| ids.len() == len),
        "sequences that are read together are of one length"
    );
    let ids: Vec<i32> = (sequences.iter().copied().flatten())
        .map(|&id| i32::try_from(id).expect("a vocabulary has less than 2^31 tokens"))
        .collect();
    Tensor::from_data(TensorData::new(ids, [sequences.len(), len]), device)
}
