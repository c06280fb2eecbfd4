//! The AdamW step, with the moments in place.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cpu::{AdamWStep, adamw::Coefficients};
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, empty, reusable};

/// The coefficients of a step as kernel arguments.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct StepArgument {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
    correction: f32,
}

/// A unit for each element. A scale of NaN changes nothing.
#[cube(launch)]
fn step_kernel(
    x: &[f32],
    moved: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: &[f32],
    n: usize,
    step: StepArgument,
) {
    let at = ABSOLUTE_POS;
    let scale = scale[0];
    if at < n {
        let mut value = x[at];
        if !scale.is_nan() {
            let one = f32::new(1.0);
            let gradient = gradient[at] * scale;
            let mean = first[at] * step.beta_1 + gradient * (one - step.beta_1);
            let square = second[at] * step.beta_2 + gradient * gradient * (one - step.beta_2);
            let change = mean / ((square * step.correction).sqrt() + step.epsilon);
            first[at] = mean;
            second[at] = square;
            value = value * step.keep - change * step.rate;
        }
        moved[at] = value;
    }
}

/// The parameters and their moments after the step.
pub(super) fn step(
    x: CubeTensor,
    moments: [CubeTensor; 2],
    gradient: CubeTensor,
    scale: CubeTensor,
    step: &AdamWStep,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [first, second] = moments.map(reusable);
    let [x, gradient, scale] = [x, gradient, scale].map(contiguous);
    // The model still has the parameter.
    let moved = empty(&x, x.shape(), x.dtype());
    let n = x.shape().num_elements();
    let Coefficients { keep, rate, second: correction } = step.coefficients();
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let client = x.client.clone();
    step_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        moved.clone().into_buffer_arg(),
        first.clone().into_buffer_arg(),
        second.clone().into_buffer_arg(),
        gradient.into_buffer_arg(),
        scale.into_buffer_arg(),
        n,
        StepArgumentLaunch::new(step.beta_1, step.beta_2, step.epsilon, keep, rate, correction),
    );
    (moved, first, second)
}
