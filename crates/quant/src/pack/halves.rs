//! `f16` and `bf16`.

use half::{bf16, f16, slice::HalfFloatSliceExt};

/// Values that are converted together.
const CHUNK: usize = 256;

#[inline(always)]
pub(super) fn pack_f16(values: &[f32], bytes: &mut [u8]) -> Result<(), usize> {
    let mut halves = [f16::ZERO; CHUNK];
    pack_chunks(values, bytes, |values, bytes| {
        let halves = &mut halves[..values.len()];
        // The conversion of a slice uses vector instructions.
        halves.convert_from_f32_slice(values);
        let mut overflows = false;
        for ((bytes, half), value) in bytes.iter_mut().zip(halves).zip(values) {
            overflows |= half.is_infinite() & value.is_finite();
            *bytes = half.to_le_bytes();
        }
        overflows
    })
}

#[inline(always)]
pub(super) fn pack_bf16(values: &[f32], bytes: &mut [u8]) -> Result<(), usize> {
    pack_chunks(values, bytes, |values, bytes| {
        let mut overflows = false;
        for (bytes, value) in bytes.iter_mut().zip(values) {
            let half = bf16::from_f32(*value);
            overflows |= half.is_infinite() & value.is_finite();
            *bytes = half.to_le_bytes();
        }
        overflows
    })
}

/// Calls `pack` with each chunk. It returns whether a finite value becomes infinite.
#[inline(always)]
fn pack_chunks(
    values: &[f32],
    bytes: &mut [u8],
    mut pack: impl FnMut(&[f32], &mut [[u8; 2]]) -> bool,
) -> Result<(), usize> {
    let chunks = bytes.as_chunks_mut().0.chunks_mut(CHUNK);
    for (chunk_idx, (values, bytes)) in values.chunks(CHUNK).zip(chunks).enumerate() {
        if pack(values, bytes) {
            // Values that overflow are larger than all others.
            let largest =
                values.iter().filter(|value| value.is_finite()).fold(0.0, |max: f32, v| max.max(v.abs()));
            let idx = values.iter().position(|value| value.abs() == largest).unwrap_or_default();
            return Err(chunk_idx * CHUNK + idx);
        }
    }
    Ok(())
}
