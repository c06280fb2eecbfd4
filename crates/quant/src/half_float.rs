//! Half precision without calls, so that loops over blocks stay inlined.
//!
//! `half` chooses between instructions and software at run time, in each conversion of a single value.

/// Bits of the exponent; all are set for infinity and NaN.
const F16_EXPONENT: u16 = 0x7C00;
const BF16_EXPONENT: u16 = 0x7F80;

/// The value of an `f16` in little-endian order.
#[inline(always)]
pub(crate) const fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    // Moves the fields of an `f16` into those of an `f32`, whose exponent has a bias of 127 instead of 15.
    const REBIAS: u32 = (127 - 15) << 23;
    const SUBNORMAL: u32 = REBIAS + (1 << 23);
    let bits = u16::from_le_bytes(bytes);
    let magnitude = ((bits & 0x7FFF) as u32) << 13;
    let unsigned = match bits & F16_EXPONENT {
        // As a fraction added to the smallest normal value, which is then subtracted.
        0 => (f32::from_bits(magnitude + SUBNORMAL) - f32::from_bits(SUBNORMAL)).to_bits(),
        F16_EXPONENT => magnitude + 2 * REBIAS,
        _ => magnitude + REBIAS,
    };
    f32::from_bits(((bits & 0x8000) as u32) << 16 | unsigned)
}

/// The value of a `bf16` in little-endian order.
#[inline(always)]
pub(crate) const fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits((u16::from_le_bytes(bytes) as u32) << 16)
}

/// Whether an `f16` is neither infinite nor NaN.
#[inline(always)]
pub(crate) const fn f16_is_finite(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & F16_EXPONENT != F16_EXPONENT
}

/// Whether a `bf16` is neither infinite nor NaN.
#[inline(always)]
pub(crate) const fn bf16_is_finite(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & BF16_EXPONENT != BF16_EXPONENT
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn all_halves_agree_with_the_library() {
        for bytes in (0..=u16::MAX).map(u16::to_le_bytes) {
            let (expected, value) = (f16::from_le_bytes(bytes), f16_to_f32(bytes));
            assert_eq!(f16_is_finite(bytes), expected.is_finite());
            assert!(value.to_bits() == expected.to_f32().to_bits() || (value.is_nan() && expected.is_nan()));
            let (expected, value) = (bf16::from_le_bytes(bytes), bf16_to_f32(bytes));
            assert_eq!(bf16_is_finite(bytes), expected.is_finite());
            assert!(value.to_bits() == expected.to_f32().to_bits() || (value.is_nan() && expected.is_nan()));
        }
    }
}
