//! Every fused operation compared with its reference implementation in tensor operations: outputs and gradients.

#![allow(clippy::cast_possible_truncation, reason = "values in tests are small")]

use burn::{
    prelude::*,
    tensor::{DType, Distribution, Tolerance},
};
use proptest::prelude::*;

use crate::{
    Activation, AdamWStep, Attention, Documents, LmHead, NormKind,
    Precision::{self, F32},
    QkNorm, Rope, Segment, Slot, SlotShape, SlotType, adamw, adamw_on_device, causal_attention,
    device::{is_fused, is_on_gpu, with_plain_operations},
    dropout, embed, linear, linear_activate, linear_residual, norm, ragged_attention, seed_dropout,
    sum_of_all_squares, sum_of_squares,
    testing::{test_device, test_device_has_bf16, test_tolerance},
};

mod gpu_paths;

/// For f32 sums of up to a few thousand terms of order one, in different orders. Sums over a large vocabulary have a
/// quarter of a million terms, which Burn's operations add one by one.
fn close() -> Tolerance<f32> {
    Tolerance::rel_abs(test_tolerance(1e-5), test_tolerance(2e-5))
}

/// Random shapes: few on GPUs, where a new shape compiles kernels. The environment variable `PROPTEST_CASES` sets another
/// number.
pub(crate) fn shapes() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.cases,
        None if test_device() == Device::flex() => 24,
        None => 4,
    };
    ProptestConfig { cases, ..default }
}

/// A copy of the tensor that requires gradients.
fn leaf(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_data(x.into_data(), &test_device().autodiff()).require_grad()
}

pub(crate) fn normal<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let device = test_device().autodiff();
    let n = shape.iter().product();
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    // Sums of uniform values: close enough to normal, and independent of the device's generator.
    let values: Vec<f32> = (0..n)
        .map(|_| {
            let mut sum = 0.0;
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum += (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            }
            sum * 1.7
        })
        .collect();
    Tensor::<D>::from_data(TensorData::new(values, shape), &device).require_grad()
}

/// The output of `f`, and the gradient of a weighted sum of it for each input.
pub(crate) fn output_and_gradients<const N: usize, const D: usize>(
    inputs: &[Tensor<2>; N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) -> Vec<TensorData> {
    let y = f(inputs.clone());
    let weights = normal([y.shape().num_elements()], 99).detach().reshape(y.dims());
    let grads = (y.clone() * weights).sum().backward();
    let mut data = vec![y.into_data()];
    data.extend(inputs.iter().map(|x| {
        let gradient = x.grad(&grads).unwrap_or_else(|| x.zeros_like().inner());
        assert_eq!(gradient.dtype(), x.dtype(), "a gradient has the type of its tensor");
        gradient.into_data()
    }));
    data
}

/// Runs `f` with a fixed dropout seed.
pub(crate) fn seeded<R>(f: impl FnOnce() -> R) -> R {
    seed_dropout(5);
    f()
}

/// Lengths from which [`documents`] are made.
fn document_lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..5)
}

/// Documents that fill the rows, with these lengths in turn; the last of a row may be shorter.
fn documents(lengths: &[usize], batch: usize, time: usize) -> Documents {
    let mut lengths = lengths.iter().cycle();
    let mut cut = Vec::new();
    for _ in 0..batch {
        let mut left = time;
        while left > 0 {
            cut.push(lengths.next().map_or(left, |&n| n.min(left)));
            left -= cut[cut.len() - 1];
        }
    }
    Documents::new(&cut, time)
}

/// Whether the tests run on a device with fused operations.
fn on_fused_device() -> bool {
    std::env::var("KINDLING_TEST_DEVICE").map_or(true, |device| device == "cpu")
}

/// Whether the tests run the reference implementations.
fn on_reference_device() -> bool {
    std::env::var("KINDLING_TEST_DEVICE").is_ok_and(|device| device == "cpu-plain")
}

