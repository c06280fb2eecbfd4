//! The operations of `cpu` as operations of Burn, with their backward passes.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff, Backend, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::{FlexTensor, Layout},
        tensor::{FloatTensor, IntTensor},
    },
    prelude::*,
    tensor::{Bytes, DType},
};

use crate::{
    Activation, AdamWStep,
    cpu::{
        adamw, attention,
        cross_entropy::{self, Head},
        dropout::Mask,
        embedding,
        gemm::Matrix,
        layer_norm,
        level::Level,
        linear,
    },
};

/// How the weight of an affine map lies, and what follows the map.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine {
    /// Whether the weight is `[C_out, C_in]`.
    pub(crate) transposed: bool,
    pub(crate) activation: Option<Activation>,
    /// Applies before the residual is added.
    pub(crate) mask: Option<Mask>,
}

/// Operations with a backward pass. A vector of no elements stands for one that is not there.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        affine: Affine,
    ) -> FloatTensor<Self>;

    fn causal_attention(qkv: FloatTensor<Self>, n_head: usize, mask: Option<Mask>) -> FloatTensor<Self>;

    fn layer_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        first: usize,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    fn head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        by_rows: bool,
    ) -> FloatTensor<Self>;
}

/// Operations that no gradient passes through.
#[backend_extension(Flex)]
pub(crate) trait InPlaceOps: Backend {
    fn adamw(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The output, the keys and the values.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        n_head: usize,
        len: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn scale(x: FloatTensor<Self>, factor: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl FusedOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        affine: Affine,
    ) -> FlexTensor {
        linear_forward(&whole(x), &whole(weight), &whole(bias), &whole(residual), affine).0
    }

    fn causal_attention(qkv: FlexTensor, n_head: usize, mask: Option<Mask>) -> FlexTensor {
        attention_forward(&whole(qkv), n_head, mask).0
    }

    fn layer_norm(x: FlexTensor, gain: FlexTensor, offset: FlexTensor, epsilon: f32) -> FlexTensor {
        layer_norm_forward(&whole(x), &whole(gain), &whole(offset), epsilon).0
    }

    fn embed(
        tokens: FlexTensor,
        positions: FlexTensor,
        ids: FlexTensor,
        first: usize,
        mask: Option<Mask>,
    ) -> FlexTensor {
        embed_forward(&whole(tokens), &whole(positions), &ids, &indices(&ids), first, mask)
    }

    fn head_loss(hidden: FlexTensor, weight: FlexTensor, targets: FlexTensor, by_rows: bool) -> FlexTensor {
        scalar(loss_forward(&whole(hidden), &whole(weight), &indices(&targets), by_rows, false).mean)
    }
}

impl InPlaceOps for Flex {
    fn adamw(
        x: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (mut x, mut first, mut second) = (whole(x), whole(first), whole(second));
        let gradient = whole(gradient);
        let moments = [first.storage_mut(), second.storage_mut()];
        adamw::step(Level::best(), &step, x.storage_mut(), numbers(&gradient), moments);
        (x, first, second)
    }

    fn cached_attention(
        qkv: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        n_head: usize,
        len: usize,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (qkv, mut keys, mut values) = (whole(qkv), whole(keys), whole(values));
        let sizes = attention_sizes(&qkv, n_head);
        let cache = attention::Cache { keys: keys.storage_mut(), values: values.storage_mut(), len };
        let out = attention::cached(Level::best(), numbers(&qkv), cache, sizes);
        (tensor(out, [sizes.batch, sizes.time, n_head * sizes.head_dim]), keys, values)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        scalar(adamw::sum_of_squares(Level::best(), numbers(&whole(x))) as f32)
    }

