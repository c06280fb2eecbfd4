//! Products with quantised weights, on all instructions of this machine, compared with f64 products of the unpacked
//! weights.

use proptest::prelude::*;
use quant::Format;

use super::{multiply, random, transpose};
use crate::{
    Factor, QuantRows, SimdLevel,
    cross_entropy::{self, Gradients},
    linear,
    matrix::Matrix,
};

/// A weight `[n_out, n_in]` with random blocks.
struct Weight {
    bytes: Vec<u8>,
    /// The unpacked values.
    values: Vec<f32>,
    format: Format,
    dims: [usize; 2],
}

impl Weight {
    /// Blocks of random bytes, with `scale` in each half-precision field.
    fn new(format: Format, [n_out, n_in]: [usize; 2], scale: f32, seed: u64) -> Self {
        let random = random(n_out * format.row_bytes(n_in), seed);
        let mut bytes: Vec<u8> = random.iter().map(|x| (x * 128.0) as i8 as u8).collect();
        let scale = half::f16::from_f32(scale);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            match format {
                Format::F16 => {
                    block.copy_from_slice(&half::f16::from_f32(f32::from(block[0]) - 128.0).to_le_bytes())
                }
                Format::BF16 => block[1] = 0x3F ^ block[1] & 0x80,
                Format::Q6K => block[208..].copy_from_slice(&scale.to_le_bytes()),
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => {
                    block[..2].copy_from_slice(&scale.to_le_bytes())
                }
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => {
                    block[..2].copy_from_slice(&scale.to_le_bytes());
                    block[2..4].copy_from_slice(&(-scale).to_le_bytes());
                }
            }
        }
        Self::of(bytes, format, [n_out, n_in])
    }

    fn of(bytes: Vec<u8>, format: Format, dims: [usize; 2]) -> Self {
        let mut values = vec![0.0; dims[0] * dims[1]];
        format.unpack(&bytes, &mut values);
        Self { bytes, values, format, dims }
    }

    fn rows(&self) -> QuantRows<'_> {
        QuantRows::new(&self.bytes, self.format, self.dims)
    }

    fn is_integer(&self) -> bool {
        !matches!(self.format, Format::F16 | Format::BF16)
    }

    /// `x · wᵀ`, and a bound of the error of each output.
    fn product(&self, x: &[f32], n_rows: usize) -> (Vec<f64>, Vec<f64>) {
        let [n_out, n_in] = self.dims;
        let exact = multiply(x, &transpose(&self.values, n_out), [n_rows, n_in, n_out]);
        let bounds = (0..n_rows * n_out).map(|idx| {
            let (x, w) = (&x[idx / n_out * n_in..][..n_in], &self.values[idx % n_out * n_in..][..n_in]);
            let blocks = x.chunks(32).zip(w.chunks(32)).map(|(x, w)| {
                let sum = |values: &[f32]| values.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                // Half a step of each activation, and rounding in f32.
                let step = if self.is_integer() { f64::from(largest) / 127.0 } else { 0.0 };
                // Offsets are up to 32 times as large as the values they leave.
                let rounding = 1e-5 * f64::from(largest) * sum(w);
                sum(w) * step * 0.501 + rounding
            });
            blocks.sum::<f64>() + 1e-30
        });
        (exact, bounds.collect())
    }
}

fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::all().into_iter().flat_map(SimdLevel::with_each_int8)
}

#[track_caller]
fn assert_within(found: &[f32], expected: &[f64], bounds: &[f64], what: impl Fn() -> String) {
    assert_eq!(found.len(), expected.len());
    for (idx, ((&found, &expected), &bound)) in found.iter().zip(expected).zip(bounds).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= bound, "{}, {idx}: {found} is not {expected} within {bound}", what());
    }
}

fn multiple(format: Format, n: usize) -> usize {
    n.next_multiple_of(format.block_len())
}

