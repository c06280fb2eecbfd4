//! Every operation, on every SIMD level of this machine, compared with f64.

#![allow(clippy::cast_possible_truncation, reason = "values in tests are small")]

mod attention;
mod few_rows;
mod low_rank;
mod quantised;
mod segments;

use std::ops::Range;

use proptest::prelude::*;

use super::{
    adamw, cross_entropy, cross_entropy::Gradients, dropout::Mask, embedding, gemm, linear, linear::Layer,
    math, matrix::Matrix, norm, skinny,
};
use crate::{Activation, AdamWStep, NormKind, Precision, SimdLevel};

/// `n` values in [-1, 1), determined by the seed.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[track_caller]
fn assert_close(level: SimdLevel, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (idx, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{level:?}, {idx}: {got} is not {expected}");
    }
}

/// Each value rounded to 8 bits of mantissa, ties to even.
fn rounded(x: &[f32]) -> Vec<f32> {
    let round = |x: f32| {
        let unit = 2f32.powi(x.abs().max(1e-30).log2().floor() as i32 - 7);
        (x / unit).round_ties_even() * unit
    };
    x.iter().map(|&x| round(x)).collect()
}

/// The gradient of `f` at `x`, by central finite differences.
fn finite_differences(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut x = wide(x);
    (0..x.len())
        .map(|idx| {
            let at = x[idx];
            let mut moved = |by: f64| {
                x[idx] = at + by;
                let y = f(&x);
                x[idx] = at;
                y
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        })
        .collect()
}

fn dot(x: &[f64], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, &y)| x * f64::from(y)).sum()
}

fn multiply(a: &[f32], b: &[f32], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let (a, b) = (wide(a), wide(b));
    let element = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * b[p * m + j]).sum();
    (0..n * m).map(|idx| element(idx / m, idx % m)).collect()
}

fn transpose(x: &[f32], n_rows: usize) -> Vec<f32> {
    let n_cols = x.len() / n_rows.max(1);
    (0..x.len()).map(|idx| x[idx % n_rows * n_cols + idx / n_rows]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn products(n in 1usize..60, k in 1usize..700, m in 1usize..70) {
        let (a, b) = (random(n * k, 1), random(k * m, 2));
        let expected = multiply(&a, &b, [n, k, m]);
        let twice: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
        let (a_columns, b_columns) = (transpose(&a, n), transpose(&b, k));
        for level in SimdLevel::all() {
            for a in [Matrix::new(&a, n, k), Matrix::new(&a_columns, k, n).transposed()] {
                for b in [Matrix::new(&b, k, m), Matrix::new(&b_columns, m, k).transposed()] {
                    // Up to 700 terms of order one half, each rounded.
                    let mut c = gemm::product(level, a, b, |_, _| {});
                    assert_close(level, &c, &expected, 2e-5);
                    gemm::add_product(level, a, b, &mut c);
                    assert_close(level, &c, &twice, 4e-5);
                }
            }
            for b in [Matrix::new(&b, k, m), Matrix::new(&b_columns, m, k).transposed()] {
                assert_close(level, &skinny::product(level, Matrix::new(&a, n, k), &[b.into()]), &expected, 2e-5);
            }
        }
    }

    #[test]
    fn symmetric_products(n in 1usize..150, k in 1usize..400) {
        let a = random(n * k, 3);
        let add_row = |idx: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x += idx as f32);
        let mut expected = multiply(&a, &transpose(&a, n), [n, k, n]);
        for (idx, x) in expected.iter_mut().enumerate() {
            *x += (idx / n).max(idx % n) as f64;
        }
        for level in SimdLevel::all() {
            let rows = Matrix::new(&a, n, k);
            let mut c = gemm::symmetric_product(level, rows, rows.transposed(), |_, _| {});
            for row in 0..n {
                prop_assert!((0..row).all(|col| c[row * n + col] == c[col * n + row]), "row {row} of {n}");
            }
            // `finish` sees each row up to the diagonal, and up to one tile beyond it.
            c = gemm::symmetric_product(level, rows, rows.transposed(), add_row);
            let lower = |values: Vec<f64>| -> Vec<f64> {
                values.into_iter().enumerate().filter(|(idx, _)| idx % n <= idx / n).map(|(_, x)| x).collect()
            };
            let c: Vec<f32> = lower(wide(&c)).into_iter().map(|x| x as f32).collect();
            assert_close(level, &c, &lower(expected.clone()), 5e-5);
        }
    }

    #[test]
    fn products_in_bf16(n in 1usize..60, k in 1usize..900, m in 1usize..70) {
        let (a, b) = (random(n * k, 1), random(k * m, 2));
        let (a_columns, b_columns) = (transpose(&a, n), transpose(&b, k));
        let expected = multiply(&rounded(&a), &rounded(&b), [n, k, m]);
        let twice: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
        let emulated = SimdLevel::best().with_emulated_pairs();
        // The hardware instructions too, if the processor has them.
        for level in [emulated, SimdLevel::of(Precision::Bf16)].into_iter().filter(|level| level.pairs().is_some()) {
            for a in [Matrix::new(&a, n, k), Matrix::new(&a_columns, k, n).transposed()] {
                for b in [Matrix::new(&b, k, m), Matrix::new(&b_columns, m, k).transposed()] {
                    let mut c = gemm::product(level, a, b, |_, _| {});
                    assert_close(level, &c, &expected, 2e-5);
                    gemm::add_product(level, a, b, &mut c);
                    assert_close(level, &c, &twice, 4e-5);
                }
            }
        }
    }
}

