//! From channels to heads and back. QK norm and RoPE are part of it.

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps},
    prelude::Shape,
    tensor::DType,
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    launch::{Geometry, contiguous, element, empty, empty_operand, present},
    reduce::group_sum,
};
use crate::gpu::heads::HeadSplit;

/// Maximum cubes of the backward pass with QK norm, whose groups sum the gradients of the gains.
const MAX_PARTS: usize = 512;

/// Sizes as kernel arguments.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct HeadSizes {
    /// B · T · (H + 2 KV)
    n_rows: usize,
    /// H
    n_head: usize,
    /// KV
    n_kv_head: usize,
    /// T
    time: usize,
    /// D
    head_dim: usize,
    /// D / 2, rounded up.
    half: usize,
    /// The rows of angles before they repeat.
    n_angles: usize,
}

fn head_sizes([batch, time, head_dim]: [usize; 3], split: &HeadSplit) -> HeadSizesLaunch {
    let HeadSplit { n_head, n_kv_head, n_angles, .. } = *split;
    let n_rows = batch * time * (n_head + 2 * n_kv_head);
    let (half, n_angles) = (head_dim.div_ceil(2), n_angles.unwrap_or(time));
    HeadSizesLaunch::new(n_rows, n_head, n_kv_head, time, head_dim, half, n_angles)
}

/// Where the head of a row of channels is.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// In queries, keys and values in turn.
    head: usize,
    /// Its first element in the queries, the keys or the values.
    start: usize,
    /// The first of its angles.
    angles: usize,
}

#[cube]
fn place(row: usize, sizes: &HeadSizes) -> Place {
    let n = sizes.n_head + 2 * sizes.n_kv_head;
    let head = row % n;
    let token = row / n;
    let position = token % sizes.time;
    let batch = row / (n * sizes.time);
    let mut n_heads = sizes.n_kv_head;
    let mut own = head;
    if head < sizes.n_head {
        n_heads = sizes.n_head;
    } else if head < sizes.n_head + sizes.n_kv_head {
        own = head - sizes.n_head;
    } else {
        own = head - sizes.n_head - sizes.n_kv_head;
    }
    let start = ((batch * n_heads + own) * sizes.time + position) * sizes.head_dim;
    Place { head, start, angles: token % sizes.n_angles * sizes.head_dim }
}

/// The factor that gives a row a mean square of 1.
#[cube]
fn norm_factor<I: Float>(
    x: &[I],
    start: usize,
    head_dim: usize,
    epsilon: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] width: usize,
) -> f32 {
    let mut squares = f32::new(0.0);
    let mut channel = UNIT_POS as usize % width;
    while channel < head_dim {
        let x = f32::cast_from(x[start + channel]);
        squares += x * x;
        channel += width;
    }
    let mean_square = group_sum(squares, shared, width) / head_dim as f32;
    f32::new(1.0) / (mean_square + epsilon).sqrt()
}

/// The gain of a channel of a query or key head.
#[cube]
fn gain(gains: &[f32], place: &Place, sizes: &HeadSizes, channel: usize) -> f32 {
    let start = select(place.head < sizes.n_head, 0, sizes.head_dim);
    gains[start + channel]
}

/// Writes a pair of channels of a head.
#[cube]
fn write_pair<O: Float>(out: &mut [O], start: usize, sizes: &HeadSizes, channel: usize, a: f32, b: f32) {
    let other = channel + sizes.half;
    out[start + channel] = O::cast_from(a);
    if other < sizes.head_dim {
        out[start + other] = O::cast_from(b);
    }
}

/// A pair of channels of a head; the second is 0 in the middle of an odd number.
#[cube]
fn read_pair<I: Float>(x: &[I], start: usize, sizes: &HeadSizes, channel: usize) -> (f32, f32) {
    let other = channel + sizes.half;
    let mut second = f32::new(0.0);
    if other < sizes.head_dim {
        second = f32::cast_from(x[start + other]);
    }
    (f32::cast_from(x[start + channel]), second)
}

