//! The optimizer's arithmetic.

use burn::{backend::Dispatch, prelude::*};

use crate::{device::is_fused, fused::InPlaceOps};

/// The numbers of one step of [`adamw`].
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
pub(crate) struct Factors {
    /// Of the parameters.
    pub(crate) keep: f32,
    /// Of the first moment: the learning rate, corrected for the moment's start at zero.
    pub(crate) rate: f32,
    /// Of the second moment: its correction.
    pub(crate) second: f32,
}

impl AdamWStep {
    #[expect(clippy::cast_possible_truncation, reason = "the factors of f32 numbers, computed in f64")]
    pub(crate) fn factors(&self) -> Factors {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.time);
        Factors {
            keep: (1.0 - self.learning_rate * f64::from(self.weight_decay)) as f32,
            rate: (self.learning_rate / correction(self.beta_1)) as f32,
            second: (1.0 / correction(self.beta_2)) as f32,
        }
    }
}

/// One step of [AdamW](https://arxiv.org/abs/1711.05101) (algorithm 2): with g the scaled gradient, m = β₁m + (1 - β₁)g,
/// v = β₂v + (1 - β₂)g², x = (1 - ηλ)x - η m̂ / (√v̂ + ε), where m̂ and v̂ are corrected for their start at zero.
///
/// Returns x and the two moments. Memory of theirs that nobody else holds is used again.
///
/// # Shapes
///
/// All alike.
pub fn adamw<const D: usize>(
    step: &AdamWStep,
    x: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [first, second] = moments;
    if is_fused(&x) && !x.device().is_autodiff() {
        let [x, gradient, first, second] = [x, gradient, first, second].map(Tensor::into_dispatch);
        let (x, first, second) = <Dispatch as InPlaceOps>::adamw(x, gradient, first, second, *step);
        return (Tensor::from_dispatch(x), [first, second].map(Tensor::from_dispatch));
    }
    let factors = step.factors();
    let gradient = gradient * step.gradient_scale;
    let first = first * step.beta_1 + gradient.clone() * (1.0 - step.beta_1);
    let second = second * step.beta_2 + gradient.square() * (1.0 - step.beta_2);
    let change = first.clone() / ((second.clone() * factors.second).sqrt() + step.epsilon);
    (x * factors.keep - change * factors.rate, [first, second])
}

/// The sum of the squares of all elements.
///
/// # Shapes
///
/// - output: `[1]`
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    if is_fused(&x) && !x.device().is_autodiff() {
        return Tensor::from_dispatch(<Dispatch as InPlaceOps>::sum_of_squares(x.into_dispatch()));
    }
    x.square().sum()
}
