//! Attention compared with a reference implementation in f64.

use proptest::prelude::*;

use super::{assert_close, dot, dropout_factors, finite_differences, random, wide};
use crate::{
    Documents, HeadLayout, RopeAngles, SimdLevel,
    attention::{Inputs, Sizes, backward, forward},
    dropout::Mask,
};

pub(super) const EPSILON: f32 = 1e-5;

struct TestCase {
    sizes: Sizes,
    documents: Option<Documents>,
    layout: HeadLayout,
    qkv: Vec<f32>,
    gains: [Vec<f32>; 2],
    d_out: Vec<f32>,
}

impl TestCase {
    /// Random inputs, with QK norm and RoPE or without both.
    fn new(sizes: Sizes, has_norm_and_rope: bool) -> Self {
        let Sizes { batch, time, n_head, n_kv_head, head_dim } = sizes;
        let rope = has_norm_and_rope.then(|| RopeAngles::new(head_dim, time, 100.0));
        let gain = |seed| if has_norm_and_rope { random(head_dim, seed) } else { Vec::new() };
        Self {
            sizes,
            documents: None,
            layout: HeadLayout { n_head, n_kv_head, rope, epsilon: EPSILON },
            qkv: random(batch * time * (n_head + 2 * n_kv_head) * head_dim, 4),
            gains: [gain(21), gain(22)],
            d_out: random(batch * time * n_head * head_dim, 5),
        }
    }

    fn plain(batch: usize, time: usize, n_head: usize, head_dim: usize) -> Self {
        Self::new(Sizes { batch, time, n_head, n_kv_head: n_head, head_dim }, false)
    }

    /// The same inputs as documents with these lengths.
    fn in_documents(self, lengths: &[usize]) -> Self {
        Self { documents: Some(Documents::new(lengths, self.sizes.time)), ..self }
    }

    fn inputs(&self, mask: Option<Mask>) -> Inputs<'_> {
        let gains = self.gains.each_ref().map(Vec::as_slice);
        let documents = self.documents.as_ref();
        Inputs { qkv: &self.qkv, gains, layout: &self.layout, sizes: self.sizes, documents, mask }
    }

    /// The first position of the document of each position, B · T.
    fn starts(&self) -> Vec<usize> {
        let one = || vec![0; self.sizes.batch * self.sizes.time];
        self.documents.as_ref().map_or_else(one, |documents| documents.starts().collect())
    }

    fn reference(&self, mask: Option<Mask>) -> Vec<f64> {
        let gains = self.gains.each_ref().map(|gain| wide(gain));
        reference(&wide(&self.qkv), &gains, self.sizes, &self.starts(), mask)
    }
}

/// The reference implementation, with dropout by `mask`. `starts` has the first position of each position's document.
/// QK norm and RoPE apply if there are gains.
pub(super) fn reference(
    qkv: &[f64],
    gains: &[Vec<f64>; 2],
    sizes: Sizes,
    starts: &[usize],
    mask: Option<Mask>,
) -> Vec<f64> {
    let Sizes { batch, time, n_head, n_kv_head, head_dim } = sizes;
    let width = (n_head + 2 * n_kv_head) * head_dim;
    let raw = |b: usize, t: usize, head: usize| &qkv[(b * time + t) * width + head * head_dim..][..head_dim];
    let transformed = |b: usize, t: usize, head: usize, gain: &[f64]| -> Vec<f64> {
        let x = raw(b, t, head);
        if gain.is_empty() {
            return x.to_vec();
        }
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
        let scale = 1.0 / (mean_square + f64::from(EPSILON)).sqrt();
        let x: Vec<f64> = x.iter().zip(gain).map(|(x, gain)| x * scale * gain).collect();
        let half = head_dim / 2;
        let rotated = |d: usize| {
            let angle =
                (t - starts[b * time + t]) as f64 * 100f64.powf(-2.0 * (d % half) as f64 / head_dim as f64);
            let other = if d < half { -x[d + half] } else { x[d - half] };
            x[d] * angle.cos() + other * angle.sin()
        };
        (0..head_dim).map(rotated).collect()
    };
    let mut out = Vec::new();
    for (b, t, h) in (0..batch * time * n_head).map(|i| (i / (time * n_head), i / n_head % time, i % n_head))
    {
        let group = h / (n_head / n_kv_head);
        let q = transformed(b, t, h, &gains[0]);
        let score = |s: usize| -> f64 {
            let k = transformed(b, s, n_head + group, &gains[1]);
            q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt()
        };
        let start = starts[b * time + t];
        let weights: Vec<f64> = (0..=t).map(|s| if s < start { 0.0 } else { score(s).exp() }).collect();
        let total: f64 = weights.iter().sum();
        let kept = dropout_factors(mask, ((b * n_head + h) * time + t) as u64, weights.len());
        for d in 0..head_dim {
            let terms = weights.iter().zip(&kept).enumerate();
            let value = |s: usize| raw(b, s, n_head + n_kv_head + group)[d];
            out.push(terms.map(|(s, (w, kept))| w / total * f64::from(*kept) * value(s)).sum());
        }
    }
    out
}

