//! Causal multi-head attention, from fused activations and back.

use burn::{backend::Dispatch, prelude::*, tensor::activation::softmax};
use cpu::{HeadLayout, NormKind, Precision};

use crate::{
    Rope,
    device::{count_gpu_path, is_fused, is_on_gpu},
    dropout::{self, dropout},
    fused::{FusedOps, InPlaceOps},
    gpu::GpuOps,
    norm,
    precision::product,
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

/// As [`causal_attention`] without dropout, over the positions in `cache` as well, to which those of `qkv`
/// are added.
///
/// # Shapes
///
/// - `qkv`: `[B, T, (H + 2 KV) · D]`
/// - output: `[B, T, H · D]`
///
/// # Panics
///
/// As [`causal_attention`], if the cache was made for other sizes, or has no room for T more positions.
pub fn cached_causal_attention(
    qkv: Tensor<3>,
    attention: &Attention,
    cache: &mut KeyValueCache,
) -> Tensor<3> {
    let [batch, time, _] = qkv.dims();
    let head_dim = attention.head_dim(&qkv);
    let [cached, n_kv_head, _, width] = cache.keys.dims();
    let expected = [batch, attention.n_kv_head, head_dim];
    assert_eq!([cached, n_kv_head, width], expected, "the cache was made for other sizes");
    attention.check_rope(cache.len() + time, head_dim);
    if is_fused(&qkv) && !qkv.device().is_autodiff() {
        return cache.attend(qkv, attention);
    }
    let [q, k, v] = attention.split(qkv, cache.len());
    let (k, v) = cache.extend(k, v);
    attend([q, k, v], 0.0, attention.precision)
}

fn check_gains(query_gain: &Tensor<1>, key_gain: &Tensor<1>, head_dim: usize) {
    for [n] in [query_gain.dims(), key_gain.dims()] {
        assert!(n == 0 || n == head_dim, "a gain of {n} for heads of {head_dim}");
    }
}

/// The keys, as they meet queries, and values of one layer, of the positions seen so far, in memory that is doubled when
/// it is full.
#[derive(Debug, Clone)]
pub struct KeyValueCache {
    /// `[B, KV, positions, D]`, of which the first `len` positions are filled.
    keys: Tensor<4>,
    /// As `keys`.
    values: Tensor<4>,
    len: usize,
    capacity: usize,
}

/// Positions that a cache has memory for at first, if it may hold as many.
const FIRST_POSITIONS: usize = 256;

impl KeyValueCache {
    /// An empty cache. `shape` is `[B, KV, capacity, D]`, the capacity in positions.
    pub fn new(shape: [usize; 4], device: &Device) -> Self {
        let [batch, n_kv_head, capacity, head_dim] = shape;
        let memory = || Tensor::zeros([batch, n_kv_head, capacity.min(FIRST_POSITIONS), head_dim], device);
        Self { keys: memory(), values: memory(), len: 0, capacity }
    }

    /// Number of positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of positions that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What its memory takes, in bytes, filled or not.
    pub fn size_bytes(&self) -> usize {
        2 * size_of::<f32>() * self.keys.dims().into_iter().product::<usize>()
    }

    /// The most positions that a cache of `capacity` has memory for when it holds `len`, however they came.
    pub fn room(len: usize, capacity: usize) -> usize {
        len.saturating_mul(2).max(FIRST_POSITIONS).min(capacity)
    }

    /// Forgets every position and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The sequences of these numbers, which may occur more than once or not at all.
    #[must_use]
    pub fn select(&self, sequences: &[usize]) -> Self {
        let numbers: Vec<i64> = sequences.iter().map(|&idx| i64::try_from(idx).unwrap_or(i64::MAX)).collect();
        let numbers = Tensor::<1, Int>::from_data(numbers.as_slice(), &self.keys.device());
        // No more than is filled, but for one position: memory of none is no tensor.
        let [keys, values] = [&self.keys, &self.values]
            .map(|memory| memory.clone().narrow(2, 0, self.len.max(1)).select(0, numbers.clone()));
        Self { keys, values, len: self.len, capacity: self.capacity }
    }

    /// Adds T positions and attends over all it then holds, in one operation.
    fn attend(&mut self, qkv: Tensor<3>, attention: &Attention) -> Tensor<3> {
        let device = qkv.device();
        let [_, time, _] = qkv.dims();
        let ([query_gain, key_gain], layout) = attention.fused(&device);
        check_gains(&query_gain, &key_gain, attention.head_dim(&qkv));
        let len = self.grow(time);
        // Taken out, so that nothing else holds the memory while it is written.
        let take = |memory: &mut Tensor<4>| {
            std::mem::replace(memory, Tensor::empty([0, 0, 0, 0], &device)).into_dispatch()
        };
        let (keys, values) = (take(&mut self.keys), take(&mut self.values));
        let (mixed, keys, values) = <Dispatch as InPlaceOps>::cached_attention(
            qkv.into_dispatch(),
            query_gain.into_dispatch(),
            key_gain.into_dispatch(),
            keys,
            values,
            layout,
            len,
        );
        (self.keys, self.values) = (Tensor::from_dispatch(keys), Tensor::from_dispatch(values));
        Tensor::from_dispatch(mixed)
    }

    /// Counts T positions more, makes room for them, and returns the number before.
    fn grow(&mut self, time: usize) -> usize {
        let (start, end) = (self.len, self.len + time);
        assert!(end <= self.capacity, "{end} positions do not fit a cache of {}", self.capacity);
        let [batch, n_kv_head, room, head_dim] = self.keys.dims();
        if end > room {
            let room = end.max(2 * room).max(FIRST_POSITIONS).min(self.capacity);
            for memory in [&mut self.keys, &mut self.values] {
                let larger = Tensor::zeros([batch, n_kv_head, room, head_dim], &memory.device());
                let filled = memory.clone().narrow(2, 0, start.max(1));
                *memory = larger.slice_assign(s![.., .., ..start.max(1), ..], filled);
            }
        }
        self.len = end;
        start
    }

    /// Adds T positions and returns all S it then holds.
    ///
    /// - `k`, `v`: `[B, KV, T, D]`
    /// - output: `[B, KV, S, D]` each
    fn extend(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [_, _, time, _] = k.dims();
        let start = self.grow(time);
        let end = self.len;
        let write = |memory: &mut Tensor<4>, new: Tensor<4>| -> Tensor<4> {
            // In place: the tensor is taken out, so nothing else holds its memory while it is written.
            let taken = std::mem::replace(memory, Tensor::empty([0, 0, 0, 0], &new.device()));
            *memory = taken.slice_assign(s![.., .., start..end, ..], new);
            memory.clone().slice(s![.., .., ..end, ..])
        };
        (write(&mut self.keys, k), write(&mut self.values, v))
    }
}

/// The definition; the T queries are the last T of the S positions.
///
/// - `q`: `[B, H, T, D]`
/// - `k`, `v`: `[B, KV, S, D]`
/// - output: `[B, T, H · D]`
pub(crate) fn attend_at_once(
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

/// Attention proper, in chunks where there is need; as [`attend_at_once`].
fn attend([q, k, v]: [Tensor<4>; 3], dropout_probability: f64, precision: Precision) -> Tensor<3> {
    let ([batch, n_head, time, _], [_, _, seen, _]) = (q.dims(), k.dims());
    let n_rows = (CHUNK / (batch * n_head * seen).max(1)).clamp(CHUNK_ROWS.0, CHUNK_ROWS.1);
    let n_rows = n_rows - n_rows % CHUNK_ROWS.0;
    if is_on_gpu(&q) && time > n_rows {
        return attend_in_chunks([q, k, v], dropout_probability, n_rows, precision);
    }
    attend_at_once([q, k, v], dropout_probability, precision)
}

/// As [`attend_at_once`], `n_rows` queries at a time: no more than their scores is ever there.
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
    fn a_cache_gives_the_same_for_any_split() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let whole = causal_attention(qkv.clone(), &Attention::plain(HEADS), 0.0).into_data();

        for split in 1..TIME {
            let mut cache = KeyValueCache::new([BATCH, HEADS, TIME + 1, HEAD_DIM], &device);
            let first = cached_causal_attention(
                qkv.clone().slice(s![.., ..split, ..]),
                &Attention::plain(HEADS),
                &mut cache,
            );
            let second = cached_causal_attention(
                qkv.clone().slice(s![.., split.., ..]),
                &Attention::plain(HEADS),
                &mut cache,
            );
            assert_eq!(cache.len(), TIME);
            Tensor::cat(vec![first, second], 1)
                .into_data()
                .assert_approx_eq::<f32>(&whole, Tolerance::absolute(test_tolerance(1e-6)));
        }
    }

    #[test]
    fn a_cache_takes_memory_for_what_it_holds() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let heads = Attention::plain(HEADS);
        let mut cache = KeyValueCache::new([BATCH, HEADS, 1 << 40, HEAD_DIM], &device);
        // Beyond the first memory and beyond twice that, with a choice of sequences in between.
        let mut whole = KeyValueCache::new([BATCH, HEADS, 1000, HEAD_DIM], &device);
        whole.keys = Tensor::zeros([BATCH, HEADS, 1000, HEAD_DIM], &device);
        whole.values = whole.keys.clone();
        for time in 0..700 {
            if time % 100 == 99 {
                cache = cache.select(&[0, 1]);
            }
            let one = qkv.clone().slice(s![.., time % TIME..time % TIME + 1, ..]);
            let got = cached_causal_attention(one.clone(), &heads, &mut cache);
            let expected = cached_causal_attention(one, &heads, &mut whole);
            let exact = Tolerance::absolute(if test_device() == Device::flex() { 0.0 } else { 1e-5 });
            got.into_data().assert_approx_eq::<f32>(&expected.into_data(), exact);
        }
        let [_, _, room, _] = cache.keys.dims();
        assert!((700..=KeyValueCache::room(700, 1 << 40)).contains(&room), "room for {room}");
        assert_eq!(cache.size_bytes(), 2 * BATCH * HEADS * room * HEAD_DIM * size_of::<f32>());
    }

    #[test]
    #[should_panic(expected = "heads are 3 wide and angles are for 4")]
    fn angles_of_other_heads_are_refused() {
        let device = test_device();
        let attention = Attention { rope: Some(Rope::new(4, TIME, 1e4)), ..Attention::plain(HEADS) };
        causal_attention(random_qkv(&device), &attention, 0.0);
    }

    #[test]
    #[should_panic(expected = "6 positions do not fit a cache of 5")]
    fn a_full_cache_refuses_more() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let mut cache = KeyValueCache::new([BATCH, HEADS, TIME, HEAD_DIM], &device);
        cached_causal_attention(qkv.clone(), &Attention::plain(HEADS), &mut cache);
        cached_causal_attention(qkv.slice(s![.., ..1, ..]), &Attention::plain(HEADS), &mut cache);
    }
}
