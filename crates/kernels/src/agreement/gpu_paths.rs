//! The GPU paths compared with the reference implementation, on any device.

use super::*;
use crate::{
    LowRank, UpdatedWeight, activate,
    activation::activate_on_gpu,
    attention::{attend_in_chunks, attention_reference, self_attention_on_gpu},
    cross_entropy,
    dropout::{dropout_on_gpu, mask},
    embedding::rows_on_gpu,
    linear::{activated_on_gpu, linear_on_gpu, residual_on_gpu},
    linear_operand,
    norm::norm_on_gpu,
    supported_precision, with_dropout,
};

proptest! {
    #![proptest_config(shapes())]

    #[test]
    fn attention_in_chunks(
        batch in 1usize..3,
        time in 1usize..40,
        past in 0usize..20,
        n_kv_head in 1usize..4,
        group_size in 1usize..4,
        head_dim in 1usize..9,
        n_rows in 1usize..50,
    ) {
        let heads = |n: usize, time: usize, seed| normal([batch, n, time, head_dim], seed).inner();
        let others = |seed| heads(n_kv_head, past + time, seed);
        let inputs = [heads(n_kv_head * group_size, time, 1), others(2), others(3)];
        let chunked = attend_in_chunks(inputs.clone(), n_rows, F32);
        let whole = attention_reference(inputs, None, 0.0, F32);
        chunked.into_data().assert_approx_eq::<f32>(&whole.into_data(), close());
    }

    #[test]
    fn self_attention_in_chunks(
        batch in 1usize..3,
        time in 1usize..40,
        n_kv_head in 1usize..4,
        group_size in 1usize..4,
        head_dim in 1usize..12,
        n_rows in 1usize..50,
        has_norm: bool,
        has_rope: bool,
        drops: bool,
        lengths in prop::option::of(document_lengths()),
    ) {
        let documents = lengths.map(|lengths| documents(&lengths, batch, time));
        let documents = documents.as_ref();
        let n_head = n_kv_head * group_size;
        let width = (n_head + 2 * n_kv_head) * head_dim;
        let probability = if drops { 0.3 } else { 0.0 };
        let [query_gain, key_gain] = [2, 3].map(|seed| normal([1, head_dim], seed) + 1.0).map(leaf);
        let inputs = [normal([batch * time, width], 1), query_gain, key_gain];
        let attention = |gains: [Tensor<2>; 2]| {
            let [query_gain, key_gain] = gains.map(|gain| gain.reshape([head_dim]));
            Attention {
                n_head,
                n_kv_head,
                qk_norm: has_norm.then_some(QkNorm { query_gain, key_gain, epsilon: 1e-2 }),
                rope: (has_rope && head_dim % 2 == 0).then(|| Rope::new(head_dim, 70, 1e4)),
                precision: F32,
            }
        };
        let on_gpu = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
            let attention = attention([query_gain, key_gain]);
            let qkv = qkv.reshape([batch, time, width]);
            seeded(|| self_attention_on_gpu(qkv, &attention, documents, probability, n_rows))
        };
        let reference = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
            let attention = attention([query_gain, key_gain]);
            let qkv = qkv.reshape([batch, time, width]);
            with_plain_operations(|| seeded(|| causal_attention(qkv, &attention, documents, probability)))
        };
        assert_same(
            Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-4)),
            &inputs,
            on_gpu,
            reference,
        );
    }

    #[test]
    fn norms_on_gpus(batch in 1usize..4, time in 1usize..9, width in 2usize..30, is_layer: bool) {
        let kind = if is_layer { NormKind::Layer } else { NormKind::Rms };
        let inputs = [normal([batch * time, width], 6), normal([1, width], 7)];
        let split = |[x, gain]: [Tensor<2>; 2]| (x.reshape([batch, time, width]), gain.reshape([width]));
        let on_gpu = |inputs| {
            let (x, gain) = split(inputs);
            norm_on_gpu(x, kind, gain, 1e-2, F32)
        };
        let reference = |inputs| {
            let (x, gain) = split(inputs);
            let centred = if is_layer { x.clone() - x.mean_dim(2) } else { x };
            let mean_square = centred.clone().square().mean_dim(2);
            centred / (mean_square + 1e-2).sqrt() * gain.unsqueeze()
        };
        assert_same(close(), &inputs, on_gpu, reference);
    }

    #[test]
    fn linear_layers_on_gpus(n in 1usize..40, d_in in 1usize..40, d_out in 1usize..40, biased: bool) {
        let inputs = [normal([n, d_in], 2), normal([2 * d_out, d_in], 3), normal([1, 2 * d_out], 4)];
        let bias = |b: Tensor<2>| biased.then(|| b.reshape([2 * d_out]));
        let product = |x: Tensor<2>, w: Tensor<2>| x.matmul(w.transpose());
        assert_same(
            close(),
            &inputs,
            |[x, w, b]| linear_on_gpu(x, w.into(), bias(b), F32),
            |[x, w, b]| if biased { product(x, w) + b } else { product(x, w) },
        );
        let inputs_and_residual = [normal([n, d_in], 2), normal([d_out, d_in], 3), normal([n, d_out], 4)];
        for probability in [0.0, 0.3] {
            assert_same(
                close(),
                &inputs_and_residual,
                |[x, w, r]| seeded(|| residual_on_gpu(x, w.into(), probability, r, F32)),
                |[x, w, r]| with_plain_operations(|| seeded(|| r + dropout(product(x, w), probability))),
            );
        }
        let products = Tolerance::rel_abs(test_tolerance(1e-5), test_tolerance(4e-5) * d_in as f32);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu2, Activation::Swiglu] {
            let reference = |[x, w, _]: [Tensor<2>; 3]| {
                with_plain_operations(|| activate(product(x, w), activation))
            };
            assert_same(
                products,
                &inputs,
                |[x, w, _]| activated_on_gpu(x, w.into(), activation, F32),
                reference,
            );
            assert_same(products, &inputs, |[x, w, _]| activate_on_gpu(product(x, w), activation), reference);
        }
    }

    #[test]
    fn dropout_on_gpus(batch in 1usize..4, time in 1usize..9, width in 1usize..300, first in 0usize..3) {
        let inputs = [normal([batch * time, width], 6)];
        let split = |[x]: [Tensor<2>; 1]| x.reshape([batch, time, width]);
        let on_gpu = |x| with_dropout(7, first, || {
            let x: Tensor<3> = split(x);
            let mask = mask(&x.device(), 0.3, time).expect("a probability above 0");
            dropout_on_gpu(x, mask)
        });
        let plain = |x| with_plain_operations(|| with_dropout(7, first, || dropout(split(x), 0.3)));
        assert_same(close(), &inputs, on_gpu, plain);
    }

    #[test]
    fn sums_of_all_squares(lengths in prop::collection::vec(1usize..3000, 0..14)) {
        let parts: Vec<_> = (0..).zip(lengths).map(|(seed, n)| normal([n], seed).inner()).collect();
        let device = test_device();
        let sum = || -> f32 { sum_of_all_squares(parts.clone(), &device).into_scalar() };
        let (on_device, plain) = (sum(), with_plain_operations(sum));
        prop_assert!((on_device - plain).abs() <= 1e-4 * plain, "{on_device} is not {plain}");
    }

    #[test]
    fn rows_of_a_small_table_on_gpus(n in 1usize..60, width in 1usize..20, n_vocab in 1usize..90) {
        let ids: Vec<i32> = (0..n).map(|i| (i * i % n_vocab) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [n]), &test_device().autodiff());
        let inputs = [normal([n_vocab, width], 9)];
        let rows = |[table]: [Tensor<2>; 1]| rows_on_gpu(table, ids.clone());
        assert_same(close(), &inputs, rows, |[table]| table.select(0, ids.clone()));
    }

    #[test]
    fn losses_in_chunks(n in 1usize..60, width in 1usize..20, n_vocab in 1usize..90, n_rows in 1usize..70) {
        let targets: Vec<i32> = (0..n).map(|i| (i * i % n_vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [n]), &test_device().autodiff());
        let hidden = normal([n, width], 11);
        let inputs = [hidden, normal([n_vocab, width], 12)];
        // A loss with a factor, so that the incoming gradient is not 1.
        let chunked = |[hidden, weight]: [Tensor<2>; 2]| {
            LmHead::new(weight).loss_in_chunks(hidden, targets.clone(), None, n_rows, F32) * 3.0
        };
        let whole = |[hidden, weight]: [Tensor<2>; 2]| {
            cross_entropy(LmHead::new(weight).logits(hidden, F32), targets.clone()) * 3.0
        };
        assert_same(close(), &inputs, chunked, whole);
    }

    #[test]
    fn weighted_losses(n in 1usize..60, width in 1usize..20, n_vocab in 1usize..90, n_rows in 1usize..70) {
        let targets: Vec<i32> = (0..n).map(|i| (i * i % n_vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [n]), &test_device().autodiff());
        let weights: Vec<f32> = (0..n).map(|i| (i % 5) as f32 - 2.0).collect();
        let inputs = [normal([n, width], 11), normal([n_vocab, width], 12)];
        // Losses up to 20 times weights of both signs cancel.
        let close = || Tolerance::rel_abs(test_tolerance(1e-5), test_tolerance(3e-4));
        assert_agrees_within(close(), inputs.clone(), |[hidden, weight]| {
            LmHead::new(weight).weighted_loss(hidden, targets.clone(), weights.clone(), F32) * 3.0
        });
        let chunked = |[hidden, weight]: [Tensor<2>; 2]| {
            let row_weights = Some(weights.clone().into());
            LmHead::new(weight).loss_in_chunks(hidden, targets.clone(), row_weights, n_rows, F32)
        };
        let whole = |[hidden, weight]: [Tensor<2>; 2]| {
            LmHead::new(weight).weighted_loss(hidden, targets.clone(), weights.clone(), F32)
        };
        assert_same(close(), &inputs, chunked, whole);
    }
}

