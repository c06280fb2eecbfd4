//! Softmax of attention scores with causal mask, documents and dropout, and its backward pass; a row of scores per cube.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{
    dropout::{MaskArgument, factor},
    launch::{Geometry, contiguous, element, empty_operand, present},
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
    /// H
    n_head: usize,
    /// R
    n_queries: usize,
    /// T
    time: usize,
    /// The index of the first query.
    first: usize,
    /// The positions that it sees, without starts.
    n_seen: usize,
    scale: f32,
    mask: MaskArgument,
}

fn chunk_argument([batch, n_head, _, n_columns]: [usize; 4], chunk: ScoreChunk) -> ChunkArgumentLaunch {
    let ScoreChunk { n_rows: n_queries, first, time, n_before, scale, mask, .. } = chunk;
    let (n_rows, n_seen) = (batch * n_head * n_queries, n_before + first + 1);
    let mask = MaskArgument::launch(mask);
    ChunkArgumentLaunch::new(n_rows, n_columns, n_head, n_queries, time, first, n_seen, scale, mask)
}

/// A row of scores.
#[derive(CubeType, Clone, Copy)]
struct ScoreRow {
    /// Its first element.
    start: usize,
    /// The first visible column.
    first: usize,
    /// The end of the visible columns.
    end: usize,
    /// Its row of the mask.
    mask_row: usize,
}

#[cube]
fn score_row(row: usize, starts: &ComptimeOption<Box<[f32]>>, chunk: &ChunkArgument) -> ScoreRow {
    let query = row % chunk.n_queries;
    let head = row / chunk.n_queries;
    let position = chunk.first + query;
    let mut first = 0;
    #[comptime]
    if let ComptimeOption::Some(starts) = starts {
        first = u32::cast_from(starts[head / chunk.n_head * chunk.time + position]) as usize;
    }
    ScoreRow {
        start: row * chunk.n_columns,
        first,
        end: chunk.n_seen + query,
        mask_row: head * chunk.time + position,
    }
}

/// The largest score of a row, and the sum of exp(scale · (score - largest)).
#[cube]
fn softmax_terms<I: Float>(
    scores: &[I],
    row: &ScoreRow,
    scale: f32,
    shared: &mut Shared<[f32]>,
) -> (f32, f32) {
    let mut largest = f32::cast_from(scores[row.start + row.first]);
    let mut column = row.first + UNIT_POS as usize;
    while column < row.end {
        largest = max(largest, f32::cast_from(scores[row.start + column]));
        column += CUBE_DIM as usize;
    }
    let largest = cube_max(largest, shared);
    let mut sum = f32::new(0.0);
    let mut column = row.first + UNIT_POS as usize;
    while column < row.end {
        sum += (scale * (f32::cast_from(scores[row.start + column]) - largest)).exp();
        column += CUBE_DIM as usize;
    }
    (largest, cube_sum(sum, shared))
}

#[cube(launch)]
fn weights_kernel<I: Float, O: Float>(
    scores: &[I],
    starts: &ComptimeOption<Box<[f32]>>,
    weights: &mut [O],
    chunk: ChunkArgument,
    #[comptime] drops: bool,
    #[comptime] n_units: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    if CUBE_POS >= chunk.n_rows {
        terminate!();
    }
    let row = score_row(CUBE_POS, starts, &chunk);
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let (largest, sum) = softmax_terms::<I>(scores, &row, chunk.scale, &mut shared);
    let mut column = UNIT_POS as usize;
    while column < chunk.n_columns {
        let mut weight = f32::new(0.0);
        if column >= row.first && column < row.end {
            weight = (chunk.scale * (f32::cast_from(scores[row.start + column]) - largest)).exp() / sum;
            if drops {
                weight *= factor(&chunk.mask, row.mask_row, column);
            }
        }
        weights[row.start + column] = O::cast_from(weight);
        column += CUBE_DIM as usize;
    }
}