#[test]
fn large_right_operands_are_packed_in_parts() {
    let (n, k, m) = (7, 1300, 1000);
    let (a, b) = (random(n * k, 1), random(k * m, 2));
    let once = |rows: Range<usize>, values: &mut [f32]| {
        for (idx, row) in rows.zip(values.chunks_exact_mut(m)) {
            row.iter_mut().for_each(|x| *x += idx as f32);
        }
    };
    let expected: Vec<f64> =
        multiply(&a, &b, [n, k, m]).iter().enumerate().map(|(idx, x)| x + (idx / m) as f64).collect();
    let twice = multiply(&a, &b, [n, k, m]);
    let twice: Vec<f64> = expected.iter().zip(twice).map(|(x, product)| x + product).collect();
    let emulated = SimdLevel::best().with_emulated_pairs();
    for (level, tolerance) in [(SimdLevel::best(), 4e-5), (emulated, 2e-1)] {
        let mut c = gemm::product(level, Matrix::new(&a, n, k), Matrix::new(&b, k, m), once);
        assert_close(level, &c, &expected, tolerance);
        gemm::add_product(level, Matrix::new(&a, n, k), Matrix::new(&b, k, m), &mut c);
        assert_close(level, &c, &twice, 2.0 * tolerance);
    }
}

#[test]
fn products_with_an_empty_dimension_are_empty_or_zero() {
    for [n, k, m] in [[0, 3, 5], [3, 0, 5], [3, 5, 0], [9, 0, 40], [9, 40, 0]] {
        let (a, b) = (random(n * k, 1), random(k * m, 2));
        for level in SimdLevel::all().into_iter().chain([SimdLevel::best().with_emulated_pairs()]) {
            let c = gemm::product(level, Matrix::new(&a, n, k), Matrix::new(&b, k, m), |_, _| {});
            assert_eq!(c, vec![0.0; n * m]);
        }
    }
}

/// The dropout factors of a row of `n` elements.
fn dropout_factors(mask: Option<Mask>, row: u64, n: usize) -> Vec<f32> {
    let mut factors = vec![1.0; n];
    if let Some(mask) = mask {
        mask.apply(row, &mut factors);
    }
    factors
}