#[test]
fn rows_of_a_large_table_on_gpus() {
    let ids = Tensor::<1, Int>::from_data([8_999, 0, 17, 8_999], &test_device().autodiff());
    let inputs = [normal([9_000, 3], 9)];
    assert_same(
        close(),
        &inputs,
        |[table]| rows_on_gpu(table, ids.clone()),
        |[table]| table.select(0, ids.clone()),
    );
}

#[test]
fn bf16_in_chunks_is_close_to_f32() {
    if !test_device_has_bf16() {
        return;
    }
    let [query_gain, key_gain] = [2, 3].map(|seed| normal([1, 4], seed) * 0.3 + 1.0).map(leaf);
    let inputs = [normal([2 * 10, 5 * 4], 1), query_gain, key_gain];
    let packed = Documents::new(&[3, 7, 10], 10);
    let attention = |documents, precision| {
        output_and_gradients(&inputs, |[qkv, query_gain, key_gain]| {
            let [query_gain, key_gain] = [query_gain, key_gain].map(|gain| gain.reshape([4]));
            let attention = Attention {
                n_head: 3,
                n_kv_head: 1,
                qk_norm: Some(QkNorm { query_gain, key_gain, epsilon: 1e-2 }),
                rope: Some(Rope::new(4, 10, 1e4)),
                precision,
            };
            let mixed = self_attention_on_gpu(qkv.reshape([2, 10, 20]), &attention, documents, 0.0, 4);
            assert_eq!(mixed.dtype() == DType::F32, precision == F32, "the output has the type of operands");
            mixed.cast(DType::F32)
        })
    };
    let whole = |precision| attention(None, precision);
    let in_documents = |precision| attention(Some(&packed), precision);
    let targets = Tensor::<1, Int>::from_data([3, 0, 6, 6, 1], &test_device().autodiff());
    let head = [normal([5, 8], 4), normal([7, 8], 5)];
    let loss = |precision| {
        output_and_gradients(&head, |[hidden, weight]| {
            LmHead::new(weight).loss_in_chunks(hidden, targets.clone(), None, 2, precision)
        })
    };
    let chunked = |precision| {
        let inputs = [[3, 4, 6], [1, 7, 7], [1, 7, 8]]
            .map(|[n, time, seed]| normal([2, n as usize, time as usize, 4], seed).inner());
        vec![attend_in_chunks(inputs, 2, precision).into_data()]
    };
    let runs: [&dyn Fn(Precision) -> Vec<TensorData>; 4] = [&whole, &in_documents, &chunked, &loss];
    for run in runs {
        for (exact, rounded) in run(F32).iter().zip(&run(Precision::Bf16)) {
            assert_ne!(exact, rounded, "bf16 or f16 had no effect");
            rounded.assert_approx_eq::<f32>(exact, Tolerance::rel_abs(2e-2, 8e-2));
        }
    }
}

