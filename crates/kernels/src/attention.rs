//! Causal multi-head attention, from fused activations and back.

use burn::{backend::Dispatch, prelude::*, tensor::activation::softmax};

use crate::{
    device::is_fused,
    dropout::{self, dropout},
    fused::{FusedOps, InPlaceOps},
};

/// Lets every position read the values of itself and of the positions before it.
///
/// `softmax(q · kᵀ / √D) · v` per head, the future masked out, section 3.2 of
/// [Attention Is All You Need](https://arxiv.org/abs/1706.03762). `dropout_probability` applies to the
/// attention weights, while training.
///
/// # Shapes
///
/// - `qkv`: `[B, T, 3C]`: the queries, keys and values of all heads, side by side
/// - output: `[B, T, C]`
///
/// # Panics
///
/// If 3C is not a multiple of 3 · `n_head`.
pub fn causal_attention(qkv: Tensor<3>, n_head: usize, dropout_probability: f64) -> Tensor<3> {
    let [_, _, triple] = qkv.dims();
    assert!(triple % (3 * n_head) == 0, "{triple} channels do not split into 3 x {n_head} heads");
    if is_fused(&qkv) {
        let mask = dropout::mask(&qkv.device(), dropout_probability);
        let mixed = <Dispatch as FusedOps>::causal_attention(qkv.into_dispatch(), n_head, mask);
        return Tensor::from_dispatch(mixed);
    }
    let [q, k, v] = split_heads(qkv, n_head);
    attend(q, k, v, dropout_probability)
}

/// As [`causal_attention`] without dropout, over the positions in `cache` as well, to which those of `qkv`
/// are added.
///
/// # Shapes
///
/// - `qkv`: `[B, T, 3C]`
/// - output: `[B, T, C]`
///
/// # Panics
///
/// If the cache was made for other sizes, or has no room for T more positions.
pub fn cached_causal_attention(qkv: Tensor<3>, n_head: usize, cache: &mut KeyValueCache) -> Tensor<3> {
    if is_fused(&qkv) && !qkv.device().is_autodiff() {
        return cache.attend(qkv, n_head);
    }
    let [q, k, v] = split_heads(qkv, n_head);
    let (k, v) = cache.extend(k, v);
    attend(q, k, v, 0.0)
}

/// The keys and values of one layer, of the positions seen so far, in memory allocated once.
#[derive(Debug, Clone)]
pub struct KeyValueCache {
    /// `[B, H, capacity, D]`, of which the first `len` positions are filled.
    keys: Tensor<4>,
    /// As `keys`.
    values: Tensor<4>,
    len: usize,
}

impl KeyValueCache {
    /// An empty cache. `shape` is `[B, H, capacity, D]`, the capacity in positions.
    pub fn new(shape: [usize; 4], device: &Device) -> Self {
        Self { keys: Tensor::zeros(shape, device), values: Tensor::zeros(shape, device), len: 0 }
    }

    /// Number of positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no position.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of positions it has memory for.
    pub fn capacity(&self) -> usize {
        let [_, _, capacity, _] = self.keys.dims();
        capacity
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
        let [keys, values] =
            [&self.keys, &self.values].map(|memory| memory.clone().select(0, numbers.clone()));
        Self { keys, values, len: self.len }
    }

    /// Adds T positions and attends over all it then holds, in one operation.
    fn attend(&mut self, qkv: Tensor<3>, n_head: usize) -> Tensor<3> {
        let [batch, time, triple] = qkv.dims();
        let expected = [batch, n_head, self.capacity(), triple / (3 * n_head)];
        assert_eq!(self.keys.dims(), expected, "the cache was made for other sizes");
        let len = self.grow(time);
        // Taken out, so that nothing else holds the memory while it is written.
        let take = |memory: &mut Tensor<4>| {
            std::mem::replace(memory, Tensor::empty([0, 0, 0, 0], &qkv.device())).into_dispatch()
        };
        let (keys, values) = (take(&mut self.keys), take(&mut self.values));
        let (mixed, keys, values) =
            <Dispatch as InPlaceOps>::cached_attention(qkv.into_dispatch(), keys, values, n_head, len);
        (self.keys, self.values) = (Tensor::from_dispatch(keys), Tensor::from_dispatch(values));
        Tensor::from_dispatch(mixed)
    }

