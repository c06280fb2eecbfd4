//! Dropout masks that are computed where they are used, and never kept.

/// Which numbers of a tensor are dropped, as a function of their row and column.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// The low and the high half.
    pub seed: [u32; 2],
    /// A number is dropped where its 32 random bits are below.
    pub threshold: u32,
    /// What the others are multiplied by, so that the expectation stays.
    pub scale: f32,
}

impl Mask {
    /// `None` for a probability of zero.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability below 1")]
    pub fn new(probability: f64, seed: u64) -> Option<Self> {
        let threshold = (probability * 2f64.powi(32)) as u32;
        let scale = (1.0 / (1.0 - probability)) as f32;
        let seed = [seed as u32, (seed >> 32) as u32];
        (probability > 0.0).then_some(Self { seed, threshold, scale })
    }

    /// Multiplies each number of a row by 0 or the scale.
    #[inline(always)]
    pub fn apply(self, row: u64, values: &mut [f32]) {
        let key = row_key(self.seed, row);
        for (col, value) in (0_u32..).zip(values) {
            *value *= self.factor(key, col);
        }
    }

    #[inline(always)]
    fn factor(self, key: u32, col: u32) -> f32 {
        if mix(col ^ key) < self.threshold { 0.0 } else { self.scale }
    }
}

/// A key for each row, different for all rows of a mask.
#[expect(clippy::cast_possible_truncation, reason = "a tensor has fewer rows than 2³²")]
fn row_key([low, high]: [u32; 2], row: u64) -> u32 {
    mix(mix(row as u32 ^ low) ^ high)
}

/// A bijection of 32 bits in which each bit of the input changes each of the output half the time: Wellons'
/// [lowbias32](https://nullprogram.com/blog/2018/07/31/), in [`MIX`].
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    for (shift, factor) in MIX {
        x = (x ^ (x >> shift)).wrapping_mul(factor);
    }
    x ^ (x >> MIX_LAST)
}

/// By how many bits it is shifted, and what it is multiplied by, in turn.
pub const MIX: [(u32, u32); 2] = [(16, 0x7feb_352d), (15, 0x846c_a68b)];

/// By how many bits it is shifted at last.
pub const MIX_LAST: u32 = 16;
