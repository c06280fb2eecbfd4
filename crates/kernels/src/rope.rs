//! Rotary position embeddings (RoPE).

use std::sync::{Arc, Mutex, PoisonError};

use burn::prelude::*;
use cpu::{Documents, RopeAngles};

use crate::indices::index_tensor;

/// [`RopeAngles`], and their tables on devices. Clones share both.
#[derive(Debug, Clone)]
pub struct Rope {
    angles: RopeAngles,
    tables: Arc<Mutex<Vec<Table>>>,
}

/// Cosines and sines of the first positions on a device, `[positions, D/2]` each.
#[derive(Debug)]
struct Table {
    device: Device,
    cosines: Tensor<2>,
    sines: Tensor<2>,
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
        let factors = self.on(&x.device().inner(), first + time).map(|factors| {
            let [n_positions, _] = factors.dims();
            let is_all = (first, time) == (0, n_positions);
            let factors = if is_all { factors } else { factors.narrow(0, first, time) };
            factors.unsqueeze::<4>() // [1, 1, T, D/2]
        });
        rotated(x, factors)
    }

    /// Rotates queries and keys, `[B, .., T, D]` each, by their positions in documents.
    pub(crate) fn rotate_documents(&self, heads: [Tensor<4>; 2], documents: &Documents) -> [Tensor<4>; 2] {
        let [batch, _, time, head_dim] = heads[0].dims();
        let device = heads[0].device().inner();
        let positions = index_tensor(documents.positions(), &device);
        let factors = self
            .on(&device, documents.longest())
            .map(|factors| factors.select(0, positions.clone()).reshape([batch, 1, time, head_dim / 2]));
        heads.map(|heads| rotated(heads, factors.clone()))
    }

    /// Cosines and sines of at least the positions before `end`, as constants on a device without autodiff. They are
    /// cached per device.
    pub(crate) fn on(&self, device: &Device, end: usize) -> [Tensor<2>; 2] {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.device == *device);
        if let Some(Table { cosines, sines, .. }) = place.map(|place| &tables[place])
            && cosines.dims()[0] >= end
        {
            return [cosines.clone(), sines.clone()];
        }
        let n_positions = end.next_multiple_of(RopeAngles::CHUNK).min(self.angles.n_positions());
        let half = self.angles.head_dim() / 2;
        let [mut cosines, mut sines] = [(); 2].map(|()| Vec::with_capacity(n_positions * half));
        for position in 0..n_positions {
            let (cos, sin) = self.angles.at(position);
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

/// Rotates `[B, H, T, D]` by cosines and sines, `[.., T, D/2]` each.
fn rotated(x: Tensor<4>, [cos, sin]: [Tensor<4>; 2]) -> Tensor<4> {
    let [_, _, _, head_dim] = x.dims();
    let half = head_dim / 2;
    let [a, b] = [0, half].map(|start| x.clone().narrow(3, start, half));
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
            rope.tables.lock().unwrap().iter().map(|table| table.sines.dims()[0]).collect()
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
