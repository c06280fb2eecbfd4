//! GPU paths of operations with their own backward pass. They exist where autodiff of the reference implementation would
//! keep too much memory, launch many kernels, or leave most of a GPU idle.
//!
//! `kernels.rs` has the steps that are one kernel on GPUs, `cube.rs` those kernels. Large operations are computed in chunks.
//! The backward pass recomputes the intermediates of a chunk, or the forward pass has already computed the gradients.

mod activation;
mod attention;
#[cfg(feature = "gpu")]
mod cube;
mod embedding;
mod head_loss;
mod heads;
mod kernels;
mod linear;
mod norm;
mod primitive;
mod self_attention;

use std::sync::Arc;

use burn::backend::{
    Autodiff, Backend, Flex, TensorMetadata,
    autodiff::{
        NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use cpu::{Activation, NormKind, Precision, dropout::Mask};

pub(crate) use self::{
    activation::{TANH_CUBIC, TANH_END, TANH_SCALE},
    heads::HeadSplit,
    kernels::GpuKernels,
    self_attention::SelfAttention,
};
use self::{
    attention::Heads,
    head_loss::{HeadLoss, LossGradients},
    linear::{Activated, Operands},
    self_attention::{Attended, Inputs},
};

/// The default methods have no backward pass; [`Autodiff`] overrides those of training.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait GpuOps: GpuKernels {
    /// As `attention_reference`, with inputs of f32, in chunks of `n_rows` queries, for inference.
    ///
    /// - `queries`: `[B, H, T, D]`
    /// - `keys`, `values`: `[B, KV, S, D]`
    /// - output: `[B, T, H · D]`, in the precision of products
    fn attention_in_chunks(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        n_rows: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        attention::forward(&Heads::<Self>::new([queries, keys, values], None, None, n_rows, precision))
    }

    /// As [`crate::causal_attention`]. The other tensors are those of [`GpuKernels::split_heads`] and
    /// [`GpuKernels::attention_weights`].
    ///
    /// - `qkv`: `[B, T, (H + 2 KV) · D]`
    /// - output: `[B, T, H · D]`, in the precision of products
    fn self_attention(
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        options: SelfAttention,
    ) -> FloatTensor<Self> {
        let inputs = Inputs::<Self> { qkv, gains, angles, starts };
        let (_, out) = inputs.attend(options);
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

    /// `x · weightᵀ`, as operands of the precision `output`.
    ///
    /// - `x`: `[rows, C_in]`
    /// - `weight`: `[C_out, C_in]`
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
        output: Precision,
    ) -> FloatTensor<Self> {
        Operands::<Self>::new(x, weight, precision).product(output)
    }

    /// [`crate::activate`] of [`GpuOps::linear`], as operands of the precision.
    fn linear_activated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        Activated::<Self>::new(Operands::new(x, weight, precision), activation).output()
    }

    /// `residual` + dropout of [`GpuOps::linear`].
    fn linear_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        mask: Option<Mask>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        Operands::<Self>::new(x, weight, precision).added(residual, mask)
    }

    /// [`crate::activate`] of rows, as f32.
    ///
    /// - `x`: `[rows, I]`, or `[rows, 2I]` for SwiGLU
    /// - output: `[rows, I]`
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        Self::activate_rows(x, activation, Precision::F32)
    }

    /// [`crate::norm`] of rows, `[rows, C]`, without an offset, as operands of the precision.
    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        Self::norm_rows(x, gain, kind, epsilon, precision)
    }

    /// [`crate::dropout`] of rows, `[rows, columns]`.
    fn drop_out(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        Self::drop_elements(x, mask, Precision::F32)
    }
}

impl GpuOps for Flex {}

#[cfg(feature = "gpu")]
impl GpuOps for burn::backend::Cube {}

