//! The loss of the output head in chunks, with its gradients computed in the same pass.

use std::{ops::Range, sync::Arc};

use burn::{
    backend::{
        Backend, TensorMetadata, get_device_settings,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::TensorData,
};

use super::primitive::{chunks, narrow, narrow_int, operand, product, reshaped};
use crate::{Precision, dropout::arange};

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

/// The forward pass of a chunk.
struct Chunk<B: Backend> {
    /// exp(logits - the maximum of each row), `[R, V]`.
    exponentials: FloatTensor<B>,
    /// The sum of each row, `[R, 1]`.
    sums: FloatTensor<B>,
    /// `[R, 1]`.
    targets: IntTensor<B>,
    /// The weights of the rows, `[R, 1]`.
    row_weights: Option<FloatTensor<B>>,
    /// The weighted sum over the rows, `[1]`.
    loss: FloatTensor<B>,
}

impl<B: Backend> HeadLoss<B> {
    /// The mean or weighted sum over all rows, `[1]`.
    pub(super) fn loss(self) -> FloatTensor<B> {
        let n = self.hidden.shape()[0];
        let hidden = operand::<B>(self.hidden.clone(), self.precision);
        let head = self.head();
        let losses = chunks(n, self.n_rows).map(|rows| {
            let hidden = narrow::<B>(hidden.clone(), 0, rows.clone());
            self.chunk(hidden, head.clone(), rows).loss
        });
        self.total(losses.collect())
    }

    /// The mean or weighted sum over all rows, `[1]`, its gradient with respect to the hidden rows and, if requested, to the weight.
    pub(super) fn loss_and_gradients(self, of_weight: bool) -> (FloatTensor<B>, LossGradients<B>) {
        let n = self.hidden.shape()[0];
        let hidden = operand::<B>(self.hidden.clone(), self.precision);
        let head = self.head();
        let (mut losses, mut d_hiddens, mut d_weight) = (Vec::new(), Vec::new(), None);
        for rows in chunks(n, self.n_rows) {
            let hidden = narrow::<B>(hidden.clone(), 0, rows.clone());
            let chunk = self.chunk(hidden.clone(), head.clone(), rows);
            let Chunk { exponentials, sums, targets, row_weights, loss } = chunk;
            losses.push(loss);

            // (softmax - one hot) / N, or with the weights of the rows in place of 1 / N.
            let device = exponentials.device();
            let (weights, others) = match row_weights {
                None => {
                    let weights = B::float_div(exponentials, B::float_mul_scalar(sums, (n as f64).into()));
                    let others = B::float_sub_scalar(weights.clone(), (1.0 / n as f64).into());
                    (weights, others)
                }
                Some(row_weights) => {
                    let weights = B::float_mul(exponentials, B::float_div(row_weights.clone(), sums));
                    (weights.clone(), B::float_sub(weights, row_weights))
                }
            };
            let columns = B::int_cast(arange::<B>(0..weights.shape()[1], &device), targets.dtype().into());
            let columns = B::int_reshape(columns, [1, weights.shape()[1]].into());
            let is_target = B::int_equal(targets, columns, get_device_settings::<B>(&device).bool_dtype);
            let d_logits = B::float_mask_where(weights, is_target, others);
            let d_logits = operand::<B>(d_logits, self.precision);

            d_hiddens.push(product::<B>(d_logits.clone(), B::float_transpose(head.clone())));
            if !of_weight {
                continue;
            }
            let here = product::<B>(B::float_transpose(d_logits), hidden);
            d_weight = Some(match d_weight {
                None => here,
                Some(sum) => B::float_add(sum, here),
            });
        }
        let d_hidden = B::float_cat(d_hiddens, 0);
        (self.total(losses), [Some(d_hidden), d_weight])
    }

    /// The transposed weight in the precision of products, `[C, V]`.
    fn head(&self) -> FloatTensor<B> {
        B::float_transpose(operand::<B>(self.weight.clone(), self.precision))
    }

    /// The forward pass of the rows `rows`, whose hidden vectors are `hidden`.
    fn chunk(&self, hidden: FloatTensor<B>, head: FloatTensor<B>, rows: Range<usize>) -> Chunk<B> {
        let n_rows = rows.len();
        let row_weights = self.row_weights.as_ref().map(|weights| {
            let weights = TensorData::new(weights[rows.clone()].to_vec(), [n_rows, 1]);
            B::float_from_data(weights, &hidden.device())
        });
        let targets = narrow_int::<B>(self.targets.clone(), 0, rows);
        let targets = B::int_reshape(targets, [n_rows, 1].into());
        let logits = product::<B>(hidden, head);
        let largest = B::float_max_dim(logits.clone(), 1);
        let shifted = B::float_sub(logits, largest);
        let target = B::float_gather(1, shifted.clone(), targets.clone());
        let exponentials = B::float_exp(shifted);
        let sums = B::float_sum_dim(exponentials.clone(), 1);
        let losses = B::float_sub(B::float_log(sums.clone()), target);
        let loss = B::float_sum(match &row_weights {
            None => losses,
            Some(row_weights) => B::float_mul(losses, row_weights.clone()),
        });
        Chunk { exponentials, sums, targets, row_weights, loss }
    }

    /// The mean or weighted sum over all rows, given the sums of chunks, `[1]` each.
    fn total(&self, sums: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let sum = sums.into_iter().reduce(B::float_add).expect("there is a row");
        let sum = reshaped::<B, 1>(sum, [1]);
        match self.row_weights {
            None => B::float_div_scalar(sum, (self.hidden.shape()[0] as f64).into()),
            Some(_) => sum,
        }
    }
}
