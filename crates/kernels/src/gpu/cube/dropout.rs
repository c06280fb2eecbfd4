//! Dropout with the masks of [`cpu::dropout`], which are computed from rows and columns.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cpu::{
    Precision,
    dropout::{MIX, MIX_LAST, Mask},
};
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, element, empty, empty_operand};

/// A mask as kernel arguments.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct MaskArgument {
    seed_low: u32,
    seed_high: u32,
    first_row: u32,
    threshold: u32,
    scale: f32,
}

impl MaskArgument {
    /// The arguments; a mask that keeps all elements if there is none.
    pub(super) fn launch(mask: Option<Mask>) -> MaskArgumentLaunch {
        let Mask { seed: [low, high], first_row, threshold, scale } =
            mask.unwrap_or(Mask { seed: [0; 2], first_row: 0, threshold: 0, scale: 1.0 });
        #[expect(clippy::cast_possible_truncation, reason = "the hash of a row uses the low bits")]
        MaskArgumentLaunch::new(low, high, first_row as u32, threshold, scale)
    }
}

/// The factor of an element: 0, or the scale of the mask.
#[cube]
pub(super) fn factor(mask: &MaskArgument, row: usize, column: usize) -> f32 {
    let key = mix(mix((u32::cast_from(row) + mask.first_row) ^ mask.seed_low) ^ mask.seed_high);
    let is_kept = mix(u32::cast_from(column) ^ key) >= mask.threshold;
    select(is_kept, mask.scale, f32::new(0.0))
}

/// The hash of [`cpu::dropout`]; products wrap around.
#[cube]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> comptime!(MIX[0].0))) * comptime!(MIX[0].1);
    let x = (x ^ (x >> comptime!(MIX[1].0))) * comptime!(MIX[1].1);
    x ^ (x >> comptime!(MIX_LAST))
}

#[cube(launch)]
fn drop_kernel<O: Float>(
    x: &[f32],
    out: &mut [O],
    n: usize,
    n_columns: usize,
    mask: MaskArgument,
    #[define(O)] _type: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < n {
        out[at] = O::cast_from(x[at] * factor(&mask, at / n_columns, at % n_columns));
    }
}

pub(super) fn drop_elements(x: CubeTensor, mask: Mask, precision: Precision) -> CubeTensor {
    let x = contiguous(x);
    let (n, n_columns) = (x.shape().num_elements(), x.shape()[1]);
    let out = empty_operand(&x, x.shape(), precision);
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let (client, element) = (x.client.clone(), element(&out));
    drop_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n,
        n_columns,
        MaskArgument::launch(Some(mask)),
        element,
    );
    out
}

#[cube(launch)]
fn add_kernel(x: &[f32], residual: &[f32], out: &mut [f32], n: usize, n_columns: usize, mask: MaskArgument) {
    let at = ABSOLUTE_POS;
    if at < n {
        out[at] = residual[at] + x[at] * factor(&mask, at / n_columns, at % n_columns);
    }
}

pub(super) fn add_dropped(x: CubeTensor, residual: CubeTensor, mask: Mask) -> CubeTensor {
    let [x, residual] = [x, residual].map(contiguous);
    let (n, n_columns) = (x.shape().num_elements(), x.shape()[1]);
    let out = empty(&x, x.shape(), x.dtype());
    let Geometry { cubes, cube, .. } = Geometry::elements(n);
    let client = x.client.clone();
    add_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        residual.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n,
        n_columns,
        MaskArgument::launch(Some(mask)),
    );
    out
}