    /// Counts T positions more and returns the number before.
    fn grow(&mut self, time: usize) -> usize {
        let (start, end) = (self.len, self.len + time);
        assert!(end <= self.capacity(), "{end} positions do not fit a cache of {}", self.capacity());
        self.len = end;
        start
    }

    /// Adds T positions and returns all S it then holds.
    ///
    /// - `k`, `v`: `[B, H, T, D]`
    /// - output: `[B, H, S, D]` each
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

/// `[B, T, 3C]` to queries, keys and values, each `[B, H, T, D]`.
fn split_heads(qkv: Tensor<3>, n_head: usize) -> [Tensor<4>; 3] {
    let [batch, time, triple] = qkv.dims();
    let channels = triple / 3;
    [0, 1, 2].map(|part| {
        qkv.clone()
            .narrow(2, part * channels, channels) // [B, T, C]
            .reshape([batch, time, n_head, channels / n_head]) // [B, T, H, D]
            .swap_dims(1, 2) // [B, H, T, D]
    })
}

/// Attention proper; the T queries are the last T of the S positions.
///
/// - `q`: `[B, H, T, D]`
/// - `k`, `v`: `[B, H, S, D]`
/// - output: `[B, T, C]`
fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, dropout_probability: f64) -> Tensor<3> {
    let [batch, n_head, time, head_dim] = q.dims();
    let [_, _, seen, _] = k.dims();

    // Unit variance in, unit variance out: a sum of D products grows as √D.
    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut scores = (q * scale).matmul(k.transpose()); // [B, H, T, S]
    if time > 1 {
        // True strictly above the diagonal, that is, for the future. One query is the newest position and
        // has no future.
        let offset = i64::try_from(seen - time).expect("a block is far below 2^63 positions");
        let future = Tensor::<2, Bool>::tril_mask([time, seen], offset, &scores.device());
        scores = scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY);
    }
    dropout(softmax(scores, 3), dropout_probability)
        .matmul(v) // [B, H, T, D]
        .swap_dims(1, 2) // [B, T, H, D]
        .reshape([batch, time, n_head * head_dim])
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::test_device;

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
        let got = causal_attention(qkv, HEADS, 0.0);
        assert_eq!(got.dims(), [BATCH, TIME, HEADS * HEAD_DIM]);
        // Sums of at most five f32 terms of order one.
        got.reshape([-1])
            .into_data()
            .assert_approx_eq::<f32>(&TensorData::from(expected.as_slice()), Tolerance::absolute(1e-6));
    }

    #[test]
    fn output_does_not_depend_on_the_future() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let seen = 3;
        let zeros = Tensor::zeros([BATCH, TIME - seen, 3 * HEADS * HEAD_DIM], &device);
        let edited = qkv.clone().slice_assign(s![.., seen.., ..], zeros);

        let before = causal_attention(qkv, HEADS, 0.0);
        let after = causal_attention(edited, HEADS, 0.0);
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
        let whole = causal_attention(qkv.clone(), HEADS, 0.0).into_data();

        for split in 1..TIME {
            let mut cache = KeyValueCache::new([BATCH, HEADS, TIME + 1, HEAD_DIM], &device);
            let first = cached_causal_attention(qkv.clone().slice(s![.., ..split, ..]), HEADS, &mut cache);
            let second = cached_causal_attention(qkv.clone().slice(s![.., split.., ..]), HEADS, &mut cache);
            assert_eq!(cache.len(), TIME);
            Tensor::cat(vec![first, second], 1)
                .into_data()
                .assert_approx_eq::<f32>(&whole, Tolerance::absolute(1e-6));
        }
    }

    #[test]
    #[should_panic(expected = "6 positions do not fit a cache of 5")]
    fn a_full_cache_refuses_more() {
        let device = test_device();
        let qkv = random_qkv(&device);
        let mut cache = KeyValueCache::new([BATCH, HEADS, TIME, HEAD_DIM], &device);
        cached_causal_attention(qkv.clone(), HEADS, &mut cache);
        cached_causal_attention(qkv.slice(s![.., ..1, ..]), HEADS, &mut cache);
    }
}
