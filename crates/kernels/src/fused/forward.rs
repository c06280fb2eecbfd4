//! The forward passes, on whole tensors of the CPU.

use burn::backend::flex::FlexTensor;
use cpu::{
    Activation, HeadLayout, NormKind, SimdLevel, attention, cross_entropy, dropout::Mask, embedding, linear,
    matrix::Matrix, norm,
};

use super::{
    ops::Affine,
    tensors::{numbers, rows, tensor, tensor_like, vector, width},
};

/// The output of an affine map and of what follows it; with `backward` also the slopes of an activation. The
/// tensors are the input, the bias and the residual.
pub(super) fn linear_forward(
    [x, bias, residual]: [&FlexTensor; 3],
    weights: &[Matrix<'_>],
    affine: Affine,
    backward: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let level = SimdLevel::of(affine.precision);
    let (input, bias) = (rows(x), numbers(bias));
    let n_outputs: usize = weights.iter().map(Matrix::cols).sum();
    let shaped = |y: Vec<f32>| {
        let mut shape = x.layout().shape().clone();
        let last = shape.num_dims() - 1;
        shape[last] = n_outputs / affine.activation.map_or(1, Activation::n_inputs);
        tensor(y, shape)
    };
    if let Some(activation) = affine.activation {
        assert!(affine.mask.is_none() && numbers(residual).is_empty(), "only one of them follows a map");
        let (y, slopes) = linear::forward_activated(level, input, weights, bias, activation, backward);
        return (shaped(y), slopes.map(|slopes| tensor(slopes, [input.rows(), n_outputs])));
    }
    if numbers(residual).is_empty() {
        return (shaped(linear::forward(level, input, weights, bias)), None);
    }
    let y = linear::forward_onto(level, input, weights, bias, numbers(residual), affine.mask);
    (shaped(y), None)
}

/// A weight `[C_out, C_in]` as the right factor of a product.
pub(super) fn factor(weight: &FlexTensor) -> Matrix<'_> {
    rows(weight).transposed()
}

pub(super) fn attention_call<'a>(
    qkv: &'a FlexTensor,
    gains: &'a [FlexTensor; 2],
    layout: &'a HeadLayout,
    mask: Option<Mask>,
) -> attention::Call<'a> {
    let shape = qkv.layout().shape();
    let HeadLayout { n_head, n_kv_head, .. } = *layout;
    let sizes = attention::Sizes {
        batch: shape[0],
        time: shape[1],
        n_head,
        n_kv_head,
        head_dim: shape[2] / (n_head + 2 * n_kv_head),
    };
    attention::Call { qkv: numbers(qkv), gains: gains.each_ref().map(numbers), layout, sizes, mask }
}

pub(super) fn attention_forward(
    qkv: &FlexTensor,
    gains: &[FlexTensor; 2],
    layout: &HeadLayout,
    mask: Option<Mask>,
) -> (FlexTensor, FlexTensor) {
    let call = attention_call(qkv, gains, layout, mask);
    let (out, sums) = attention::forward(SimdLevel::best(), &call);
    (tensor(out, call.sizes.output_shape()), vector(sums))
}

pub(super) fn norm_forward(
    x: &FlexTensor,
    gain: &FlexTensor,
    offset: &FlexTensor,
    kind: NormKind,
    epsilon: f32,
) -> (FlexTensor, FlexTensor) {
    let (y, moments) =
        norm::forward(SimdLevel::best(), kind, numbers(x), numbers(gain), numbers(offset), epsilon);
    (tensor_like(y, x), vector(moments))
}

pub(super) fn embed_forward(
    tokens: &FlexTensor,
    positions: &FlexTensor,
    ids: &FlexTensor,
    index: &[usize],
    places: &[usize],
    mask: Option<Mask>,
) -> FlexTensor {
    check_ids(index, tokens.layout().shape()[0]);
    let shape = ids.layout().shape();
    let ([batch, time], width) = ([shape[0], shape[1]], width(tokens));
    let (tokens, positions) = (numbers(tokens), numbers(positions));
    let y = embedding::forward(SimdLevel::best(), tokens, positions, width, index, places, mask);
    tensor(y, [batch, time, width])
}

pub(super) fn loss_forward(
    level: SimdLevel,
    hidden: &FlexTensor,
    weight: &FlexTensor,
    targets: &[usize],
    backward: bool,
) -> cross_entropy::Loss {
    let weight = rows(weight);
    check_ids(targets, weight.rows());
    cross_entropy::loss(level, numbers(hidden), weight, targets, backward)
}

pub(super) fn check_ids(ids: &[usize], n_vocab: usize) {
    if let Some(id) = ids.iter().find(|&&id| id >= n_vocab) {
        panic!("token {id} is outside a vocabulary of {n_vocab}");
    }
}
