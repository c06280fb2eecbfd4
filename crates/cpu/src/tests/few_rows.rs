//! Products with a few rows: bitwise independence of other rows, and agreement with f64.

use super::{assert_close, multiply, random, transpose};
use crate::{Factor, SimdLevel, linear, matrix::Matrix, skinny};

/// A weight in both orientations.
struct Weight {
    rows: Vec<f32>,
    columns: Vec<f32>,
    n_inner: usize,
    n_cols: usize,
}

impl Weight {
    fn new(n_inner: usize, n_cols: usize) -> Self {
        let rows = random(n_inner * n_cols, 2);
        Self { columns: transpose(&rows, n_inner), rows, n_inner, n_cols }
    }

    fn by_rows(&self) -> Matrix<'_> {
        Matrix::new(&self.rows, self.n_inner, self.n_cols)
    }

    fn by_columns(&self) -> Matrix<'_> {
        Matrix::new(&self.columns, self.n_cols, self.n_inner).transposed()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Compares each row of products with several rows with the product of that row alone.
#[track_caller]
fn assert_rows_are_independent(n_inner: usize, n_cols: usize, counts: impl Iterator<Item = usize> + Clone) {
    let (a, weight) = (random(64 * n_inner, 1), Weight::new(n_inner, n_cols));
    let expected = multiply(&a, &weight.rows, [64, n_inner, n_cols]);
    // Sums of n terms below one, each rounded: the error grows with √n.
    let tolerance = 1e-6 * (n_inner as f64).sqrt();
    for level in SimdLevel::all() {
        for b in [weight.by_rows(), weight.by_columns()] {
            let row = |idx: usize| Matrix::new(&a[idx * n_inner..(idx + 1) * n_inner], 1, n_inner);
            let alone: Vec<f32> =
                (0..64).flat_map(|idx| linear::forward(level, row(idx), &[b.into()], &[])).collect();
            assert_close(level, &alone, &expected, tolerance);
            for n in counts.clone() {
                let together = linear::forward(level, Matrix::new(&a, n, n_inner), &[b.into()], &[]);
                assert!(
                    bits(&together) == bits(&alone[..n * n_cols]),
                    "{level:?}, {n} x {n_inner} x {n_cols}, by rows: {}",
                    b.is_row_major()
                );
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_rows() {
    // Neither size is a multiple of the vector lanes, and both are split over the cores.
    assert_rows_are_independent(203, 171, 1..=64);
}

#[test]
fn bits_do_not_depend_on_the_number_of_rows_for_odd_sizes() {
    let counts = [1, 2, 3, 5, 6, 7, 8, 9, 13, 64];
    for [n_inner, n_cols] in
        [[1, 1], [1, 70], [3, 5], [16, 16], [100, 1], [130, 2], [257, 3], [64, 33], [1025, 66], [2100, 19]]
    {
        assert_rows_are_independent(n_inner, n_cols, counts.into_iter());
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (n_inner, n_cols) = (333, 450);
    let (a, weight) = (random(64 * n_inner, 1), Weight::new(n_inner, n_cols));
    let on = |n_threads: usize, n_rows: usize, b: Matrix<'_>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            bits(&linear::forward(SimdLevel::best(), Matrix::new(&a, n_rows, n_inner), &[b.into()], &[]))
        })
    };
    for b in [weight.by_rows(), weight.by_columns()] {
        for n_rows in [1, 7, 8, 64] {
            let one = on(1, n_rows, b);
            assert!(one == on(2, n_rows, b) && one == on(5, n_rows, b));
        }
    }
}

#[test]
fn blocks_of_a_weight_give_the_columns_of_one_product() {
    let (n_inner, n_cols) = (301, 200);
    let (a, weight) = (random(65 * n_inner, 1), Weight::new(n_inner, n_cols));
    let (rows, columns) = (weight.by_rows(), weight.by_columns());
    let expected = multiply(&a, &weight.rows, [65, n_inner, n_cols]);
    let bias = random(n_cols, 3);
    for level in SimdLevel::all() {
        for n in [1, 2, 9, 64, 65] {
            let x = Matrix::new(&a, n, n_inner);
            for b in [rows, columns] {
                let blocks = [b.col_range(0..90), b.col_range(90..91), b.col_range(91..200)];
                let (one, several) = (
                    linear::forward(level, x, &[b.into()], &bias),
                    linear::forward(level, x, &blocks.map(Factor::from), &bias),
                );
                if n <= skinny::max_rows(level) {
                    assert!(bits(&one) == bits(&several), "{level:?}, {n} rows");
                } else {
                    let one: Vec<f64> = one.iter().map(|&x| f64::from(x)).collect();
                    assert_close(level, &several, &one, 2e-5);
                }
            }
            let mixed = [columns.col_range(0..90), rows.col_range(90..91), columns.col_range(91..200)];
            let y = linear::forward(level, x, &mixed.map(Factor::from), &[]);
            assert_close(level, &y, &expected[..n * n_cols], 2e-5);
        }
    }
}

#[test]
fn products_with_an_empty_dimension_are_empty_or_zero() {
    for [n, k, m] in [[0, 3, 5], [3, 0, 5], [3, 5, 0], [9, 0, 40], [9, 40, 0]] {
        let (a, b) = (random(n * k, 1), random(k * m, 2));
        for level in SimdLevel::all() {
            for b in [Matrix::new(&b, k, m), Matrix::new(&b, m, k).transposed()] {
                assert_eq!(skinny::product(level, Matrix::new(&a, n, k), &[b.into()]), vec![0.0; n * m]);
            }
        }
    }
}
