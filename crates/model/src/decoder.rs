//! Decoding: one token after another, for as long as one likes.

use burn::{module::Module, prelude::*};

use crate::{Cache, Gpt};

/// What a model has read so far, ready for the next token.
///
/// Positions are absolute, so a full block can't simply drop its oldest token: every later one would move
/// to another position and all keys and values change. When the block is full it slides by an eighth of its
/// size and what stays is read again at its new positions, so the extra work is amortised over that many
/// tokens. [`window_start`] is the rule, and decoding with and without the cache both follow it.
#[derive(Debug)]
pub struct Decoder {
    model: Gpt,
    cache: Cache,
    /// Every token read so far.
    ids: Vec<u32>,
}

impl Decoder {
    /// Starts from nothing read.
    pub fn new(model: &Gpt) -> Self {
        let model = model.valid();
        let cache = model.cache(1);
        Self { model, cache, ids: Vec::new() }
    }

    /// Reads `ids` and returns the logits of the token after them.
    ///
    /// # Shapes
    ///
    /// - output: `[V]`
    ///
    /// # Panics
    ///
    /// If nothing has been read at all, or an id is outside the vocabulary.
    pub fn next_logits(&mut self, ids: &[u32]) -> Tensor<1> {
        let block_size = self.model.config().block_size;
        let before = window_start(self.ids.len(), block_size);
        let mut unread = self.ids.len();
        self.ids.extend_from_slice(ids);
        let start = window_start(self.ids.len(), block_size);
        if start != before {
            self.cache.clear();
            unread = start;
        }
        let tokens = token_tensor(&self.ids[unread.max(start)..], &self.model.devices()[0]);
        self.model.next_logits(tokens, &mut self.cache).squeeze_dim(0)
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

/// One sequence of ids as a batch of one, `[1, T]`.
///
/// # Panics
///
/// If `ids` is empty.
fn token_tensor(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    assert!(!ids.is_empty(), "a model needs at least one token to say what follows");
    let ids: Vec<i32> =
        ids.iter().map(|&id| i32::try_from(id).expect("a vocabulary has less than 2^31 tokens")).collect();
    let shape = [1, ids.len()];
    Tensor::from_data(TensorData::new(ids, shape), device)
}
