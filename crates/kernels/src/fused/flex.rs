//! The operations on the CPU without autodiff.

use std::sync::Arc;

use burn::backend::{Flex, flex::FlexTensor};
use cpu::{
    AdamWStep, Documents, HeadLayout, MuonStep, NormKind, Precision, SimdLevel, adamw,
    cross_entropy::Gradients,
    dropout::Mask,
    muon,
    segments::{self, Step},
};

use crate::weight::RowBlocks;

use super::{
    forward::{attention_forward, embed_forward, loss_forward, norm_forward},
    linear,
    ops::{Affine, FusedOps, InPlaceOps, SlotLayer},
    tensors::{contiguous, indices, scalar, tensor, values, width},
};

impl FusedOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
        affine: Affine,
    ) -> FlexTensor {
        linear::forward(&[x, weight, bias, residual, a, b].map(contiguous), &affine, false).y
    }

    fn causal_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        documents: Option<Documents>,
        mask: Option<Mask>,
    ) -> FlexTensor {
        let gains = [query_gain, key_gain].map(contiguous);
        attention_forward(&contiguous(qkv), &gains, &layout, documents.as_ref(), mask).0
    }

    fn norm(x: FlexTensor, gain: FlexTensor, offset: FlexTensor, kind: NormKind, epsilon: f32) -> FlexTensor {
        norm_forward(&contiguous(x), &contiguous(gain), &contiguous(offset), kind, epsilon).0
    }

    fn embed(
        tokens: FlexTensor,
        positions: FlexTensor,
        ids: FlexTensor,
        position_ids: Arc<[usize]>,
        mask: Option<Mask>,
    ) -> FlexTensor {
        embed_forward(&contiguous(tokens), &contiguous(positions), &ids, &indices(&ids), &position_ids, mask)
    }

    fn head_loss(
        hidden: FlexTensor,
        weight: FlexTensor,
        blocks: Option<RowBlocks>,
        targets: FlexTensor,
        row_weights: Option<Arc<[f32]>>,
        precision: Precision,
    ) -> FlexTensor {
        let (level, [hidden, weight]) = (SimdLevel::of(precision), [hidden, weight].map(contiguous));
        let (targets, rows) = (indices(&targets), row_weights.as_deref());
        let loss = loss_forward(level, &hidden, &weight, blocks.as_ref(), &targets, rows, Gradients::None);
        scalar(loss.value)
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
        let (mut x, mut first, mut second) = (contiguous(x), contiguous(first), contiguous(second));
        let gradient = contiguous(gradient);
        let moments = [first.storage_mut(), second.storage_mut()];
        adamw::step(SimdLevel::best(), &step, x.storage_mut(), values(&gradient), moments);
        (x, first, second)
    }

    fn ragged_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        past: SlotLayer<'_>,
    ) -> FlexTensor {
        let [qkv, query_gain, key_gain] = [qkv, query_gain, key_gain].map(contiguous);
        let SlotLayer { segments, mut slots, layer } = past;
        let HeadLayout { n_head, n_kv_head, .. } = layout;
        let head_dim = width(&qkv) / (n_head + 2 * n_kv_head);
        let gains = [values(&query_gain), values(&key_gain)];
        let step = Step { qkv: values(&qkv), gains, layout: &layout, head_dim, segments };
        let out = segments::attend(SimdLevel::best(), &step, &mut slots, layer);
        let n_rows = qkv.layout().shape()[1];
        tensor(out, [1, n_rows, n_head * head_dim])
    }

    fn muon(
        x: FlexTensor,
        gradient: FlexTensor,
        mean: FlexTensor,
        step: MuonStep,
    ) -> (FlexTensor, FlexTensor) {
        let (mut x, gradient, mut mean) = (contiguous(x), contiguous(gradient), contiguous(mean));
        let n_in = width(&x);
        muon::step(SimdLevel::best(), &step, n_in, x.storage_mut(), values(&gradient), mean.storage_mut());
        (x, mean)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        scalar(adamw::sum_of_squares(SimdLevel::best(), values(&contiguous(x))) as f32)
    }
}
