//! AdamW: one pass over parameters, gradients and moments.

use super::{
    math::sum,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Elements per partial sum. It is fixed, so that a sum does not depend on the number of cores.
const PIECE: usize = 1 << 15;

/// The hyperparameters of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta_1: f32,
    /// Decay rate of the second moment.
    pub beta_2: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay: multiplied by the learning rate.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub time: i32,
    /// Multiplies the gradient first. Below 1 if the gradient is clipped.
    pub gradient_scale: f32,
}

/// The coefficients of one AdamW step.
pub struct Coefficients {
    /// Multiplies the parameters.
    pub keep: f32,
    /// Multiplies the first moment: the learning rate with bias correction.
    pub rate: f32,
    /// Multiplies the second moment: its bias correction.
    pub second: f32,
}

impl AdamWStep {
    /// The coefficients of this step.
    #[expect(clippy::cast_possible_truncation, reason = "f32 coefficients, computed in f64")]
    pub fn coefficients(&self) -> Coefficients {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.time);
        Coefficients {
            keep: (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32,
            rate: (self.learning_rate / correction(self.beta_1)) as f32,
            second: (1.0 / correction(self.beta_2)) as f32,
        }
    }
}

/// Performs one AdamW step in place; `kernels::adamw` has the formula.
pub fn step(level: SimdLevel, step: &AdamWStep, x: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2]) {
    let n = gradient.len();
    assert_eq!(x.len(), n, "parameter and gradient differ in length");
    let [first, second] = moments.map(|moment| {
        assert_eq!(moment.len(), n, "moment and gradient differ in length");
        Shared::new(moment)
    });
    let AdamWStep { beta_1, beta_2, epsilon, gradient_scale, .. } = *step;
    let (x, coefficients) = (Shared::new(x), step.coefficients());
    parallel::pieces(n, 16, 4, |range| {
        // SAFETY: pieces do not overlap.
        let (x, m, v) =
            unsafe { (x.part(range.clone()), first.part(range.clone()), second.part(range.clone())) };
        let g = &gradient[range];
        level.vectorize(
            #[inline(always)]
            || {
                for (((x, m), v), g) in x.iter_mut().zip(&mut *m).zip(&mut *v).zip(g) {
                    let g = gradient_scale * g;
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    let change = coefficients.rate * *m / ((*v * coefficients.second).sqrt() + epsilon);
                    *x = *x * coefficients.keep - change;
                }
            },
        );
    });
}

/// The sum of squares of all elements.
pub fn sum_of_squares(level: SimdLevel, x: &[f32]) -> f64 {
    parallel::sum_pieces(x.len(), PIECE, |range| {
        let mut total = 0.0;
        level.vectorize(
            #[inline(always)]
            || {
                // Long f32 sums lose precision, so sums of blocks are accumulated in f64.
                for block in x[range.clone()].chunks(1024) {
                    total += f64::from(sum(block, |x| x * x));
                }
            },
        );
        total
    })
}

/// Multiplies all elements by `factor`.
pub fn scale(level: SimdLevel, x: &mut [f32], factor: f32) {
    let shared = Shared::new(x);
    parallel::pieces(shared.len(), 16, 1, |range| {
        // SAFETY: pieces do not overlap.
        let x = unsafe { shared.part(range) };
        level.vectorize(
            #[inline(always)]
            || {
                for x in &mut *x {
                    *x *= factor;
                }
            },
        );
    });
}
