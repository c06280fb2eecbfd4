//! Causal multi-head attention, from fused activations and back.

use burn::{backend::Dispatch, prelude::*, tensor::activation::softmax};
use cpu::{HeadLayout, NormKind, Precision, Segment};

use crate::{
    Rope,
    device::{count_gpu_path, is_fused, is_on_gpu},
    dropout::{self, dropout},
    fused::{FusedOps, InPlaceOps, SlotLayer},
    gpu::GpuOps,
    norm,
    precision::product,
    slot::{Slot, SlotMemory},
};

/// The heads of an attention layer, and what becomes of queries and keys before they meet.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Heads of queries, H.
    pub n_head: usize,
    /// Heads of keys and values, KV, each of which serves H / KV heads of queries in turn
    /// ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245)).
    pub n_kv_head: usize,
    /// Applies to each head, first.
    pub qk_norm: Option<QkNorm>,
    /// Turns queries and keys by their positions.
    pub rope: Option<Rope>,
    /// What the products of queries with keys and of weights with values are computed in; on the CPU it is f32.
    pub precision: Precision,
}

/// RMS norms of queries and of keys, over the channels of each head.
#[derive(Debug, Clone)]
pub struct QkNorm {
    /// `[D]`, the same for all heads.
    pub query_gain: Tensor<1>,
    /// As `query_gain`.
    pub key_gain: Tensor<1>,
    /// What is added to the mean square.
    pub epsilon: f64,
}

impl Attention {
    /// As many heads of keys and values as of queries, which meet as they are.
    pub fn plain(n_head: usize) -> Self {
        Self { n_head, n_kv_head: n_head, qk_norm: None, rope: None, precision: Precision::F32 }
    }

    /// The width of a head, of activations `[B, T, (H + 2 KV) · D]`.
    fn head_dim(&self, qkv: &Tensor<3>) -> usize {
        let Self { n_head, n_kv_head, .. } = *self;
        assert!(n_head.is_multiple_of(n_kv_head), "{n_head} heads are not shared by {n_kv_head} evenly");
        let ([_, _, width], n_parts) = (qkv.dims(), n_head + 2 * n_kv_head);
        assert!(
            width.is_multiple_of(n_parts),
            "{width} channels do not split into {n_head} heads of queries and {n_kv_head} of keys and values"
        );
        width / n_parts
    }

    /// Refuses positions that have no angles, and angles of other heads.
    fn check_rope(&self, end: usize, head_dim: usize) {
        if let Some(rope) = &self.rope {
            let (n, width) = (rope.angles().n_positions(), rope.angles().head_dim());
            assert!(end <= n, "{end} positions, and angles for {n}");
            assert_eq!(head_dim, width, "heads are {head_dim} wide and angles are for {width}");
        }
    }

    /// What fused operations take: the gains, empty where there are none, and the rest.
    fn fused(&self, device: &Device) -> ([Tensor<1>; 2], HeadLayout) {
        let (gains, epsilon) = match &self.qk_norm {
            Some(norm) => ([norm.query_gain.clone(), norm.key_gain.clone()], norm.epsilon),
            None => ([(); 2].map(|()| Tensor::empty([0], device)), 0.0),
        };
        #[expect(clippy::cast_possible_truncation, reason = "tensors are f32")]
        let epsilon = epsilon as f32;
        let Self { n_head, n_kv_head, .. } = *self;
        let rope = self.rope.as_ref().map(|rope| rope.angles().clone());
        (gains, HeadLayout { n_head, n_kv_head, rope, epsilon })
    }

    /// `[B, T, (H + 2 KV) · D]` to queries `[B, H, T, D]`, keys and values `[B, KV, T, D]` as they meet; the first is
    /// at position `first`.
    fn split(&self, qkv: Tensor<3>, first: usize) -> [Tensor<4>; 3] {
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
            q = norm(q, NormKind::Rms, query_gain.clone(), None, *epsilon);
            k = norm(k, NormKind::Rms, key_gain.clone(), None, *epsilon);
        }
        if let Some(rope) = &self.rope {
            [q, k] = [q, k].map(|heads| rope.rotate(heads, first));
        }
        [q, k, v]
    }
}

