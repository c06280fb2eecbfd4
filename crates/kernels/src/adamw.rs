//! The AdamW step.

use burn::{backend::Dispatch, prelude::*};
use cpu::AdamWStep;

use crate::{device::is_fused, fused::InPlaceOps};

/// One step of [AdamW](https://arxiv.org/abs/1711.05101) (algorithm 2). With g the scaled gradient:
///
/// - m = β₁m + (1 - β₁)g
/// - v = β₂v + (1 - β₂)g²
/// - x = (1 - ηλ)x - η m̂ / (√v̂ + ε), where m̂ and v̂ are bias-corrected
///
/// Returns x and the two moments. Buffers that are not shared are reused.
///
/// # Shapes
///
/// All the same.
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
    let coefficients = step.coefficients();
    let gradient = gradient * step.gradient_scale;
    let first = first * step.beta_1 + gradient.clone() * (1.0 - step.beta_1);
    let second = second * step.beta_2 + gradient.square() * (1.0 - step.beta_2);
    let change = first.clone() / ((second.clone() * coefficients.second).sqrt() + step.epsilon);
    (x * coefficients.keep - change * coefficients.rate, [first, second])
}

/// The sum of squares of all elements.
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