/// Compares `f` with its reference implementation on the same inputs.
fn assert_agrees<const N: usize, const D: usize>(
    inputs: [Tensor<2>; N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) {
    assert_agrees_within(close(), inputs, f);
}

pub(crate) fn assert_agrees_within<const N: usize, const D: usize>(
    tolerance: Tolerance<f32>,
    inputs: [Tensor<2>; N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) {
    let fused = output_and_gradients(&inputs, &f);
    assert!(!on_fused_device() || is_fused(&inputs[0]), "neither run is fused");
    assert!(
        on_fused_device() || on_reference_device() || is_on_gpu(&inputs[0]),
        "neither run takes the GPU paths"
    );
    assert!(!with_plain_operations(|| is_fused(&inputs[0])), "both runs are fused");
    let plain = with_plain_operations(|| output_and_gradients(&inputs, &f));
    for (fused, plain) in fused.iter().zip(&plain) {
        fused.assert_approx_eq::<f32>(plain, tolerance);
    }
    // A few outputs of an activation may all be zero.
    const FEW: usize = 16;
    let n_outputs = fused[0].num_elements();
    assert!(n_outputs < FEW || fused[0].iter::<f32>().any(|y| y != 0.0), "all outputs are zero");
}

proptest! {
    #![proptest_config(shapes())]

    #[test]
    fn attention(batch in 1usize..4, time in 1usize..70, n_head in 1usize..4, head_dim in 1usize..20) {
        let width = 3 * n_head * head_dim;
        assert_agrees([normal([batch * time, width], 1)], |[qkv]| {
            causal_attention(qkv.reshape([batch, time, width]), &Attention::plain(n_head), None, 0.0)
        });
    }

    #[test]
    fn dropout_in_all_operations(batch in 1usize..3, time in 1usize..20, n_head in 1usize..4, head_dim in 1usize..9) {
        let (width, n_rows) = (n_head * head_dim, batch * time);
        assert_agrees([normal([n_rows, 3 * width], 1)], |[qkv]| {
            let qkv = qkv.reshape([batch, time, 3 * width]);
            seeded(|| causal_attention(qkv, &Attention::plain(n_head), None, 0.3)) + 1.0
        });
        assert_agrees([normal([n_rows, width], 2), normal([width, width], 3), normal([n_rows, width], 4)], |[x, w, r]| {
            seeded(|| linear_residual(x, w, None, 0.3, r, F32))
        });
        let ids: Vec<i32> = (0..n_rows).map(|i| (i * i % 7) as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, time]), &test_device().autodiff());
        assert_agrees([normal([7, width], 9)], |[tokens]| seeded(|| embed(ids.clone(), tokens, None, None, 0.3)) + 1.0);
    }

    #[test]
    fn attention_with_qk_norm_and_rope(
        batch in 1usize..3,
        time in 1usize..70,
        n_kv_head in 1usize..4,
        group_size in 1usize..4,
        half in 1usize..10,
        has_norm: bool,
        has_rope: bool,
        lengths in prop::option::of(document_lengths()),
        drops: bool,
    ) {
        let (n_head, head_dim) = (n_kv_head * group_size, 2 * half);
        let documents = lengths.map(|lengths| documents(&lengths, batch, time));
        let probability = if drops { 0.2 } else { 0.0 };
        let width = (n_head + 2 * n_kv_head) * head_dim;
        let gains = [2, 3].map(|seed| normal([1, head_dim], seed) + 1.0).map(leaf);
        let [query_gain, key_gain] = gains;
        // The gains' gradients are sums over all heads and positions, of terms that are large if a norm has two
        // channels.
        let close = Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-4));
        let inputs = [normal([batch * time, width], 1), query_gain, key_gain];
        assert_agrees_within(close, inputs, |[qkv, query_gain, key_gain]| {
            let [query_gain, key_gain] = [query_gain, key_gain].map(|gain| gain.reshape([head_dim]));
            let attention = Attention {
                n_head,
                n_kv_head,
                qk_norm: has_norm.then_some(QkNorm { query_gain, key_gain, epsilon: 1e-5 }),
                rope: has_rope.then(|| Rope::new(head_dim, 70, 1e4)),
                precision: F32,
            };
            let qkv = qkv.reshape([batch, time, width]);
            seeded(|| causal_attention(qkv, &attention, documents.as_ref(), probability)) + 1.0
        });
    }

    #[test]
    fn linear_layers(n in 1usize..40, d_in in 1usize..40, d_out in 1usize..40, biased: bool) {
        let inputs = || [normal([n, d_in], 2), normal([d_out, d_in], 3), normal([1, d_out], 4), normal([n, d_out], 5)];
        let vector = move |b: Tensor<2>| biased.then(|| b.reshape([d_out]));
        assert_agrees(inputs(), |[x, w, b, _]| linear(x, w, vector(b), F32));
        assert_agrees(inputs(), |[x, w, _, _]| LmHead::new(w).logits(x, F32));
        assert_agrees(inputs(), |[x, w, b, r]| linear_residual(x, w, vector(b), 0.0, r, F32));
        // Hidden values are of order √C_in, and these activations multiply two of them.
        let products = || Tolerance::rel_abs(test_tolerance(1e-5), test_tolerance(4e-5) * d_in as f32);
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            assert_agrees(inputs(), |[x, w, b, _]| linear_activate(x, w, vector(b), activation, F32));
        }
        assert_agrees_within(products(), inputs(), |[x, w, b, _]| {
            linear_activate(x, w, vector(b), Activation::Relu2, F32) + 1.0
        });
        let inputs = [normal([n, d_in], 2), normal([2 * d_out, d_in], 3), normal([1, 2 * d_out], 4)];
        let vector = move |b: Tensor<2>| biased.then(|| b.reshape([2 * d_out]));
        assert_agrees_within(products(), inputs, |[x, w, b]| linear_activate(x, w, vector(b), Activation::Swiglu, F32));
    }

    /// The tensors are intermediate ones and a leaf, used by fused operations and by Burn's. `many` have their uses so far
    /// apart in the backward pass that not all of them are remembered.
    #[test]
    fn gradients_of_tensors_with_several_uses(n in 1usize..20, width in 2usize..20) {
        let inputs = [normal([n, width], 2), normal([width, width], 3), normal([1, width], 4)];
        assert_agrees_within(Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(1e-3)), inputs, |[x, w, gain]| {
            let block = |h: Tensor<2>| {
                let normed = norm(h.clone(), NormKind::Rms, gain.clone().reshape([width]), None, 1e-6, F32);
                linear_residual(normed, w.clone(), None, 0.0, h.clone(), F32) + h * 0.5
            };
            let twice = |h: Tensor<2>| linear_residual(h.clone(), w.clone(), None, 0.0, h, F32);
            let start = block(block(x.clone())) + twice(x.clone() * 0.5);
            let many: Vec<_> = (1..40).map(|i| x.clone() * 0.1 * i).collect();
            let normed = many.iter().fold(start, |sum, h| {
                sum + norm(h.clone(), NormKind::Rms, gain.clone().reshape([width]), None, 1e-6, F32) * 0.1
            });
            many.into_iter().fold(normed.clone(), |sum, h| {
                sum + linear_residual(normed.clone(), w.clone(), None, 0.0, h, F32) * 0.1
            })
        });
    }

    #[test]
    fn norms(n in 1usize..150, width in 8usize..50, biased: bool) {
        assert_agrees([normal([n, width], 6), normal([1, width], 7), normal([1, width], 8)], |[x, gain, offset]| {
            let offset = biased.then(|| offset.reshape([width]));
            norm(x, NormKind::Layer, gain.reshape([width]), offset, 1e-5, F32)
        });
        assert_agrees([normal([n, width], 6), normal([1, width], 7)], |[x, gain]| {
            norm(x, NormKind::Rms, gain.reshape([width]), None, 1e-6, F32)
        });
    }

    #[test]
    fn embeddings(batch in 1usize..4, time in 1usize..9, past in 0usize..5, width in 1usize..40) {
        let ids: Vec<i32> = (0..batch * time).map(|i| (i * i % 7) as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, time]), &test_device().autodiff());
        let rows = [normal([7, width], 9), normal([14, width], 10)];
        assert_agrees(rows.clone(), |[tokens, positions]| embed(ids.clone(), tokens, Some(positions), None, 0.0));
        // A sequence with a past, and the remaining rows as sequences without one.
        let n = time.min(5);
        let mut segments = vec![Segment { past, n }];
        let rest = batch * time - n;
        segments.extend((0..rest).step_by(3).map(|start| Segment { past: 0, n: 3.min(rest - start) }));
        assert_agrees(rows.clone(), |[tokens, positions]| {
            embed(ids.clone(), tokens, Some(positions), Some(&segments), 0.0)
        });
        let position_ids = segments.iter().flat_map(|segment| segment.positions());
        let by_position_id = |[tokens, positions]: [Tensor<2>; 2]| {
            let row = |id: usize| positions.clone().slice(s![id..id + 1, ..]);
            let positions = Tensor::cat(position_ids.clone().map(row).collect(), 0).reshape([batch, time, width]);
            embed(ids.clone(), tokens, None, None, 0.0) + positions
        };
        assert_same(close(), &rows, by_position_id, |[tokens, positions]| {
            embed(ids.clone(), tokens, Some(positions), Some(&segments), 0.0)
        });
        assert_agrees([normal([7, width], 9)], |[tokens]| embed(ids.clone(), tokens, None, Some(&segments), 0.0));
    }

    #[test]
    fn losses(n in 1usize..200, width in 1usize..20, n_vocab in 1usize..90) {
        let targets: Vec<i32> = (0..n).map(|i| (i * i % n_vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [n]), &test_device().autodiff());
        assert_agrees([normal([n, width], 11), normal([n_vocab, width], 12)], |[hidden, weight]| {
            LmHead::new(weight).loss(hidden, targets.clone(), F32) + 1.0
        });
    }
}

