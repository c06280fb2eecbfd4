//! The optimizer's pass over parameters and gradients.

use super::{
    level::Level,
    math::sum,
    parallel::{self, Shared},
};
use crate::AdamWStep;

/// Numbers whose squares are added up together, whatever the number of cores.
const PIECE: usize = 1 << 15;

/// One step, in place: see [`adamw`](crate::adamw) for the formula.
pub(crate) fn step(
    level: Level,
    step: &AdamWStep,
    x: &mut [f32],
    gradient: &[f32],
    moments: [&mut [f32]; 2],
) {
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
pub(crate) fn sum_of_squares(level: Level, x: &[f32]) -> f64 {
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
pub(crate) fn scale(level: Level, x: &mut [f32], factor: f32) {
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