/// Lets every position read the values of itself and of the positions before it.
///
/// `softmax(q · kᵀ / √D) · v` per head, the future masked out, section 3.2 of
/// [Attention Is All You Need](https://arxiv.org/abs/1706.03762). `dropout_probability` applies to the
/// attention weights, while training.
///
/// # Shapes
///
/// - `qkv`: `[B, T, (H + 2 KV) · D]`: the queries, keys and values of all heads, side by side
/// - output: `[B, T, H · D]`
///
/// # Panics
///
/// If the channels do not split into the heads, the heads not into groups, or rotary positions are fewer than T or for
/// heads of another width.
pub fn causal_attention(qkv: Tensor<3>, attention: &Attention, dropout_probability: f64) -> Tensor<3> {
    let ([_, time, _], head_dim) = (qkv.dims(), attention.head_dim(&qkv));
    attention.check_rope(time, head_dim);
    if is_fused(&qkv) {
        let mask = dropout::mask(&qkv.device(), dropout_probability);
        let ([query_gain, key_gain], layout) = attention.fused(&qkv.device());
        check_gains(&query_gain, &key_gain, head_dim);
        let mixed = <Dispatch as FusedOps>::causal_attention(
            qkv.into_dispatch(),
            query_gain.into_dispatch(),
            key_gain.into_dispatch(),
            layout,
            mask,
        );
        return Tensor::from_dispatch(mixed);
    }
    let [q, k, v] = attention.split(qkv, 0);
    attend([q, k, v], dropout_probability, attention.precision)
}

/// As [`causal_attention`] without dropout, of a step: each row attends to the positions in its segment's slot as well, and the
/// rows' own keys and values are added to a layer of the slots.
///
/// # Shapes
///
/// - `qkv`: `[1, N, (H + 2 KV) · D]`, the rows of all segments, one segment after another
/// - `slots`: one for each segment
/// - output: `[1, N, H · D]`
///
/// # Panics
///
/// As [`causal_attention`]; if the segments do not cover the rows or do not follow what their slots hold; if a slot was made
/// for other sizes or another device, or has no room.
pub fn ragged_attention(
    qkv: Tensor<3>,
    attention: &Attention,
    segments: &[Segment],
    slots: &mut [&mut Slot],
    layer: usize,
) -> Tensor<3> {
    let ([_, n_rows, _], head_dim) = (qkv.dims(), attention.head_dim(&qkv));
    assert_eq!(slots.len(), segments.len(), "a slot for each segment");
    assert_eq!(
        segments.iter().map(|segment| segment.n).sum::<usize>(),
        n_rows,
        "the segments cover the rows"
    );
    for segment in segments {
        attention.check_rope(segment.positions().end, head_dim);
    }
    if slots.iter().any(|slot| matches!(slot.memory, SlotMemory::Cpu(_))) {
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
        let [q, k, v] = attention.split(rows, past);
        let [k, v] = slot.extend(layer, past, [k, v]);
        mixed.push(attend([q, k, v], 0.0, attention.precision));
        first_row += n;
    }
    if mixed.len() == 1 { mixed.remove(0) } else { Tensor::cat(mixed, 1) }
}

fn check_gains(query_gain: &Tensor<1>, key_gain: &Tensor<1>, head_dim: usize) {
    for [n] in [query_gain.dims(), key_gain.dims()] {
        assert!(n == 0 || n == head_dim, "a gain of {n} for heads of {head_dim}");
    }
}