/// A group of units per row; a unit has pairs of channels, one of each half of the row.
#[cube(launch)]
fn split_kernel<I: Float, O: Float>(
    qkv: &[I],
    gains: &ComptimeOption<Box<[f32]>>,
    angles: &ComptimeOption<Box<[f32]>>,
    queries: &mut [O],
    keys: &mut [O],
    values: &mut [O],
    sizes: HeadSizes,
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] n_units: usize,
    #[define(I, O)] _types: [ElemType; 2],
) {
    let unit = UNIT_POS as usize;
    let wanted = CUBE_POS * (n_units / width) + unit / width;
    let is_row = wanted < sizes.n_rows;
    let row = select(is_row, wanted, 0);
    let head_dim = sizes.head_dim;
    let place = place(row, &sizes);
    let is_rotated = place.head < sizes.n_head + sizes.n_kv_head;
    let source = row * head_dim;
    let mut factor = f32::new(1.0);
    if comptime!(gains.is_some()) {
        let mut shared = Shared::<[f32]>::new_slice(n_units);
        factor = norm_factor::<I>(qkv, source, head_dim, epsilon, &mut shared, width);
    }
    let mut channel = unit % width;
    while channel < sizes.half {
        let other = channel + sizes.half;
        let (mut a, mut b) = read_pair::<I>(qkv, source, &sizes, channel);
        if is_rotated {
            #[comptime]
            if let ComptimeOption::Some(gains) = gains {
                a *= factor * gain(gains, &place, &sizes, channel);
                if other < head_dim {
                    b *= factor * gain(gains, &place, &sizes, other);
                }
            }
            #[comptime]
            if let ComptimeOption::Some(angles) = angles {
                let (cos, sin) = read_pair::<f32>(angles, place.angles, &sizes, channel);
                let rotated = a * cos - b * sin;
                b = b * cos + a * sin;
                a = rotated;
            }
        }
        if is_row {
            if place.head < sizes.n_head {
                write_pair::<O>(queries, place.start, &sizes, channel, a, b);
            } else if is_rotated {
                write_pair::<O>(keys, place.start, &sizes, channel, a, b);
            } else {
                write_pair::<O>(values, place.start, &sizes, channel, a, b);
            }
        }
        channel += width;
    }
}

pub(super) fn split(
    qkv: CubeTensor,
    gains: CubeTensor,
    angles: CubeTensor,
    split: HeadSplit,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let qkv = contiguous(qkv);
    let HeadSplit { n_head, n_kv_head, epsilon, n_angles, precision, .. } = split;
    let [batch, time, channels] = qkv.shape().dims();
    let head_dim = split.head_dim(channels);
    let heads = |n| empty_operand(&qkv, Shape::new([batch, n, time, head_dim]), precision);
    let (queries, keys, values) = (heads(n_head), heads(n_kv_head), heads(n_kv_head));
    let n_rows = batch * time * (n_head + 2 * n_kv_head);
    let width = Geometry::group_width(head_dim.div_ceil(2));
    let Geometry { cubes, cube, n_units } = Geometry::groups(n_rows, width, usize::MAX);
    let (client, types) = (qkv.client.clone(), [element(&qkv), element(&queries)]);
    split_kernel::launch(
        &client,
        cubes,
        cube,
        qkv.into_buffer_arg(),
        present(gains, epsilon.is_some()),
        present(angles, n_angles.is_some()),
        queries.clone().into_buffer_arg(),
        keys.clone().into_buffer_arg(),
        values.clone().into_buffer_arg(),
        head_sizes([batch, time, head_dim], &split),
        epsilon.unwrap_or_default(),
        width,
        n_units,
        types,
    );
    (queries, keys, values)
}

/// The gradients of a pair of channels before RoPE.
#[cube]
fn unrotated<Q: Float>(
    d_queries: &[Q],
    d_keys: &[f32],
    d_values: &[f32],
    angles: &ComptimeOption<Box<[f32]>>,
    place: &Place,
    sizes: &HeadSizes,
    channel: usize,
) -> (f32, f32) {
    let mut a = f32::new(0.0);
    let mut b = f32::new(0.0);
    let is_query = place.head < sizes.n_head;
    let is_value = place.head >= sizes.n_head + sizes.n_kv_head;
    if is_query {
        (a, b) = read_pair::<Q>(d_queries, place.start, sizes, channel);
    }
    if !is_query && !is_value {
        (a, b) = read_pair::<f32>(d_keys, place.start, sizes, channel);
    }
    if is_value {
        (a, b) = read_pair::<f32>(d_values, place.start, sizes, channel);
    }
    #[comptime]
    if let ComptimeOption::Some(angles) = angles {
        let is_rotated = !is_value;
        if is_rotated {
            let (cos, sin) = read_pair::<f32>(angles, place.angles, sizes, channel);
            let back = a * cos + b * sin;
            b = b * cos - a * sin;
            a = back;
        }
    }
    (a, b)
}

/// Channels and gains.
type QkNorm<I> = (Box<[I]>, Box<[f32]>);

