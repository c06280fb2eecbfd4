//! The Muon step on the CPU.

use super::{
    gemm::{product, symmetric_product},
    matrix::Matrix,
    simd_level::SimdLevel,
};

/// The polynomial coefficients of each iteration, optimal for singular values from 0.004 on ([Amsel et al.,
/// 2025](https://arxiv.org/abs/2505.16932), algorithm 1, with its safety factor of 1.01). All iterations together bring
/// those to within 0.43 of 1, and multiply smaller ones by 106.
pub const COEFFICIENTS: [[f32; 3]; 3] = [
    [8.104_987, -22.625_27, 16.262_508],
    [3.917_418, -2.825_654, 0.524_796],
    [3.344_747, -2.508_083, 0.512_269],
];

/// Added to the Frobenius norm by which a matrix is divided.
pub const EPSILON: f32 = 1e-7;

/// The hyperparameters of one Muon step.
#[derive(Debug, Clone, PartialEq)]
pub struct MuonStep {
    pub learning_rate: f64,
    /// Decay rate of the mean of gradients.
    pub momentum: f32,
    /// Decoupled weight decay: multiplied by the learning rate.
    pub weight_decay: f32,
    /// Row counts of the stacked matrices that are orthogonalised separately, such as Q, K and V. They add up to all
    /// rows.
    pub heights: Vec<usize>,
    /// Multiplies the gradient first. Below 1 if the gradient is clipped.
    pub gradient_scale: f32,
}

impl MuonStep {
    /// The factor on the parameters, `1 - ηλ`.
    #[expect(clippy::cast_possible_truncation, reason = "a factor on f32 values, computed in f64")]
    pub fn keep(&self) -> f32 {
        (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32
    }

    /// The factor on the orthogonalised update of a matrix: `η · √max(1, n_out / n_in)`.
    #[expect(clippy::cast_possible_truncation, reason = "a factor on f32 values, computed in f64")]
    pub fn rate(&self, [n_out, n_in]: [usize; 2]) -> f32 {
        (self.learning_rate * (n_out as f64 / n_in as f64).max(1.0).sqrt()) as f32
    }
}

/// Performs one Muon step in place, on stacked matrices `[out, in]` with `n_in` columns.
pub fn step(
    level: SimdLevel,
    step: &MuonStep,
    n_in: usize,
    x: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
) {
    assert!(
        x.len() == gradient.len() && x.len() == mean.len(),
        "parameter, gradient and mean differ in size"
    );
    let (momentum, scale, keep) = (step.momentum, step.gradient_scale, step.keep());
    let (mut x, mut gradient, mut mean) = (x, gradient, mean);
    for &height in &step.heights {
        let size = height * n_in;
        let (part, part_of_gradient, part_of_mean);
        (part, x) = x.split_at_mut(size);
        (part_of_gradient, gradient) = gradient.split_at(size);
        (part_of_mean, mean) = mean.split_at_mut(size);
        let ahead = part_of_mean.iter_mut().zip(part_of_gradient).map(|(mean, gradient)| {
            let gradient = gradient * scale;
            *mean = *mean * momentum + gradient * (1.0 - momentum);
            gradient * (1.0 - momentum) + *mean * momentum
        });
        let change = orthogonal(level, &ahead.collect::<Vec<_>>(), height, n_in);
        let rate = step.rate([height, n_in]);
        for (x, change) in part.iter_mut().zip(change) {
            *x = *x * keep - change * rate;
        }
    }
}

/// Orthogonalises a row-major matrix: the result has the same singular vectors, and singular values near 1.
///
/// Each iteration multiplies X by a polynomial of the Gram matrix X·Xᵀ of its shorter side. These polynomials are
/// symmetric and commute, so up to rounding their products are symmetric too, and only half of each is computed. If X
/// is not square, the polynomials are multiplied with each other first, as small matrices, and X is multiplied once.
fn orthogonal(level: SimdLevel, x: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
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
    // The polynomial is symmetric, so a tall matrix is multiplied by it from the right.
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
        for coefficients in COEFFICIENTS {
            x = multiplied(&polynomial_of(level, &gram_of(&x), short, coefficients), &x);
        }
        return x;
    }
    let mut gram = gram_of(&x);
    let mut all: Option<Vec<f32>> = None;
    for (idx, coefficients) in COEFFICIENTS.into_iter().enumerate() {
        let polynomial = polynomial_of(level, &gram, short, coefficients);
        if idx + 1 < COEFFICIENTS.len() {
            gram = square(&polynomial, &square(&polynomial, &gram));
        }
        all = Some(all.map_or_else(|| polynomial.clone(), |all| square(&polynomial, &all)));
    }
    multiplied(&all.expect("there is an iteration"), &x)
}

/// `a + b · gram + c · gram²`.
fn polynomial_of(level: SimdLevel, gram: &[f32], n: usize, [a, b, c]: [f32; 3]) -> Vec<f32> {
    let square = Matrix::new(gram, n, n);
    symmetric_product(level, square, square, |row, values| {
        for (value, gram) in values.iter_mut().zip(&gram[row * n..]) {
            *value = *value * c + gram * b;
        }
        values[row] += a;
    })
}
