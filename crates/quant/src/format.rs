//! The formats.

use std::fmt;

/// A format of weights below 32 bits per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// IEEE half precision: 11 bits of significand, values up to 65504.
    F16,
    /// The upper half of an `f32`: 8 bits of significand.
    BF16,
    /// 4 bits and a scale: 4.5 bits per value.
    Q4_0,
    /// 4 bits, a scale and a minimum: 5 bits per value.
    Q4_1,
    /// 5 bits and a scale: 5.5 bits per value.
    Q5_0,
    /// 5 bits, a scale and a minimum: 6 bits per value.
    Q5_1,
    /// 8 bits and a scale: 8.5 bits per value.
    Q8_0,
    /// 4 bits; 8 groups of 32 with 6-bit scales and minima: 4.5 bits per value.
    Q4K,
    /// 5 bits; 8 groups of 32 with 6-bit scales and minima: 5.5 bits per value.
    Q5K,
    /// 6 bits; 16 groups of 16 with 8-bit scales: 6.5625 bits per value.
    Q6K,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 10] = [
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Values per block. The length of a row is a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `n` values. `n` must be a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, n: usize) -> usize {
        n / self.block_len() * self.block_bytes()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_K",
            Self::Q5K => "q5_K",
            Self::Q6K => "q6_K",
        })
    }
}
