//! Positions of heads: between `[B, T, H · D]` and `[B, H, T, D]`, and sums over the first of them.

use burn::{backend::TensorMetadata, prelude::Shape};
use burn_cubecl::tensor::CubeTensor;
use cpu::Precision;
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, element, empty, empty_operand, reusable};

/// A unit for each element of `[B, H, T, D]`.
#[cube(launch)]
fn to_heads_kernel<I: Float, O: Float>(
    x: &[I],
    heads: &mut [O],
    n_elements: usize,
    n_head: usize,
    time: usize,
    head_dim: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < n_elements {
        heads[at] = O::cast_from(x[channel_index(at, n_head, time, time, 0, head_dim)]);
    }
}

/// A unit for each element of `[B, H, R, D]`.
#[cube(launch)]
fn put_kernel<F: Float>(
    channels: &mut [F],
    heads: &[F],
    n_elements: usize,
    n_head: usize,
    n_rows: usize,
    time: usize,
    first: usize,
    head_dim: usize,
    #[define(F)] _type: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < n_elements {
        channels[channel_index(at, n_head, n_rows, time, first, head_dim)] = heads[at];
    }
}

/// The index in `[B, T, H · D]` of an element of the heads of R positions from `first` on, `[B, H, R, D]`.
#[cube]
fn channel_index(
    at: usize,
    n_head: usize,
    n_rows: usize,
    time: usize,
    first: usize,
    head_dim: usize,
) -> usize {
    let channel = at % head_dim;
    let position = at / head_dim % n_rows + first;
    let head = at / (head_dim * n_rows) % n_head;
    let batch = at / (head_dim * n_rows * n_head);
    ((batch * time + position) * n_head + head) * head_dim + channel
}

pub(super) fn to_heads(x: CubeTensor, n_head: usize, precision: Precision) -> CubeTensor {
    let x = contiguous(x);
    let [batch, time, width] = x.shape().dims();
    let head_dim = width / n_head;
    let heads = empty_operand(&x, Shape::new([batch, n_head, time, head_dim]), precision);
    let n_elements = batch * time * width;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_elements);
    let (client, types) = (x.client.clone(), [element(&x), element(&heads)]);
    to_heads_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        heads.clone().into_buffer_arg(),
        n_elements,
        n_head,
        time,
        head_dim,
        types,
    );
    heads
}

pub(super) fn first(heads: CubeTensor, time: usize) -> CubeTensor {
    let [batch, n_head, _, head_dim] = heads.shape().dims();
    let channels = empty(&heads, Shape::new([batch, time, n_head * head_dim]), heads.dtype());
    put(channels, heads, 0)
}

pub(super) fn put(channels: CubeTensor, heads: CubeTensor, first: usize) -> CubeTensor {
    let (channels, heads) = (reusable(channels), contiguous(heads));
    let ([batch, n_head, n_rows, head_dim], [_, time, _]) = (heads.shape().dims(), channels.shape().dims());
    let n_elements = batch * n_head * n_rows * head_dim;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_elements);
    let (client, element) = (heads.client.clone(), element(&heads));
    put_kernel::launch(
        &client,
        cubes,
        cube,
        channels.clone().into_buffer_arg(),
        heads.into_buffer_arg(),
        n_elements,
        n_head,
        n_rows,
        time,
        first,
        head_dim,
        element,
    );
    channels
}

/// A unit for each element of `[B, n, S', D]`.
#[cube(launch)]
fn add_kernel(sums: &mut [f32], more: &[f32], n_elements: usize, n_here: usize, n_all: usize) {
    let at = ABSOLUTE_POS;
    if at < n_elements {
        sums[at / n_here * n_all + at % n_here] += more[at];
    }
}

pub(super) fn add_to_first(sums: CubeTensor, more: CubeTensor) -> CubeTensor {
    let (sums, more) = (reusable(sums), contiguous(more));
    let ([batch, n, here, head_dim], [_, _, all, _]) = (more.shape().dims(), sums.shape().dims());
    let n_elements = batch * n * here * head_dim;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_elements);
    let client = more.client.clone();
    add_kernel::launch(
        &client,
        cubes,
        cube,
        sums.clone().into_buffer_arg(),
        more.into_buffer_arg(),
        n_elements,
        here * head_dim,
        all * head_dim,
    );
    sums
}
