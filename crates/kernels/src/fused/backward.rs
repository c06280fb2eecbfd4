//! The operations where gradients are recorded, and their backward passes.

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

use super::{
    forward::{
        attention_call, attention_forward, embed_forward, factor, linear_forward, loss_forward, norm_forward,
    },
    ops::{Affine, FusedOps},
    tensors::{indices, numbers, rows, scalar, scaled, tensor, tensor_like, vector, whole, width},
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
        let (x, weight) = (whole(x.into_primitive()), whole(weight.into_primitive()));
        let (bias, residual) = (whole(bias.into_primitive()), whole(residual.into_primitive()));
        let factors = [factor(&weight)];
        let forward = |backward| linear_forward([&x, &bias, &residual], &factors, affine, backward);
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, slopes) = forward(true);
                prep.finish(LinearState { x, weight, slopes, affine }, y)
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
        let [qkv, query_gain, key_gain] = [qkv, query_gain, key_gain].map(|x| whole(x.into_primitive()));
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
        let (x, gain) = (whole(x.into_primitive()), whole(gain.into_primitive()));
        let (y, moments) = norm_forward(&x, &gain, &whole(offset.into_primitive()), kind, epsilon);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(NormState { x, gain, moments, kind }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        places: Arc<[usize]>,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let nodes = [tokens.node(), positions.node()];
        let (tokens, positions) = (whole(tokens.into_primitive()), whole(positions.into_primitive()));
        let index = indices(&ids);
        let y = embed_forward(&tokens, &positions, &ids, &index, &places, mask);
        let rows = |table: &FlexTensor| table.layout().shape()[0];
        let state = EmbedState { ids: index.into(), places, n_rows: [rows(&tokens), rows(&positions)], mask };
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
        let (hidden, weight) = (whole(hidden.into_primitive()), whole(weight.into_primitive()));
        let level = SimdLevel::of(precision);
        let loss = |backward| loss_forward(level, &hidden, &weight, &indices(&targets), backward);
        match LossBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let loss = loss(true);
                let (d_hidden, d_weight) = loss.gradients.expect("gradients were asked for");
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
    /// Those of the activation at the map's output, where one follows.
    slopes: Option<FlexTensor>,
    affine: Affine,
}

impl Backward<Flex, 4> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight, of_bias, of_residual] = ops.parents;
        let LinearState { x, weight, slopes, affine } = ops.state;
        let level = SimdLevel::of(affine.precision);
        let mut d_y = whole(grads.consume::<Flex>(&ops.node));
        if let Some(node) = of_residual {
            grads.register::<Flex>(node.id, d_y.clone());
        }
        let width = width(&d_y);
        if let Some(mask) = affine.mask {
            linear::drop_rows(level, d_y.storage_mut(), width, mask);
        }
        if let (Some(slopes), Some(activation)) = (slopes, affine.activation) {
            let mut slopes = whole(slopes);
            linear::backward_activated(level, slopes.storage_mut(), numbers(&d_y), width, activation);
            d_y = slopes;
        }
        let width = self::width(&d_y);
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, vector(linear::sum_rows(level, numbers(&d_y), width)));
        }
        if let Some(node) = of_weight {
            let d_weight = linear::backward_weight(level, rows(&x), rows(&d_y));
            grads.register::<Flex>(node.id, tensor_like(d_weight, &weight));
        }
        if let Some(node) = of_x {
            let d_x = linear::backward_input(level, rows(&weight), rows(&d_y));
            grads.register::<Flex>(node.id, tensor_like(d_x, &x));
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
    mask: Option<Mask>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let AttentionState { qkv, gains, out, sums, layout, mask } = ops.state;
        let d_out = whole(grads.consume::<Flex>(&ops.node));
        let call = attention_call(&qkv, &gains, &layout, mask);
        let (d_qkv, d_gains) =
            attention::backward(SimdLevel::best(), &call, numbers(&out), numbers(&sums), numbers(&d_out));
        let [d_query_gain, d_key_gain] = d_gains.map(vector);
        let gradients = [tensor_like(d_qkv, &qkv), d_query_gain, d_key_gain];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, gradient);
            }
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
        let NormState { x, gain, moments, kind } = ops.state;
        let d_y = whole(grads.consume::<Flex>(&ops.node));
        let [inputs, gains, moments] = [&x, &gain, &moments].map(numbers);
        let (d_x, d_gain, d_offset) =
            norm::backward(SimdLevel::best(), kind, inputs, gains, moments, numbers(&d_y));
        let gradients = [tensor_like(d_x, &x), vector(d_gain), vector(d_offset)];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct EmbedBackward;

#[derive(Debug, Clone)]
struct EmbedState {
    ids: Arc<[usize]>,
    places: Arc<[usize]>,
    /// Of the two tables.
    n_rows: [usize; 2],
    mask: Option<Mask>,
}

impl Backward<Flex, 2> for EmbedBackward {
    type State = EmbedState;

    fn backward(self, ops: Ops<EmbedState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let level = SimdLevel::best();
        let [of_tokens, of_positions] = ops.parents;
        let EmbedState { ids, places, n_rows: [n_tokens, n_positions], mask } = ops.state;
        let mut d_y = whole(grads.consume::<Flex>(&ops.node));
        let width = width(&d_y);
        if let Some(mask) = mask {
            linear::drop_rows(level, d_y.storage_mut(), width, mask);
        }
        if let Some(node) = of_tokens {
            let d_table = embedding::scatter(level, n_tokens, width, numbers(&d_y), |row| ids[row]);
            grads.register::<Flex>(node.id, tensor(d_table, [n_tokens, width]));
        }
        if let Some(node) = of_positions {
            let d_table = embedding::scatter(level, n_positions, width, numbers(&d_y), |row| places[row]);
            grads.register::<Flex>(node.id, tensor(d_table, [n_positions, width]));
        }
    }
}

#[derive(Debug)]
struct LossBackward;

impl Backward<Flex, 2> for LossBackward {
    /// The gradients for a loss that counts once.
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = numbers(&whole(grads.consume::<Flex>(&ops.node)))[0];
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, scaled(gradient, factor));
            }
        }
    }
}
