//! The operations on the CPU where no gradient is recorded.

use std::sync::Arc;

use burn::backend::{Flex, flex::FlexTensor};
use cpu::{
    AdamWStep, HeadLayout, MuonStep, NormKind, Precision, RowBlock, SimdLevel, adamw,
    dropout::Mask,
    matrix::Matrix,
    muon,
    segments::{self, Step},
};

use crate::weight::RowBlocks;

use super::{
    forward::{attention_forward, embed_forward, factor, linear_forward, loss_forward, norm_forward},
    ops::{Affine, FusedOps, InPlaceOps, SlotLayer},
    tensors::{indices, numbers, scalar, tensor, whole, width},
};

impl FusedOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        affine: Affine,
    ) -> FlexTensor {
        let weight = whole(weight);
        let weight = [factor(&weight)];
        linear_forward([&whole(x), &whole(bias), &whole(residual)], &weight, affine, false).0
    }

    fn causal_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        mask: Option<Mask>,
    ) -> FlexTensor {
        attention_forward(&whole(qkv), &[query_gain, key_gain].map(whole), &layout, mask).0
    }

    fn norm(x: FlexTensor, gain: FlexTensor, offset: FlexTensor, kind: NormKind, epsilon: f32) -> FlexTensor {
        norm_forward(&whole(x), &whole(gain), &whole(offset), kind, epsilon).0
    }

    fn embed(
        tokens: FlexTensor,
        positions: FlexTensor,
        ids: FlexTensor,
        places: Arc<[usize]>,
        mask: Option<Mask>,
    ) -> FlexTensor {
        embed_forward(&whole(tokens), &whole(positions), &ids, &indices(&ids), &places, mask)
    }

    fn head_loss(
        hidden: FlexTensor,
        weight: FlexTensor,
        targets: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        let level = SimdLevel::of(precision);
        scalar(loss_forward(level, &whole(hidden), &whole(weight), &indices(&targets), false).mean)
    }
}

impl InPlaceOps for Flex {
    fn linear_in_blocks(
        x: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        weight: RowBlocks,
        affine: Affine,
    ) -> FlexTensor {
        let factors: Vec<Matrix<'_>> = weight.blocks().iter().map(RowBlock::factor).collect();
        linear_forward([&whole(x), &whole(bias), &whole(residual)], &factors, affine, false).0
    }

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
        adamw::step(SimdLevel::best(), &step, x.storage_mut(), numbers(&gradient), moments);
        (x, first, second)
    }

    fn ragged_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        past: SlotLayer<'_>,
    ) -> FlexTensor {
        let [qkv, query_gain, key_gain] = [qkv, query_gain, key_gain].map(whole);
        let SlotLayer { segments, mut slots, layer } = past;
        let HeadLayout { n_head, n_kv_head, .. } = layout;
        let head_dim = width(&qkv) / (n_head + 2 * n_kv_head);
        let gains = [numbers(&query_gain), numbers(&key_gain)];
        let step = Step { qkv: numbers(&qkv), gains, layout: &layout, head_dim, segments };
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
        let (mut x, gradient, mut mean) = (whole(x), whole(gradient), whole(mean));
        let n_in = width(&x);
        muon::step(SimdLevel::best(), &step, n_in, x.storage_mut(), numbers(&gradient), mean.storage_mut());
        (x, mean)
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        scalar(adamw::sum_of_squares(SimdLevel::best(), numbers(&whole(x))) as f32)
    }
}
