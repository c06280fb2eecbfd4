//! Decoding: one token after another, for as long as one likes.

use burn::{module::Module, prelude::*};
use kernels::{INVARIANT_ROWS, Slot, SlotType, has_fused_operations};

use crate::{Feed, Gpt};

/// A model that reads sequences, each into its own [`Context`].
#[derive(Debug)]
pub struct Decoder {
    model: Gpt,
    stored: SlotType,
}

/// What a model has read of one sequence, ready for the next token.
///
/// A clone is a fork: it continues the sequence by itself. Dropping a context frees its memory; no other one is touched.
///
/// Positions are absolute, so a full block can't simply drop its oldest token: every later one would move
/// to another position and all keys and values change. When the block is full it slides by an eighth of its
/// size and what stays is read again at its new positions, so the extra work is amortised over that many
/// tokens. [`window_start`] is the rule, and decoding with and without slots both follow it.
#[derive(Debug, Clone)]
pub struct Context {
    /// Every token read so far.
    ids: Vec<u32>,
    slot: Slot,
}

impl Context {
    /// Every token read so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Its memory for keys and values, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.slot.size_bytes()
    }

    /// Adds tokens, and returns how many at the end of all are to be read, after what is left in the slot.
    fn extend(&mut self, ids: &[u32], block_size: usize) -> usize {
        let read = self.ids.len();
        self.ids.extend_from_slice(ids);
        let start = window_start(self.ids.len(), block_size);
        if start == window_start(read, block_size) {
            return ids.len();
        }
        self.slot.truncate(0);
        self.ids.len() - start
    }
}

impl Decoder {
    /// A decoder whose contexts have keys and values as they are computed.
    pub fn new(model: &Gpt) -> Self {
        Self::storing(model, SlotType::F32)
    }

    /// A decoder whose contexts store keys and values in a type.
    pub fn storing(model: &Gpt, stored: SlotType) -> Self {
        Self { model: model.valid(), stored }
    }

    /// A sequence of which nothing has been read.
    pub fn context(&self) -> Context {
        Context { ids: Vec::new(), slot: self.model.slot(self.stored) }
    }

    /// Reads `ids` after what has been read, and returns the logits of the token after them.
    ///
    /// # Shapes
    ///
    /// - output: `[V]`
    ///
    /// # Panics
    ///
    /// If there are no ids, or an id is outside the vocabulary.
    pub fn next_logits(&self, context: &mut Context, ids: &[u32]) -> Tensor<1> {
        self.step(&mut [(context, ids)]).squeeze_dim(0)
    }

    /// Reads some ids of each of several sequences, and returns the logits of the tokens after them. A long prompt may be
    /// read in pieces, beside sequences that are decoded token by token.
    ///
    /// On the CPU, in f32, the logits of a sequence are the same bits whatever the others read: more rows than
    /// [`INVARIANT_ROWS`] are done in several steps.
    ///
    /// # Shapes
    ///
    /// - `feeds`: S contexts, and ids of any numbers after what each has read
    /// - output: `[S, V]`
    ///
    /// # Panics
    ///
    /// If there are no contexts, no ids for one of them, or an id is outside the vocabulary.
    pub fn step(&self, feeds: &mut [(&mut Context, &[u32])]) -> Tensor<2> {
        let block_size = self.model.config().block_size;
        let feeds = feeds.iter_mut().map(|(context, ids)| {
            let n = context.extend(ids, block_size);
            let Context { ids, slot } = &mut **context;
            Feed { slot, ids: &ids[ids.len() - n..] }
        });
        let most = if has_fused_operations(&self.model.devices()[0]) { INVARIANT_ROWS } else { usize::MAX };
        let logits = in_steps(feeds.collect(), most).into_iter().map(|mut step| self.model.step(&mut step));
        Tensor::cat(logits.collect(), 0)
    }
}

/// The feeds in steps of at most `most` rows, or of one feed that has more.
fn in_steps(feeds: Vec<Feed<'_>>, most: usize) -> Vec<Vec<Feed<'_>>> {
    let mut steps: Vec<Vec<Feed<'_>>> = Vec::new();
    let mut n_rows = most;
    for feed in feeds {
        n_rows = n_rows.saturating_add(feed.ids.len());
        match steps.last_mut() {
            Some(step) if n_rows <= most => step.push(feed),
            _ => {
                n_rows = feed.ids.len();
                steps.push(vec![feed]);
            }
        }
    }
    steps
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
