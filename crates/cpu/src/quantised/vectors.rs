//! The vector operations that products with quantised weights need.

/// Code that is compiled for each level.
pub(super) trait WithVectors {
    fn run<V: Vectors>(self, v: V);
}

/// Vectors of 32 bytes, 8 integers and 8 floats. Methods are inlined into code in which the instructions are enabled.
pub(super) trait Vectors: Copy {
    type Bytes: Copy;
    type Ints: Copy;
    type Floats: Copy;

    fn bytes(self, bytes: &[u8; 32]) -> Self::Bytes;

    fn store_bytes(self, bytes: Self::Bytes) -> [u8; 32];

    /// The low nibbles of 16 bytes, then the high ones.
    fn nibbles(self, bytes: &[u8; 16]) -> Self::Bytes;

    /// `mask` for each bit that is set, else 0.
    fn bits(self, bits: [u8; 4], mask: u8) -> Self::Bytes;

    /// Shifts each byte to the left by `N` bits, then keeps the bits of `mask`.
    fn shifted_left<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes;

    /// Shifts each byte to the right by `N` bits, then keeps the bits of `mask`.
    fn shifted_right<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes;

    fn or(self, x: Self::Bytes, y: Self::Bytes) -> Self::Bytes;

    /// The primitive: dot products of four unsigned bytes up to 128 with four signed ones above -128, for each of the 8 integers.
    fn dots(self, unsigned: Self::Bytes, signed: &[i8; 32]) -> Self::Ints;

    /// As [`Self::dots`], with signed bytes on both sides.
    fn signed_dots(self, x: &[i8; 32], y: &[i8; 32]) -> Self::Ints;

    fn floats(self, ints: Self::Ints) -> Self::Floats;
    fn load(self, values: &[f32; 8]) -> Self::Floats;
    fn store(self, values: Self::Floats) -> [f32; 8];
    fn splat(self, value: f32) -> Self::Floats;
    fn u8s(self, values: [u8; 8]) -> Self::Floats;
    fn i8s(self, values: [i8; 8]) -> Self::Floats;
    fn f16s(self, halves: [[u8; 2]; 8]) -> Self::Floats;
    fn bf16s(self, halves: [[u8; 2]; 8]) -> Self::Floats;

    /// Element `2 N` four times, then element `2 N + 1` four times.
    fn spread<const N: i32>(self, values: Self::Floats) -> Self::Floats;

    fn mul(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn add(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn mul_add(self, x: Self::Floats, y: Self::Floats, z: Self::Floats) -> Self::Floats;
    fn sum(self, values: Self::Floats) -> f32;
}