#[test]
fn norm_gradients_are_finite_differences() {
    let (n, width) = (3, 19);
    let (x, gain, offset, d_y) =
        (random(n * width, 6), random(width, 7), random(width, 8), random(n * width, 9));
    let reference = |kind: NormKind, x: &[f64], gain: &[f64], offset: &[f64]| -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = match kind {
                NormKind::Layer => x.iter().sum::<f64>() / width as f64,
                NormKind::Rms => 0.0,
            };
            let mean_square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let normal = |x: f64| (x - mean) / (mean_square + 1e-5).sqrt();
            x.iter().zip(gain).zip(offset).map(|((&x, gain), offset)| normal(x) * gain + offset).collect()
        };
        x.chunks_exact(width).flat_map(row).collect()
    };
    let (x64, gain64, offset64) = (wide(&x), wide(&gain), wide(&offset));
    for (level, kind) in SimdLevel::all()
        .into_iter()
        .flat_map(|level| [NormKind::Layer, NormKind::Rms].map(|kind| (level, kind)))
    {
        let (y, moments) = norm::forward(level, kind, &x, &gain, &offset, 1e-5);
        assert_close(level, &y, &reference(kind, &x64, &gain64, &offset64), 1e-6);
        let (d_x, d_gain, d_offset) = norm::backward(level, kind, &x, &gain, &moments, &d_y);
        let expected_x = finite_differences(&x, |x| dot(&reference(kind, x, &gain64, &offset64), &d_y));
        let expected_gain =
            finite_differences(&gain, |gain| dot(&reference(kind, &x64, gain, &offset64), &d_y));
        let expected_offset =
            finite_differences(&offset, |offset| dot(&reference(kind, &x64, &gain64, offset), &d_y));
        assert_close(level, &d_x, &expected_x, 2e-6);
        assert_close(level, &d_gain, &expected_gain, 2e-6);
        assert_close(level, &d_offset, &expected_offset, 2e-6);
    }
}

#[test]
fn loss_gradients_are_finite_differences() {
    let (n, width, n_vocab) = (5, 3, 7);
    let (hidden, weight, targets) = (random(n * width, 10), random(n_vocab * width, 11), [0, 6, 3, 3, 1]);
    let rows = [0.5, -2.0, 1.5, 0.0, 3.0]; // Weights of the rows.
    let losses = |hidden: &[f64], weight: &[f64]| -> Vec<f64> {
        let loss = |(hidden, &target): (&[f64], &usize)| {
            let logit = |w: &[f64]| -> f64 { hidden.iter().zip(w).map(|(h, w)| h * w).sum() };
            let logits: Vec<f64> = weight.chunks_exact(width).map(logit).collect();
            logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[target]
        };
        hidden.chunks_exact(width).zip(&targets).map(loss).collect()
    };
    let reference =
        |hidden: &[f64], weight: &[f64]| -> f64 { losses(hidden, weight).iter().sum::<f64>() / n as f64 };
    let weighted = |hidden: &[f64], weight: &[f64]| -> f64 {
        losses(hidden, weight).iter().zip(&rows).map(|(loss, &row)| loss * f64::from(row)).sum()
    };
    let (hidden64, weight64) = (wide(&hidden), wide(&weight));
    let d_weight = finite_differences(&weight, |weight| reference(&hidden64, weight));
    for level in SimdLevel::all() {
        let matrix = Matrix::new(&weight, n_vocab, width);
        let factor = [matrix.transposed().into()];
        let loss = cross_entropy::loss(level, &hidden, &factor, &targets, None, Gradients::All);
        assert_close(level, &[loss.value], &[reference(&hidden64, &weight64)], 1e-6);
        let d_hidden = loss.d_hidden.expect("gradients were requested");
        let expected = finite_differences(&hidden, |hidden| reference(hidden, &weight64));
        assert_close(level, &d_hidden, &expected, 1e-6);
        assert_close(level, &loss.d_weight.expect("gradients were requested"), &d_weight, 1e-6);

        // Two blocks of the weight, one of them with contiguous columns, and no gradient of the weight.
        let columns = transpose(&weight[3 * width..], 4);
        let blocks = [matrix.row_range(0..3).transposed().into(), Matrix::new(&columns, width, 4).into()];
        let loss = cross_entropy::loss(level, &hidden, &blocks, &targets, None, Gradients::Hidden);
        assert_close(level, &[loss.value], &[reference(&hidden64, &weight64)], 1e-6);
        assert_close(level, &loss.d_hidden.expect("gradients were requested"), &expected, 1e-6);
        assert!(loss.d_weight.is_none());

        let loss = cross_entropy::loss(level, &hidden, &blocks, &targets, None, Gradients::None);
        assert!(loss.d_hidden.is_none() && loss.d_weight.is_none());

        let loss = cross_entropy::loss(level, &hidden, &factor, &targets, Some(&rows), Gradients::All);
        assert_close(level, &[loss.value], &[weighted(&hidden64, &weight64)], 1e-5);
        let expected = finite_differences(&hidden, |hidden| weighted(hidden, &weight64));
        assert_close(level, &loss.d_hidden.expect("gradients were requested"), &expected, 1e-5);
        let expected = finite_differences(&weight, |weight| weighted(&hidden64, weight));
        assert_close(level, &loss.d_weight.expect("gradients were requested"), &expected, 1e-5);
    }
}