/// Sizes beyond a cube, a column of the grid and one round of a loop over it.
#[test]
fn large_operations_on_gpus() {
    // More rows of scores than cubes along an axis; rows wider than a cube.
    for [batch, n_head, time, head_dim, n_rows] in [[4, 280, 60, 2, 60], [1, 2, 300, 4, 128]] {
        let width = 3 * n_head * head_dim;
        let inputs = [normal([batch * time, width], 1)];
        let attention = Attention::plain(n_head);
        for documents in [None, Some(&documents(&[time * 9 / 10], batch, time))] {
            let chunked = |[x]: [Tensor<2>; 1]| {
                self_attention_on_gpu(x.reshape([batch, time, width]), &attention, documents, 0.0, n_rows)
            };
            let reference = |[x]: [Tensor<2>; 1]| {
                let qkv = x.reshape([batch, time, width]);
                with_plain_operations(|| causal_attention(qkv, &attention, documents, 0.0))
            };
            assert_same(
                Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-4)),
                &inputs,
                chunked,
                reference,
            );
        }
    }

    // More rows of heads than groups that sum the gradients of the gains, and more channels than their units.
    let (n_head, head_dim, time) = (10, 600, 60);
    let [query_gain, key_gain] = [2, 3].map(|seed| normal([1, head_dim], seed) + 1.0).map(leaf);
    let inputs = [normal([time, (n_head + 2) * head_dim], 1), query_gain, key_gain];
    let heads = |gains: [Tensor<2>; 2]| {
        let [query_gain, key_gain] = gains.map(|gain| gain.reshape([head_dim]));
        Attention {
            n_head,
            n_kv_head: 1,
            qk_norm: Some(QkNorm { query_gain, key_gain, epsilon: 1e-5 }),
            rope: Some(Rope::new(head_dim, time, 1e4)),
            precision: F32,
        }
    };
    let on_gpu = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
        self_attention_on_gpu(qkv.unsqueeze(), &heads([query_gain, key_gain]), None, 0.0, time)
    };
    let reference = |[qkv, query_gain, key_gain]: [Tensor<2>; 3]| {
        let heads = heads([query_gain, key_gain]);
        with_plain_operations(|| causal_attention(qkv.unsqueeze(), &heads, None, 0.0))
    };
    // The gains' gradients are sums over 600 heads.
    assert_same(Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-3)), &inputs, on_gpu, reference);

    // More rows than cubes that sum the gradient of the gain.
    let inputs = [normal([1100, 300], 2), normal([1, 300], 3)];
    let on_gpu =
        |[x, gain]: [Tensor<2>; 2]| norm_on_gpu(x.unsqueeze(), NormKind::Rms, gain.reshape([300]), 1e-2, F32);
    let reference = |[x, gain]: [Tensor<2>; 2]| -> Tensor<3> {
        let mean_square = x.clone().square().mean_dim(1);
        (x / (mean_square + 1e-2).sqrt() * gain).unsqueeze()
    };
    assert_same(Tolerance::rel_abs(test_tolerance(1e-4), test_tolerance(2e-4)), &inputs, on_gpu, reference);

    let values = normal([70_001], 4).inner();
    let expected: f32 = values.to_data().iter::<f32>().map(|x| x * x).sum();
    let sum: f32 = sum_of_all_squares(vec![values], &test_device()).into_scalar();
    assert!((sum - expected).abs() < 1e-3 * expected, "{sum} and {expected}");
}