/// Each group of units takes every n-th row, where n is the number of groups. A unit has pairs of channels, one of each half
/// of the row. With QK norm, `qk_norm` has the channels and the gains, and a group sums the gradients of both gains over its rows.
#[cube(launch)]
fn gradients_kernel<Q: Float, I: Float, O: Float>(
    d_queries: &[Q],
    d_keys: &[f32],
    d_values: &[f32],
    qk_norm: &ComptimeOption<QkNorm<I>>,
    angles: &ComptimeOption<Box<[f32]>>,
    d_qkv: &mut [O],
    d_gains: &mut [f32],
    sizes: HeadSizes,
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] n_units: usize,
    #[define(Q, I, O)] _types: [ElemType; 3],
) {
    let unit = UNIT_POS as usize;
    let n_groups = n_units / width;
    let group = CUBE_POS * n_groups + unit / width;
    let head_dim = sizes.head_dim;
    let half = sizes.half;
    let part = group * 2 * head_dim;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    if comptime!(qk_norm.is_some()) {
        // Only this unit uses these elements.
        let mut channel = unit % width;
        while channel < half {
            d_gains[part + channel] = f32::new(0.0);
            d_gains[part + head_dim + channel] = f32::new(0.0);
            if channel + half < head_dim {
                d_gains[part + channel + half] = f32::new(0.0);
                d_gains[part + head_dim + channel + half] = f32::new(0.0);
            }
            channel += width;
        }
    }
    // All groups of a cube take the same number of rounds, since they synchronise.
    let mut first = CUBE_POS * n_groups;
    while first < sizes.n_rows {
        let wanted = first + unit / width;
        let is_row = wanted < sizes.n_rows;
        let row = select(is_row, wanted, 0);
        let source = row * head_dim;
        let place = place(row, &sizes);
        let mut factor = f32::new(1.0);
        let mut along = f32::new(0.0);
        #[comptime]
        if let ComptimeOption::Some((qkv, gains)) = qk_norm {
            factor = norm_factor::<I>(qkv, source, head_dim, epsilon, &mut shared, width);
            let mut channel = unit % width;
            while channel < half {
                let other = channel + half;
                let (a, b) = unrotated::<Q>(d_queries, d_keys, d_values, angles, &place, &sizes, channel);
                along += a * gain(gains, &place, &sizes, channel) * f32::cast_from(qkv[source + channel]);
                if other < head_dim {
                    along += b * gain(gains, &place, &sizes, other) * f32::cast_from(qkv[source + other]);
                }
                channel += width;
            }
            along = group_sum(along * factor, &mut shared, width) / head_dim as f32;
        }
        let mut channel = unit % width;
        while channel < half {
            let other = channel + half;
            let (mut a, mut b) = unrotated::<Q>(d_queries, d_keys, d_values, angles, &place, &sizes, channel);
            #[comptime]
            if let ComptimeOption::Some((qkv, gains)) = qk_norm {
                let is_normed = place.head < sizes.n_head + sizes.n_kv_head;
                if is_normed {
                    let mut sums = part;
                    if place.head >= sizes.n_head {
                        sums += head_dim;
                    }
                    let normed = f32::cast_from(qkv[source + channel]) * factor;
                    if is_row {
                        d_gains[sums + channel] += a * normed;
                    }
                    a = factor * (a * gain(gains, &place, &sizes, channel) - normed * along);
                    if other < head_dim {
                        let normed = f32::cast_from(qkv[source + other]) * factor;
                        if is_row {
                            d_gains[sums + other] += b * normed;
                        }
                        b = factor * (b * gain(gains, &place, &sizes, other) - normed * along);
                    }
                }
            }
            if is_row {
                write_pair::<O>(d_qkv, source, &sizes, channel, a, b);
            }
            channel += width;
        }
        first += CUBE_COUNT * n_groups;
    }
}

/// The gradients of the channels and of the gains.
pub(super) fn gradients(
    d_heads: [CubeTensor; 3],
    qkv: CubeTensor,
    gains: CubeTensor,
    angles: CubeTensor,
    split: HeadSplit,
) -> (CubeTensor, CubeTensor) {
    let [d_queries, d_keys, d_values] = d_heads.map(contiguous);
    let HeadSplit { n_head, n_kv_head, epsilon, n_angles, channels, .. } = split;
    let [batch, _, time, head_dim] = d_queries.shape().dims();
    let n = n_head + 2 * n_kv_head;
    let n_rows = batch * time * n;
    let width = Geometry::group_width(head_dim.div_ceil(2));
    let max_cubes = if epsilon.is_some() { MAX_PARTS } else { usize::MAX };
    let Geometry { cubes, cube, n_units } = Geometry::groups(n_rows, width, max_cubes);
    let n_parts = match epsilon {
        Some(_) => n_rows.div_ceil(n_units / width).min(max_cubes) * (n_units / width),
        None => 1,
    };
    let d_qkv = empty_operand(&d_queries, Shape::new([batch, time, n * head_dim]), channels);
    let d_gains = empty(&d_queries, Shape::new([n_parts, 2 * head_dim]), DType::F32);
    let (client, types) = (d_queries.client.clone(), [element(&d_queries), element(&qkv), element(&d_qkv)]);
    let qk_norm = epsilon.map(|_| (contiguous(qkv).into_buffer_arg(), contiguous(gains).into_buffer_arg()));
    gradients_kernel::launch(
        &client,
        cubes,
        cube,
        d_queries.into_buffer_arg(),
        d_keys.into_buffer_arg(),
        d_values.into_buffer_arg(),
        qk_norm.into(),
        present(angles, n_angles.is_some()),
        d_qkv.clone().into_buffer_arg(),
        d_gains.clone().into_buffer_arg(),
        head_sizes([batch, time, head_dim], &split),
        epsilon.unwrap_or_default(),
        width,
        n_units,
        types,
    );
    let d_gains = if n_parts > 1 { CubeBackend::float_sum_dim(d_gains, 0) } else { d_gains };
    (d_qkv, CubeBackend::float_reshape(d_gains, Shape::new([2, head_dim])))
}
