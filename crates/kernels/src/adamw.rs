//! The AdamW step.

use burn::{backend::Dispatch, prelude::*};
use cpu::AdamWStep;

use crate::{
    device::{is_fused, is_on_gpu},
    fused::InPlaceOps,
    gpu::GpuKernels,
};

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

/// [`adamw`] with a scale of the gradient that only the device knows; NaN skips the step.
///
/// # Shapes
///
/// - `scale`: `[1]`
/// - the others: all the same
pub fn adamw_on_device<const D: usize>(
    step: &AdamWStep,
    x: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    scale: Tensor<1>,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let shape = x.dims();
    let [first, second] = moments;
    let [x, gradient, first, second] = [x, gradient, first, second].map(|x| x.reshape([-1]).into_dispatch());
    let scale = scale.into_dispatch();
    let (x, first, second) = <Dispatch as GpuKernels>::adamw_step(x, gradient, first, second, scale, *step);
    let [x, first, second] = [x, first, second].map(|x| Tensor::<1>::from_dispatch(x).reshape(shape));
    (x, [first, second])
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

/// Number of partial sums in [`sum_of_all_squares`].
const N_SUMS: usize = 256;

/// [`sum_of_squares`] over several tensors.
///
/// # Shapes
///
/// - `flat`: the elements of each tensor, `[N]`
/// - output: `[1]`
pub fn sum_of_all_squares(flat: impl IntoIterator<Item = Tensor<1>>, device: &Device) -> Tensor<1> {
    let mut flat = flat.into_iter().peekable();
    if !flat.peek().is_some_and(is_on_gpu) {
        return flat.fold(Tensor::zeros([1], device), |sum, x| sum + sum_of_squares(x));
    }
    // One launch sums six tensors. Plain operations take three per tensor.
    let zero = Tensor::<1>::zeros([1], device).into_dispatch();
    let mut sums = Tensor::<1>::zeros([N_SUMS], device).into_dispatch();
    while flat.peek().is_some() {
        let mut next = || flat.next().map_or_else(|| zero.clone(), Tensor::into_dispatch);
        sums = <Dispatch as GpuKernels>::add_squares(sums, next(), next(), next(), next(), next(), next());
    }
    Tensor::<1>::from_dispatch(sums).sum()
}
