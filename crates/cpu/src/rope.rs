//! The rotation angles of RoPE.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Cosines and sines of rotary position embeddings: queries and keys are rotated by them, so that attention scores
/// depend on relative positions ([Su et al., 2021](https://arxiv.org/abs/2104.09864)).
///
/// Channel i of the first half of a head is paired with channel i of the second half, as in the Hugging Face layout of
/// Llama and Qwen, and rotated by `position · theta^(-2i / D)`. Clones share the angles.
#[derive(Clone)]
pub struct RopeAngles {
    /// [`CHUNK`](Self::CHUNK) positions each, computed at first use: a model may support far more positions than are
    /// used.
    chunks: Arc<[OnceLock<Box<[f32]>>]>,
    n_positions: usize,
    head_dim: usize,
    theta: f64,
}

impl RopeAngles {
    /// Positions whose angles are computed together.
    pub const CHUNK: usize = 256;

    /// The angles of `n_positions` positions, for heads of `head_dim` channels.
    ///
    /// # Panics
    ///
    /// If `head_dim` is odd or 0.
    pub fn new(head_dim: usize, n_positions: usize, theta: f64) -> Self {
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(2),
            "RoPE needs an even head dimension (got {head_dim})"
        );
        let chunks = (0..n_positions.div_ceil(Self::CHUNK)).map(|_| OnceLock::new()).collect();
        Self { chunks, n_positions, head_dim, theta }
    }

    /// Number of positions with angles.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Head dimension, D.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Cosines and sines of a position, D/2 each.
    #[inline(always)]
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let chunk = self.chunks[position / Self::CHUNK].get_or_init(|| self.chunk(position / Self::CHUNK));
        chunk[position % Self::CHUNK * self.head_dim..][..self.head_dim].split_at(self.head_dim / 2)
    }

    /// `[CHUNK, D]`: for each position, D/2 cosines and D/2 sines.
    #[inline(never)]
    fn chunk(&self, chunk: usize) -> Box<[f32]> {
        let angle = |position: usize, pair: usize| {
            position as f64 * self.theta.powf(-2.0 * pair as f64 / self.head_dim as f64)
        };
        let row = |position| {
            let cosines = (0..self.head_dim / 2).map(move |pair| angle(position, pair).cos());
            cosines.chain((0..self.head_dim / 2).map(move |pair| angle(position, pair).sin()))
        };
        #[expect(clippy::cast_possible_truncation, reason = "factors of f32 values, computed in f64")]
        (chunk * Self::CHUNK..(chunk + 1) * Self::CHUNK).flat_map(row).map(|factor| factor as f32).collect()
    }
}

impl fmt::Debug for RopeAngles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RopeAngles")
            .field("n_positions", &self.n_positions)
            .field("head_dim", &self.head_dim)
            .field("theta", &self.theta)
            .finish()
    }
}