#[test]
fn products_agree_with_unpacked_weights() {
    for format in Format::ALL {
        for [n_out, n_in] in [[1, 1], [3, 32], [17, 300], [40, 576], [35, 1100]] {
            let n_in = multiple(format, n_in);
            let w = Weight::new(format, [n_out, n_in], 0.01, 1);
            for n_rows in [1, 2, 3, 7, 8, 64, 66] {
                let x = random(n_rows * n_in, 2);
                let (expected, bounds) = w.product(&x, n_rows);
                for level in levels() {
                    let y = linear::forward(
                        level,
                        Matrix::new(&x, n_rows, n_in),
                        &[Factor::Transposed(w.rows())],
                        &[],
                    );
                    let what = || format!("{level:?}, {format}, {n_rows} x {n_in} x {n_out}");
                    assert_within(&y, &expected, &bounds, what);
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_rows() {
    for format in Format::ALL {
        let (n_out, n_in) = (37, multiple(format, 608));
        let w = Weight::new(format, [n_out, n_in], 0.02, 3);
        let x = random(64 * n_in, 4);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        for level in levels() {
            let product = |rows: std::ops::Range<usize>| {
                let x = Matrix::new(&x[rows.start * n_in..rows.end * n_in], rows.len(), n_in);
                bits(linear::forward(level, x, &[Factor::Transposed(w.rows())], &[]))
            };
            let alone: Vec<u32> = (0..64).flat_map(|row| product(row..row + 1)).collect();
            for n in [2, 3, 4, 5, 6, 7, 8, 13, 64] {
                assert!(product(0..n) == alone[..n * n_out], "{level:?}, {format}, {n} rows");
            }
        }
    }
}

#[test]
fn formats_may_be_mixed_in_one_product() {
    let n_in = 512;
    let dense = random(19 * n_in, 5);
    let weights =
        [Format::Q4K, Format::Q8_0, Format::F16].map(|format| Weight::new(format, [21, n_in], 0.01, 6));
    for n_rows in [1, 5, 70] {
        let x = random(n_rows * n_in, 7);
        let input = Matrix::new(&x, n_rows, n_in);
        for level in levels() {
            let [first, second, third] = weights.each_ref().map(|w| Factor::Transposed(w.rows()));
            let dense = Factor::from(Matrix::new(&dense, 19, n_in).transposed());
            let factors = [first, dense, second, third];
            let together = linear::forward(level, input, &factors, &[]);
            let parts = factors.map(|factor| linear::forward(level, input, &[factor], &[]));
            let mut joined = Vec::new();
            for row in 0..n_rows {
                for part in &parts {
                    let width = part.len() / n_rows;
                    joined.extend(&part[row * width..(row + 1) * width]);
                }
            }
            assert_eq!(together, joined, "{level:?}, {n_rows} rows");
        }
    }
}

#[test]
fn extreme_scales_stay_within_the_bound() {
    for format in Format::ALL {
        let n_in = multiple(format, 320);
        for scale in [65504.0, 6e-8, 0.0, -1.5] {
            let w = Weight::new(format, [5, n_in], scale, 8);
            for factor in [1e20, 1.0, 1e-20, 1e-36, 0.0] {
                let x: Vec<f32> = random(3 * n_in, 9).iter().map(|x| x * factor).collect();
                let (expected, mut bounds) = w.product(&x, 3);
                // Activations too small for a scale become zeros.
                let sum: f64 = w.values.iter().map(|x| f64::from(x.abs())).sum();
                bounds.iter_mut().for_each(|bound| *bound += 2e-36 * sum);
                for level in levels() {
                    let y = linear::forward(
                        level,
                        Matrix::new(&x, 3, n_in),
                        &[Factor::Transposed(w.rows())],
                        &[],
                    );
                    assert_within(&y, &expected, &bounds, || {
                        format!("{level:?}, {format}, {scale}, {factor}")
                    });
                }
            }
        }
    }
}

#[test]
fn the_largest_integers_do_not_saturate() {
    for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
        let n_in = 256;
        for byte in [0x00, 0x7F, 0x80, 0xFF] {
            let mut w = Weight::new(format, [2, n_in], 0.5, 1).bytes;
            let fields = match format {
                Format::Q6K => 192..w.len() / 2,
                Format::Q4_1 | Format::Q5_1 => 0..4,
                Format::Q4K | Format::Q5K => 0..16,
                _ => 0..2,
            };
            for block in w.chunks_exact_mut(format.block_bytes()) {
                for (idx, value) in block.iter_mut().enumerate() {
                    if !fields.contains(&idx) {
                        *value = byte;
                    }
                }
            }
            let w = Weight::of(w, format, [2, n_in]);
            for x in [1.0, -1.0] {
                let x = vec![x; n_in];
                let (expected, bounds) = w.product(&x, 1);
                for level in levels() {
                    let y = linear::forward(
                        level,
                        Matrix::new(&x, 1, n_in),
                        &[Factor::Transposed(w.rows())],
                        &[],
                    );
                    assert_within(&y, &expected, &bounds, || {
                        format!("{level:?}, {format}, {byte}, {}", x[0])
                    });
                }
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_do_not_disappear() {
    for format in Format::ALL {
        let n_in = multiple(format, 256);
        let w = Weight::new(format, [4, n_in], 0.01, 10);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = random(2 * n_in, 11);
            x[n_in + 100] = bad;
            for level in levels() {
                let y =
                    linear::forward(level, Matrix::new(&x, 2, n_in), &[Factor::Transposed(w.rows())], &[]);
                assert!(y[..4].iter().all(|y| y.is_finite()), "{level:?}, {format}");
                assert!(y[4..].iter().all(|y| !y.is_finite()), "{level:?}, {format}");
            }
        }
    }
}

#[test]
fn the_gradient_of_the_input_agrees_with_unpacked_weights() {
    for format in Format::ALL {
        let (n_out, n_in) = (70, multiple(format, 544));
        let w = Weight::new(format, [n_out, n_in], 0.01, 12);
        for n_rows in [1, 9, 70] {
            let d_y = random(n_rows * n_out, 13);
            let expected = multiply(&d_y, &w.values, [n_rows, n_out, n_in]);
            let largest = w.values.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            for level in levels() {
                let d_y = Matrix::new(&d_y, n_rows, n_out);
                let d_x = linear::backward_input(level, &[Factor::Transposed(w.rows())], d_y, None);
                // Sums of 70 products of at most `largest`, each rounded.
                let bounds = vec![1e-5 * f64::from(largest); d_x.len()];
                assert_within(&d_x, &expected, &bounds, || format!("{level:?}, {format}, {n_rows} rows"));
            }
        }
    }
}

/// The weight is unpacked in two pieces, and its products are in f32.
#[test]
fn the_loss_of_a_quantised_head_agrees_with_the_unpacked_head() {
    let (n_vocab, width, targets) = (4001, 544, [0, 4000, 17, 3999, 17]);
    let w = Weight::new(Format::Q8_0, [n_vocab, width], 0.001, 14);
    let hidden = random(targets.len() * width, 15);
    let loss = |weight: Factor<'_>| {
        cross_entropy::loss(SimdLevel::best(), &hidden, &[weight], &targets, None, Gradients::Hidden)
    };
    let expected = loss(Matrix::new(&w.values, n_vocab, width).transposed().into());
    let found = loss(Factor::Transposed(w.rows()));
    assert!((found.value - expected.value).abs() < 1e-5 * expected.value);
    let [expected, found] = [expected, found].map(|loss| loss.d_hidden.expect("gradients were requested"));
    // Sums of 4001 products of at most 0.13, whose weights sum to two fifths.
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    assert!(expected.iter().any(|d| d.abs() > 1e-3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No bytes panic, and none with finite scales give NaN.
    #[test]
    fn any_bytes_are_multiplied(
        format in prop::sample::select(&Format::ALL[..]),
        n_out in 1_usize..4,
        n_blocks in 1_usize..10,
        seed in any::<u64>(),
    ) {
        let n_in = n_blocks * format.block_len();
        let random_bytes: Vec<u8> =
            random(n_out * format.row_bytes(n_in), seed).iter().map(|x| (x * 128.0) as i8 as u8).collect();
        let w = Weight::of(random_bytes, format, [n_out, n_in]);
        let x = random(3 * n_in, seed ^ 1);
        // Sums of larger bf16 values may overflow.
        let rows = |values: &[f32]| values.chunks_exact(n_in).map(|row| row.iter().all(|x| x.abs() < 1e35)).collect::<Vec<_>>();
        let is_finite = rows(&w.values);
        for level in levels() {
            let y = linear::forward(level, Matrix::new(&x, 3, n_in), &[Factor::Transposed(w.rows())], &[]);
            for (output, is_finite) in is_finite.iter().enumerate() {
                let found = (0..3).all(|row| y[row * n_out + output].is_finite());
                prop_assert!(!is_finite || found, "{level:?}, {format}");
            }
        }
    }
}
