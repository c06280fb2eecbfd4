//! Rotary position embeddings (RoPE).

use std::sync::{Arc, Mutex, PoisonError};

use burn::prelude::*;
use cpu::RopeAngles;

/// [`RopeAngles`], and their tables on devices. Clones share both.
#[derive(Debug, Clone)]
pub struct Rope {
    angles: RopeAngles,
    tables: Arc<Mutex<Vec<Table>>>,
}

/// The angles of the first positions on a device.
#[derive(Debug)]
struct Table {
    device: Device,
    angles: Tensor<2>,
}

impl Rope {
    /// The angles of `n_positions` positions, for heads of `head_dim` channels.
    ///
    /// # Panics
    ///
    /// If `head_dim` is odd or 0.
    pub fn new(head_dim: usize, n_positions: usize, theta: f64) -> Self {
        Self { angles: RopeAngles::new(head_dim, n_positions, theta), tables: Arc::default() }
    }

    /// The angles, as the CPU operations read them.
    pub fn angles(&self) -> &RopeAngles {
        &self.angles
    }

    /// Rotates `[B, H, T, D]`, with the first row at position `first`.
    pub(crate) fn rotate(&self, x: Tensor<4>, first: usize) -> Tensor<4> {
        let [_, _, time, _] = x.dims();
        let angles = self.on(&x.device().inner(), first + time).narrow(0, first, time);
        rotated(x, angles.unsqueeze())
    }

    /// Whether two values are clones of each other.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tables, &other.tables)
    }

    /// The D/2 cosines and D/2 sines of at least the positions before `end`, `[positions, D]`, as a constant on a device
    /// without autodiff. It is cached per device.
    pub(crate) fn on(&self, device: &Device, end: usize) -> Tensor<2> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.device == *device);
        if let Some(Table { angles, .. }) = place.map(|place| &tables[place])
            && angles.dims()[0] >= end
        {
            return angles.clone();
        }
        let n_positions = end.next_multiple_of(RopeAngles::CHUNK).min(self.angles.n_positions());
        let head_dim = self.angles.head_dim();
        let mut angles = Vec::with_capacity(n_positions * head_dim);
        for position in 0..n_positions {
            let (cosines, sines) = self.angles.at(position);
            angles.extend_from_slice(cosines);
            angles.extend_from_slice(sines);
        }
        let angles = Tensor::<2>::from_data(TensorData::new(angles, [n_positions, head_dim]), device);
        let table = Table { device: device.clone(), angles: angles.clone() };
        match place {
            Some(place) => tables[place] = table,
            None => tables.push(table),
        }
        angles
    }
}

/// Rotates `[B, H, T, D]` by cosines and sines, `[.., T, D]`.
pub(crate) fn rotated(x: Tensor<4>, angles: Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let halves = |x: Tensor<4>| [0, half].map(|start| x.clone().narrow(3, start, half));
    let ([a, b], [cos, sin]) = (halves(x), halves(angles));
    Tensor::cat(vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin], 3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::testing::test_device;

    #[test]
    fn dot_products_depend_only_on_the_distance() {
        let device = test_device();
        device.seed(1);
        let rope = Rope::new(6, 300, 100.0);
        let [q, k] = [(); 2].map(|()| Tensor::random([1, 1, 1, 6], Distribution::Normal(0.0, 1.0), &device));
        let product = |at_q: usize, at_k: usize| {
            let product = rope.rotate(q.clone(), at_q) * rope.rotate(k.clone(), at_k);
            product.sum().into_data()
        };
        // 250 and 259 are in two chunks.
        for first in [1, 7, 250] {
            // Six products of order one.
            product(first + 9, first).assert_approx_eq::<f32>(&product(9, 0), Tolerance::absolute(3e-6));
        }
        assert_ne!(product(9, 0), product(8, 0));
    }

    #[test]
    fn tables_are_cached_per_device() {
        let device = test_device();
        device.seed(2);
        let x: Tensor<4> = Tensor::random([2, 3, 40, 6], Distribution::Normal(0.0, 1.0), &device);
        let rope = Rope::new(6, 600, 100.0);
        let rows = |rope: &Rope| -> Vec<usize> {
            rope.tables.lock().unwrap().iter().map(|table| table.angles.dims()[0]).collect()
        };
        // A table has whole chunks and grows only if a position is beyond it; clones share it.
        for (first, expected) in [(0, 256), (7, 256), (216, 256), (217, 512), (0, 512), (560, 600)] {
            let rotated = rope.clone().rotate(x.clone(), first).into_data();
            assert_eq!(rotated, Rope::new(6, 600, 100.0).rotate(x.clone(), first).into_data(), "{first}");
            assert_eq!(rows(&rope), [expected]);
        }
        // Training steps use the same table, in the backward pass too.
        let x = x.autodiff();
        for _ in 0..2 {
            let leaf = x.clone().detach().require_grad();
            let gradients = (rope.rotate(leaf.clone(), 3) * 2.0).sum().backward();
            let back = leaf.grad(&gradients).unwrap();
            // The gradient is rotated back, which keeps its sum of squares.
            let squares: f32 = back.square().sum().into_scalar();
            assert!((squares / (4.0 * 2.0 * 3.0 * 40.0 * 6.0) - 1.0).abs() < 1e-5, "{squares}");
        }
        assert_eq!(rows(&rope), [600], "tensors with autodiff use the same table");
    }

    #[test]
    fn halves_are_paired() {
        // Channels 0 and 2 rotate by 1 radian per position, channels 1 and 3 by 0.1.
        let rope = Rope::new(4, 3, 100.0);
        let x = Tensor::<4>::from_data([[[[1.0, 0.0, 0.0, 1.0]]]], &test_device());
        let expected = [2f32.cos(), -0.2f32.sin(), 2f32.sin(), 0.2f32.cos()];
        let rotated = rope.rotate(x, 2).reshape([-1]);
        rotated.into_data().assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::absolute(1e-6));
    }
}