/// In the reference implementation too, and on GPUs.
#[test]
fn packed_documents_equal_separate_sequences() {
    let (head_dim, lengths) = (4, [1, 17, 2, 9, 1, 30]);
    let documents = Documents::new(&lengths, 30);
    let width = 6 * head_dim;
    for is_modern in [false, true] {
        let attention = |gains: Option<[Tensor<2>; 2]>| Attention {
            n_head: 4,
            n_kv_head: 1,
            qk_norm: gains.map(|gains| {
                let [query_gain, key_gain] = gains.map(|gain| gain.reshape([head_dim]));
                QkNorm { query_gain, key_gain, epsilon: 1e-5 }
            }),
            rope: is_modern.then(|| Rope::new(head_dim, 30, 1e4)),
            precision: F32,
        };
        let [query_gain, key_gain] = [2, 3].map(|seed| normal([1, head_dim], seed) + 1.0).map(leaf);
        let inputs = [normal([60, width], 1), query_gain, key_gain];
        let packed = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
            let attention = attention(is_modern.then_some([query_gain, key_gain]));
            causal_attention(qkv.reshape([2, 30, width]), &attention, Some(&documents), 0.0)
        };
        let separate = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
            let attention = attention(is_modern.then_some([query_gain, key_gain]));
            let mut first = 0;
            let mixed = lengths.map(|n| {
                let qkv = qkv.clone().slice(s![first..first + n, ..]).unsqueeze();
                first += n;
                causal_attention(qkv, &attention, None, 0.0)
            });
            Tensor::cat(mixed.into(), 1).reshape([2, 30, 4 * head_dim])
        };
        let close = || Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(1e-4));
        assert_same(close(), &inputs, packed, separate);
        with_plain_operations(|| assert_same(close(), &inputs, packed, separate));
        let whole = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
            let attention = attention(is_modern.then_some([query_gain, key_gain]));
            causal_attention(qkv.reshape([2, 30, width]), &attention, None, 0.0)
        };
        assert_ne!(output_and_gradients(&inputs, whole)[0], output_and_gradients(&inputs, packed)[0]);
    }
}

