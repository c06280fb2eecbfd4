//! The forward passes, on contiguous CPU tensors.

use burn::backend::flex::FlexTensor;
use cpu::{
    Documents, Factor, HeadLayout, NormKind, SimdLevel, attention,
    cross_entropy::{self, Gradients},
    dropout::Mask,
    embedding, norm,
};

use crate::weight::RowBlocks;

use super::tensors::{rows, tensor, tensor_like, values, vector, width};

/// A weight, `[C_out, C_in]` or in blocks, as right factors of a product.
pub(super) fn factors<'a>(weight: &'a FlexTensor, blocks: Option<&'a RowBlocks>) -> Vec<Factor<'a>> {
    match blocks {
        Some(blocks) => blocks.factors(),
        None => vec![rows(weight).transposed().into()],
    }
}

pub(super) fn attention_inputs<'a>(
    qkv: &'a FlexTensor,
    gains: &'a [FlexTensor; 2],
    layout: &'a HeadLayout,
    documents: Option<&'a Documents>,
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
    attention::Inputs {
        qkv: values(qkv),
        gains: gains.each_ref().map(values),
        layout,
        sizes,
        documents,
        mask,
    }
}

pub(super) fn attention_forward(
    qkv: &FlexTensor,
    gains: &[FlexTensor; 2],
    layout: &HeadLayout,
    documents: Option<&Documents>,
    mask: Option<Mask>,
) -> (FlexTensor, FlexTensor) {
    let inputs = attention_inputs(qkv, gains, layout, documents, mask);
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
    blocks: Option<&RowBlocks>,
    targets: &[usize],
    row_weights: Option<&[f32]>,
    gradients: Gradients,
) -> cross_entropy::Loss {
    let weight = factors(weight, blocks);
    check_ids(targets, weight.iter().map(Factor::cols).sum());
    cross_entropy::loss(level, values(hidden), &weight, targets, row_weights, gradients)
}

pub(super) fn check_ids(ids: &[usize], n_vocab: usize) {
    if let Some(id) = ids.iter().find(|&&id| id >= n_vocab) {
        panic!("token {id} is outside the vocabulary of {n_vocab}");
    }
}
