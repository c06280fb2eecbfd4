//! Decoding with a KV cache, for sequences of any length.

use burn::{module::Module, prelude::*};
use kernels::{INVARIANT_ROWS, Slot, has_fused_operations};

use crate::{Feed, Gpt, LogitRows};

/// A model that processes sequences, each with its own [`Context`].
#[derive(Debug)]
pub struct Decoder {
    model: Gpt,
    /// Maximum rows of a step with several sequences.
    max_rows: usize,
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
    /// The first positions of the window. The model has not processed the ids after them.
    slot: Slot,
}

/// The next pending tokens of a context that a step processes.
#[derive(Debug)]
pub struct Piece<'a> {
    pub context: &'a mut Context,
    /// Number of tokens, from 1 to [`Context::n_pending`].
    pub n: usize,
    pub logits: LogitRows,
}

impl Context {
    /// All tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of positions in the KV cache.
    pub fn n_cached(&self) -> usize {
        self.slot.len()
    }

    /// Number of tokens that the model must process before the logits of the next token are known.
    pub fn n_pending(&self) -> usize {
        self.ids.len() - self.window_start() - self.slot.len()
    }

    /// Number of tokens that can be appended before the window slides.
    pub fn n_until_slide(&self) -> usize {
        self.window_start() + self.block_size() - self.ids.len()
    }

    /// The memory of keys and values, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.slot.size_bytes()
    }

    /// Appends tokens, which are pending.
    pub fn push(&mut self, ids: &[u32]) {
        let start = self.window_start();
        self.ids.extend_from_slice(ids);
        if self.window_start() != start {
            self.slot.truncate(0);
        }
    }

    /// A context with the first `len` tokens of this one, and their keys and values as far as this one has them.
    ///
    /// # Panics
    ///
    /// If this context has fewer tokens.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        let start = self.window_start();
        let n_kept = if window_start(len, self.block_size()) == start { len - start } else { 0 };
        Self { ids: self.ids[..len].to_vec(), slot: self.slot.prefix(n_kept) }
    }

    /// Drops all tokens from `len` on.
    ///
    /// # Panics
    ///
    /// If there are fewer tokens.
    pub fn truncate(&mut self, len: usize) {
        let start = self.window_start();
        self.ids.truncate(len);
        assert_eq!(self.ids.len(), len, "a context can't be truncated to more tokens than it has");
        self.slot.truncate(if self.window_start() == start { len - start } else { 0 });
    }

    /// Number of leading tokens that equal `ids` and whose keys and values can be reused: 0 if the window has slid.
    pub fn n_reusable(&self, ids: &[u32]) -> usize {
        if self.window_start() > 0 {
            return 0;
        }
        self.ids[..self.slot.len()].iter().zip(ids).take_while(|(own, other)| own == other).count()
    }

    fn block_size(&self) -> usize {
        self.slot.shape().capacity
    }

    fn window_start(&self) -> usize {
        window_start(self.ids.len(), self.block_size())
    }
}

impl Decoder {
    /// A decoder with KV caches of the model's type.
    pub fn new(model: &Gpt) -> Self {
        let is_invariant = has_fused_operations(&model.devices()[0]);
        let max_rows = if is_invariant { INVARIANT_ROWS } else { usize::MAX };
        Self { model: model.valid(), max_rows }
    }

    /// An empty sequence.
    pub fn context(&self) -> Context {
        Context { ids: Vec::new(), slot: self.model.slot() }
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

    /// Appends ids to several sequences, processes all pending tokens, and returns the logits of each next token.
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
        let piece = |(context, ids): &mut (&mut Context, &[u32])| {
            context.push(ids);
            context.n_pending()
        };
        let n_pending: Vec<usize> = feeds.iter_mut().map(piece).collect();
        let pieces = feeds.iter_mut().zip(n_pending);
        let pieces = pieces.map(|((context, _), n)| Piece { context, n, logits: LogitRows::Last });
        self.process(pieces.collect()).expect("a step has at least one context")
    }

    /// Processes pending tokens of several sequences. Prefill and decoding can be mixed: a long prompt may be split
    /// into pieces, beside sequences that grow by one token per step. Returns the logits that the pieces ask for, or
    /// `None` without any.
    ///
    /// On the CPU in f32, the logits of a sequence do not depend on the other sequences, bit for bit: more than
    /// [`INVARIANT_ROWS`] rows are split into several steps. They depend on the pieces of the sequence itself, because
    /// the products of a longer piece round differently.
    ///
    /// # Shapes
    ///
    /// - output: `[R, V]`, with the R rows of all pieces in their order
    ///
    /// # Panics
    ///
    /// If a piece is empty or longer than its context's pending tokens, or an id is outside the vocabulary.
    pub fn process(&self, pieces: Vec<Piece<'_>>) -> Option<Tensor<2>> {
        let feeds = pieces.into_iter().map(|Piece { context, n, logits }| {
            let first = context.window_start() + context.slot.len();
            let Context { ids, slot } = context;
            Feed { slot, ids: &ids[first..first + n], logits }
        });
        let steps = split_into_steps(feeds.collect(), self.max_rows);
        let logits: Vec<Tensor<2>> =
            steps.into_iter().filter_map(|mut step| self.model.step(&mut step)).collect();
        (!logits.is_empty()).then(|| Tensor::cat(logits, 0))
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
