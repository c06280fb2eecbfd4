//! Sums and maxima over units of a cube. Every unit of the cube must take part.

use cubecl::prelude::*;

/// The sum of the values of the units of a group, for each of them. A group has `width` consecutive units, a power of two.
#[cube]
pub(super) fn group_sum(value: f32, shared: &mut Shared<[f32]>, width: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let place = unit % width;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut step = width / 2;
    while step > 0 {
        if place < step {
            let other = shared[unit + step];
            shared[unit] += other;
        }
        sync_cube();
        step /= 2;
    }
    shared[unit - place]
}

/// The sum of the values of all units, for each of them.
#[cube]
pub(super) fn cube_sum(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    group_sum(value, shared, CUBE_DIM as usize)
}

/// The largest of the values of all units, for each of them.
#[cube]
pub(super) fn cube_max(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut step = CUBE_DIM as usize / 2;
    while step > 0 {
        if unit < step {
            let other = shared[unit + step];
            shared[unit] = max(shared[unit], other);
        }
        sync_cube();
        step /= 2;
    }
    shared[0]
}
