//! Dropout masks, recomputed where they are used and never stored.

/// A dropout mask: a function of an element's row and column.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// The low and the high 32 bits.
    pub seed: [u32; 2],
    /// Added to the row indices: the rows before those of this process in the batch.
    pub first_row: u64,
    /// An element is dropped if its 32 random bits are below the threshold.
    pub threshold: u32,
    /// Multiplies the kept elements, so that the expectation is unchanged.
    pub scale: f32,
}

impl Mask {
    /// The mask for a dropout probability; `None` if it is zero.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability below 1")]
    pub fn new(probability: f64, seed: u64) -> Option<Self> {
        let threshold = (probability * 2f64.powi(32)) as u32;
        let scale = (1.0 / (1.0 - probability)) as f32;
        let seed = [seed as u32, (seed >> 32) as u32];
        (probability > 0.0).then_some(Self { seed, first_row: 0, threshold, scale })
    }

    /// Multiplies each element of a row by 0 or by the scale.
    #[inline(always)]
    pub fn apply(self, row: u64, values: &mut [f32]) {
        self.apply_from(row, 0, values);
    }

    /// As [`Mask::apply`], for the elements from column `first` on.
    #[inline(always)]
    fn apply_from(self, row: u64, first: u32, values: &mut [f32]) {
        let key = row_key(self.seed, self.first_row + row);
        for (col, value) in (first..).zip(values) {
            *value *= self.factor(key, col);
        }
    }

    #[inline(always)]
    fn factor(self, key: u32, col: u32) -> f32 {
        if mix(col ^ key) < self.threshold { 0.0 } else { self.scale }
    }
}

/// A mask from a row and a column on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaskPart {
    pub(crate) mask: Mask,
    pub(crate) first_row: u64,
    pub(crate) first_col: u32,
}

impl MaskPart {
    /// Multiplies each element of a row of the part by 0 or by the scale.
    #[inline(always)]
    pub(crate) fn apply(self, row: usize, values: &mut [f32]) {
        self.mask.apply_from(self.first_row + row as u64, self.first_col, values);
    }
}

/// The key of a row, distinct for all rows of a mask.
#[expect(clippy::cast_possible_truncation, reason = "a tensor has fewer rows than 2³²")]
fn row_key([low, high]: [u32; 2], row: u64) -> u32 {
    mix(mix(row as u32 ^ low) ^ high)
}

/// A bijective 32-bit hash in which each input bit flips each output bit half the time: Wellons'
/// [lowbias32](https://nullprogram.com/blog/2018/07/31/).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    for (shift, factor) in MIX {
        x = (x ^ (x >> shift)).wrapping_mul(factor);
    }
    x ^ (x >> MIX_LAST)
}

/// The shift and the multiplier of each round of lowbias32.
pub const MIX: [(u32, u32); 2] = [(16, 0x7feb_352d), (15, 0x846c_a68b)];

/// The last shift of lowbias32.
pub const MIX_LAST: u32 = 16;