impl<B: GpuOps, C: CheckpointStrategy> GpuOps for Autodiff<B, C> {
    fn self_attention(
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        options: SelfAttention,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), gains.node()];
        let [qkv, gains, angles, starts] = [qkv, gains, angles, starts].map(|x| x.into_primitive());
        let inputs = Inputs::<B> { qkv, gains, angles, starts };
        let (attended, out) = inputs.attend(options);
        match SelfAttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(attended, out),
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

    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        precision: Precision,
        output: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let operands = Operands::<B>::new(x.into_primitive(), weight.into_primitive(), precision);
        let y = operands.product(output);
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(operands, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn linear_activated(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let operands = Operands::<B>::new(x.into_primitive(), weight.into_primitive(), precision);
        let activated = Activated::new(operands, activation);
        let y = activated.output();
        match ActivatedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(activated, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn linear_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        mask: Option<Mask>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), residual.node()];
        let operands = Operands::<B>::new(x.into_primitive(), weight.into_primitive(), precision);
        let y = operands.added(residual.into_primitive(), mask);
        match ResidualBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((operands, mask), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive();
        let y = B::activate_rows(x.clone(), activation, Precision::F32);
        match ActivationBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, activation), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gain.node()];
        let [x, gain] = [x, gain].map(|x| x.into_primitive());
        let y = B::norm_rows(x.clone(), gain.clone(), kind, epsilon, precision);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, gain], kind, epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn drop_out(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let y = B::drop_elements(x.into_primitive(), mask, Precision::F32);
        match DropoutBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(mask, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Registers the gradients of the parents that have one.
fn register<B: Backend, const N: usize>(
    grads: &mut Gradients,
    parents: [Option<NodeId>; N],
    gradients: [Option<FloatTensor<B>>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some((id, gradient)) = parent.zip(gradient) {
            grads.register::<B>(id, gradient);
        }
    }
}

#[derive(Debug)]
struct SelfAttentionBackward;

impl<B: GpuKernels> Backward<B, 2> for SelfAttentionBackward {
    type State = Attended<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (d_qkv, d_gains) = ops.state.gradients(grads.consume::<B>(&ops.node));
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        register::<B, 2>(grads, parents, [Some(d_qkv), d_gains]);
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

#[derive(Debug)]
struct LinearBackward;

impl<B: GpuKernels> Backward<B, 2> for LinearBackward {
    type State = Operands<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_y = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let [of_x, of_weight] = parents.map(|parent| parent.is_some());
        register::<B, 2>(grads, parents, ops.state.gradients(d_y, of_x, of_weight));
    }
}

#[derive(Debug)]
struct ResidualBackward;

impl<B: GpuKernels> Backward<B, 3> for ResidualBackward {
    type State = (Operands<B>, Option<Mask>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (operands, mask) = ops.state;
        let d_y = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let [of_x, of_weight, _] = parents.map(|parent| parent.is_some());
        let [d_x, d_weight] = operands.dropped_gradients(d_y.clone(), mask, of_x, of_weight);
        register::<B, 3>(grads, parents, [d_x, d_weight, Some(d_y)]);
    }
}

#[derive(Debug)]
struct ActivatedBackward;

impl<B: GpuKernels> Backward<B, 2> for ActivatedBackward {
    type State = Activated<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_y = grads.consume::<B>(&ops.node);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let [of_x, of_weight] = parents.map(|parent| parent.is_some());
        register::<B, 2>(grads, parents, ops.state.gradients(d_y, of_x, of_weight));
    }
}

#[derive(Debug)]
struct ActivationBackward;

impl<B: GpuKernels> Backward<B, 1> for ActivationBackward {
    type State = (FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, activation) = ops.state;
        let d_y = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::activation_gradient(x, d_y, activation));
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl<B: GpuKernels> Backward<B, 2> for NormBackward {
    /// The rows and the gain, and the constants.
    type State = ([FloatTensor<B>; 2], NormKind, f32);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([x, gain], kind, epsilon) = ops.state;
        let d_y = grads.consume::<B>(&ops.node);
        let (d_x, d_gain) = B::norm_gradients(x, gain, d_y, kind, epsilon);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        register::<B, 2>(grads, parents, [Some(d_x), Some(d_gain)]);
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: GpuKernels> Backward<B, 1> for DropoutBackward {
    type State = Mask;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_y = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::drop_elements(d_y, ops.state, Precision::F32));
        }
    }
}