/// Longer than one chunk on GPUs.
#[test]
fn attention_over_a_long_context() {
    let (time, head_dim) = (300, 4);
    let [query_gain, key_gain] = [2, 3].map(|seed| normal([1, head_dim], seed) + 1.0).map(leaf);
    // The gains' gradients are sums over all heads and positions.
    let close = Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-3));
    assert_agrees_within(
        close,
        [normal([time, 6 * head_dim], 1), query_gain, key_gain],
        |[qkv, query_gain, key_gain]| {
            let [query_gain, key_gain] = [query_gain, key_gain].map(|gain| gain.reshape([head_dim]));
            let attention = Attention {
                n_head: 4,
                n_kv_head: 1,
                qk_norm: Some(QkNorm { query_gain, key_gain, epsilon: 1e-5 }),
                rope: Some(Rope::new(head_dim, time, 1e4)),
                precision: F32,
            };
            seeded(|| causal_attention(qkv.reshape([1, time, 6 * head_dim]), &attention, None, 0.1))
        },
    );
}

/// The outputs of sequences `[T, W]`, each with its own slot. `steps` has the rows of each sequence per step.
fn in_steps(
    sequences: &[Tensor<2>],
    attention: &Attention,
    steps: &[Vec<usize>],
    stored: SlotType,
) -> Vec<Tensor<2>> {
    let (device, width) = (test_device(), sequences[0].dims()[1]);
    let head_dim = width / (attention.n_head + 2 * attention.n_kv_head);
    let shape = SlotShape { n_layer: 2, n_kv_head: attention.n_kv_head, head_dim, capacity: 320 };
    let mut slots: Vec<Slot> = sequences.iter().map(|_| Slot::new(shape, stored, &device)).collect();
    let mut out = vec![Vec::new(); sequences.len()];
    for n_rows in steps.iter().filter(|n_rows| n_rows.iter().any(|&n| n > 0)) {
        let (mut rows, mut segments, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for (idx, ((slot, sequence), &n)) in slots.iter_mut().zip(sequences).zip(n_rows).enumerate() {
            if n > 0 {
                let segment = Segment { past: slot.len(), n };
                rows.push(sequence.clone().slice(s![segment.positions(), ..]));
                segments.push(segment);
                read.push((idx, slot));
            }
        }
        let (idxs, mut slots): (Vec<usize>, Vec<&mut Slot>) = read.into_iter().unzip();
        let qkv = Tensor::cat(rows, 0).unsqueeze();
        // Another layer has other keys, which this layer's queries must not attend to.
        ragged_attention(qkv.clone() * 3.0, attention, &segments, &mut slots, 0);
        let mixed: Tensor<2> = ragged_attention(qkv, attention, &segments, &mut slots, 1).squeeze_dim(0);
        let mut first = 0;
        for (idx, segment) in idxs.into_iter().zip(segments) {
            out[idx].push(mixed.clone().slice(s![first..first + segment.n, ..]));
            first += segment.n;
        }
    }
    out.into_iter().filter(|rows| !rows.is_empty()).map(|rows| Tensor::cat(rows, 0)).collect()
}

proptest! {
    #![proptest_config(shapes())]

    #[test]
    fn ragged_steps(
        // Absent, one row, or several rows; the last step has the rest of each sequence.
        steps in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), Just(1), 2usize..20], 3), 0..5),
        n_kv_head in 1usize..4,
        group_size in 1usize..4,
        half in 1usize..10,
        has_norm: bool,
        has_rope: bool,
    ) {
        let (n_head, head_dim, time) = (n_kv_head * group_size, 2 * half, 100);
        let width = (n_head + 2 * n_kv_head) * head_dim;
        let [query_gain, key_gain] = [2, 3].map(|seed| (normal([head_dim], seed) + 1.0).inner());
        let attention = Attention {
            n_head,
            n_kv_head,
            qk_norm: has_norm.then_some(QkNorm { query_gain, key_gain, epsilon: 1e-5 }),
            rope: has_rope.then(|| Rope::new(head_dim, time, 1e4)),
            precision: F32,
        };
        let read = |idx: usize| steps.iter().map(|n_rows| n_rows[idx]).sum::<usize>();
        let mut steps = steps.clone();
        steps.push([0, 1, 2].map(|idx| time - read(idx)).to_vec());
        let sequences = [4, 5, 6].map(|seed| normal([time, width], seed).inner());
        // A norm of two channels gives large values.
        let close = || Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(1e-4));
        let fused = in_steps(&sequences, &attention, &steps, SlotType::F32);
        let plain = with_plain_operations(|| in_steps(&sequences, &attention, &steps, SlotType::F32));
        let half = test_device().supports_dtype(DType::F16).then(|| in_steps(&sequences, &attention, &steps, SlotType::F16));
        for (idx, sequence) in sequences.into_iter().enumerate() {
            let whole: Tensor<2> = causal_attention(sequence.unsqueeze(), &attention, None, 0.0).squeeze_dim(0);
            let whole = whole.into_data();
            fused[idx].to_data().assert_approx_eq::<f32>(&whole, close());
            plain[idx].to_data().assert_approx_eq::<f32>(&whole, close());
            if let Some(half) = &half {
                // Keys of order one, rounded to 2⁻¹¹, change scores and weights by about as much.
                half[idx].to_data().assert_approx_eq::<f32>(&whole, Tolerance::rel_abs(3e-2, 3e-2));
                assert_ne!(half[idx].to_data(), whole, "bf16 or f16 had no effect");
            }
        }
    }
}

