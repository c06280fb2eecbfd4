//! The KV caches of ended samples, whose common prefix with a new prompt need not be processed again.

use std::collections::VecDeque;

use model::{Context, Decoder};

/// Tokens of a prompt that the model processes at a time.
///
/// Longer pieces prefill faster (256 reaches 94 % of the speed of one piece), but other samples wait for them. Pieces
/// end at multiples of this number, so they and the rounding of their products depend on the prompt alone.
pub(crate) const PIECE: usize = 256;

/// A shorter common prefix is not worth a copy.
const MIN_REUSED: usize = 8;

/// A context, and how many of its first tokens were processed in whole pieces of a prompt.
#[derive(Debug)]
pub(crate) struct CachedContext {
    pub(crate) context: Context,
    /// A multiple of [`PIECE`]. Another prompt with the same tokens would give the same keys and values, bit for bit.
    pub(crate) n_exact: usize,
}

impl CachedContext {
    fn new(decoder: &Decoder) -> Self {
        Self { context: decoder.context(), n_exact: 0 }
    }

    /// Number of tokens that the next piece of pending tokens has.
    pub(crate) fn next_piece(&self) -> usize {
        (PIECE - self.context.n_cached() % PIECE).min(self.context.n_pending())
    }

    /// Number of tokens that can be reused for a prompt. Its last token is processed in any case.
    fn n_reusable(&self, prompt: &[u32], reuse: Reuse) -> usize {
        let n = self.context.n_reusable(&prompt[..prompt.len() - 1]);
        let n = match reuse {
            Reuse::Nothing => 0,
            Reuse::Exact => n.min(self.n_exact) / PIECE * PIECE,
            Reuse::All => n,
        };
        if n < MIN_REUSED { 0 } else { n }
    }

    /// A copy of the first `len` tokens.
    pub(crate) fn prefix(&self, len: usize) -> Self {
        Self { context: self.context.prefix(len), n_exact: self.n_exact.min(len / PIECE * PIECE) }
    }

    fn truncate(&mut self, len: usize) {
        self.context.truncate(len);
        self.n_exact = self.n_exact.min(len / PIECE * PIECE);
    }
}

/// The keys and values that a sample may reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// None, as when every position needs logits.
    Nothing,
    /// Only values that the prompt alone would give, bit for bit.
    Exact,
    /// All of equal tokens. Their rounding depends on how they were processed.
    All,
}

/// The contexts of ended samples, the least recently used first.
#[derive(Debug, Default)]
pub(crate) struct ContextCache(VecDeque<CachedContext>);

impl ContextCache {
    /// Keeps the context of an ended sample.
    pub(crate) fn keep(&mut self, context: CachedContext) {
        self.0.push_back(context);
    }

    /// Drops the least recently used contexts beyond `n`.
    pub(crate) fn shrink_to(&mut self, n: usize) {
        self.0.drain(..self.0.len().saturating_sub(n));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Context> {
        self.0.iter().map(|cached| &cached.context)
    }

    /// A context that starts with the longest reusable prefix of a prompt, from an ended or a running sample. `n_free`
    /// slots are free for it and the contexts here.
    pub(crate) fn start<'r>(
        &mut self,
        prompt: &[u32],
        reuse: Reuse,
        decoder: &Decoder,
        n_free: usize,
        running: impl Iterator<Item = &'r CachedContext>,
    ) -> CachedContext {
        let n_reusable = |cached: &CachedContext| cached.n_reusable(prompt, reuse);
        let from_running = running.map(|cached| (n_reusable(cached), cached)).max_by_key(|&(n, _)| n);
        let ended = self.0.iter().enumerate().map(|(idx, cached)| (n_reusable(cached), idx));
        match (from_running, ended.max_by_key(|&(n, _)| n)) {
            (Some((n, cached)), ended) if n > 0 && ended.is_none_or(|(n_ended, _)| n > n_ended) => {
                cached.prefix(n)
            }
            (_, Some((n, idx))) if n > 0 => self.reuse(idx, n),
            _ => self.recycle(n_free).unwrap_or_else(|| CachedContext::new(decoder)),
        }
    }

    /// The least recently used context, emptied, if a new one would need its slot. Its memory is not allocated again.
    fn recycle(&mut self, n_free: usize) -> Option<CachedContext> {
        if self.0.len() < n_free {
            return None;
        }
        let mut oldest = self.0.pop_front()?;
        oldest.truncate(0);
        Some(oldest)
    }

    /// Takes the context at `idx` if most of it is reused, or else copies the prefix.
    fn reuse(&mut self, idx: usize, n: usize) -> CachedContext {
        let mut cached = self.0.remove(idx).expect("the index is in range");
        if 2 * n < cached.context.n_cached() {
            let prefix = cached.prefix(n);
            self.0.push_back(cached);
            return prefix;
        }
        cached.truncate(n);
        cached
    }
}
