//! A model of the vectors in plain Rust, to test the code around the instructions.

use super::vectors::Vectors;

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Vectors for Portable {
    type Bytes = [u8; 32];
    type Ints = [i32; 8];
    type Floats = [f32; 8];

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 32]) -> [u8; 32] {
        *bytes
    }

    #[inline(always)]
    fn store_bytes(self, bytes: [u8; 32]) -> [u8; 32] {
        bytes
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> [u8; 32] {
        std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
    }

    #[inline(always)]
    fn bits(self, bits: [u8; 4], mask: u8) -> [u8; 32] {
        std::array::from_fn(|i| if bits[i / 8] >> (i % 8) & 1 == 1 { mask } else { 0 })
    }

    #[inline(always)]
    fn shifted_left<const N: i32>(self, bytes: [u8; 32], mask: u8) -> [u8; 32] {
        bytes.map(|byte| byte << N & mask)
    }

    #[inline(always)]
    fn shifted_right<const N: i32>(self, bytes: [u8; 32], mask: u8) -> [u8; 32] {
        bytes.map(|byte| byte >> N & mask)
    }

    #[inline(always)]
    fn or(self, x: [u8; 32], y: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| x[i] | y[i])
    }

    #[inline(always)]
    fn dots(self, unsigned: [u8; 32], signed: &[i8; 32]) -> [i32; 8] {
        std::array::from_fn(|i| {
            (4 * i..4 * i + 4).map(|i| i32::from(unsigned[i]) * i32::from(signed[i])).sum()
        })
    }

    #[inline(always)]
    fn signed_dots(self, x: &[i8; 32], y: &[i8; 32]) -> [i32; 8] {
        std::array::from_fn(|i| (4 * i..4 * i + 4).map(|i| i32::from(x[i]) * i32::from(y[i])).sum())
    }

    #[inline(always)]
    fn floats(self, ints: [i32; 8]) -> [f32; 8] {
        ints.map(|int| int as f32)
    }

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> [f32; 8] {
        *values
    }

    #[inline(always)]
    fn store(self, values: [f32; 8]) -> [f32; 8] {
        values
    }

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    fn u8s(self, values: [u8; 8]) -> [f32; 8] {
        values.map(f32::from)
    }

    #[inline(always)]
    fn i8s(self, values: [i8; 8]) -> [f32; 8] {
        values.map(f32::from)
    }

    #[inline(always)]
    fn f16s(self, halves: [[u8; 2]; 8]) -> [f32; 8] {
        halves.map(|half| half::f16::from_le_bytes(half).to_f32_const())
    }

    #[inline(always)]
    fn bf16s(self, halves: [[u8; 2]; 8]) -> [f32; 8] {
        halves.map(|half| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16))
    }

    #[inline(always)]
    fn spread<const N: i32>(self, values: [f32; 8]) -> [f32; 8] {
        let first = usize::try_from(2 * N).expect("an index");
        std::array::from_fn(|i| values[first + i / 4])
    }

    #[inline(always)]
    fn mul(self, x: [f32; 8], y: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| x[i] * y[i])
    }

    #[inline(always)]
    fn add(self, x: [f32; 8], y: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| x[i] + y[i])
    }

    #[inline(always)]
    fn mul_add(self, x: [f32; 8], y: [f32; 8], z: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| x[i] * y[i] + z[i])
    }

    #[inline(always)]
    fn sum(self, [a, b, c, d, e, f, g, h]: [f32; 8]) -> f32 {
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}