    fn scale(x: FlexTensor, factor: FlexTensor) -> FlexTensor {
        scaled(x, numbers(&whole(factor))[0])
    }
}

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
        let (before, y) = linear_forward(&x, &weight, &bias, &residual, affine).swapped();
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(LinearState { x, weight, before, affine }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn causal_attention(qkv: FloatTensor<Self>, n_head: usize, mask: Option<Mask>) -> FloatTensor<Self> {
        let nodes = [qkv.node()];
        let qkv = whole(qkv.into_primitive());
        let (out, log_sums) = attention_forward(&qkv, n_head, mask);
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(AttentionState { qkv, out: out.clone(), log_sums, n_head, mask }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gain.node(), offset.node()];
        let (x, gain) = (whole(x.into_primitive()), whole(gain.into_primitive()));
        let (y, moments) = layer_norm_forward(&x, &gain, &whole(offset.into_primitive()), epsilon);
        match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(LayerNormState { x, gain, moments }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        first: usize,
        mask: Option<Mask>,
    ) -> FloatTensor<Self> {
        let nodes = [tokens.node(), positions.node()];
        let (tokens, positions) = (whole(tokens.into_primitive()), whole(positions.into_primitive()));
        let index = indices(&ids);
        let y = embed_forward(&tokens, &positions, &ids, &index, first, mask);
        let rows = |table: &FlexTensor| table.layout().shape()[0];
        let state = EmbedState {
            ids: index.into(),
            time: ids.layout().shape()[1],
            n_rows: [rows(&tokens), rows(&positions)],
            first,
            mask,
        };
        match EmbedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        by_rows: bool,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (whole(hidden.into_primitive()), whole(weight.into_primitive()));
        let loss = |backward| loss_forward(&hidden, &weight, &indices(&targets), by_rows, backward);
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
    /// The map's output, where an activation follows.
    before: Option<FlexTensor>,
    affine: Affine,
}

impl Backward<Flex, 4> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let level = Level::best();
        let [of_x, of_weight, of_bias, of_residual] = ops.parents;
        let LinearState { x, weight, before, affine } = ops.state;
        let mut d_y = whole(grads.consume::<Flex>(&ops.node));
        if let Some(node) = of_residual {
            grads.register::<Flex>(node.id, d_y.clone());
        }
        let width = width(&d_y);
        if let Some(mask) = affine.mask {
            linear::drop_rows(level, d_y.storage_mut(), width, mask);
        }
        if let (Some(before), Some(activation)) = (before, affine.activation) {
            linear::activate_backward(level, numbers(&before), d_y.storage_mut(), activation);
        }
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, vector(linear::sum_rows(level, numbers(&d_y), width)));
        }
        if let Some(node) = of_weight {
            let d_weight = if affine.transposed {
                linear::backward_weight(level, rows(&d_y), rows(&x))
            } else {
                linear::backward_weight(level, rows(&x), rows(&d_y))
            };
            grads.register::<Flex>(node.id, tensor_like(d_weight, &weight));
        }
        if let Some(node) = of_x {
            let d_x = linear::backward_input(level, matrix_of(&weight, affine), rows(&d_y));
            grads.register::<Flex>(node.id, tensor_like(d_x, &x));
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Debug, Clone)]
struct AttentionState {
    qkv: FlexTensor,
    out: FlexTensor,
    log_sums: FlexTensor,
    n_head: usize,
    mask: Option<Mask>,
}

impl Backward<Flex, 1> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let AttentionState { qkv, out, log_sums, n_head, mask } = ops.state;
        let d_out = whole(grads.consume::<Flex>(&ops.node));
        let Some(node) = parent else { return };
        let sizes = attention_sizes(&qkv, n_head);
        let d_qkv = attention::backward(
            Level::best(),
            numbers(&qkv),
            numbers(&out),
            numbers(&log_sums),
            numbers(&d_out),
            sizes,
            mask,
        );
        grads.register::<Flex>(node.id, tensor_like(d_qkv, &qkv));
    }
}

#[derive(Debug)]
struct LayerNormBackward;

#[derive(Debug, Clone)]
struct LayerNormState {
    x: FlexTensor,
    gain: FlexTensor,
    moments: FlexTensor,
}

impl Backward<Flex, 3> for LayerNormBackward {
    type State = LayerNormState;

    fn backward(self, ops: Ops<LayerNormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let LayerNormState { x, gain, moments } = ops.state;
        let d_y = whole(grads.consume::<Flex>(&ops.node));
        let (d_x, d_gain, d_offset) = layer_norm::backward(
            Level::best(),
            numbers(&x),
            numbers(&gain),
            numbers(&moments),
            numbers(&d_y),
        );
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
    time: usize,
    /// Of the two tables.
    n_rows: [usize; 2],
    first: usize,
    mask: Option<Mask>,
}

impl Backward<Flex, 2> for EmbedBackward {
    type State = EmbedState;

