//! The output head and the cross-entropy loss.

use std::sync::Arc;

use burn::{backend::Dispatch, prelude::*, tensor::activation::log_softmax};

use crate::{
    Precision, Weight,
    device::{count_gpu_path, is_fused, is_on_gpu},
    fused::FusedOps,
    gpu::GpuOps,
    linear,
    missing::missing,
};

/// The output head of a language model: the projection from hidden vectors to logits.
#[derive(Debug, Clone)]
pub struct LmHead<'a> {
    /// `[V, C]`, as a token embedding.
    weight: Weight<'a>,
}

impl<'a> LmHead<'a> {
    /// A head with the weight `[V, C]`.
    pub fn new(weight: impl Into<Weight<'a>>) -> Self {
        Self { weight: weight.into() }
    }

    /// The logits of each token.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[.., C]`
    /// - output: `[.., V]`
    pub fn logits<const D: usize>(self, hidden: Tensor<D>, precision: Precision) -> Tensor<D> {
        linear(hidden, self.weight, None, precision)
    }

    /// The mean over all rows of `-ln softmax(logits)[target]`, in nats. Logits are computed in chunks: on the CPU at
    /// most 2²⁴ logits or 64 rows, on GPUs at most 2²⁷ logits or 128 rows.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[N, C]`
    /// - `targets`: `[N]`, each below V
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// If rows and targets differ in number, a target is not below V, or the rows do not have C channels.
    pub fn loss(self, hidden: Tensor<2>, targets: Tensor<1, Int>, precision: Precision) -> Tensor<1> {
        self.reduced_loss(hidden, targets, None, precision)
    }

    /// The sum over all rows of `-ln softmax(logits)[target]` times the weight of the row, in nats. Weights may be
    /// negative, and have no gradient. Computed in chunks, as [`LmHead::loss`].
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[N, C]`
    /// - `targets`: `[N]`, each below V
    /// - `row_weights`: `[N]`
    /// - output: `[1]`
    ///
    /// # Panics
    ///
    /// As [`LmHead::loss`], or if rows and weights differ in number.
    pub fn weighted_loss(
        self,
        hidden: Tensor<2>,
        targets: Tensor<1, Int>,
        row_weights: Vec<f32>,
        precision: Precision,
    ) -> Tensor<1> {
        let [n_rows, _] = hidden.dims();
        assert_eq!(row_weights.len(), n_rows, "{} weights for {n_rows} rows", row_weights.len());
        self.reduced_loss(hidden, targets, Some(row_weights.into()), precision)
    }

    /// The mean or weighted loss.
    fn reduced_loss(
        self,
        hidden: Tensor<2>,
        targets: Tensor<1, Int>,
        row_weights: Option<Arc<[f32]>>,
        precision: Precision,
    ) -> Tensor<1> {
        let ([n_rows, width], [n_targets]) = (hidden.dims(), targets.dims());
        let [_, expected] = self.weight.dims();
        assert_eq!(width, expected, "the hidden rows have {width} channels, but the head takes {expected}");
        assert_eq!(n_targets, n_rows, "{n_targets} targets for {n_rows} rows");
        if is_fused(&hidden) {
            let (weight, blocks) = match self.weight {
                Weight::Dense(weight) => (weight.into_dispatch(), None),
                Weight::Blocks(blocks) => (missing(&hidden.device()).into_dispatch(), Some(blocks.clone())),
            };
            let (hidden, targets) = (hidden.into_dispatch(), targets.into_dispatch());
            return Tensor::from_dispatch(<Dispatch as FusedOps>::head_loss(
                hidden,
                weight,
                blocks,
                targets,
                row_weights,
                precision,
            ));
        }
        if is_on_gpu(&hidden) {
            // Even chunks of whole product tiles.
            let n_chunks = (n_rows * self.n_vocab()).div_ceil(CHUNK).max(1);
            let n_rows = n_rows.div_ceil(n_chunks).next_multiple_of(TILE);
            return self.loss_in_chunks(hidden, targets, row_weights, n_rows, precision);
        }
        let logits = self.logits(hidden, precision);
        let Some(row_weights) = row_weights else { return cross_entropy(logits, targets) };
        let row_weights = Tensor::<1>::from_floats(&row_weights[..], &logits.device());
        let logprobs = log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1));
        (logprobs.squeeze_dim(1) * row_weights).sum().neg()
    }

    /// `ln softmax(logits)[target]` of each row, on a device without gradients. Computed in chunks, as [`LmHead::loss`].
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[N, C]`
    /// - `targets`: `[N]`, each below V
    /// - output: `[N]`
    ///
    /// # Panics
    ///
    /// If rows and targets differ in number, or there are no rows.
    pub fn logprobs(self, hidden: Tensor<2>, targets: Tensor<1, Int>, precision: Precision) -> Tensor<1> {
        let ([n_rows, _], [n_targets]) = (hidden.dims(), targets.dims());
        assert_eq!(n_targets, n_rows, "{n_targets} targets for {n_rows} rows");
        let (chunk, tile) = if is_on_gpu(&hidden) { (CHUNK, TILE) } else { (CPU_CHUNK, CPU_TILE) };
        // Even chunks of whole product tiles.
        let max_rows = (chunk / self.n_vocab() / tile).max(1) * tile;
        let chunk_rows = n_rows.div_ceil(n_rows.div_ceil(max_rows)).next_multiple_of(tile);
        // On a device that records gradients, the logits of all chunks would be kept.
        let (hidden, targets) = (hidden.inner(), targets.inner());
        let head = LmHead { weight: self.weight.inner() };
        let logprobs = hidden.split(chunk_rows, 0).into_iter().zip(targets.split(chunk_rows, 0)).map(
            |(hidden, targets)| {
                let logits = head.clone().logits(hidden, precision); // [n, V]
                let targets = targets.unsqueeze_dim(1); // [n, 1]
                log_softmax(logits, 1).gather(1, targets).squeeze_dim(1)
            },
        );
        Tensor::cat(logprobs.collect(), 0)
    }

