//! Causal multi-head attention.

use burn::{
    backend::Dispatch,
    prelude::*,
    tensor::{DType, activation::softmax},
};
use cpu::{HeadLayout, NormKind, Precision, Segment};

use crate::{
    Documents, Rope,
    device::{count_gpu_path, is_fused, is_on_gpu, is_operand_on_gpu},
    dropout::{self, dropout},
    fused::{FusedOps, InPlaceOps, SlotLayer},
    gpu::{GpuOps, HeadSplit, SelfAttention},
    missing::missing,
    norm,
    precision::{as_f32, product},
    rope::rotated,
    slot::{Slot, SlotStorage},
};

/// The head layout, QK norm and RoPE of an attention layer.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads, H.
    pub n_head: usize,
    /// Key/value heads, KV; each serves H / KV consecutive query heads
    /// ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245)).
    pub n_kv_head: usize,
    /// Applies to each head, before RoPE.
    pub qk_norm: Option<QkNorm>,
    pub rope: Option<Rope>,
    /// Precision of the products of queries with keys and of weights with values. The fused CPU path always uses f32.
    pub precision: Precision,
}

/// RMS norms of queries and of keys, over the channels of each head.
#[derive(Debug, Clone)]
pub struct QkNorm {
    /// `[D]`, the same for all heads.
    pub query_gain: Tensor<1>,
    /// `[D]`, the same for all heads.
    pub key_gain: Tensor<1>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl Attention {
    /// Multi-head attention in f32 with KV = H, without QK norm and RoPE.
    pub fn plain(n_head: usize) -> Self {
        Self { n_head, n_kv_head: n_head, qk_norm: None, rope: None, precision: Precision::F32 }
    }

    /// The head dimension D of activations `[B, T, (H + 2 KV) · D]`.
    fn head_dim(&self, qkv: &Tensor<3>) -> usize {
        let Self { n_head, n_kv_head, .. } = *self;
        assert!(
            n_head.is_multiple_of(n_kv_head),
            "{n_head} query heads are not a multiple of {n_kv_head} key/value heads"
        );
        let ([_, _, width], n_parts) = (qkv.dims(), n_head + 2 * n_kv_head);
        assert!(
            width.is_multiple_of(n_parts),
            "{width} channels do not split into {n_head} query heads and {n_kv_head} key and value heads"
        );
        width / n_parts
    }

    /// Panics if RoPE has too few positions or another head dimension.
    fn check_rope(&self, end: usize, head_dim: usize) {
        if let Some(rope) = &self.rope {
            let (n, width) = (rope.angles().n_positions(), rope.angles().head_dim());
            assert!(end <= n, "RoPE has angles for {n} positions, not for {end}");
            assert_eq!(head_dim, width, "RoPE has angles for heads of {width} channels, not of {head_dim}");
        }
    }

    /// The arguments of fused operations: the gains, empty without QK norm, and the layout.
    fn fused(&self, device: &Device) -> ([Tensor<1>; 2], HeadLayout) {
        let (gains, epsilon) = match &self.qk_norm {
            Some(norm) => ([norm.query_gain.clone(), norm.key_gain.clone()], norm.epsilon),
            None => ([(); 2].map(|()| missing(device)), 0.0),
        };
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        let epsilon = epsilon as f32;
        let Self { n_head, n_kv_head, .. } = *self;
        let rope = self.rope.as_ref().map(|rope| rope.angles().clone());
        (gains, HeadLayout { n_head, n_kv_head, rope, epsilon })
    }

    /// Splits `[B, T, (H + 2 KV) · D]` into queries `[B, H, T, D]`, keys and values `[B, KV, T, D]`, and applies QK
    /// norm and RoPE.
    fn split(&self, qkv: Tensor<3>, positions: Positions<'_>) -> [Tensor<4>; 3] {
        let ([batch, time, _], head_dim) = (qkv.dims(), self.head_dim(&qkv));
        let Self { n_head, n_kv_head, .. } = *self;
        let heads = |start: usize, n: usize| {
            qkv.clone()
                .narrow(2, start * head_dim, n * head_dim)
                .reshape([batch, time, n, head_dim])
                .swap_dims(1, 2) // [B, n, T, D]
        };
        let mut q = heads(0, n_head);
        let mut k = heads(n_head, n_kv_head);
        let v = heads(n_head + n_kv_head, n_kv_head);
        if let Some(QkNorm { query_gain, key_gain, epsilon }) = &self.qk_norm {
            q = norm(q, NormKind::Rms, query_gain.clone(), None, *epsilon, Precision::F32);
            k = norm(k, NormKind::Rms, key_gain.clone(), None, *epsilon, Precision::F32);
        }
        if let Some(rope) = &self.rope {
            [q, k] = match positions {
                Positions::From(first) => [q, k].map(|heads| rope.rotate(heads, first)),
                Positions::In(documents) => {
                    let angles = documents.angles(rope, &qkv.device().inner()); // [B · T, D]
                    let angles = angles.reshape([batch, 1, time, head_dim]);
                    [q, k].map(|heads| rotated(heads, angles.clone()))
                }
            };
        }
        [q, k, v]
    }
}

/// The positions of rows.
enum Positions<'a> {
    /// Consecutive ones, the first of which is given.
    From(usize),
    /// Those in documents.
    In(&'a Documents),
}

/// Causal self-attention: `softmax(q · kᵀ / √D) · v` per head, with the future masked, section 3.2 of
/// [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
///
/// With `documents`, a token attends to its document only, and positions restart at 0 in each document. In training,
/// dropout with `dropout_probability` applies to the attention weights. On GPUs, the output has the type of operands in
/// the precision.
///
/// # Shapes
///
/// - `qkv`: `[B, T, (H + 2 KV) · D]`, of [`linear`](crate::linear) or [`linear_operand`](crate::linear_operand): the queries of
///   all heads, then their keys, then their values
/// - output: `[B, T, H · D]`
///
/// # Panics
///
/// If the channels do not split into the heads, H is not a multiple of KV, the documents do not have B rows of T
/// positions, or RoPE has fewer positions than the longest document, or another head dimension.
pub fn causal_attention(
    qkv: Tensor<3>,
    attention: &Attention,
    documents: Option<&Documents>,
    dropout_probability: f64,
) -> Tensor<3> {
    let ([batch, time, _], head_dim) = (qkv.dims(), attention.head_dim(&qkv));
    if let Some(documents) = documents {
        assert_eq!(documents.dims(), [batch, time], "documents and activations differ in rows");
    }
    attention.check_rope(documents.map_or(time, Documents::longest), head_dim);
    if is_fused(&qkv) {
        let mask = dropout::mask(&qkv.device(), dropout_probability, attention.n_head * time);
        let ([query_gain, key_gain], layout) = attention.fused(&qkv.device());
        check_gains(&query_gain, &key_gain, head_dim);
        let mixed = <Dispatch as FusedOps>::causal_attention(
            qkv.into_dispatch(),
            query_gain.into_dispatch(),
            key_gain.into_dispatch(),
            layout,
            documents.map(|documents| documents.on_host().clone()),
            mask,
        );
        return Tensor::from_dispatch(mixed);
    }
    if is_operand_on_gpu(&qkv) {
        let n_rows = n_chunk_rows([batch, attention.n_head, time, time]);
        return self_attention_on_gpu(qkv, attention, documents, dropout_probability, n_rows);
    }
    let heads = attention.split(as_f32(qkv), documents.map_or(Positions::From(0), Positions::In));
    attention_reference(heads, documents, dropout_probability, attention.precision)
}

/// [`causal_attention`] of an inference step, without dropout: each row also attends to the positions in its segment's
/// slot. Appends the keys and values of the rows to a layer of the slots.
///
/// # Shapes
///
/// - `qkv`: `[1, N, (H + 2 KV) · D]`, the rows of all segments, one segment after another
/// - `slots`: one for each segment
/// - output: `[1, N, H · D]`
///
/// # Panics
///
/// As [`causal_attention`]. Also if the segments do not cover the rows, a segment does not follow the positions in its
/// slot, or a slot has other sizes, another device or no room.
pub fn ragged_attention(
    qkv: Tensor<3>,
    attention: &Attention,
    segments: &[Segment],
    slots: &mut [&mut Slot],
    layer: usize,
) -> Tensor<3> {
    let ([_, n_rows, _], head_dim) = (qkv.dims(), attention.head_dim(&qkv));
    assert_eq!(slots.len(), segments.len(), "each segment needs a slot");
    assert_eq!(
        segments.iter().map(|segment| segment.n).sum::<usize>(),
        n_rows,
        "the segments do not cover the rows"
    );
    for segment in segments {
        attention.check_rope(segment.positions().end, head_dim);
    }
    if slots.iter().any(|slot| matches!(slot.storage, SlotStorage::Cpu(_))) {
        let slots: Vec<&mut cpu::Slot> = slots.iter_mut().map(|slot| slot.on_cpu()).collect();
        let ([query_gain, key_gain], layout) = attention.fused(&qkv.device());
        check_gains(&query_gain, &key_gain, head_dim);
        let mixed = <Dispatch as InPlaceOps>::ragged_attention(
            qkv.into_dispatch(),
            query_gain.into_dispatch(),
            key_gain.into_dispatch(),
            layout,
            SlotLayer { segments, slots, layer },
        );
        return Tensor::from_dispatch(mixed);
    }
    let mut first_row = 0;
    let mut mixed = Vec::with_capacity(segments.len());
    for (&Segment { past, n }, slot) in segments.iter().zip(slots) {
        let rows = if n == n_rows { qkv.clone() } else { qkv.clone().narrow(1, first_row, n) };
        let [q, k, v] = attention.split(rows, Positions::From(past));
        let [k, v] = slot.extend(layer, past, [k, v]);
        mixed.push(attend([q, k, v], attention.precision));
        first_row += n;
    }
    if mixed.len() == 1 { mixed.remove(0) } else { Tensor::cat(mixed, 1) }
}

fn check_gains(query_gain: &Tensor<1>, key_gain: &Tensor<1>, head_dim: usize) {
    for [n] in [query_gain.dims(), key_gain.dims()] {
        assert!(n == 0 || n == head_dim, "a gain of {n} channels does not fit heads of {head_dim}");
    }
}

/// The reference implementation. The T queries are the last T of the S positions; with documents, T = S.
///
/// - `q`: `[B, H, T, D]`
/// - `k`, `v`: `[B, KV, S, D]`
/// - output: `[B, T, H · D]`
pub(crate) fn attention_reference(
    [q, k, v]: [Tensor<4>; 3],
    documents: Option<&Documents>,
    dropout_probability: f64,
    precision: Precision,
) -> Tensor<3> {
    let [batch, n_head, time, head_dim] = q.dims();
    let [_, n_kv_head, seen, _] = k.dims();
    // All query heads of a key/value head are stacked, for one product.
    let group_rows = n_head / n_kv_head * time;

    // The scale keeps unit variance: a sum of D products grows as √D.
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores =
        product((q * scale).reshape([batch, n_kv_head, group_rows, head_dim]), k.transpose(), precision);
    let mut scores = scores.reshape([batch, n_head, time, seen]);
    if time > 1 {
        // True strictly above the diagonal, for the future. A single query is the newest position and has no future.
        let offset = i64::try_from(seen - time).expect("a block is far below 2^63 positions");
        let future = Tensor::<2, Bool>::tril_mask([time, seen], offset, &scores.device());
        let mut hidden = future.unsqueeze::<4>();
        if let Some(documents) = documents {
            let shape = [batch, 1, time, seen];
            let earlier = earlier_documents(documents, &scores.device());
            hidden = hidden.expand(shape).bool_or(earlier);
        }
        scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
    }
    let weights = dropout(softmax(scores, 3), dropout_probability);
    let mixed = product(weights.reshape([batch, n_kv_head, group_rows, seen]), v, precision); // [B, KV, H/KV · T, D]
    merge_heads(mixed.reshape([batch, n_head, time, head_dim]))
}

/// Whether each key is in an earlier document than each query, `[B, 1, T, T]`.
fn earlier_documents(documents: &Documents, device: &Device) -> Tensor<4, Bool> {
    let [batch, time] = documents.dims();
    let starts = documents.starts(&device.clone().inner()).reshape([batch, 1, time, 1]);
    let keys = Tensor::<1, Int>::arange(0..time as i64, &starts.device()).float().reshape([1, 1, 1, time]);
    keys.expand([batch, 1, time, time]).lower(starts.expand([batch, 1, time, time]))
}

/// Maximum scores of a chunk: 512 MiB, unless there are very many heads.
const CHUNK: usize = 1 << 27;

/// Minimum and maximum queries of a chunk.
const CHUNK_ROWS: (usize, usize) = (16, 512);

/// The queries of a chunk of scores, `[B, H, T, S]`.
fn n_chunk_rows([batch, n_head, time, seen]: [usize; 4]) -> usize {
    let n_rows = (CHUNK / (batch * n_head * seen).max(1)).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
    (n_rows - n_rows % CHUNK_ROWS.0).min(time)
}

/// As [`attention_reference`], for inference. On GPUs in chunks, a short sequence as one chunk: the reference
/// implementation has the scores several times, and launches more kernels.
fn attend([q, k, v]: [Tensor<4>; 3], precision: Precision) -> Tensor<3> {
    let ([batch, n_head, time, _], [_, _, seen, _]) = (q.dims(), k.dims());
    if is_on_gpu(&q) && time > 1 {
        let n_rows = n_chunk_rows([batch, n_head, time, seen]);
        return attend_in_chunks([q, k, v], n_rows, precision);
    }
    attention_reference([q, k, v], None, 0.0, precision)
}

/// [`causal_attention`] with its own backward pass, `n_rows` queries at a time.
pub(crate) fn self_attention_on_gpu(
    qkv: Tensor<3>,
    attention: &Attention,
    documents: Option<&Documents>,
    dropout_probability: f64,
    n_rows: usize,
) -> Tensor<3> {
    count_gpu_path();
    let ([batch, time, _], device) = (qkv.dims(), qkv.device());
    let plain_device = device.clone().inner();
    let Attention { n_head, n_kv_head, precision, .. } = *attention;
    #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
    let epsilon = attention.qk_norm.as_ref().map(|norm| norm.epsilon as f32);
    let gains = match attention.qk_norm.clone() {
        Some(QkNorm { query_gain, key_gain, .. }) => {
            let head_dim = attention.head_dim(&qkv);
            for gain in [&query_gain, &key_gain] {
                assert_eq!(gain.dims(), [head_dim], "a gain has the channels of a head");
            }
            Tensor::stack::<2>(vec![query_gain, key_gain], 0).into_dispatch()
        }
        None => qkv.clone().detach().into_dispatch(),
    };
    let any = || qkv.clone().inner().into_dispatch();
    let (angles, n_angles) = match (&attention.rope, documents) {
        (Some(rope), None) => (rope.on(&plain_device, time).into_dispatch(), Some(time)),
        (Some(rope), Some(documents)) => {
            (documents.angles(rope, &plain_device).into_dispatch(), Some(batch * time))
        }
        (None, _) => (any(), None),
    };
    let starts = documents.map_or_else(any, |documents| documents.starts(&plain_device).into_dispatch());
    let channels = if qkv.dtype() == DType::F32 { Precision::F32 } else { Precision::Bf16 };
    let options = SelfAttention {
        split: HeadSplit { n_head, n_kv_head, epsilon, n_angles, channels, precision },
        has_documents: documents.is_some(),
        mask: dropout::mask(&device, dropout_probability, n_head * time),
        n_rows,
    };
    let qkv = qkv.into_dispatch();
    let mixed = <Dispatch as GpuOps>::self_attention(qkv, gains, angles, starts, options);
    Tensor::from_dispatch(mixed)
}

/// As [`attention_reference`] for inference, `n_rows` queries at a time, so that only their scores exist.
pub(crate) fn attend_in_chunks([q, k, v]: [Tensor<4>; 3], n_rows: usize, precision: Precision) -> Tensor<3> {
    count_gpu_path();
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    let mixed = <Dispatch as GpuOps>::attention_in_chunks(q, k, v, n_rows, precision);
    as_f32(Tensor::from_dispatch(mixed))
}

/// `[B, H, T, D]` to `[B, T, H · D]`.
fn merge_heads(heads: Tensor<4>) -> Tensor<3> {
    let [batch, n_head, time, head_dim] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, time, n_head * head_dim])
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "values in tests are small")]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::testing::{test_device, test_tolerance};

    // All different, so that a swapped axis fails.
    const BATCH: usize = 2;
    const TIME: usize = 5;
    const HEADS: usize = 4;
    const HEAD_DIM: usize = 3;

    fn random_qkv(device: &Device) -> Tensor<3> {
        device.seed(0);
        Tensor::random([BATCH, TIME, 3 * HEADS * HEAD_DIM], Distribution::Normal(0.0, 1.0), device)
    }

    /// Attention in f64, position by position.
    fn expected(qkv: &[f32]) -> Vec<f32> {
        let channels = HEADS * HEAD_DIM;
        let at = |batch: usize, time: usize, part: usize, head: usize, dim: usize| {
            f64::from(qkv[(batch * TIME + time) * 3 * channels + part * channels + head * HEAD_DIM + dim])
        };
        let mut out = Vec::new();
        for batch in 0..BATCH {
            for time in 0..TIME {
                for head in 0..HEADS {
                    let weight = |other: usize| {
                        let dot: f64 = (0..HEAD_DIM)
                            .map(|d| at(batch, time, 0, head, d) * at(batch, other, 1, head, d))
                            .sum();
                        (dot / (HEAD_DIM as f64).sqrt()).exp()
                    };
                    let total: f64 = (0..=time).map(weight).sum();
                    for dim in 0..HEAD_DIM {
                        let mixed: f64 =
                            (0..=time).map(|o| weight(o) / total * at(batch, o, 2, head, dim)).sum();
                        out.push(mixed as f32);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn matches_f64() {
        let qkv = random_qkv(&test_device());
        let expected = expected(&qkv.to_data().try_into_vec::<f32>().unwrap());
        let got = causal_attention(qkv, &Attention::plain(HEADS), None, 0.0);
        assert_eq!(got.dims(), [BATCH, TIME, HEADS * HEAD_DIM]);
        // Sums of at most five f32 terms of order one.
        got.reshape([-1]).into_data().assert_approx_eq::<f32>(
            &TensorData::from(expected.as_slice()),
            Tolerance::absolute(test_tolerance(1e-6)),
        );
    }

    #[test]
    fn output_does_not_depend_on_the_future() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let seen = 3;
        let zeros = Tensor::zeros([BATCH, TIME - seen, 3 * HEADS * HEAD_DIM], &device);
        let edited = qkv.clone().slice_assign(s![.., seen.., ..], zeros);

        let before = causal_attention(qkv, &Attention::plain(HEADS), None, 0.0);
        let after = causal_attention(edited, &Attention::plain(HEADS), None, 0.0);
        let past = |y: &Tensor<3>| y.clone().slice(s![.., ..seen, ..]).into_data();
        assert_eq!(past(&after), past(&before));

        // The edit did reach the computation.
        let future = |y: &Tensor<3>| y.clone().slice(s![.., seen.., ..]).into_data();
        assert_ne!(future(&after), future(&before));
    }

    #[test]
    #[should_panic(expected = "RoPE has angles for heads of 4 channels, not of 3")]
    fn rope_of_another_head_dimension_is_refused() {
        let device = test_device();
        let attention = Attention { rope: Some(Rope::new(4, TIME, 1e4)), ..Attention::plain(HEADS) };
        causal_attention(random_qkv(&device), &attention, None, 0.0);
    }
}
