//! GPU paths of operations, built from tensor operations with their own backward pass. They exist where autodiff of the
//! reference implementation would keep too much memory, or leave most of a GPU idle.
//!
//! Large operations are computed in chunks. The backward pass recomputes the intermediates of a chunk, or the forward
//! pass has already computed the gradients.

mod attention;
mod embedding;
mod head_loss;
mod primitive;

use std::sync::Arc;

use burn::backend::{
    Autodiff, Backend, Flex, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use cpu::{Documents, Precision, dropout::Mask};

use self::{
    attention::Heads,
    head_loss::{HeadLoss, LossGradients},
};

/// The default methods have no backward pass; [`Autodiff`] overrides them.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait GpuOps: Backend {
    /// As `attention_reference`, in chunks of `n_rows` queries. `mask` is the dropout of the attention weights.
    ///
    /// - `queries`: `[B, H, T, D]`
    /// - `keys`, `values`: `[B, KV, S, D]`
    /// - output: `[B, H, T, D]`
    fn attention_in_chunks(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        documents: Option<Documents>,
        mask: Option<Mask>,
        n_rows: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let inputs = [queries, keys, values];
        let heads = Heads::<Self>::new(inputs, documents.as_ref(), mask, n_rows, precision);
        let [out, _] = attention::forward(&heads);
        out
    }

    /// As [`crate::LmHead::loss`], with the weight `[V, C]`, in chunks of `n_rows` rows; with `row_weights`, as
    /// [`crate::LmHead::weighted_loss`].
    fn head_loss_in_chunks(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: Option<Arc<[f32]>>,
        n_rows: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        HeadLoss::<Self> { hidden, weight, targets, row_weights, n_rows, precision }.loss()
    }

    /// The rows `ids`, `[N]`, of a table `[V, C]`, as `[N, C]`.
    fn rows(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        Self::float_select(table, 0, ids)
    }
}

impl GpuOps for Flex {}

#[cfg(feature = "gpu")]
impl GpuOps for burn::backend::Cube {}

impl<B: GpuOps, C: CheckpointStrategy> GpuOps for Autodiff<B, C> {
    fn attention_in_chunks(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        documents: Option<Documents>,
        mask: Option<Mask>,
        n_rows: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [queries.node(), keys.node(), values.node()];
        let inputs = [queries, keys, values].map(|x| x.into_primitive());
        let heads = Heads::<B>::new(inputs, documents.as_ref(), mask, n_rows, precision);
        let [out, sums] = attention::forward(&heads);
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((heads, [out.clone(), sums]), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn head_loss_in_chunks(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: Option<Arc<[f32]>>,
        n_rows: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let of_weight = weight.is_tracked();
        let [hidden, weight] = [hidden, weight].map(|x| x.into_primitive());
        let head_loss = HeadLoss::<B> { hidden, weight, targets, row_weights, n_rows, precision };
        match LossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (loss, gradients) = head_loss.loss_and_gradients(of_weight);
                prep.finish(gradients, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(head_loss.loss()),
        }
    }

    fn rows(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let nodes = [table.node()];
        let table = table.into_primitive();
        let n_rows = table.shape()[0];
        let rows = B::float_select(table, 0, ids.clone());
        match RowsBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((ids, n_rows), rows),
            OpsKind::UnTracked(prep) => prep.finish(rows),
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: Backend> Backward<B, 3> for AttentionBackward {
    /// The inputs and the outputs of the forward pass.
    type State = (Heads<B>, [FloatTensor<B>; 2]);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (heads, outputs) = ops.state;
        let d_out = grads.consume::<B>(&ops.node);
        let gradients = attention::backward(&heads, outputs, d_out);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct LossBackward;

impl<B: Backend> Backward<B, 2> for LossBackward {
    /// The gradients of the loss, before they are scaled by the incoming gradient.
    type State = LossGradients<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some((node, gradient)) = parent.zip(gradient) {
                let factor = B::float_reshape(factor.clone(), [1, 1].into());
                let factor = B::float_expand(factor, gradient.shape());
                grads.register::<B>(node.id, B::float_mul(gradient, factor));
            }
        }
    }
}

#[derive(Debug)]
struct RowsBackward;

impl<B: Backend> Backward<B, 1> for RowsBackward {
    /// The ids, and the number of rows of the table.
    type State = (IntTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (ids, n_rows) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, embedding::sum_rows::<B>(d_rows, ids, n_rows));
        }
    }
}
