//! The optimizer's pass over parameters and gradients.

use super::{
    math::sum,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Numbers whose squares are added up together, whatever the number of cores.
const PIECE: usize = 1 << 15;

/// The values of one step of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// How much the parameters move.
    pub learning_rate: f64,
    /// How much of the mean of gradients stays.
    pub beta_1: f32,
    /// How much of the mean of squared gradients stays.
    pub beta_2: f32,
    /// What is added to the root of the second.
    pub epsilon: f32,
    /// How much of themselves the parameters lose, times the learning rate.
    pub weight_decay: f32,
    /// Number of this step, from 1.
    pub time: i32,
    /// What the gradient is multiplied with before all else: below one where it is clipped.
    pub gradient_scale: f32,
}

/// What one step multiplies with.
pub struct Factors {
    /// Of the parameters.
    pub keep: f32,
    /// Of the first moment: the learning rate, corrected for the moment's start at zero.
    pub rate: f32,
    /// Of the second moment: its correction.
    pub second: f32,
}

impl AdamWStep {
    /// What one step multiplies with.
    #[expect(clippy::cast_possible_truncation, reason = "the factors of f32 numbers, computed in f64")]
    pub fn factors(&self) -> Factors {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.time);
        Factors {
            keep: (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32,
            rate: (self.learning_rate / correction(self.beta_1)) as f32,
            second: (1.0 / correction(self.beta_2)) as f32,
        }
    }
}

/// One step, in place: see `kernels::adamw` for the formula.
pub fn step(level: SimdLevel, step: &AdamWStep, x: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2]) {
    let n = gradient.len();
    assert_eq!(x.len(), n, "the parameter has another length than the gradient");
    let [first, second] = moments.map(|moment| {
        assert_eq!(moment.len(), n, "a moment has another length than the gradient");
        Shared::new(moment)
    });
    let AdamWStep { beta_1, beta_2, epsilon, gradient_scale, .. } = *step;
    let (x, factors) = (Shared::new(x), step.factors());
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
                    *x = *x * factors.keep - factors.rate * *m / ((*v * factors.second).sqrt() + epsilon);
                }
            },
        );
    });
}

/// The sum of the squares of all numbers.
pub fn sum_of_squares(level: SimdLevel, x: &[f32]) -> f64 {
    parallel::sum_pieces(x.len(), PIECE, |range| {
        let mut total = 0.0;
        level.vectorize(
            #[inline(always)]
            || {
                // Long sums of f32 lose digits; blocks of them are added up in f64.
                for block in x[range.clone()].chunks(1024) {
                    total += f64::from(sum(block, |x| x * x));
                }
            },
        );
        total
    })
}

/// Multiplies all numbers by a factor.
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
