//! Muon's step on the CPU, with products by `gemm`.

use super::{
    gemm::{product, symmetric_product},
    level::Level,
    matrix::Matrix,
};
use crate::muon::{EPSILON, FACTORS, MuonStep};

/// One step, on matrices of `n_columns` columns.
pub(crate) fn step(
    level: Level,
    step: &MuonStep,
    n_columns: usize,
    x: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
) {
    assert!(x.len() == gradient.len() && x.len() == mean.len(), "all are of one size");
    let n_rows = x.len() / n_columns.max(1);
    let (momentum, scale, keep) = (step.momentum, step.gradient_scale, step.keep());
    let mut first = 0;
    for &width in &step.widths {
        let rate = step.rate([n_rows, width]);
        let mut ahead = vec![0.0; n_rows * width];
        let columns = |row: usize| row * n_columns + first..row * n_columns + first + width;
        for (row, ahead) in ahead.chunks_exact_mut(width).enumerate() {
            let (gradient, mean) = (&gradient[columns(row)], &mut mean[columns(row)]);
            for ((ahead, mean), gradient) in ahead.iter_mut().zip(mean).zip(gradient) {
                let gradient = gradient * scale;
                *mean = *mean * momentum + gradient * (1.0 - momentum);
                *ahead = gradient * (1.0 - momentum) + *mean * momentum;
            }
        }
        let change = orthogonal(level, &ahead, n_rows, width);
        for (row, change) in change.chunks_exact(width).enumerate() {
            for (x, change) in x[columns(row)].iter_mut().zip(change) {
                *x = *x * keep - *change * rate;
            }
        }
        first += width;
    }
}

/// The matrix with the same singular vectors, and singular values near one. Its rows lie one after another.
///
/// The iteration multiplies X by polynomials of the Gram matrix X·Xᵀ of its shorter side. These are symmetric, and so but for
/// rounding are their products with one another, since they commute: half of each of them is made. For a long matrix the product of them all is made from the small
/// matrices alone, and X is multiplied once.
fn orthogonal(level: Level, x: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "matrices are f32")]
    let factor = 1.0 / (norm as f32 + EPSILON);
    let is_tall = n_rows > n_columns;
    let (short, long) = if is_tall { (n_columns, n_rows) } else { (n_rows, n_columns) };
    let square = |values: &[f32], other: &[f32]| {
        symmetric_product(
            level,
            Matrix::new(values, short, short),
            Matrix::new(other, short, short),
            |_, _| {},
        )
    };
    let gram_of = |x: &[f32]| {
        let x = if is_tall { Matrix::new(x, long, short).transposed() } else { Matrix::new(x, short, long) };
        symmetric_product(level, x, x.transposed(), |_, _| {})
    };
    // It is symmetric, so a tall matrix is multiplied by it from the right.
    let multiplied = |polynomial: &[f32], x: &[f32]| {
        let polynomial = Matrix::new(polynomial, short, short);
        if is_tall {
            product(level, Matrix::new(x, long, short), polynomial, |_, _| {})
        } else {
            product(level, polynomial, Matrix::new(x, short, long), |_, _| {})
        }
    };
    let mut x: Vec<f32> = x.iter().map(|x| x * factor).collect();
    if long == short {
        for factors in FACTORS {
            x = multiplied(&polynomial_of(level, &gram_of(&x), short, factors), &x);
        }
        return x;
    }
    let mut gram = gram_of(&x);
    let mut all: Option<Vec<f32>> = None;
    for (idx, factors) in FACTORS.into_iter().enumerate() {
        let polynomial = polynomial_of(level, &gram, short, factors);
        if idx + 1 < FACTORS.len() {
            gram = square(&polynomial, &square(&polynomial, &gram));
        }
        all = Some(all.map_or_else(|| polynomial.clone(), |all| square(&polynomial, &all)));
    }
    multiplied(&all.expect("there is an iteration"), &x)
}

/// `a + b · gram + c · gram²`.
fn polynomial_of(level: Level, gram: &[f32], n: usize, [a, b, c]: [f32; 3]) -> Vec<f32> {
    let square = Matrix::new(gram, n, n);
    symmetric_product(level, square, square, |row, values| {
        for (value, gram) in values.iter_mut().zip(&gram[row * n..]) {
            *value = *value * c + gram * b;
        }
        values[row] += a;
    })
}