/// erf by its Taylor series, which converges everywhere and is accurate in f64 up to 3.
fn erf(x: f64) -> f64 {
    let term = |(n, power): (i32, f64)| power / f64::from(2 * n + 1);
    let powers = (0..80).scan(x, |power, n| {
        let this = *power;
        *power *= -x * x / f64::from(n + 1);
        Some((n, this))
    });
    powers.map(term).sum::<f64>() * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn activations_and_their_derivatives_match_f64() {
    let x: Vec<f32> = (-400..=400).map(|i| i as f32 / 100.0).collect();
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
    let cases: [(Activation, &dyn Fn(f64) -> f64); 2] =
        [(Activation::Gelu, &exact), (Activation::GeluTanh, &tanh)];
    for (activation, f) in cases {
        let value: Vec<f64> = x.iter().map(|&x| f(x.into())).collect();
        let derivative: Vec<f64> =
            x.iter().map(|&x| (f(f64::from(x) + 1e-5) - f(f64::from(x) - 1e-5)) / 2e-5).collect();
        for level in SimdLevel::all() {
            let (input, one) = (Matrix::new(&x, x.len(), 1), [1.0]);
            let forward = |backward| {
                let weights = [Matrix::new(&one, 1, 1).into()];
                let layer = Layer { weights: &weights, bias: &[], updates: None };
                linear::forward_activated(level, input, layer, activation, backward)
            };
            let (y, derivatives) = forward(true);
            assert_close(level, &y, &value, 1e-6);
            assert_close(level, &derivatives.expect("derivatives were requested"), &derivative, 1e-6);
            let (y, derivatives) = forward(false);
            assert_close(level, &y, &value, 1e-6);
            assert!(derivatives.is_none());
        }
    }
}

#[test]
fn activations_approach_zero_and_the_identity() {
    for x in [6.0_f32, 20.0, 1e4, 1e30, f32::MAX] {
        for (value, derivative) in [math::gelu_and_derivative(x), math::gelu_tanh_and_derivative(x)] {
            assert_eq!((value, derivative), (x, 1.0));
        }
        for (value, derivative) in [math::gelu_and_derivative(-x), math::gelu_tanh_and_derivative(-x)] {
            assert!(
                value.abs() < 1e-7 * x.min(10.0) && derivative.abs() < 1e-6,
                "gelu(-{x}) is {value}, its derivative {derivative}"
            );
        }
        assert!(math::gelu(-x).abs() < 1e-6 && math::gelu_tanh(-x).abs() < 1e-6);
    }
}

#[test]
fn exp_is_within_two_ulp() {
    for i in -8_600..8_800 {
        let x = i as f32 / 100.0;
        let expected = f64::from(x).exp();
        assert!((f64::from(math::exp(x)) / expected - 1.0).abs() < 2.4e-7, "exp({x}) is {}", math::exp(x));
    }
    assert!(math::exp(f32::NEG_INFINITY) < 1.2e-38 && math::exp(-1e30) >= 0.0);
    assert!(math::exp(1e30).is_finite());
}

#[test]
fn sums_and_updates_match_f64() {
    let n = 40_003;
    let (x, gradient) = (random(n, 12), random(n, 13));
    let squares: f64 = wide(&x).iter().map(|x| x * x).sum();
    let step = AdamWStep {
        learning_rate: 0.1,
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        time: 1,
        gradient_scale: 0.25,
    };
    // After one step from zero, the corrected moments are the scaled gradient and its square.
    let scaled_gradient: Vec<f64> = wide(&gradient).iter().map(|g| 0.25 * g).collect();
    let moved = |(x, g): (&f64, &f64)| x * 0.99 - 0.1 * g / (g.abs() + 1e-8);
    let expected: Vec<f64> = wide(&x).iter().zip(&scaled_gradient).map(moved).collect();
    for level in SimdLevel::all() {
        assert!((adamw::sum_of_squares(level, &x) / squares - 1.0).abs() < 1e-6);
        let (mut moved, mut first, mut second) = (x.clone(), vec![0.0; n], vec![0.0; n]);
        adamw::step(level, &step, &mut moved, &gradient, [&mut first, &mut second]);
        assert_close(level, &moved, &expected, 1e-5);
        let means: Vec<f64> = scaled_gradient.iter().map(|g| 0.1 * g).collect();
        assert_close(level, &first, &means, 1e-6);
        adamw::scale(level, &mut moved, -2.0);
        let scaled: Vec<f64> = expected.iter().map(|x| -2.0 * x).collect();
        assert_close(level, &moved, &scaled, 2e-5);
    }
}

#[test]
fn rows_are_gathered_and_scattered() {
    let (width, ids, position_ids) = (70, [2, 0, 2, 2], [0, 1, 0, 1]);
    let (tokens, positions) = (random(3 * width, 14), random(2 * width, 15));
    for level in SimdLevel::all() {
        let y = embedding::forward(level, &tokens, &positions, width, &ids, &position_ids, None);
        for (row, &id) in ids.iter().enumerate() {
            for col in 0..width {
                assert_eq!(
                    y[row * width + col],
                    tokens[id * width + col] + positions[position_ids[row] * width + col]
                );
            }
        }
        let sums = embedding::scatter(level, 3, width, &y, |row| ids[row]);
        assert_eq!(&sums[..width], &y[width..2 * width]);
        assert!(sums[width..2 * width].iter().all(|&x| x == 0.0));
        assert_eq!(sums[2 * width], y[0] + y[2 * width] + y[3 * width]);
    }
}

#[test]
fn masks_are_functions_of_seed_row_and_column() {
    let (probability, n) = (0.25, 40_000);
    let masked = |seed, row| {
        let mut values = vec![1.0; n];
        Mask::new(probability, seed).expect("a probability above 0").apply(row, &mut values);
        values
    };
    let values = masked(1, 0);
    assert_eq!(values, masked(1, 0));
    assert!(values.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
    // Independent masks agree in a share p² + (1 - p)² of elements, and each drops a share p: within five standard
    // deviations.
    let close = |count: usize, share: f64| {
        let deviation = (n as f64 * share * (1.0 - share)).sqrt();
        (count as f64 - n as f64 * share).abs() < 5.0 * deviation
    };
    assert!(close(values.iter().filter(|&&x| x == 0.0).count(), probability));
    for other in [masked(2, 0), masked(1, 1), [&values[1..], &values[..1]].concat()] {
        let same = values.iter().zip(&other).filter(|(x, y)| x == y).count();
        assert!(close(same, probability * probability + (1.0 - probability) * (1.0 - probability)));
    }
    assert!(Mask::new(0.0, 1).is_none());
}

#[test]
fn forward_and_backward_drop_the_same_elements() {
    let (n, width, time) = (40, 70, 5);
    let mask = Mask::new(0.3, 19).expect("a probability above 0");
    let expected: Vec<f32> = (0..n).flat_map(|row| dropout_factors(Some(mask), row as u64, width)).collect();
    assert!(expected.contains(&0.0) && expected.iter().any(|&factor| factor > 1.0));
    // With an identity weight, an input of ones and a zero residual, the output is the dropout factors.
    let identity: Vec<f32> =
        (0..width * width).map(|idx| f32::from(u8::from(idx % (width + 1) == 0))).collect();
    let (ones, zeros) = (vec![1.0; n * width], vec![0.0; n * width]);
    let ids: Vec<usize> = (0..n).map(|row| row % 3).collect();
    for level in SimdLevel::all() {
        let mut d_y = ones.clone();
        linear::drop_rows(level, &mut d_y, width, mask);
        assert_eq!(d_y, expected);
        let (x, weight) = (Matrix::new(&ones, n, width), Matrix::new(&identity, width, width));
        let layer = Layer { weights: &[weight.into()], bias: &[], updates: None };
        assert_eq!(linear::forward_residual(level, x, layer, &zeros, Some(mask)), expected);
        let (tokens, positions) = (&ones[..3 * width], &zeros[..time * width]);
        let position_ids: Vec<usize> = (0..ids.len()).map(|row| row % time).collect();
        let y = embedding::forward(level, tokens, positions, width, &ids, &position_ids, Some(mask));
        assert_eq!(y, expected);
    }
}
