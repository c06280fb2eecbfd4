//! The forward passes, on contiguous CPU tensors.

use burn::backend::flex::FlexTensor;
use cpu::{
    Activation, Factor, HeadLayout, NormKind, SimdLevel, attention, cross_entropy, dropout::Mask, embedding,
    linear, norm,
};

use super::{
    ops::Affine,
    tensors::{rows, tensor, tensor_like, values, vector, width},
};

/// The output of a linear layer and of the operations fused with it; with `backward`, also the derivatives of an
/// activation. The tensors are the input, the bias and the residual.
pub(super) fn linear_forward(
    [x, bias, residual]: [&FlexTensor; 3],
    weights: &[Factor<'_>],
    affine: Affine,
    backward: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let level = SimdLevel::of(affine.precision);
    let (input, bias) = (rows(x), values(bias));
    let n_outputs: usize = weights.iter().map(Factor::cols).sum();
    let shaped = |y: Vec<f32>| {
        let mut shape = x.layout().shape().clone();
        let last = shape.num_dims() - 1;
        shape[last] = n_outputs / affine.activation.map_or(1, Activation::n_inputs);
        tensor(y, shape)
    };
    if let Some(activation) = affine.activation {
        assert!(
            affine.mask.is_none() && values(residual).is_empty(),
            "an activation excludes dropout and a residual"
        );
        let (y, derivatives) = linear::forward_activated(level, input, weights, bias, activation, backward);
        return (shaped(y), derivatives.map(|derivatives| tensor(derivatives, [input.rows(), n_outputs])));
    }
    if values(residual).is_empty() {
        return (shaped(linear::forward(level, input, weights, bias)), None);
    }
    let y = linear::forward_residual(level, input, weights, bias, values(residual), affine.mask);
    (shaped(y), None)
}

/// A weight `[C_out, C_in]` as the right factor of a product.
pub(super) fn right_factor(weight: &FlexTensor) -> Factor<'_> {
    rows(weight).transposed().into()
}

pub(super) fn attention_inputs<'a>(
    qkv: &'a FlexTensor,
    gains: &'a [FlexTensor; 2],
    layout: &'a HeadLayout,
    mask: Option<Mask>,
) -> attention::Inputs<'a> {
    let shape = qkv.layout().shape();
    let HeadLayout { n_head, n_kv_head, .. } = *layout;
    let sizes = attention::Sizes {
        batch: shape[0],
        time: shape[1],
        n_head,
        n_kv_head,
        head_dim: shape[2] / (n_head + 2 * n_kv_head),
    };
    attention::Inputs { qkv: values(qkv), gains: gains.each_ref().map(values), layout, sizes, mask }
}

pub(super) fn attention_forward(
    qkv: &FlexTensor,
    gains: &[FlexTensor; 2],
    layout: &HeadLayout,
    mask: Option<Mask>,
) -> (FlexTensor, FlexTensor) {
    let inputs = attention_inputs(qkv, gains, layout, mask);
    let (out, sums) = attention::forward(SimdLevel::best(), &inputs);
    (tensor(out, inputs.sizes.output_shape()), vector(sums))
}

pub(super) fn norm_forward(
    x: &FlexTensor,
    gain: &FlexTensor,
    offset: &FlexTensor,
    kind: NormKind,
    epsilon: f32,
) -> (FlexTensor, FlexTensor) {
    let (y, moments) =
        norm::forward(SimdLevel::best(), kind, values(x), values(gain), values(offset), epsilon);
    (tensor_like(y, x), vector(moments))
}

pub(super) fn embed_forward(
    tokens: &FlexTensor,
    positions: &FlexTensor,
    ids: &FlexTensor,
    index: &[usize],
    position_ids: &[usize],
    mask: Option<Mask>,
) -> FlexTensor {
    check_ids(index, tokens.layout().shape()[0]);
    let shape = ids.layout().shape();
    let ([batch, time], width) = ([shape[0], shape[1]], width(tokens));
    let (tokens, positions) = (values(tokens), values(positions));
    let y = embedding::forward(SimdLevel::best(), tokens, positions, width, index, position_ids, mask);
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
    cross_entropy::loss(level, values(hidden), weight, targets, backward)
}

pub(super) fn check_ids(ids: &[usize], n_vocab: usize) {
    if let Some(id) = ids.iter().find(|&&id| id >= n_vocab) {
        panic!("token {id} is outside the vocabulary of {n_vocab}");
    }
}
