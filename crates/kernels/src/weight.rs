//! The weight of a linear layer, as one tensor or in blocks.

use std::sync::Arc;

use burn::prelude::*;
use cpu::{Factor, RowBlock};

/// The weight of a linear layer, `[C_out, C_in]`.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a short-lived view")]
pub enum Weight<'a> {
    /// One tensor.
    Dense(Tensor<2>),
    /// Without a gradient of its own.
    Blocks(&'a RowBlocks),
}

/// Stacked blocks of rows.
#[derive(Debug, Clone)]
pub struct RowBlocks(Arc<[RowBlock]>);

impl RowBlocks {
    /// Stacks blocks.
    ///
    /// # Panics
    ///
    /// If there is no block, or the blocks differ in `C_in`.
    pub fn new(blocks: Vec<RowBlock>) -> Self {
        let [_, n_in] = blocks.first().expect("a weight has at least one block").dims();
        for [_, width] in blocks.iter().map(RowBlock::dims) {
            assert_eq!(width, n_in, "one block takes {width} inputs, another {n_in}");
        }
        Self(blocks.into())
    }

    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        let [_, n_in] = self.0[0].dims();
        [self.0.iter().map(|block| block.dims()[0]).sum(), n_in]
    }

    /// A copy as one tensor.
    pub fn dense(&self, device: &Device) -> Tensor<2> {
        let dense =
            |block: &RowBlock| Tensor::from_data(TensorData::new(block.to_vec(), block.dims()), device);
        Tensor::cat(self.0.iter().map(dense).collect(), 0)
    }

    /// The rows with these indices, as a table `[N, C_in]`.
    ///
    /// # Panics
    ///
    /// If an index is not below `C_out`.
    pub(crate) fn rows(&self, indices: &[usize], device: &Device) -> Tensor<2> {
        let [n_out, n_in] = self.dims();
        let mut rows = vec![0.0; indices.len() * n_in];
        for (&index, out) in indices.iter().zip(rows.chunks_exact_mut(n_in)) {
            assert!(index < n_out, "row {index} is outside the weight of {n_out} rows");
            let mut row = index;
            let block = self.0.iter().find(|block| {
                let n_rows = block.dims()[0];
                let is_inside = row < n_rows;
                row -= if is_inside { 0 } else { n_rows };
                is_inside
            });
            block.expect("the blocks cover all rows").copy_row(row, out);
        }
        Tensor::from_data(TensorData::new(rows, [indices.len(), n_in]), device)
    }

    /// The right factors of a product with rows of inputs, `[C_in, C_out]` in parts.
    pub(crate) fn factors(&self) -> Vec<Factor<'_>> {
        self.0.iter().map(RowBlock::factor).collect()
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(RowBlock::size_bytes).sum()
    }
}

impl Weight<'_> {
    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Blocks(blocks) => blocks.dims(),
        }
    }

    /// The size of the stored weight, in bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Dense(weight) => (weight.shape().num_elements() * weight.dtype().size()) as u64,
            Self::Blocks(blocks) => blocks.0.iter().map(|block| block.size_bytes() as u64).sum(),
        }
    }

    /// The weight on a device that does not record gradients.
    pub(crate) fn inner(self) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.inner()),
            blocks @ Self::Blocks(_) => blocks,
        }
    }

    /// The weight as one tensor; blocks are copied.
    pub(crate) fn dense(&self, device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone(),
            Self::Blocks(blocks) => blocks.dense(device),
        }
    }
}

impl From<Tensor<2>> for Weight<'_> {
    fn from(weight: Tensor<2>) -> Self {
        Self::Dense(weight)
    }
}

