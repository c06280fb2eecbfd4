//! The angles of rotary positions.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Cosines and sines by which queries and keys are rotated, so that their dot products depend on how far apart they are
/// ([Su et al., 2021](https://arxiv.org/abs/2104.09864)).
///
/// Channel i of the first half of a head is paired with channel i of the second half, as Llama and Qwen have it in
/// Hugging Face's layout, and rotated by `position · theta^(-2i / D)`. A clone shares the angles.
#[derive(Clone)]
pub struct RopeAngles {
    /// [`CHUNK`](Self::CHUNK) positions each, computed at the first use: a model may have room for far more positions than
    /// are ever read.
    chunks: Arc<[OnceLock<Box<[f32]>>]>,
    n_positions: usize,
    head_dim: usize,
    theta: f64,
}

impl RopeAngles {
    /// Positions whose angles are computed together.
    pub const CHUNK: usize = 256;

    /// The angles of `n_positions` positions of heads that are `head_dim` wide.
    ///
    /// # Panics
    ///
    /// If `head_dim` is odd or 0.
    pub fn new(head_dim: usize, n_positions: usize, theta: f64) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "{head_dim} channels are no pairs");
        let chunks = (0..n_positions.div_ceil(Self::CHUNK)).map(|_| OnceLock::new()).collect();
        Self { chunks, n_positions, head_dim, theta }
    }

    /// Number of positions with angles.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Width of a head, D.
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
