//! From channels to heads and back.

use burn::{backend::TensorMetadata, prelude::Shape, tensor::DType};
use burn_cubecl::tensor::CubeTensor;
use cpu::Precision;
use cubecl::prelude::*;

use super::launch::{Geometry, contiguous, element, empty, empty_operand};

/// A unit for each element of `[B, n, T, D]`.
#[cube(launch)]
fn to_heads_kernel<I: Float, O: Float>(
    x: &[I],
    heads: &mut [O],
    n_elements: usize,
    n: usize,
    time: usize,
    head_dim: usize,
    first: usize,
    width: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < n_elements {
        let channel = at % head_dim;
        let position = at / head_dim % time;
        let head = at / (head_dim * time) % n;
        let row = at / (head_dim * time * n) * time + position;
        heads[at] = O::cast_from(x[row * width + (first + head) * head_dim + channel]);
    }
}

pub(super) fn to_heads(
    x: CubeTensor,
    first: usize,
    n: usize,
    head_dim: usize,
    precision: Precision,
) -> CubeTensor {
    let x = contiguous(x);
    let [batch, time, width] = x.shape().dims();
    let heads = empty_operand(&x, Shape::new([batch, n, time, head_dim]), precision);
    let n_elements = batch * n * time * head_dim;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_elements);
    let (client, types) = (x.client.clone(), [element(&x), element(&heads)]);
    to_heads_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        heads.clone().into_buffer_arg(),
        n_elements,
        n,
        time,
        head_dim,
        first,
        width,
        types,
    );
    heads
}

/// A unit for each pair of elements of `[B, n, T, D]`.
#[cube(launch)]
fn rotate_kernel<O: Float>(
    x: &[f32],
    cosines: &[f32],
    sines: &[f32],
    out: &mut [O],
    n_pairs: usize,
    half: usize,
    time: usize,
    #[comptime] is_inverse: bool,
    #[define(O)] _type: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < n_pairs {
        let channel = at % half;
        let row = at / half;
        let angle = row % time * half + channel;
        let first = row * 2 * half + channel;
        let second = first + half;
        let cos = cosines[angle];
        let mut sin = sines[angle];
        if is_inverse {
            sin = -sin;
        }
        out[first] = O::cast_from(x[first] * cos - x[second] * sin);
        out[second] = O::cast_from(x[second] * cos + x[first] * sin);
    }
}

pub(super) fn rotate(
    x: CubeTensor,
    factors: [CubeTensor; 2],
    is_inverse: bool,
    precision: Precision,
) -> CubeTensor {
    let x = contiguous(x);
    let [cosines, sines] = factors.map(contiguous);
    let [batch, n, time, head_dim] = x.shape().dims();
    let out = empty_operand(&x, x.shape(), precision);
    let n_pairs = batch * n * time * head_dim / 2;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_pairs);
    let (client, element) = (x.client.clone(), element(&out));
    rotate_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        cosines.into_buffer_arg(),
        sines.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        n_pairs,
        head_dim / 2,
        time,
        is_inverse,
        element,
    );
    out
}

/// A unit for each element of `[B, T, (H + 2 KV) · D]`.
#[cube(launch)]
fn join_kernel<I: Float>(
    queries: &[I],
    keys: &[I],
    values: &[I],
    qkv: &mut [f32],
    n_elements: usize,
    n_head: usize,
    n_kv_head: usize,
    time: usize,
    head_dim: usize,
    #[define(I)] _type: ElemType,
) {
    let at = ABSOLUTE_POS;
    if at < n_elements {
        let n = n_head + 2 * n_kv_head;
        let channel = at % head_dim;
        let head = at / head_dim % n;
        let row = at / (head_dim * n);
        let (batch, position) = (row / time, row % time);
        if head < n_head {
            qkv[at] =
                f32::cast_from(queries[((batch * n_head + head) * time + position) * head_dim + channel]);
        } else if head < n_head + n_kv_head {
            let head = head - n_head;
            qkv[at] =
                f32::cast_from(keys[((batch * n_kv_head + head) * time + position) * head_dim + channel]);
        } else {
            let head = head - n_head - n_kv_head;
            qkv[at] =
                f32::cast_from(values[((batch * n_kv_head + head) * time + position) * head_dim + channel]);
        }
    }
}

pub(super) fn join_heads(queries: CubeTensor, keys: CubeTensor, values: CubeTensor) -> CubeTensor {
    let [queries, keys, values] = [queries, keys, values].map(contiguous);
    let ([batch, n_head, time, head_dim], [_, n_kv_head, _, _]) =
        (queries.shape().dims(), keys.shape().dims());
    let width = (n_head + 2 * n_kv_head) * head_dim;
    let qkv = empty(&queries, Shape::new([batch, time, width]), DType::F32);
    let n_elements = batch * time * width;
    let Geometry { cubes, cube, .. } = Geometry::elements(n_elements);
    let (client, element) = (queries.client.clone(), element(&queries));
    join_kernel::launch(
        &client,
        cubes,
        cube,
        queries.into_buffer_arg(),
        keys.into_buffer_arg(),
        values.into_buffer_arg(),
        qkv.clone().into_buffer_arg(),
        n_elements,
        n_head,
        n_kv_head,
        time,
        head_dim,
        element,
    );
    qkv
}
