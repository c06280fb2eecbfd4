//! The loss of the output head in chunks, with its gradients computed in the same pass.

use burn::backend::{
    Backend, TensorMetadata, get_device_settings,
    tensor::{FloatTensor, IntTensor},
};

use super::primitive::{chunks, narrow, narrow_int, operand, product, reshaped};
use crate::{Precision, dropout::arange};

/// The arguments of [`super::GpuOps::head_loss_in_chunks`].
#[derive(Debug, Clone)]
pub(super) struct HeadLoss<B: Backend> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) weight: FloatTensor<B>,
    pub(super) targets: IntTensor<B>,
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
    /// The sum over the rows, `[1]`.
    loss: FloatTensor<B>,
}

impl<B: Backend> HeadLoss<B> {
    /// The mean over all rows, `[1]`.
    pub(super) fn loss(self) -> FloatTensor<B> {
        let n = self.hidden.shape()[0];
        let hidden = operand::<B>(self.hidden.clone(), self.precision);
        let head = self.head();
        let losses = chunks(n, self.n_rows).map(|rows| {
            let hidden = narrow::<B>(hidden.clone(), 0, rows.clone());
            self.chunk(hidden, head.clone(), rows).loss
        });
        mean::<B>(losses.collect(), n)
    }

    /// The mean over all rows, `[1]`, its gradient with respect to the hidden rows and, if requested, to the weight.
    pub(super) fn loss_and_gradients(self, of_weight: bool) -> (FloatTensor<B>, LossGradients<B>) {
        let n = self.hidden.shape()[0];
        let hidden = operand::<B>(self.hidden.clone(), self.precision);
        let head = self.head();
        let (mut losses, mut d_hiddens, mut d_weight) = (Vec::new(), Vec::new(), None);
        for rows in chunks(n, self.n_rows) {
            let hidden = narrow::<B>(hidden.clone(), 0, rows.clone());
            let Chunk { exponentials, sums, targets, loss } = self.chunk(hidden.clone(), head.clone(), rows);
            losses.push(loss);

            // (softmax - one hot) / N
            let device = exponentials.device();
            let weights = B::float_div(exponentials, B::float_mul_scalar(sums, (n as f64).into()));
            let others = B::float_sub_scalar(weights.clone(), (1.0 / n as f64).into());
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
        (mean::<B>(losses, n), [Some(d_hidden), d_weight])
    }

    /// The transposed weight in the precision of products, `[C, V]`.
    fn head(&self) -> FloatTensor<B> {
        B::float_transpose(operand::<B>(self.weight.clone(), self.precision))
    }

    /// The forward pass of the rows `rows`, whose hidden vectors are `hidden`.
    fn chunk(&self, hidden: FloatTensor<B>, head: FloatTensor<B>, rows: std::ops::Range<usize>) -> Chunk<B> {
        let n_rows = rows.len();
        let targets = narrow_int::<B>(self.targets.clone(), 0, rows);
        let targets = B::int_reshape(targets, [n_rows, 1].into());
        let logits = product::<B>(hidden, head);
        let largest = B::float_max_dim(logits.clone(), 1);
        let shifted = B::float_sub(logits, largest);
        let target = B::float_gather(1, shifted.clone(), targets.clone());
        let exponentials = B::float_exp(shifted);
        let sums = B::float_sum_dim(exponentials.clone(), 1);
        let loss = B::float_sum(B::float_sub(B::float_log(sums.clone()), target));
        Chunk { exponentials, sums, targets, loss }
    }
}

/// The mean over `n` rows, given the sums of chunks, `[1]` each.
fn mean<B: Backend>(sums: Vec<FloatTensor<B>>, n: usize) -> FloatTensor<B> {
    let sum = sums.into_iter().reduce(B::float_add).expect("there is a row");
    B::float_div_scalar(reshaped::<B, 1>(sum, [1]), (n as f64).into())
}
