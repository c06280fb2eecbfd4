//! The operations on the CPU without autodiff.

use std::sync::Arc;

use burn::backend::{Flex, flex::FlexTensor};
use cpu::{
    AdamWStep, HeadLayout, MuonStep, NormKind, Precision, SimdLevel, adamw,
    dropout::Mask,
    muon,
    segments::{self, Step},
};

use crate::weight::RowBlocks;

use super::{
    forward::{attention_forward, embed_forward, linear_forward, loss_forward, norm_forward, right_factor},
    ops::{Affine, FusedOps, InPlaceOps, SlotLayer},
    tensors::{contiguous, indices, scalar, tensor, values, width},
};

impl FusedOps for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        affine: Affine,
    ) -> FlexTensor {
        let weight = contiguous(weight);
        let weight = [right_factor(&weight)];
        linear_forward([&contiguous(x), &contiguous(bias), &contiguous(residual)], &weight, affine, false).0
    }

    fn linear_in_blocks(
        x: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        weight: RowBlocks,
        affine: Affine,
    ) -> FlexTensor {
        linear_forward(
            [&contiguous(x), &contiguous(bias), &contiguous(residual)],
            &weight.factors(),
            affine,
            false,
        )
        .0
    }

    fn causal_attention(
        qkv: FlexTensor,
        query_gain: FlexTensor,
        key_gain: FlexTensor,
        layout: HeadLayout,
        mask: Option<Mask>,
    ) -> FlexTensor {
        attention_forward(&contiguous(qkv), &[query_gain, key_gain].map(contiguous), &layout, mask).0
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
        targets: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        let level = SimdLevel::of(precision);
        scalar(loss_forward(level, &contiguous(hidden), &contiguous(weight), &indices(&targets), false).mean)
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