impl<'a> From<&'a RowBlocks> for Weight<'a> {
    fn from(blocks: &'a RowBlocks) -> Self {
        Self::Blocks(blocks)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};
    use bytes::Bytes;
    use cpu::WeightOrder;

    use super::*;
    use crate::{
        Activation, LmHead, Precision, embed, linear, linear_activate, linear_residual,
        testing::{test_device, test_tolerance},
    };

    /// A block in the order of a file.
    fn block(matrix: Tensor<2>, order: WeightOrder) -> RowBlock {
        let dims = matrix.dims();
        let matrix = if order == WeightOrder::InOut { matrix.transpose() } else { matrix };
        let values: Vec<f32> = matrix.into_data().try_into_vec().unwrap();
        RowBlock::new(Bytes::from_owner(AsBytes(values)), dims, order).unwrap()
    }

    /// Bytes that are aligned for f32.
    struct AsBytes(Vec<f32>);

    impl AsRef<[u8]> for AsBytes {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    #[test]
    fn a_weight_in_blocks_equals_the_weight() {
        let device = test_device();
        device.seed(1);
        let (n_in, heights) = (37, [24, 8, 16]);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
        let parts = heights.map(|height| random([height, n_in]));
        let weight = Tensor::cat(parts.to_vec(), 0);
        let bias = random([1, 48]).reshape([48]);
        for orders in [
            [WeightOrder::OutIn; 3],
            [WeightOrder::InOut; 3],
            [WeightOrder::OutIn, WeightOrder::InOut, WeightOrder::OutIn],
        ] {
            let blocks = parts.iter().zip(orders).map(|(part, order)| block(part.clone(), order));
            let blocks = RowBlocks::new(blocks.collect());
            assert_eq!(blocks.dims(), [48, n_in]);
            assert_eq!(blocks.dense(&device).into_data(), weight.clone().into_data());
            // One row, a few rows, and enough rows that the weight is packed.
            for n_rows in [1, 5, 70] {
                let (x, residual) = (random([n_rows, n_in]), random([n_rows, 48]));
                let targets = Tensor::<1, Int>::arange(0..n_rows as i64, &device) % 48;
                let all = |weight: Weight<'_>| {
                    let (x, f32, bias) = (|| x.clone(), Precision::F32, || Some(bias.clone()));
                    [
                        linear(x(), weight.clone(), bias(), f32),
                        linear_residual(x(), weight.clone(), bias(), 0.0, residual.clone(), f32),
                        linear_activate(x(), weight.clone(), bias(), Activation::Gelu, f32),
                        linear_activate(x(), weight.clone(), bias(), Activation::Swiglu, f32),
                        LmHead::new(weight.clone()).logits(x(), f32),
                        LmHead::new(weight).logprobs(x(), targets.clone(), f32).unsqueeze(),
                    ]
                };
                for (found, expected) in all((&blocks).into()).into_iter().zip(all(weight.clone().into())) {
                    // Sums of 37 products of at most one.
                    let close = Tolerance::rel_abs(1e-5, test_tolerance(1e-5));
                    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), close);
                }
            }
        }
    }

    #[test]
    fn the_gradient_of_the_input_passes_blocks() {
        let device = test_device().autodiff();
        device.seed(3);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
        let parts = [random([24, 37]), random([16, 37])];
        let weight = Tensor::cat(parts.to_vec(), 0);
        let plain = test_device();
        let blocks = parts.map(|part| block(Tensor::from_data(part.into_data(), &plain), WeightOrder::OutIn));
        let blocks = RowBlocks::new(blocks.into());
        for n_rows in [3, 70] {
            let (x, residual, bias) =
                (random([n_rows, 37]), random([n_rows, 40]), random([1, 40]).reshape([40]));
            let gradients = |weight: Weight<'_>| {
                let [x, residual] = [&x, &residual].map(|tensor| tensor.clone().require_grad());
                let bias = bias.clone().require_grad();
                let y = linear_residual(
                    x.clone(),
                    weight.clone(),
                    Some(bias.clone()),
                    0.0,
                    residual.clone(),
                    Precision::F32,
                );
                let z = linear_activate(x.clone(), weight.clone(), None, Activation::Swiglu, Precision::F32);
                let targets = Tensor::<1, Int>::arange(0..n_rows as i64, &test_device()) % 40;
                let loss = LmHead::new(weight).loss(x.clone(), targets.autodiff(), Precision::F32) * 9.0;
                let gradients = (y.powi_scalar(2).sum() + z.powi_scalar(2).sum() + loss).backward();
                let of = |tensor: &Tensor<2>| tensor.grad(&gradients).expect("it requires a gradient");
                [of(&x), of(&residual), bias.grad(&gradients).expect("it requires a gradient").unsqueeze()]
            };
            for (found, expected) in
                gradients((&blocks).into()).into_iter().zip(gradients(weight.clone().into()))
            {
                let close = Tolerance::rel_abs(1e-4, test_tolerance(1e-4));
                found.into_data().assert_approx_eq::<f32>(&expected.into_data(), close);
            }
        }
    }

    #[test]
    fn an_embedding_in_blocks_equals_the_embedding() {
        let device = test_device();
        device.seed(2);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, &device);
        let parts = [random([5, 6]), random([3, 6])];
        let table = Tensor::cat(parts.to_vec(), 0);
        let ids = Tensor::<2, Int>::from_ints([[0, 7, 4], [5, 5, 2]], &device);
        let positions = random([3, 6]);
        for orders in [[WeightOrder::OutIn; 2], [WeightOrder::InOut, WeightOrder::OutIn]] {
            let blocks = parts.iter().zip(orders).map(|(part, order)| block(part.clone(), order));
            let blocks = RowBlocks::new(blocks.collect());
            let embed =
                |table: Weight<'_>| embed(ids.clone(), table, Some(positions.clone()), None, 0.0).into_data();
            assert_eq!(embed((&blocks).into()), embed(table.clone().into()));
        }
    }

    #[test]
    #[should_panic(expected = "row 8 is outside the weight of 8 rows")]
    fn a_token_beyond_the_blocks_is_refused() {
        let device = test_device();
        let blocks = RowBlocks::new(vec![block(Tensor::ones([8, 2], &device), WeightOrder::OutIn)]);
        embed(Tensor::<2, Int>::from_ints([[8]], &device), &blocks, None, None, 0.0);
    }

    #[test]
    #[should_panic(expected = "one block takes 4 inputs, another 3")]
    fn blocks_must_take_the_same_inputs() {
        let device = test_device();
        let blocks = [3, 4].map(|n_in| block(Tensor::ones([2, n_in], &device), WeightOrder::OutIn));
        RowBlocks::new(blocks.into());
    }
}