#[test]
fn a_long_prompt_in_pieces_matches_training() {
    // More than one chunk on GPUs.
    let qkv = normal([300, 3 * 8], 1).inner();
    let heads = Attention::plain(2);
    let whole =
        with_plain_operations(|| causal_attention(qkv.clone().unsqueeze(), &heads, None, 0.0)).into_data();
    let steps = [vec![20], vec![280]];
    let pieces: Tensor<3> = in_steps(&[qkv], &heads, &steps, SlotType::F32).remove(0).unsqueeze();
    pieces.into_data().assert_approx_eq::<f32>(&whole, close());
}

/// Compares `f` with `g` on the same inputs.
pub(crate) fn assert_same<const N: usize, const D: usize>(
    tolerance: Tolerance<f32>,
    inputs: &[Tensor<2>; N],
    f: impl Fn([Tensor<2>; N]) -> Tensor<D>,
    g: impl Fn([Tensor<2>; N]) -> Tensor<D>,
) {
    for (f, g) in output_and_gradients(inputs, f).iter().zip(&output_and_gradients(inputs, g)) {
        f.assert_approx_eq::<f32>(g, tolerance);
    }
}

#[test]
fn loss_of_a_large_vocabulary_in_chunks() {
    // On GPUs these logits are one chunk, and more than a buffer of WebGPU; `losses_in_chunks` tests several.
    if test_device() != Device::flex() {
        return;
    }
    // 2^24 logits are 63 rows of this vocabulary; a chunk has at least 64.
    let n_vocab = (1 << 18) + 3;
    let targets: Vec<i32> = (0..130).map(|i| i * 2011 % n_vocab).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [130]), &test_device().autodiff());
    assert_agrees([normal([130, 3], 13), normal([n_vocab as usize, 3], 14)], |[hidden, weight]| {
        LmHead::new(weight).loss(hidden, targets.clone(), F32)
    });
}