#[cube(launch)]
fn gradients_kernel<I: Float, O: Float>(
    scores: &[I],
    d_weights: &[I],
    starts: &ComptimeOption<Box<[f32]>>,
    weights: &mut [O],
    d_scores: &mut [O],
    chunk: ChunkArgument,
    #[comptime] drops: bool,
    #[comptime] n_units: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    if CUBE_POS >= chunk.n_rows {
        terminate!();
    }
    let row = score_row(CUBE_POS, starts, &chunk);
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let (largest, sum) = softmax_terms::<I>(scores, &row, chunk.scale, &mut shared);

    // The sum over keys of weight times its gradient.
    let mut products = f32::new(0.0);
    let mut column = row.first + UNIT_POS as usize;
    while column < row.end {
        let weight = (chunk.scale * (f32::cast_from(scores[row.start + column]) - largest)).exp() / sum;
        let mut d_weight = f32::cast_from(d_weights[row.start + column]);
        if drops {
            d_weight *= factor(&chunk.mask, row.mask_row, column);
        }
        products += weight * d_weight;
        column += CUBE_DIM as usize;
    }
    let products = cube_sum(products, &mut shared);

    let mut column = UNIT_POS as usize;
    while column < chunk.n_columns {
        let mut weight = f32::new(0.0);
        let mut d_score = f32::new(0.0);
        if column >= row.first && column < row.end {
            weight = (chunk.scale * (f32::cast_from(scores[row.start + column]) - largest)).exp() / sum;
            let mut d_weight = f32::cast_from(d_weights[row.start + column]);
            let undropped = weight;
            if drops {
                let factor = factor(&chunk.mask, row.mask_row, column);
                d_weight *= factor;
                weight *= factor;
            }
            d_score = chunk.scale * undropped * (d_weight - products);
        }
        weights[row.start + column] = O::cast_from(weight);
        d_scores[row.start + column] = O::cast_from(d_score);
        column += CUBE_DIM as usize;
    }
}

pub(super) fn weights(scores: CubeTensor, starts: CubeTensor, chunk: ScoreChunk) -> CubeTensor {
    let scores = contiguous(scores);
    let shape: [usize; 4] = scores.shape().dims();
    let weights = empty_operand(&scores, scores.shape(), chunk.precision);
    let Geometry { cubes, cube, n_units } = Geometry::rows(shape[..3].iter().product(), shape[3]);
    let (client, types) = (scores.client.clone(), [element(&scores), element(&weights)]);
    weights_kernel::launch(
        &client,
        cubes,
        cube,
        scores.into_buffer_arg(),
        present(starts, chunk.has_starts),
        weights.clone().into_buffer_arg(),
        chunk_argument(shape, chunk),
        chunk.mask.is_some(),
        n_units,
        types,
    );
    weights
}

pub(super) fn gradients(
    scores: CubeTensor,
    d_weights: CubeTensor,
    starts: CubeTensor,
    chunk: ScoreChunk,
) -> (CubeTensor, CubeTensor) {
    let [scores, d_weights] = [scores, d_weights].map(contiguous);
    let shape: [usize; 4] = scores.shape().dims();
    let [weights, d_scores] = [(); 2].map(|()| empty_operand(&scores, scores.shape(), chunk.precision));
    let Geometry { cubes, cube, n_units } = Geometry::rows(shape[..3].iter().product(), shape[3]);
    let (client, types) = (scores.client.clone(), [element(&scores), element(&weights)]);
    gradients_kernel::launch(
        &client,
        cubes,
        cube,
        scores.into_buffer_arg(),
        d_weights.into_buffer_arg(),
        present(starts, chunk.has_starts),
        weights.clone().into_buffer_arg(),
        d_scores.clone().into_buffer_arg(),
        chunk_argument(shape, chunk),
        chunk.mask.is_some(),
        n_units,
        types,
    );
    (weights, d_scores)
}
