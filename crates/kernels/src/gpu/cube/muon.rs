//! The parts of the Muon step before and after its matrix products.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, empty, reusable};

/// A unit for each element. A scale of NaN leaves the mean unchanged.
#[cube(launch)]
fn momentum_kernel(
    gradient: &[f32],
    mean: &mut [f32],
    ahead: &mut [f32],
    scale: &[f32],
    n: usize,
    momentum: f32,
) {
    let at = ABSOLUTE_POS;
    let scale = scale[0];
    if at < n {
        let mut after = mean[at];
        let mut next = after;
        if !scale.is_nan() {
            let new = gradient[at] * scale * (f32::new(1.0) - momentum);
            after = after * momentum + new;
            next = new + after * momentum;
        }
        mean[at] = after;
        ahead[at] = next;
    }
}

/// The mean, and the mean that looks a step ahead.
pub(super) fn momentum(
    gradient: CubeTensor,
    mean: CubeTensor,
    scale: CubeTensor,
    momentum: f32,
) -> (CubeTensor, CubeTensor) {
    let [gradient, scale] = [gradient, scale].map(contiguous);
    let mean = reusable(mean);
    let ahead = empty(&mean, mean.shape(), mean.dtype());
    let n = mean.shape().num_elements();
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let client = mean.client.clone();
    momentum_kernel::launch(
        &client,
        cubes,
        cube,
        gradient.into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        ahead.clone().into_buffer_arg(),
        scale.into_buffer_arg(),
        n,
        momentum,
    );
    (mean, ahead)
}

/// A unit for each element. A scale of NaN changes nothing.
#[cube(launch)]
fn move_kernel(x: &[f32], change: &[f32], moved: &mut [f32], scale: &[f32], n: usize, keep: f32) {
    let at = ABSOLUTE_POS;
    let scale = scale[0];
    if at < n {
        let mut value = x[at];
        if !scale.is_nan() {
            value = value * keep - change[at];
        }
        moved[at] = value;
    }
}

/// The weights after the decay and the change.
pub(super) fn moved(x: CubeTensor, change: CubeTensor, scale: CubeTensor, keep: f32) -> CubeTensor {
    let [x, change, scale] = [x, change, scale].map(contiguous);
    // The model still has the parameter.
    let moved = empty(&x, x.shape(), x.dtype());
    let n = x.shape().num_elements();
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let client = x.client.clone();
    move_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        change.into_buffer_arg(),
        moved.clone().into_buffer_arg(),
        scale.into_buffer_arg(),
        n,
        keep,
    );
    moved
}