/// The reference implementation; the bf16 instructions are tested in the crate `cpu`.
#[test]
fn bf16_is_close_to_f32() {
    if !test_device_has_bf16() {
        return;
    }
    let inputs = [normal([30, 20], 18), normal([40, 20], 19)];
    let affine = |precision| output_and_gradients(&inputs, |[x, w]| linear(x, w, None, precision));
    let qkv = [normal([12, 3 * 8], 20)];
    let attention = |precision| {
        output_and_gradients(&qkv, |[qkv]| {
            let heads = Attention { precision, ..Attention::plain(2) };
            causal_attention(qkv.reshape([2, 6, 24]), &heads, None, 0.0)
        })
    };
    let runs: [&dyn Fn(Precision) -> Vec<TensorData>; 2] = [&affine, &attention];
    for run in runs {
        let (exact, rounded) = with_plain_operations(|| (run(F32), run(Precision::Bf16)));
        for (exact, rounded) in exact.iter().zip(&rounded) {
            assert_ne!(exact, rounded, "bf16 or f16 had no effect");
            // At most forty terms of order one; both operands and the sum are rounded to 2⁻⁸.
            rounded.assert_approx_eq::<f32>(exact, Tolerance::rel_abs(2e-2, 8e-2));
        }
    }
}

#[test]
fn large_magnitudes_do_not_overflow() {
    let x = normal([1, 3 * 8], 15) * 1e4;
    let inputs = [leaf(x.repeat_dim(0, 6))];
    let [output, gradient] = output_and_gradients(&inputs, |[qkv]| {
        causal_attention(qkv.reshape([1, 6, 24]), &Attention::plain(2), None, 0.0)
    })
    .try_into()
    .expect("one output, one input");
    assert!(output.iter::<f32>().chain(gradient.iter()).all(f32::is_finite));

    let targets = Tensor::<1, Int>::zeros([4], &test_device().autodiff());
    let hidden = [leaf(normal([4, 5], 16) * 1e18), normal([9, 5], 17)];
    let loss = output_and_gradients(&hidden, |[hidden, weight]| {
        LmHead::new(weight).loss(hidden, targets.clone(), F32)
    });
    assert!(loss[0].iter::<f32>().all(f32::is_finite), "the loss is {}", loss[0]);

    for activation in [Activation::Gelu, Activation::GeluTanh] {
        let one = leaf(normal([1, 1], 1).ones_like());
        for x in [-1e30f32, -100.0, -10.5, 10.5, 100.0, 1e30] {
            let x = leaf(one.clone().mul_scalar(x));
            let data = output_and_gradients(&[x, leaf(one.clone())], |[x, w]| {
                linear_activate(x, w, None, activation, F32)
            });
            assert!(data[0].iter::<f32>().chain(data[1].iter()).all(f32::is_finite), "{data:?}");
        }
    }
}

