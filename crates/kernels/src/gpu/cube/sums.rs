//! Sums of squares, and weighted sums.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{
    launch::{Geometry, contiguous, empty},
    reduce::cube_sum,
};

/// A cube for each partial sum. `n` are the lengths of the tensors.
#[cube(launch)]
fn squares_kernel(
    sums: &[f32],
    tensors: &Sequence<Box<[f32]>>,
    out: &mut [f32],
    n: &Sequence<usize>,
    #[comptime] n_units: usize,
) {
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let mut sum = f32::new(0.0);
    #[unroll]
    for idx in 0..tensors.len() {
        let x = tensors.index(idx);
        let mut at = ABSOLUTE_POS;
        while at < *n.index(idx) {
            sum += x[at] * x[at];
            at += CUBE_COUNT * CUBE_DIM as usize;
        }
    }
    let sum = cube_sum(sum, &mut shared);
    if UNIT_POS == 0 {
        out[CUBE_POS] = sums[CUBE_POS] + sum;
    }
}

pub(super) fn add_squares<const N: usize>(sums: CubeTensor, tensors: [CubeTensor; N]) -> CubeTensor {
    let (sums, tensors) = (contiguous(sums), tensors.map(contiguous));
    let [n_sums] = sums.shape().dims();
    let out = empty(&sums, sums.shape(), sums.dtype());
    let n = tensors.each_ref().map(|x| x.shape().num_elements());
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_sums, n.into_iter().max().unwrap_or(0));
    let client = sums.client.clone();
    squares_kernel::launch(
        &client,
        cubes,
        cube,
        sums.into_buffer_arg(),
        tensors.map(CubeTensor::into_buffer_arg).into_iter().collect(),
        out.clone().into_buffer_arg(),
        n.into_iter().collect(),
        n_units,
    );
    out
}

#[cube(launch)]
fn weighted_kernel(x: &[f32], y: &[f32], out: &mut [f32], n: usize, a: f32, b: f32) {
    let at = ABSOLUTE_POS;
    if at < n {
        out[at] = a * x[at] + b * y[at];
    }
}

pub(super) fn weighted(x: CubeTensor, a: f32, y: CubeTensor, b: f32) -> CubeTensor {
    let [x, y] = [x, y].map(contiguous);
    let out = empty(&x, x.shape(), x.dtype());
    let n = x.shape().num_elements();
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let client = x.client.clone();
    weighted_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        y.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n,
        a,
        b,
    );
    out
}
