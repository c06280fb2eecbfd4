//! Softmax of attention scores with causal mask and dropout, and its backward pass; a row of scores per cube.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{
    dropout::{MaskArgument, factor},
    launch::{Geometry, contiguous, element, empty_operand},
    reduce::{cube_max, cube_sum},
};
use crate::gpu::kernels::ScoreChunk;

/// Sizes of a [`ScoreChunk`] and its mask as kernel arguments.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct ChunkArgument {
    /// B · H · R
    n_rows: usize,
    /// S'
    n_columns: usize,
    /// R
    n_queries: usize,
    /// T
    time: usize,
    /// The index of the first query.
    first: usize,
    /// The positions visible to it.
    n_visible: usize,
    scale: f32,
    mask: MaskArgument,
}

fn chunk_argument(n_rows: usize, n_columns: usize, chunk: ScoreChunk) -> ChunkArgumentLaunch {
    let ScoreChunk { n_rows: n_queries, first, time, n_before, scale, mask, .. } = chunk;
    let n_visible = n_before + first + 1;
    let mask = MaskArgument::launch(mask);
    ChunkArgumentLaunch::new(n_rows, n_columns, n_queries, time, first, n_visible, scale, mask)
}

/// The largest score of a row, and the sum of exp(scale · (score - largest)).
#[cube]
fn softmax_terms<I: Float>(
    scores: &[I],
    start: usize,
    n_visible: usize,
    scale: f32,
    shared: &mut Shared<[f32]>,
) -> (f32, f32) {
    let mut largest = f32::cast_from(scores[start]);
    let mut column = UNIT_POS as usize;
    while column < n_visible {
        largest = max(largest, f32::cast_from(scores[start + column]));
        column += CUBE_DIM as usize;
    }
    let largest = cube_max(largest, shared);
    let mut sum = f32::new(0.0);
    let mut column = UNIT_POS as usize;
    while column < n_visible {
        sum += (scale * (f32::cast_from(scores[start + column]) - largest)).exp();
        column += CUBE_DIM as usize;
    }
    (largest, cube_sum(sum, shared))
}

#[cube(launch)]
fn weights_kernel<I: Float, O: Float>(
    scores: &[I],
    weights: &mut [O],
    chunk: ChunkArgument,
    #[comptime] drops: bool,
    #[comptime] n_units: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= chunk.n_rows {
        terminate!();
    }
    let start = row * chunk.n_columns;
    let query = row % chunk.n_queries;
    let n_visible = chunk.n_visible + query;
    let mask_row = row / chunk.n_queries * chunk.time + chunk.first + query;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let (largest, sum) = softmax_terms::<I>(scores, start, n_visible, chunk.scale, &mut shared);
    let mut column = UNIT_POS as usize;
    while column < chunk.n_columns {
        let mut weight = f32::new(0.0);
        if column < n_visible {
            weight = (chunk.scale * (f32::cast_from(scores[start + column]) - largest)).exp() / sum;
            if drops {
                weight *= factor(&chunk.mask, mask_row, column);
            }
        }
        weights[start + column] = O::cast_from(weight);
        column += CUBE_DIM as usize;
    }
}

#[cube(launch)]
fn gradients_kernel<I: Float, O: Float>(
    scores: &[I],
    d_weights: &[I],
    weights: &mut [O],
    d_scores: &mut [O],
    chunk: ChunkArgument,
    #[comptime] drops: bool,
    #[comptime] n_units: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= chunk.n_rows {
        terminate!();
    }
    let start = row * chunk.n_columns;
    let query = row % chunk.n_queries;
    let n_visible = chunk.n_visible + query;
    let mask_row = row / chunk.n_queries * chunk.time + chunk.first + query;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let (largest, sum) = softmax_terms::<I>(scores, start, n_visible, chunk.scale, &mut shared);

    // The sum over keys of weight times its gradient.
    let mut products = f32::new(0.0);
    let mut column = UNIT_POS as usize;
    while column < n_visible {
        let weight = (chunk.scale * (f32::cast_from(scores[start + column]) - largest)).exp() / sum;
        let mut d_weight = f32::cast_from(d_weights[start + column]);
        if drops {
            d_weight *= factor(&chunk.mask, mask_row, column);
        }
        products += weight * d_weight;
        column += CUBE_DIM as usize;
    }
    let products = cube_sum(products, &mut shared);

    let mut column = UNIT_POS as usize;
    while column < chunk.n_columns {
        let mut weight = f32::new(0.0);
        let mut d_score = f32::new(0.0);
        if column < n_visible {
            weight = (chunk.scale * (f32::cast_from(scores[start + column]) - largest)).exp() / sum;
            let mut d_weight = f32::cast_from(d_weights[start + column]);
            let undropped = weight;
            if drops {
                let factor = factor(&chunk.mask, mask_row, column);
                d_weight *= factor;
                weight *= factor;
            }
            d_score = chunk.scale * undropped * (d_weight - products);
        }
        weights[start + column] = O::cast_from(weight);
        d_scores[start + column] = O::cast_from(d_score);
        column += CUBE_DIM as usize;
    }
}

/// The rows of scores, and their columns.
fn sizes(scores: &CubeTensor) -> [usize; 2] {
    let [batch, n_head, n_queries, n_columns] = scores.shape().dims();
    [batch * n_head * n_queries, n_columns]
}

pub(super) fn weights(scores: CubeTensor, chunk: ScoreChunk) -> CubeTensor {
    let scores = contiguous(scores);
    let [n_rows, n_columns] = sizes(&scores);
    let weights = empty_operand(&scores, scores.shape(), chunk.precision);
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_rows, n_columns);
    let (client, types) = (scores.client.clone(), [element(&scores), element(&weights)]);
    weights_kernel::launch(
        &client,
        cubes,
        cube,
        scores.into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        chunk_argument(n_rows, n_columns, chunk),
        chunk.mask.is_some(),
        n_units,
        types,
    );
    weights
}

pub(super) fn gradients(
    scores: CubeTensor,
    d_weights: CubeTensor,
    chunk: ScoreChunk,
) -> (CubeTensor, CubeTensor) {
    let [scores, d_weights] = [scores, d_weights].map(contiguous);
    let [n_rows, n_columns] = sizes(&scores);
    let [weights, d_scores] = [(); 2].map(|()| empty_operand(&scores, scores.shape(), chunk.precision));
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_rows, n_columns);
    let (client, types) = (scores.client.clone(), [element(&scores), element(&weights)]);
    gradients_kernel::launch(
        &client,
        cubes,
        cube,
        scores.into_buffer_arg(),
        d_weights.into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        d_scores.clone().into_buffer_arg(),
        chunk_argument(n_rows, n_columns, chunk),
        chunk.mask.is_some(),
        n_units,
        types,
    );
    (weights, d_scores)
}
