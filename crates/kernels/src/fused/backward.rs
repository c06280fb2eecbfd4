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
use cpu::{
    Documents, HeadLayout, NormKind, Precision, SimdLevel, attention, cross_entropy::Gradients as Wanted,
    dropout::Mask, embedding, linear, norm,
};

use crate::weight::RowBlocks;

use super::{
    forward::{attention_forward, attention_inputs, embed_forward, loss_forward, norm_forward},
    gradients::Nodes,
    linear::tracked,
    ops::{Affine, FusedOps},
    tensors::{contiguous, indices, scalar, scaled, tensor, tensor_like, values, vector, width},
};

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        affine: Affine,
    ) -> FloatTensor<Self> {
        tracked::<C>([x, weight, bias, residual, a, b], affine)
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        layout: HeadLayout,
        documents: Option<Documents>,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), query_gain.node(), key_gain.node()];
        let [qkv, query_gain, key_gain] = [qkv, query_gain, key_gain].map(|x| contiguous(x.into_primitive()));
        let gains = [query_gain, key_gain];
        let (out, sums) = attention_forward(&qkv, &gains, &layout, documents.as_ref(), mask);
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = AttentionState { qkv, gains, out: out.clone(), sums, layout, documents, mask };
                prep.finish(state, out)
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
        blocks: Option<RowBlocks>,
        targets: IntTensor<Self>,
        row_weights: Option<Arc<[f32]>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let wanted = if weight.is_tracked() { Wanted::All } else { Wanted::Hidden };
        let [hidden, weight] = [hidden, weight].map(|x| contiguous(x.into_primitive()));
        let (level, targets) = (SimdLevel::of(precision), indices(&targets));
        let rows = row_weights.as_deref();
        let loss = |wanted| loss_forward(level, &hidden, &weight, blocks.as_ref(), &targets, rows, wanted);
        match LossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let loss = loss(wanted);
                let d_hidden = loss.d_hidden.map(|gradient| tensor_like(gradient, &hidden));
                let d_weight = loss.d_weight.map(|gradient| tensor_like(gradient, &weight));
                prep.finish([d_hidden, d_weight], scalar(loss.value))
            }
            OpsKind::UnTracked(prep) => prep.finish(scalar(loss(Wanted::None).value)),
        }
    }
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
    documents: Option<Documents>,
    mask: Option<Mask>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (nodes, AttentionState { qkv, gains, out, sums, layout, documents, mask }) = Nodes::split(ops);
        let d_out = nodes.consume(grads);
        let inputs = attention_inputs(&qkv, &gains, &layout, documents.as_ref(), mask);
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
    type State = [Option<FlexTensor>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (nodes, gradients) = Nodes::split(ops);
        let factor = values(&nodes.consume(grads))[0];
        for (parent, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                nodes.register(grads, parent, || scaled(gradient, factor));
            }
        }
    }
}
