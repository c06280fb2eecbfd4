//! Low-rank updates compared with a reference implementation in f64.

use super::{assert_close, dot, dropout_factors, finite_differences, random, wide};
use crate::{
    LowRankShape, LowRankUpdates, SimdLevel,
    dropout::Mask,
    linear::{self, Layer},
    matrix::Matrix,
};

const N_IN: usize = 7;

/// Two updates of neighbouring outputs and one that overlaps both; output 0 and the last have none.
const SHAPES: [LowRankShape; 3] = [
    LowRankShape { rank: 2, first: 1, n: 5, scale: 0.5 },
    LowRankShape { rank: 3, first: 6, n: 4, scale: -2.0 },
    LowRankShape { rank: 1, first: 4, n: 6, scale: 1.0 },
];

const N_OUT: usize = 12;

fn n_a() -> usize {
    SHAPES.iter().map(|shape| shape.rank * N_IN).sum()
}

fn n_b() -> usize {
    SHAPES.iter().map(|shape| shape.rank * shape.n).sum()
}

/// `x · w` plus the updates, with the weight `[N_IN, N_OUT]`.
fn reference(x: &[f64], w: &[f64], a: &[f64], b: &[f64], mask: Option<Mask>) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, x) in x.chunks_exact(N_IN).enumerate() {
        let kept = dropout_factors(mask, row as u64, N_IN);
        let mut y: Vec<f64> =
            (0..N_OUT).map(|col| (0..N_IN).map(|i| x[i] * w[i * N_OUT + col]).sum()).collect();
        let (mut a, mut b) = (a, b);
        for LowRankShape { rank, first, n, scale } in SHAPES {
            for r in 0..rank {
                let hidden: f64 = (0..N_IN).map(|i| x[i] * f64::from(kept[i]) * a[r * N_IN + i]).sum();
                for col in 0..n {
                    y[first + col] += f64::from(scale) * hidden * b[col * rank + r];
                }
            }
            (a, b) = (&a[rank * N_IN..], &b[n * rank..]);
        }
        out.extend(y);
    }
    out
}

#[test]
fn outputs_and_gradients_match_f64() {
    let (w, a, b) = (random(N_IN * N_OUT, 1), random(n_a(), 2), random(n_b(), 3));
    let weight = [Matrix::new(&w, N_IN, N_OUT).into()];
    // A few rows, and enough rows for a packed product.
    for n in [1, 3, 70] {
        let (x, d_y) = (random(n * N_IN, 4), random(n * N_OUT, 5));
        for mask in [None, Mask::new(0.3, 6)] {
            let [x64, w64, a64, b64] = [&x, &w, &a, &b].map(|values| wide(values));
            let expected = reference(&x64, &w64, &a64, &b64, mask);
            let loss = |x: &[f64], a: &[f64], b: &[f64]| dot(&reference(x, &w64, a, b, mask), &d_y);
            let expected_x = finite_differences(&x, |x| loss(x, &a64, &b64));
            let expected_a = finite_differences(&a, |a| loss(&x64, a, &b64));
            let expected_b = finite_differences(&b, |b| loss(&x64, &a64, b));
            for level in SimdLevel::all() {
                let updates = LowRankUpdates { shapes: &SHAPES, a: &a, b: &b, mask };
                let (x, d_y) = (Matrix::new(&x, n, N_IN), Matrix::new(&d_y, n, N_OUT));
                let hidden = updates.hidden(level, x);
                let addend = updates.addend(level, &hidden);
                let layer = Layer { weights: &weight, bias: &[], updates: Some(&addend) };
                assert_close(level, &linear::forward_layer(level, x, layer), &expected, 3e-6);

                let d_hidden = updates.backward_hidden(level, d_y);
                let through = updates.backward_addend(level, &d_hidden);
                let d_x = linear::backward_input(level, &weight, d_y, Some(&through));
                assert_close(level, &d_x, &expected_x, 1e-5);
                assert_close(level, &updates.backward_a(level, x, &d_hidden), &expected_a, 1e-5);
                assert_close(level, &updates.backward_b(level, &hidden, d_y), &expected_b, 1e-5);
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_other_rows() {
    let (w, a, b, x) = (random(N_IN * N_OUT, 1), random(n_a(), 2), random(n_b(), 3), random(20 * N_IN, 4));
    let weight = [Matrix::new(&w, N_IN, N_OUT).into()];
    let updates = LowRankUpdates { shapes: &SHAPES, a: &a, b: &b, mask: None };
    for level in SimdLevel::all() {
        let forward = |rows: std::ops::Range<usize>| {
            let x = Matrix::new(&x, 20, N_IN).row_range(rows);
            let hidden = updates.hidden(level, x);
            let addend = updates.addend(level, &hidden);
            linear::forward_layer(level, x, Layer { weights: &weight, bias: &[], updates: Some(&addend) })
        };
        let alone: Vec<f32> = (0..20).flat_map(|row| forward(row..row + 1)).collect();
        assert_eq!(forward(0..20), alone);
    }
}