    /// As [`LmHead::loss`] or [`LmHead::weighted_loss`], in chunks of `n_rows` rows.
    pub(crate) fn loss_in_chunks(
        self,
        hidden: Tensor<2>,
        targets: Tensor<1, Int>,
        row_weights: Option<Arc<[f32]>>,
        n_rows: usize,
        precision: Precision,
    ) -> Tensor<1> {
        let weight = self.weight.dense(&hidden.device());
        let [hidden, weight] = [hidden, weight].map(Tensor::into_dispatch);
        let targets = targets.into_dispatch();
        count_gpu_path();
        Tensor::from_dispatch(<Dispatch as GpuOps>::head_loss_in_chunks(
            hidden,
            weight,
            targets,
            row_weights,
            n_rows,
            precision,
        ))
    }

    fn n_vocab(&self) -> usize {
        self.weight.dims()[0]
    }
}

/// Maximum logits of a chunk: 512 MiB.
const CHUNK: usize = 1 << 27;

/// Rows per tile of a product on a GPU.
const TILE: usize = 128;

/// As [`CHUNK`], on the CPU: 64 MiB.
const CPU_CHUNK: usize = 1 << 24;

/// As [`TILE`], on the CPU.
const CPU_TILE: usize = 64;

/// The mean over all rows of `-ln softmax(logits)[target]`, in nats.
///
/// # Shapes
///
/// - `logits`: `[N, V]`
/// - `targets`: `[N]`, each below V
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::testing::test_device;

    #[test]
    fn equal_logits_have_a_loss_of_ln_v() {
        let device = test_device();
        let loss = cross_entropy(Tensor::zeros([3, 7], &device), Tensor::from_ints([0, 3, 6], &device));
        assert!((loss.into_scalar::<f32>() - 7f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn logprobs_in_chunks_match_those_of_all_logits() {
        let device = test_device();
        let (n_vocab, n_rows, width) = (1 << 18, 150, 3); // More than one chunk.
        let weight = Tensor::<2>::random([n_vocab, width], Distribution::Default, &device);
        let hidden = Tensor::<2>::random([n_rows, width], Distribution::Normal(0.0, 2.0), &device);
        let targets = Tensor::<1, Int>::arange(0..n_rows as i64, &device) * 1000;
        let head = LmHead::new(weight.clone());
        let found = head.logprobs(hidden.clone(), targets.clone(), Precision::F32);
        let expected = log_softmax(hidden.matmul(weight.transpose()), 1).gather(1, targets.unsqueeze_dim(1));
        let tolerance = Tolerance::absolute(crate::testing::test_tolerance(1e-4));
        found.into_data().assert_approx_eq::<f32>(&expected.squeeze_dim::<1>(1).into_data(), tolerance);
    }

    #[test]
    fn gradient_is_softmax_minus_one_hot_over_n() {
        let device = test_device().autodiff();
        let logits = Tensor::<2>::from_floats([[1.0, 2.0, 0.5], [-1.0, 0.0, 300.0]], &device).require_grad();
        let loss = cross_entropy(logits.clone(), Tensor::from_ints([1, 2], &device));
        let gradient: Vec<f32> = logits
            .grad(&loss.backward())
            .expect("logits require gradients")
            .into_data()
            .try_into_vec()
            .unwrap();

        let sum: f64 = [1.0, 2.0, 0.5].into_iter().map(f64::exp).sum();
        let expected = [1f64.exp() / sum, 2f64.exp() / sum - 1.0, 0.5f64.exp() / sum, 0.0, 0.0, 0.0];
        for (got, expected) in gradient.into_iter().zip(expected) {
            assert!((f64::from(got) - expected / 2.0).abs() < 1e-6, "{got} is not {}", expected / 2.0);
        }
    }
}
