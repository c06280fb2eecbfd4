//! Rotary positions.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use burn::prelude::*;

/// Cosines and sines by which queries and keys are rotated, so that their products depend on how far apart they are
/// ([Su et al., 2021](https://arxiv.org/abs/2104.09864)).
///
/// Channel i of the first half of a head is paired with channel i of the second half, as Llama and Qwen have it in
/// Hugging Face's layout, and turned by `position · theta^(-2i / D)`.
#[derive(Clone)]
pub struct Rope {
    /// Of [`CHUNK`] positions each, made when the first of them is asked for: a model may have room for far more
    /// positions than are ever read.
    chunks: Arc<[OnceLock<Box<[f32]>>]>,
    /// Those that a device has, of the positions that were asked for there.
    tables: Arc<Mutex<Vec<Table>>>,
    n_positions: usize,
    head_dim: usize,
    theta: f64,
}

/// Cosines and sines of the first positions on a device, `[positions, D/2]` each.
struct Table {
    device: Device,
    cosines: Tensor<2>,
    sines: Tensor<2>,
}

/// Positions whose angles are made together.
const CHUNK: usize = 256;

impl Rope {
    /// The angles of `n_positions` positions of heads that are `head_dim` wide.
    ///
    /// # Panics
    ///
    /// If `head_dim` is odd or 0.
    pub fn new(head_dim: usize, n_positions: usize, theta: f64) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "{head_dim} channels are no pairs");
        let chunks = (0..n_positions.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Self { chunks, tables: Arc::default(), n_positions, head_dim, theta }
    }

    /// Number of positions it has angles for.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Width of the heads it is for.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Cosines and sines of a position, D/2 each.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let chunk = self.chunks[position / CHUNK].get_or_init(|| self.chunk(position / CHUNK));
        chunk[position % CHUNK * self.head_dim..][..self.head_dim].split_at(self.head_dim / 2)
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
        #[expect(clippy::cast_possible_truncation, reason = "factors of f32 numbers, computed in f64")]
        (chunk * CHUNK..(chunk + 1) * CHUNK).flat_map(row).map(|factor| factor as f32).collect()
    }

    /// Rotates heads `[B, H, T, D]`, the first of which are at position `first`.
    pub(crate) fn rotate(&self, x: Tensor<4>, first: usize) -> Tensor<4> {
        let [_, _, time, head_dim] = x.dims();
        let half = head_dim / 2;
        let [cos, sin] = self.on(&x.device().inner(), first + time).map(|factors| {
            let [n_positions, _] = factors.dims();
            let is_all = (first, time) == (0, n_positions);
            let factors = if is_all { factors } else { factors.narrow(0, first, time) };
            factors.unsqueeze::<4>() // [1, 1, T, D/2]
        });
        let [a, b] = [0, half].map(|start| x.clone().narrow(3, start, half));
        Tensor::cat(vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin], 3)
    }

    /// Cosines and sines of all positions up to `end`, or of more, on a device, which keeps them: what a step needs is
    /// there from the step before. They are constants, on the device without autodiff.
    fn on(&self, device: &Device, end: usize) -> [Tensor<2>; 2] {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.device == *device);
        if let Some(Table { cosines, sines, .. }) = place.map(|place| &tables[place])
            && cosines.dims()[0] >= end
        {
            return [cosines.clone(), sines.clone()];
        }
        let n_positions = end.next_multiple_of(CHUNK).min(self.n_positions);
        let half = self.head_dim / 2;
        let [mut cosines, mut sines] = [(); 2].map(|()| Vec::with_capacity(n_positions * half));
        for position in 0..n_positions {
            let (cos, sin) = self.at(position);
            cosines.extend_from_slice(cos);
            sines.extend_from_slice(sin);
        }
        let [cosines, sines] = [cosines, sines]
            .map(|factors| Tensor::<2>::from_data(TensorData::new(factors, [n_positions, half]), device));
        let table = Table { device: device.clone(), cosines: cosines.clone(), sines: sines.clone() };
        match place {
            Some(place) => tables[place] = table,
            None => tables.push(table),
        }
        [cosines, sines]
    }
}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rope")
            .field("n_positions", &self.n_positions)
            .field("head_dim", &self.head_dim)
            .field("theta", &self.theta)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::test_device;

    #[test]
    fn products_depend_on_the_distance_alone() {
        let device = test_device();
        device.seed(1);
        let rope = Rope::new(6, 300, 100.0);
        let [q, k] = [(); 2].map(|()| Tensor::random([1, 1, 1, 6], Distribution::Normal(0.0, 1.0), &device));
        let product = |at_q: usize, at_k: usize| {
            let product = rope.rotate(q.clone(), at_q) * rope.rotate(k.clone(), at_k);
            product.sum().into_data()
        };
        // 250 and 9 more are in two chunks.
        for first in [1, 7, 250] {
            // Six products of order one.
            product(first + 9, first).assert_approx_eq::<f32>(&product(9, 0), Tolerance::absolute(3e-6));
        }
        assert_ne!(product(9, 0), product(8, 0));
    }

    #[test]
    fn a_device_keeps_the_angles_of_the_positions_that_were_read() {
        let device = test_device();
        device.seed(2);
        let x: Tensor<4> = Tensor::random([2, 3, 40, 6], Distribution::Normal(0.0, 1.0), &device);
        let rope = Rope::new(6, 600, 100.0);
        let rows = |rope: &Rope| -> Vec<usize> {
            rope.tables.lock().unwrap().iter().map(|table| table.sines.dims()[0]).collect()
        };
        // Those of a chunk, and no more of them for a position in it; a clone has the same ones.
        for (first, expected) in [(0, 256), (7, 256), (216, 256), (217, 512), (0, 512), (560, 600)] {
            let turned = rope.clone().rotate(x.clone(), first).into_data();
            assert_eq!(turned, Rope::new(6, 600, 100.0).rotate(x.clone(), first).into_data(), "{first}");
            assert_eq!(rows(&rope), [expected]);
        }
        // Each step of training has the same angles on the way back as well.
        let x = x.autodiff();
        for _ in 0..2 {
            let leaf = x.clone().detach().require_grad();
            let gradients = (rope.rotate(leaf.clone(), 3) * 2.0).sum().backward();
            let back = leaf.grad(&gradients).unwrap();
            // A gradient is turned the other way: the sum of its squares stays.
            let squares: f32 = back.square().sum().into_scalar();
            assert!((squares / (4.0 * 2.0 * 3.0 * 40.0 * 6.0) - 1.0).abs() < 1e-5, "{squares}");
        }
        assert_eq!(
            rows(&rope),
            [600],
            "they are constants, so there are no others for tensors that are followed"
        );
    }

    #[test]
    fn halves_are_paired() {
        // Channel 0 with channel 2 turns by a radian a position, channel 1 with channel 3 by a tenth.
        let rope = Rope::new(4, 3, 100.0);
        let x = Tensor::<4>::from_data([[[[1.0, 0.0, 0.0, 1.0]]]], &test_device());
        let expected = [2f32.cos(), -0.2f32.sin(), 2f32.sin(), 0.2f32.cos()];
        let turned = rope.rotate(x, 2).reshape([-1]);
        turned.into_data().assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::absolute(1e-6));
    }
}