#[test]
fn optimizer_steps_agree() {
    let device = test_device();
    device.seed(3);
    let random = |n| Tensor::<2>::random([n, 7], Distribution::Normal(0.0, 1.0), &device);
    let (x, first) = (random(4001), random(4001));
    let (gradient, second) = (random(4001), random(4001).abs());
    for time in [1, 2, 1000] {
        let step = AdamWStep {
            learning_rate: 0.1,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            time,
            gradient_scale: 0.3,
        };
        let run = || {
            let moments = [first.clone(), second.clone()];
            let (x, [first, second]) = adamw(&step, x.clone(), gradient.clone(), moments);
            [x, first, second].map(Tensor::into_data)
        };
        for (fused, plain) in run().iter().zip(&with_plain_operations(run)) {
            fused.assert_approx_eq::<f32>(plain, close());
        }
    }
    for scale in [0.3, f32::NAN] {
        let step = AdamWStep {
            learning_rate: 0.1,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            time: 7,
            gradient_scale: scale,
        };
        let before = || [first.clone(), second.clone()];
        let on_device = Tensor::from_floats([scale], &device);
        let (moved, moments) = adamw_on_device(&step, x.clone(), gradient.clone(), before(), on_device);
        let (expected, others) = match scale.is_nan() {
            true => (x.clone(), before()),
            false => adamw(&step, x.clone(), gradient.clone(), before()),
        };
        let expected = [expected].into_iter().chain(others);
        for (got, expected) in [moved].into_iter().chain(moments).zip(expected) {
            got.into_data().assert_approx_eq::<f32>(&expected.into_data(), close());
        }
    }
    let fused: f32 = sum_of_squares(x.clone()).into_scalar();
    let plain: f32 = with_plain_operations(|| sum_of_squares(x)).into_scalar();
    assert!((fused / plain - 1.0).abs() < 1e-5, "{fused} is not {plain}");
}
