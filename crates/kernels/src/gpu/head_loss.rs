//! The loss of the output head in chunks, with its gradients computed in the same pass.

use std::{ops::Range, sync::Arc};

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    prelude::Shape,
    tensor::{FloatDType, TensorData},
};

use super::{
    kernels::GpuKernels,
    primitive::{chunks, narrow, narrow_int, operand, reshaped},
};
use crate::Precision;

/// The arguments of [`super::GpuOps::head_loss_in_chunks`].
#[derive(Debug, Clone)]
pub(super) struct HeadLoss<B: Backend> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) weight: FloatTensor<B>,
    pub(super) targets: IntTensor<B>,
    /// Weights of the rows, `[N]`. Without them the loss is the mean.
    pub(super) row_weights: Option<Arc<[f32]>>,
    pub(super) n_rows: usize,
    pub(super) precision: Precision,
}

/// The gradients of the hidden rows and of the weight.
pub(super) type LossGradients<B> = [Option<FloatTensor<B>>; 2];

/// A chunk of rows.
struct Chunk<B: Backend> {
    /// `[R, C]`, in the precision of products.
    hidden: FloatTensor<B>,
    /// `[R, V]`, in the precision of products.
    logits: FloatTensor<B>,
    /// `[R, 1]`.
    targets: IntTensor<B>,
    /// `[R, 1]`.
    row_weights: FloatTensor<B>,
}

impl<B: GpuKernels> HeadLoss<B> {
    /// The mean or weighted sum over all rows, `[1]`.
    pub(super) fn loss(self) -> FloatTensor<B> {
        let head = self.head();
        let losses = self
            .chunks(&head)
            .map(|Chunk { logits, targets, row_weights, .. }| B::row_losses(logits, targets, row_weights));
        sum::<B>(losses.collect())
    }

    /// The mean or weighted sum over all rows, `[1]`, its gradient with respect to the hidden rows and, if requested, to the weight.
    pub(super) fn loss_and_gradients(self, of_weight: bool) -> (FloatTensor<B>, LossGradients<B>) {
        let head = self.head();
        let (mut losses, mut d_hiddens, mut d_weight) = (Vec::new(), Vec::new(), None);
        for Chunk { hidden, logits, targets, row_weights } in self.chunks(&head) {
            let (losses_here, d_logits) =
                B::row_losses_with_gradients(logits, targets, row_weights, self.precision);
            losses.push(losses_here);
            d_hiddens.push(B::product(d_logits.clone(), head.clone(), Precision::F32));
            if !of_weight {
                continue;
            }
            let here = B::product(B::float_transpose(d_logits), hidden, Precision::F32);
            d_weight = Some(match d_weight {
                None => here,
                Some(sum) => B::float_add(sum, here),
            });
        }
        (sum::<B>(losses), [Some(joined::<B>(d_hiddens)), d_weight])
    }

    /// The weight in the precision of products, `[V, C]`.
    fn head(&self) -> FloatTensor<B> {
        operand::<B>(self.weight.clone(), self.precision)
    }

    fn chunks(&self, head: &FloatTensor<B>) -> impl Iterator<Item = Chunk<B>> {
        let n = self.hidden.shape()[0];
        let all = operand::<B>(self.hidden.clone(), self.precision);
        let row_weights = self.row_weights(n);
        let targets = B::int_reshape(self.targets.clone(), Shape::new([n, 1]));
        chunks(n, self.n_rows).map(move |rows: Range<usize>| {
            let hidden = narrow::<B>(all.clone(), 0, rows.clone());
            Chunk {
                logits: B::float_matmul(hidden.clone(), B::float_transpose(head.clone())),
                hidden,
                targets: narrow_int::<B>(targets.clone(), 0, rows.clone()),
                row_weights: narrow::<B>(row_weights.clone(), 0, rows),
            }
        })
    }

    /// The weights of all rows, `[N, 1]`.
    fn row_weights(&self, n: usize) -> FloatTensor<B> {
        let device = self.hidden.device();
        match &self.row_weights {
            Some(weights) => B::float_from_data(TensorData::new(weights.to_vec(), [n, 1]), &device),
            None => B::float_full(Shape::new([n, 1]), (1.0 / n as f64).into(), &device, FloatDType::F32),
        }
    }
}

/// The sum of the losses of all chunks, `[1]`.
fn sum<B: Backend>(losses: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    reshaped::<B, 1>(B::float_sum(joined::<B>(losses)), [1])
}

/// Chunks of rows as one tensor.
fn joined<B: Backend>(mut chunks: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    if chunks.len() == 1 { chunks.remove(0) } else { B::float_cat(chunks, 0) }
}
