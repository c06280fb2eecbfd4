//! The sum of a token's and a position's embedding.

use super::{
    dropout::Mask,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Columns of a gradient that one core adds up.
const COLS: usize = 64;

/// `dropout(tokens[id] + positions[place])` for each id and its place, `[N, C]`. Without places nothing is added.
pub fn forward(
    level: SimdLevel,
    tokens: &[f32],
    positions: &[f32],
    width: usize,
    ids: &[usize],
    places: &[usize],
    mask: Option<Mask>,
) -> Vec<f32> {
    parallel::fill(ids.len() * width, width, 1, |range, out| {
        let first = range.start / width;
        level.vectorize(
            #[inline(always)]
            || {
                for ((row, id), out) in (first..).zip(&ids[first..]).zip(out.chunks_exact_mut(width)) {
                    out.copy_from_slice(&tokens[id * width..][..width]);
                    if let Some(place) = places.get(row) {
                        let position = &positions[place * width..][..width];
                        out.iter_mut().zip(position).for_each(|(out, position)| *out += position);
                    }
                    if let Some(mask) = mask {
                        mask.apply(row as u64, out);
                    }
                }
            },
        );
    })
}

/// Adds each row of `d_rows` to the row of an `n` x `width` matrix of zeros that `index` names.
pub fn scatter(
    level: SimdLevel,
    n: usize,
    width: usize,
    d_rows: &[f32],
    index: impl Fn(usize) -> usize + Sync,
) -> Vec<f32> {
    let mut sums = vec![0.0; n * width];
    let shared = Shared::new(&mut sums);
    // By columns, so that no two cores meet in a row and every sum has one order.
    parallel::pieces(width, COLS.min(width), d_rows.len() / width, |cols| {
        for (idx, d_row) in d_rows.chunks_exact(width).enumerate() {
            let start = index(idx) * width;
            // SAFETY: pieces have their own columns.
            let sums = unsafe { shared.part(start + cols.start..start + cols.end) };
            level.vectorize(
                #[inline(always)]
                || {
                    for (sum, d) in sums.iter_mut().zip(&d_row[cols.clone()]) {
                        *sum += d;
                    }
                },
            );
        }
    });
    sums
}
