//! Sums and maxima over the units of a cube, whose number is a power of two.

use cubecl::prelude::*;

/// The sum of the values of all units, for each of them.
#[cube]
pub(super) fn cube_sum(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut step = CUBE_DIM as usize / 2;
    while step > 0 {
        if unit < step {
            let other = shared[unit + step];
            shared[unit] += other;
        }
        sync_cube();
        step /= 2;
    }
    shared[0]
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
