//! The operations with autodiff, and their backward passes.

use std::sync::Arc;

use burn::backend::{
    Autodiff, Flex,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    flex::FlexTensor,
    tensor::{FloatTensor, IntTensor},
};
use cpu::{HeadLayout, NormKind, Precision, SimdLevel, attention, dropout::Mask, embedding, linear, norm};

use crate::weight::RowBlocks;

use super::{
    forward::{
        attention_forward, attention_inputs, embed_forward, linear_forward, loss_forward, norm_forward,
        right_factor,
    },
    gradients::Nodes,
    ops::{Affine, FusedOps},
    tensors::{contiguous, indices, rows, scalar, scaled, tensor, tensor_like, values, vector, width},
};

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        affine: Affine,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node(), residual.node()];
        let (x, weight) = (contiguous(x.into_primitive()), contiguous(weight.into_primitive()));
        let (bias, residual) = (contiguous(bias.into_primitive()), contiguous(residual.into_primitive()));
        let operands = [right_factor(&weight)];
        let forward = |backward| linear_forward([&x, &bias, &residual], &operands, affine, backward);
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, derivatives) = forward(true);
                prep.finish(LinearState { x, weight, derivatives, affine }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(false).0),
        }
    }

    fn linear_in_blocks(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weight: RowBlocks,
        affine: Affine,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), bias.node(), residual.node()];
        let [x, bias, residual] = [x, bias, residual].map(|tensor| contiguous(tensor.into_primitive()));
        let forward = |backward| linear_forward([&x, &bias, &residual], &weight.factors(), affine, backward);
        match BlocksBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, derivatives) = forward(true);
                prep.finish(BlocksState { x, weight, derivatives, affine }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(false).0),
        }
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        layout: HeadLayout,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), query_gain.node(), key_gain.node()];
        let [qkv, query_gain, key_gain] = [qkv, query_gain, key_gain].map(|x| contiguous(x.into_primitive()));
        let gains = [query_gain, key_gain];
        let (out, sums) = attention_forward(&qkv, &gains, &layout, mask);
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(AttentionState { qkv, gains, out: out.clone(), sums, layout, mask }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gain.node(), offset.node()];
        let (x, gain) = (contiguous(x.into_primitive()), contiguous(gain.into_primitive()));
        let (y, moments) = norm_forward(&x, &gain, &contiguous(offset.into_primitive()), kind, epsilon);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(NormState { x, gain, moments, kind }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        position_ids: Arc<[usize]>,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let nodes = [tokens.node(), positions.node()];
        let (tokens, positions) =
            (contiguous(tokens.into_primitive()), contiguous(positions.into_primitive()));
        let index = indices(&ids);
        let y = embed_forward(&tokens, &positions, &ids, &index, &position_ids, mask);
        let rows = |table: &FlexTensor| table.layout().shape()[0];
        let state =
            EmbedState { ids: index.into(), position_ids, n_rows: [rows(&tokens), rows(&positions)], mask };
        match EmbedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (contiguous(hidden.into_primitive()), contiguous(weight.into_primitive()));
        let level = SimdLevel::of(precision);
        let loss = |backward| loss_forward(level, &hidden, &weight, &indices(&targets), backward);
        match LossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let loss = loss(true);
                let (d_hidden, d_weight) = loss.gradients.expect("gradients were requested");
                let state = [tensor_like(d_hidden, &hidden), tensor_like(d_weight, &weight)];
                prep.finish(state, scalar(loss.mean))
            }
            OpsKind::UnTracked(prep) => prep.finish(scalar(loss(false).mean)),
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

#[derive(Debug, Clone)]
struct LinearState {
    x: FlexTensor,
    weight: FlexTensor,
    /// The activation's derivatives, if there is an activation.
    derivatives: Option<FlexTensor>,
    affine: Affine,
}

impl Backward<Flex, 4> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight, of_bias, of_residual] = [0, 1, 2, 3];
        let (nodes, LinearState { x, weight, derivatives, affine }) = Nodes::split(ops);
        let level = SimdLevel::of(affine.precision);
        let d_y = nodes.consume(grads);
        nodes.register(grads, of_residual, || d_y.clone());
        let d_y = gradient_of_product(d_y, derivatives, affine);
        let width = self::width(&d_y);
        nodes.register(grads, of_bias, || vector(linear::sum_rows(level, values(&d_y), width)));
        nodes.register(grads, of_weight, || {
            tensor_like(linear::backward_weight(level, rows(&x), rows(&d_y)), &weight)
        });
        nodes.register(grads, of_x, || {
            tensor_like(linear::backward_input(level, &[right_factor(&weight)], rows(&d_y)), &x)
        });
    }
}

#[derive(Debug)]
struct BlocksBackward;

#[derive(Debug, Clone)]
struct BlocksState {
    x: FlexTensor,
    weight: RowBlocks,
    /// As in [`LinearState`].
    derivatives: Option<FlexTensor>,
    affine: Affine,
}