/// The definition; the T queries are the last T of the S positions.
///
/// - `q`: `[B, H, T, D]`
/// - `k`, `v`: `[B, KV, S, D]`
/// - output: `[B, T, H · D]`
pub(crate) fn attention_reference(
    [q, k, v]: [Tensor<4>; 3],
    dropout_probability: f64,
    precision: Precision,
) -> Tensor<3> {
    let [batch, n_head, time, head_dim] = q.dims();
    let [_, n_kv_head, seen, _] = k.dims();
    // The queries that a head of keys and values serves, one head of them after the other, meet it in one product.
    let n_served = n_head / n_kv_head * time;

    // Unit variance in, unit variance out: a sum of D products grows as √D.
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores =
        product((q * scale).reshape([batch, n_kv_head, n_served, head_dim]), k.transpose(), precision);
    let mut scores = scores.reshape([batch, n_head, time, seen]);
    if time > 1 {
        // True strictly above the diagonal, that is, for the future. One query is the newest position and
        // has no future.
        let offset = i64::try_from(seen - time).expect("a block is far below 2^63 positions");
        let future = Tensor::<2, Bool>::tril_mask([time, seen], offset, &scores.device());
        scores = scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY);
    }
    let weights = dropout(softmax(scores, 3), dropout_probability);
    let mixed = product(weights.reshape([batch, n_kv_head, n_served, seen]), v, precision); // [B, KV, H/KV · T, D]
    side_by_side(mixed.reshape([batch, n_head, time, head_dim]))
}

/// Scores that exist at a time, where they are made in chunks: 256 MiB of them, but for very many heads.
const CHUNK: usize = 1 << 26;

/// Queries that meet the keys at a time, where they do so in chunks, at least and at most.
const CHUNK_ROWS: (usize, usize) = (16, 256);

/// Attention proper, in chunks where there is need; as [`attention_reference`].
fn attend([q, k, v]: [Tensor<4>; 3], dropout_probability: f64, precision: Precision) -> Tensor<3> {
    let ([batch, n_head, time, _], [_, _, seen, _]) = (q.dims(), k.dims());
    let n_rows = (CHUNK / (batch * n_head * seen).max(1)).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
    let n_rows = n_rows - n_rows % CHUNK_ROWS.0;
    if is_on_gpu(&q) && time > n_rows {
        return attend_in_chunks([q, k, v], dropout_probability, n_rows, precision);
    }
    attention_reference([q, k, v], dropout_probability, precision)
}

/// As [`attention_reference`], `n_rows` queries at a time: no more than their scores is ever there.
pub(crate) fn attend_in_chunks(
    [q, k, v]: [Tensor<4>; 3],
    dropout_probability: f64,
    n_rows: usize,
    precision: Precision,
) -> Tensor<3> {
    let mask = dropout::mask(&q.device(), dropout_probability);
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    count_gpu_path();
    let mixed = <Dispatch as GpuOps>::attention_in_chunks(q, k, v, mask, n_rows, precision);
    side_by_side(Tensor::from_dispatch(mixed))
}

/// `[B, H, T, D]` to `[B, T, H · D]`
fn side_by_side(heads: Tensor<4>) -> Tensor<3> {
    let [batch, n_head, time, head_dim] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, time, n_head * head_dim])
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
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

    /// The definition, position by position, in f64.
    fn by_hand(qkv: &[f32]) -> Vec<f32> {
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
    fn matches_the_definition() {
        let qkv = random_qkv(&test_device());
        let expected = by_hand(&qkv.to_data().try_into_vec::<f32>().unwrap());
        let got = causal_attention(qkv, &Attention::plain(HEADS), 0.0);
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

        let before = causal_attention(qkv, &Attention::plain(HEADS), 0.0);
        let after = causal_attention(edited, &Attention::plain(HEADS), 0.0);
        let past = |y: &Tensor<3>| y.clone().slice(s![.., ..seen, ..]).into_data();
        assert_eq!(past(&after), past(&before));

        // The edit did reach the computation.
        let future = |y: &Tensor<3>| y.clone().slice(s![.., seen.., ..]).into_data();
        assert_ne!(future(&after), future(&before));
    }

    #[test]
    #[should_panic(expected = "heads are 3 wide and angles are for 4")]
    fn angles_of_other_heads_are_refused() {
        let device = test_device();
        let attention = Attention { rope: Some(Rope::new(4, TIME, 1e4)), ..Attention::plain(HEADS) };
        causal_attention(random_qkv(&device), &attention, 0.0);
    }
}
