//! The operations, as backend traits.

use std::sync::Arc;

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use cpu::{
    Activation, AdamWStep, Documents, HeadLayout, LowRankShape, MuonStep, NormKind, Precision, Segment, Slot,
    dropout::Mask,
};

use crate::weight::RowBlocks;

/// A linear layer beside its tensors, and the operations fused with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Affine {
    pub(crate) precision: Precision,
    /// The weight, if it is in blocks of rows. They have no gradient.
    pub(crate) blocks: Option<RowBlocks>,
    /// Low-rank updates of the weight.
    pub(crate) updates: Option<Arc<[LowRankShape]>>,
    /// Dropout of the input of low-rank updates.
    pub(crate) update_mask: Option<Mask>,
    pub(crate) activation: Option<Activation>,
    /// Dropout, before the residual is added.
    pub(crate) mask: Option<Mask>,
}

/// Operations with a backward pass. An empty vector stands for a missing argument.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// `a` and `b` are the stacked matrices of low-rank updates.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        affine: Affine,
    ) -> FloatTensor<Self>;

    fn causal_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        layout: HeadLayout,
        documents: Option<Documents>,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// `position_ids` are rows of `positions`, one for each id, or empty.
    fn embed(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
        position_ids: Arc<[usize]>,
        mask: Option<Mask>,
    ) -> FloatTensor<Self>;

    /// The weight is `weight` or in blocks of rows, which have no gradient. Without `row_weights`, `[N]`, the loss is the
    /// mean.
    fn head_loss(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        blocks: Option<RowBlocks>,
        targets: IntTensor<Self>,
        row_weights: Option<Arc<[f32]>>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// One layer of the slots of an inference step, one slot per segment.
pub(crate) struct SlotLayer<'a> {
    pub(crate) segments: &'a [Segment],
    pub(crate) slots: Vec<&'a mut Slot>,
    pub(crate) layer: usize,
}

/// Operations without gradients.
#[backend_extension(Flex)]
pub(crate) trait InPlaceOps: Backend {
    fn adamw(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Attention of an inference step; appends the keys and values of the rows to the slots.
    fn ragged_attention(
        qkv: FloatTensor<Self>,
        query_gain: FloatTensor<Self>,
        key_gain: FloatTensor<Self>,
        layout: HeadLayout,
        past: SlotLayer<'_>,
    ) -> FloatTensor<Self>;

    /// Returns the parameters and the mean of gradients.
    fn muon(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        step: MuonStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}
