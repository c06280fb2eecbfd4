//! Dropout masks that are computed where they are used, and never kept.

/// Which numbers of a tensor are dropped, as a function of their row and column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    seed: u64,
    /// A number is dropped where its 32 random bits are below.
    threshold: u32,
    /// What the others are multiplied by, so that the expectation stays.
    scale: f32,
}

impl Mask {
    /// `None` for a probability of zero.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability below 1")]
    pub(crate) fn new(probability: f64, seed: u64) -> Option<Self> {
        let threshold = (probability * 2f64.powi(32)) as u32;
        let scale = (1.0 / (1.0 - probability)) as f32;
        (probability > 0.0).then_some(Self { seed, threshold, scale })
    }

    /// Multiplies each number of a row by 0 or the scale.
    #[inline(always)]
    pub(crate) fn apply(self, row: u64, values: &mut [f32]) {
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

/// SplitMix64 ([Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)) of a row's number.
#[expect(clippy::cast_possible_truncation, reason = "32 of 64 random bits")]
fn row_key(seed: u64, row: u64) -> u32 {
    let mut z = seed.wrapping_add(row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}

/// A bijection of 32 bits in which each bit of the input changes each of the output half the time: Wellons'
/// [lowbias32](https://nullprogram.com/blog/2018/07/31/).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