/// Lengths of documents that fill `batch` rows: 1, 2, 3 .. `longest`, 1, 2 ..
fn lengths(batch: usize, time: usize, longest: usize) -> Vec<usize> {
    let mut next = (1..=longest).cycle();
    let mut row = || {
        let mut left = time;
        let mut lengths = Vec::new();
        while left > 0 {
            lengths.push(next.next().expect("a cycle").min(left));
            left -= lengths[lengths.len() - 1];
        }
        lengths
    };
    (0..batch).flat_map(|_| row()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn forward_matches_the_reference(
        batch in 1usize..3,
        time in 1usize..40,
        n_kv_head in 1usize..3,
        group_size in 1usize..3,
        half in 1usize..9,
        has_norm_and_rope: bool,
        longest in 1usize..40,
    ) {
        let sizes = Sizes { batch, time, n_head: n_kv_head * group_size, n_kv_head, head_dim: 2 * half };
        let mut case = TestCase::new(sizes, has_norm_and_rope);
        if longest < time {
            case = case.in_documents(&lengths(batch, time, longest));
        }
        let expected = case.reference(None);
        for level in SimdLevel::all() {
            let (out, _) = forward(level, &case.inputs(None));
            assert_close(level, &out, &expected, 4e-6);
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    let sizes = |batch, time, n_head, n_kv_head, head_dim| Sizes { batch, time, n_head, n_kv_head, head_dim };
    for (sizes, has_norm_and_rope, documents) in [
        (sizes(2, 5, 2, 2, 3), false, None),
        (sizes(1, 1, 1, 1, 1), false, None),
        (sizes(1, 14, 1, 1, 9), false, None),
        (sizes(2, 5, 4, 2, 4), true, None),
        (sizes(1, 14, 3, 1, 6), true, None),
        (sizes(1, 1, 1, 1, 2), true, None),
        (sizes(2, 5, 2, 2, 3), false, Some(vec![2, 3, 4, 1])),
        (sizes(1, 17, 3, 1, 6), true, Some(vec![1, 13, 1, 2])),
    ] {
        let mut case = TestCase::new(sizes, has_norm_and_rope);
        if let Some(lengths) = documents {
            case = case.in_documents(&lengths);
        }
        let starts = case.starts();
        let gains = case.gains.each_ref().map(|gain| wide(gain));
        for mask in [None, Mask::new(0.4, 6)] {
            let loss = |qkv: &[f64], gains: &[Vec<f64>; 2]| {
                dot(&reference(qkv, gains, sizes, &starts, mask), &case.d_out)
            };
            let expected = finite_differences(&case.qkv, |qkv| loss(qkv, &gains));
            let expected_gains = [0, 1].map(|which| {
                finite_differences(&case.gains[which], |gain| {
                    let mut gains = gains.clone();
                    gains[which] = gain.to_vec();
                    loss(&wide(&case.qkv), &gains)
                })
            });
            for level in SimdLevel::all() {
                let inputs = case.inputs(mask);
                let (out, sums) = forward(level, &inputs);
                assert_close(level, &out, &case.reference(mask), 3e-6);
                let (d_qkv, d_gains) = backward(level, &inputs, &out, &sums, &case.d_out);
                // The norm of a small row has large gradients.
                assert_close(level, &d_qkv, &expected, 1e-5);
                if has_norm_and_rope {
                    assert_close(level, &d_gains[0], &expected_gains[0], 1e-5);
                    assert_close(level, &d_gains[1], &expected_gains[1], 1e-5);
                }
            }
        }
    }
}

#[test]
fn packed_documents_equal_separate_sequences() {
    let lengths = [1, 70, 2, 27];
    for (n_head, n_kv_head, has_norm_and_rope) in [(2, 2, false), (4, 2, true)] {
        let sizes = |batch, time| Sizes { batch, time, n_head, n_kv_head, head_dim: 6 };
        let packed = TestCase::new(sizes(1, 100), has_norm_and_rope).in_documents(&lengths);
        for level in SimdLevel::all() {
            let run = |case: &TestCase| {
                let inputs = case.inputs(None);
                let (out, sums) = forward(level, &inputs);
                let (d_qkv, d_gains) = backward(level, &inputs, &out, &sums, &case.d_out);
                (out, d_qkv, d_gains)
            };
            let (mut out, mut d_qkv, mut d_gains) = (Vec::new(), Vec::new(), [vec![0.0; 6], vec![0.0; 6]]);
            for (&n, document) in lengths.iter().zip(packed.documents.as_ref().expect("documents").iter()) {
                let mut alone = TestCase::new(sizes(1, n), has_norm_and_rope);
                let part = |x: &[f32]| {
                    let width = x.len() / 100;
                    x[document.start * width..(document.start + n) * width].to_vec()
                };
                (alone.qkv, alone.d_out) = (part(&packed.qkv), part(&packed.d_out));
                let (y, d, gains) = run(&alone);
                out.extend(y);
                d_qkv.extend(d);
                for (sum, gain) in d_gains.iter_mut().zip(gains) {
                    sum.iter_mut().zip(gain).for_each(|(sum, d)| *sum += d);
                }
            }
            let (packed_out, packed_d_qkv, packed_d_gains) = run(&packed);
            assert_eq!(packed_out, out);
            assert_eq!(packed_d_qkv, d_qkv);
            for (packed, sums) in packed_d_gains.iter().zip(&d_gains).filter(|_| has_norm_and_rope) {
                assert_close(level, packed, &wide(sums), 1e-5);
            }
        }
    }
}

#[test]
fn one_document_per_row_changes_no_bit() {
    let sizes = Sizes { batch: 3, time: 61, n_head: 4, n_kv_head: 2, head_dim: 6 };
    let run = |case: &TestCase| {
        let inputs = case.inputs(Mask::new(0.2, 3));
        let (out, sums) = forward(SimdLevel::best(), &inputs);
        let gradients = backward(SimdLevel::best(), &inputs, &out, &sums, &case.d_out);
        (out, gradients)
    };
    let case = TestCase::new(sizes, true);
    let expected = run(&case);
    assert_eq!(run(&case.in_documents(&[61; 3])), expected);
}

#[test]
fn forward_and_backward_agree_over_several_blocks_of_keys() {
    // More keys than INNER_BLOCK, so that the product with the values is summed in several blocks.
    let case = TestCase::plain(1, 700, 1, 5);
    let expected = case.reference(None);
    for level in SimdLevel::all() {
        let (out, sums) = forward(level, &case.inputs(None));
        assert_close(level, &out, &expected, 3e-6);
        // Attention is linear in the values.
        let (d_qkv, _) = backward(level, &case.inputs(None), &out, &sums, &case.d_out);
        let values =
            |x: &[f32]| -> Vec<f32> { x.chunks_exact(15).flat_map(|row| row[10..].to_vec()).collect() };
        let through = dot(&wide(&out), &case.d_out);
        let back = dot(&wide(&values(&case.qkv)), &values(&d_qkv));
        assert!((through - back).abs() < 1e-4, "{level:?}: {through} is not {back}");
    }
}

#[test]
fn gradients_are_accurate_at_large_scores() {
    // Two equal keys and a score of 1e8: each has half the weight, and their gradients cancel.
    let mut case = TestCase::plain(1, 2, 1, 1);
    case.qkv = vec![1e4, 1e4, 1.0, 1e4, 1e4, 3.0]; // q, k, v of both positions.
    for level in SimdLevel::all() {
        let (out, sums) = forward(level, &case.inputs(None));
        assert_close(level, &out, &[1.0, 2.0], 1e-6);
        let (d_qkv, _) = backward(level, &case.inputs(None), &out, &sums, &[0.0, 1.0]);
        assert_close(level, &[d_qkv[2], d_qkv[5]], &[0.5, 0.5], 1e-6);
        assert_close(level, &[d_qkv[1] + d_qkv[4]], &[0.0], 1e-6);
        assert_close(level, &[d_qkv[4]], &[0.5 * 1.0 * 1e4], 1e-6);
    }
}

#[test]
fn forward_and_backward_drop_the_same_weights() {
    // For fixed queries and keys attention is linear in the values: ⟨d, A v⟩ = ⟨Aᵀ d, v⟩, mask included.
    let case = TestCase::plain(2, 30, 2, 5);
    let mask = Mask::new(0.3, 18);
    for level in SimdLevel::all() {
        let inputs = case.inputs(mask);
        let (out, sums) = forward(level, &inputs);
        assert_ne!(out, forward(level, &case.inputs(None)).0);
        let (d_qkv, _) = backward(level, &inputs, &out, &sums, &case.d_out);
        let through: f64 = dot(&wide(&out), &case.d_out);
        let back: f64 = case
            .qkv
            .chunks_exact(30)
            .zip(d_qkv.chunks_exact(30))
            .map(|(x, d)| dot(&wide(&x[20..]), &d[20..]))
            .sum();
        assert!((through - back).abs() < 1e-4, "{level:?}: {through} is not {back}");
    }
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    let sizes = |batch, time, n_head, n_kv_head| Sizes { batch, time, n_head, n_kv_head, head_dim: 6 };
    for (sizes, has_norm_and_rope) in [
        (sizes(1, 150, 4, 1), true),
        (sizes(1, 150, 1, 1), false),
        (sizes(2, 61, 2, 1), true),
        (sizes(1, 200, 3, 3), true),
        (sizes(1, 3, 2, 1), true),
    ] {
        let mut case = TestCase::new(sizes, has_norm_and_rope);
        if sizes.time == 200 {
            case = case.in_documents(&[150, 50]);
        }
        let with_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| {
                let inputs = case.inputs(Mask::new(0.2, 3));
                forward(SimdLevel::best(), &inputs)
            })
        };
        let alone = with_threads(1);
        for n in [2, 3, 8] {
            assert_eq!(with_threads(n), alone, "{sizes:?} on {n} threads");
        }
    }
}