impl Backward<Flex, 3> for BlocksBackward {
    type State = BlocksState;

    fn backward(self, ops: Ops<BlocksState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_bias, of_residual] = [0, 1, 2];
        let (nodes, BlocksState { x, weight, derivatives, affine }) = Nodes::split(ops);
        let level = SimdLevel::of(affine.precision);
        let d_y = nodes.consume(grads);
        nodes.register(grads, of_residual, || d_y.clone());
        let d_y = gradient_of_product(d_y, derivatives, affine);
        nodes.register(grads, of_bias, || vector(linear::sum_rows(level, values(&d_y), width(&d_y))));
        nodes.register(grads, of_x, || {
            tensor_like(linear::backward_input(level, &weight.factors(), rows(&d_y)), &x)
        });
    }
}

/// The gradient of `x · weightᵀ + bias`, given the gradient of the layer's output without its residual.
fn gradient_of_product(mut d_y: FlexTensor, derivatives: Option<FlexTensor>, affine: Affine) -> FlexTensor {
    let (level, width) = (SimdLevel::of(affine.precision), width(&d_y));
    if let Some(mask) = affine.mask {
        linear::drop_rows(level, d_y.storage_mut(), width, mask);
    }
    if let (Some(derivatives), Some(activation)) = (derivatives, affine.activation) {
        let mut derivatives = contiguous(derivatives);
        linear::backward_activated(level, derivatives.storage_mut(), values(&d_y), width, activation);
        return derivatives;
    }
    d_y
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Debug, Clone)]
struct AttentionState {
    qkv: FlexTensor,
    gains: [FlexTensor; 2],
    out: FlexTensor,
    sums: FlexTensor,
    layout: HeadLayout,
    mask: Option<Mask>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (nodes, AttentionState { qkv, gains, out, sums, layout, mask }) = Nodes::split(ops);
        let d_out = nodes.consume(grads);
        let inputs = attention_inputs(&qkv, &gains, &layout, mask);
        let (d_qkv, d_gains) =
            attention::backward(SimdLevel::best(), &inputs, values(&out), values(&sums), values(&d_out));
        let [d_query_gain, d_key_gain] = d_gains.map(vector);
        let gradients = [tensor_like(d_qkv, &qkv), d_query_gain, d_key_gain];
        for (parent, gradient) in gradients.into_iter().enumerate() {
            nodes.register(grads, parent, || gradient);
        }
    }
}

#[derive(Debug)]
struct NormBackward;

#[derive(Debug, Clone)]
struct NormState {
    x: FlexTensor,
    gain: FlexTensor,
    moments: FlexTensor,
    kind: NormKind,
}

impl Backward<Flex, 3> for NormBackward {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (nodes, NormState { x, gain, moments, kind }) = Nodes::split(ops);
        let d_y = nodes.consume(grads);
        let [inputs, gains, moments] = [&x, &gain, &moments].map(values);
        let (d_x, d_gain, d_offset) =
            norm::backward(SimdLevel::best(), kind, inputs, gains, moments, values(&d_y));
        let gradients = [tensor_like(d_x, &x), vector(d_gain), vector(d_offset)];
        for (parent, gradient) in gradients.into_iter().enumerate() {
            nodes.register(grads, parent, || gradient);
        }
    }
}

#[derive(Debug)]
struct EmbedBackward;

#[derive(Debug, Clone)]
struct EmbedState {
    ids: Arc<[usize]>,
    position_ids: Arc<[usize]>,
    /// Rows of the two tables.
    n_rows: [usize; 2],
    mask: Option<Mask>,
}

impl Backward<Flex, 2> for EmbedBackward {
    type State = EmbedState;

    fn backward(self, ops: Ops<EmbedState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let level = SimdLevel::best();
        let [of_tokens, of_positions] = [0, 1];
        let (nodes, state) = Nodes::split(ops);
        let EmbedState { ids, position_ids, n_rows: [n_tokens, n_positions], mask } = state;
        let mut d_y = nodes.consume(grads);
        let width = width(&d_y);
        if let Some(mask) = mask {
            linear::drop_rows(level, d_y.storage_mut(), width, mask);
        }
        nodes.register(grads, of_tokens, || {
            let d_table = embedding::scatter(level, n_tokens, width, values(&d_y), |row| ids[row]);
            tensor(d_table, [n_tokens, width])
        });
        nodes.register(grads, of_positions, || {
            let d_table =
                embedding::scatter(level, n_positions, width, values(&d_y), |row| position_ids[row]);
            tensor(d_table, [n_positions, width])
        });
    }
}

#[derive(Debug)]
struct LossBackward;

impl Backward<Flex, 2> for LossBackward {
    /// The gradients of the loss, before they are scaled by the incoming gradient.
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (nodes, gradients) = Nodes::split(ops);
        let factor = values(&nodes.consume(grads))[0];
        for (parent, gradient) in gradients.into_iter().enumerate() {
            nodes.register(grads, parent, || scaled(gradient, factor));
        }
    }
}