/// In bf16, operations on GPUs pass operands of products to each other, forwards and backwards.
#[test]
fn a_block_in_bf16_is_close_to_f32() {
    if supported_precision(Precision::Bf16, &test_device()) == F32 {
        return;
    }
    let packed = Documents::new(&[7, 13, 20], 20);
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu2, Activation::Swiglu] {
        // Low-rank updates and biases have f32 in between.
        for (has_updates, is_biased, documents) in
            [(false, false, None), (true, false, None), (false, true, None), (false, false, Some(&packed))]
        {
            let run = |precision| Block { has_updates, is_biased, activation, precision }.run(documents);
            let (exact, rounded) = (run(F32), run(Precision::Bf16));
            let used = exact.iter().zip(&rounded).filter(|(exact, _)| exact.iter::<f32>().any(|x| x != 0.0));
            for (exact, rounded) in used {
                assert_ne!(exact, rounded, "bf16 had no effect");
                // Each value is rounded to 2⁻⁸ at some ten places.
                let error = relative_error(rounded, exact);
                assert!(error < 2e-2, "the relative error is {error}");
            }
        }
    }
}

/// A residual block of width 16.
struct Block {
    has_updates: bool,
    is_biased: bool,
    activation: Activation,
    precision: Precision,
}

impl Block {
    /// The output and the gradients of all parameters.
    fn run(&self, documents: Option<&Documents>) -> Vec<TensorData> {
        let Self { has_updates, is_biased, activation, precision } = *self;
        let (time, head_dim, width) = (20, 4, 16);
        let n_hidden = 12 * activation.n_inputs();
        let shapes = [
            [40, width],
            [6 * head_dim, width],
            [width, width],
            [n_hidden, width],
            [width, 12],
            [2, width],
            [1, 24],
        ];
        let inputs = [0, 1, 2, 3, 4, 5, 6].map(|idx| leaf(normal(shapes[idx], 20 + idx as u64) * 0.5));
        output_and_gradients(&inputs, |[x, qkv, mix, expand, contract, gains, bias]| {
            let x = x.reshape([2, time, width]);
            let gain = |idx: usize| gains.clone().slice(s![idx..idx + 1, ..]).reshape([width]) + 1.0;
            let head_gain = gain(1).slice(s![..head_dim]);
            let attention = Attention {
                n_head: 4,
                n_kv_head: 1,
                qk_norm: Some(QkNorm { query_gain: head_gain.clone(), key_gain: head_gain, epsilon: 1e-2 }),
                rope: Some(Rope::new(head_dim, time, 1e4)),
                precision,
            };
            let update = LowRank { a: mix.clone(), b: mix.clone(), first_row: 0, scale: 0.1 };
            let updated = |weight: Tensor<2>| {
                let updates =
                    if has_updates && weight.dims()[0] >= width { vec![update.clone()] } else { vec![] };
                UpdatedWeight { weight: weight.into(), updates, dropout: 0.2 }
            };
            let bias = |n: usize| is_biased.then(|| bias.clone().reshape([24]).slice(s![..n]));
            seeded(|| {
                let normed = norm(x.clone(), NormKind::Rms, gain(0), None, 1e-2, precision);
                let qkv = linear_operand(normed, updated(qkv), bias(24), precision);
                let mixed = causal_attention(qkv, &attention, documents, 0.1);
                let x = linear_residual(mixed, mix.clone(), bias(width), 0.1, x.clone(), precision);
                let normed = norm(x.clone(), NormKind::Layer, gain(1), None, 1e-2, precision);
                let expanded =
                    linear_activate(normed, updated(expand), bias(n_hidden), activation, precision);
                linear_residual(expanded, contract, bias(width), 0.1, x, precision)
            })
        })
    }
}

/// The length of the difference, over that of the exact values.
fn relative_error(x: &TensorData, exact: &TensorData) -> f32 {
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let differences = &mut x.iter::<f32>().zip(exact.iter::<f32>()).map(|(x, exact)| x - exact);
    length(differences) / length(&mut exact.iter::<f32>())
}
