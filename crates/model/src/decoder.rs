//! Decoding with a KV cache, for sequences of any length.

use burn::{module::Module, prelude::*};
use kernels::{INVARIANT_ROWS, Slot, SlotType, has_fused_operations};

use crate::{Feed, Gpt};

/// A model that processes sequences, each with its own [`Context`].
#[derive(Debug)]
pub struct Decoder {
    model: Gpt,
    slot_type: SlotType,
}

/// The tokens of one sequence and their KV cache.
///
/// A clone is an independent fork of the sequence. Dropping a context frees its memory and affects no other.
///
/// Positions are absolute, so a full block can't drop its oldest token: later tokens would change their positions, and
/// all keys and values with them. When the block is full, it slides by an eighth of its size, and the remaining tokens
/// are processed again at their new positions. [`window_start`] is the rule, with and without a KV cache.
#[derive(Debug, Clone)]
pub struct Context {
    ids: Vec<u32>,
    slot: Slot,
}

impl Context {
    /// All tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The memory of keys and values, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.slot.size_bytes()
    }

    /// Appends tokens. Returns how many of the last tokens the model must process after those left in the slot.
    fn extend(&mut self, ids: &[u32], block_size: usize) -> usize {
        let before = self.ids.len();
        self.ids.extend_from_slice(ids);
        let start = window_start(self.ids.len(), block_size);
        if start == window_start(before, block_size) {
            return ids.len();
        }
        self.slot.truncate(0);
        self.ids.len() - start
    }
}

impl Decoder {
    /// A decoder with KV caches in f32.
    pub fn new(model: &Gpt) -> Self {
        Self::with_slot_type(model, SlotType::F32)
    }

    /// A decoder with KV caches of a type.
    pub fn with_slot_type(model: &Gpt, slot_type: SlotType) -> Self {
        Self { model: model.valid(), slot_type }
    }

    /// An empty sequence.
    pub fn context(&self) -> Context {
        Context { ids: Vec::new(), slot: self.model.slot(self.slot_type) }
    }

    /// Appends `ids` to a sequence and returns the logits of the next token.
    ///
    /// # Shapes
    ///
    /// - output: `[V]`
    ///
    /// # Panics
    ///
    /// If `ids` is empty, or an id is outside the vocabulary.
    pub fn next_logits(&self, context: &mut Context, ids: &[u32]) -> Tensor<1> {
        self.step(&mut [(context, ids)]).squeeze_dim(0)
    }

    /// Appends ids to several sequences and returns the logits of each next token. Prefill and decoding can be mixed: a
    /// long prompt may be split into pieces, beside sequences that grow by one token per step.
    ///
    /// On the CPU in f32, the logits of a sequence do not depend on the other sequences, bit for bit: more than
    /// [`INVARIANT_ROWS`] rows are split into several steps.
    ///
    /// # Shapes
    ///
    /// - `feeds`: S contexts, each with any number of new ids
    /// - output: `[S, V]`
    ///
    /// # Panics
    ///
    /// If there are no contexts, a context has no new ids, or an id is outside the vocabulary.
    pub fn step(&self, feeds: &mut [(&mut Context, &[u32])]) -> Tensor<2> {
        let block_size = self.model.config().block_size;
        let feeds = feeds.iter_mut().map(|(context, ids)| {
            let n = context.extend(ids, block_size);
            let Context { ids, slot } = &mut **context;
            Feed { slot, ids: &ids[ids.len() - n..] }
        });
        let max_rows =
            if has_fused_operations(&self.model.devices()[0]) { INVARIANT_ROWS } else { usize::MAX };
        let logits = split_into_steps(feeds.collect(), max_rows)
            .into_iter()
            .map(|mut step| self.model.step(&mut step));
        Tensor::cat(logits.collect(), 0)
    }
}

/// Splits feeds into steps of at most `max_rows` rows, or of one longer feed.
fn split_into_steps(feeds: Vec<Feed<'_>>, max_rows: usize) -> Vec<Vec<Feed<'_>>> {
    let mut steps: Vec<Vec<Feed<'_>>> = Vec::new();
    let mut n_rows = max_rows;
    for feed in feeds {
        n_rows = n_rows.saturating_add(feed.ids.len());
        match steps.last_mut() {
            Some(step) if n_rows <= max_rows => step.push(feed),
            _ => {
                n_rows = feed.ids.len();
                steps.push(vec![feed]);
            }
        }
    }
    steps
}

/// Index of the oldest token in the context window of a sequence of `len` tokens.
///
/// It is 0 while the sequence fits the block, then a multiple of an eighth of the block.
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