    fn backward(self, ops: Ops<EmbedState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let level = Level::best();
        let [of_tokens, of_positions] = ops.parents;
        let EmbedState { ids, time, n_rows: [n_tokens, n_positions], first, mask } = ops.state;
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
            let position = |row: usize| first + row % time;
            let d_table = embedding::scatter(level, n_positions, width, numbers(&d_y), position);
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

/// The output of an affine map and of what follows it, and the map's own where an activation follows.
fn linear_forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    residual: &FlexTensor,
    affine: Affine,
) -> LinearOutput {
    let level = Level::best();
    let (input, matrix, bias) = (rows(x), matrix_of(weight, affine), numbers(bias));
    let shaped = |y: Vec<f32>| {
        let mut shape = x.layout().shape().clone();
        let last = shape.num_dims() - 1;
        shape[last] = matrix.cols();
        tensor(y, shape)
    };
    if let Some(activation) = affine.activation {
        let (before, y) = linear::forward_activated(level, input, matrix, bias, activation);
        return LinearOutput(shaped(y), Some(shaped(before)));
    }
    if numbers(residual).is_empty() {
        return LinearOutput(shaped(linear::forward(level, input, matrix, bias)), None);
    }
    let y = linear::forward_onto(level, input, matrix, bias, numbers(residual), affine.mask);
    LinearOutput(shaped(y), None)
}

fn matrix_of(weight: &FlexTensor, affine: Affine) -> Matrix<'_> {
    if affine.transposed { rows(weight).transposed() } else { rows(weight) }
}

struct LinearOutput(FlexTensor, Option<FlexTensor>);

impl LinearOutput {
    fn swapped(self) -> (Option<FlexTensor>, FlexTensor) {
        (self.1, self.0)
    }
}

fn attention_sizes(qkv: &FlexTensor, n_head: usize) -> attention::Sizes {
    let shape = qkv.layout().shape();
    attention::Sizes { batch: shape[0], time: shape[1], n_head, head_dim: shape[2] / (3 * n_head) }
}

fn attention_forward(qkv: &FlexTensor, n_head: usize, mask: Option<Mask>) -> (FlexTensor, FlexTensor) {
    let sizes = attention_sizes(qkv, n_head);
    let (out, log_sums) = attention::forward(Level::best(), numbers(qkv), sizes, mask);
    let out = tensor(out, [sizes.batch, sizes.time, n_head * sizes.head_dim]);
    (out, vector(log_sums))
}

fn layer_norm_forward(
    x: &FlexTensor,
    gain: &FlexTensor,
    offset: &FlexTensor,
    epsilon: f32,
) -> (FlexTensor, FlexTensor) {
    let (y, moments) =
        layer_norm::forward(Level::best(), numbers(x), numbers(gain), numbers(offset), epsilon);
    (tensor_like(y, x), vector(moments))
}

fn embed_forward(
    tokens: &FlexTensor,
    positions: &FlexTensor,
    ids: &FlexTensor,
    index: &[usize],
    first: usize,
    mask: Option<Mask>,
) -> FlexTensor {
    check_ids(index, tokens.layout().shape()[0]);
    let shape = ids.layout().shape();
    let ([batch, time], width) = ([shape[0], shape[1]], width(tokens));
    let positions = &numbers(positions)[first * width..(first + time) * width];
    let y = embedding::forward(Level::best(), numbers(tokens), positions, width, index, time, mask);
    tensor(y, [batch, time, width])
}

fn loss_forward(
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &[usize],
    by_rows: bool,
    backward: bool,
) -> cross_entropy::Loss {
    let weight = if by_rows { rows(weight) } else { rows(weight).transposed() };
    check_ids(targets, weight.rows());
    cross_entropy::loss(Level::best(), numbers(hidden), Head { weight, by_rows }, targets, backward)
}

/// The tensor if its numbers are all of its memory, one after another; else a copy that is so.
fn whole(x: FlexTensor) -> FlexTensor {
    let is_whole = x.as_slice::<f32>().is_some_and(|numbers| numbers.len() == x.storage::<f32>().len());
    if is_whole { x } else { x.to_contiguous() }
}

fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("the tensor is whole")
}

fn indices(x: &FlexTensor) -> Vec<usize> {
    let x = x.to_contiguous();
    let index = |id: i64| usize::try_from(id).expect("an index is not negative");
    match x.dtype() {
        DType::I32 => x.storage::<i32>().iter().map(|&id| index(id.into())).collect(),
        DType::I64 => x.storage::<i64>().iter().map(|&id| index(id)).collect(),
        other => panic!("indices are i32 or i64, not {other:?}"),
    }
}

fn check_ids(ids: &[usize], n_vocab: usize) {
    if let Some(id) = ids.iter().find(|&&id| id >= n_vocab) {
        panic!("token {id} is outside a vocabulary of {n_vocab}");
    }
}

/// The last axis.
fn width(x: &FlexTensor) -> usize {
    let shape = x.layout().shape();
    shape[shape.num_dims() - 1]
}

/// All axes but the last flattened into one.
fn rows(x: &FlexTensor) -> Matrix<'_> {
    let (numbers, width) = (numbers(x), width(x));
    Matrix::new(numbers, numbers.len() / width.max(1), width)
}

fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape.into()), DType::F32)
}

fn tensor_like(data: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    tensor(data, other.layout().shape().clone())
}

fn vector(data: Vec<f32>) -> FlexTensor {
    let n = data.len();
    tensor(data, [n])
}

fn scalar(x: f32) -> FlexTensor {
    vector(vec![x])
}

fn scaled(x: FlexTensor, factor: f32) -> FlexTensor {
    let mut x = whole(x);
    if factor != 1.0 {
        adamw::scale(Level::best(), x.storage_mut(), factor);
    }
    x
}
