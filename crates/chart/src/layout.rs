//! Sizes of what is in a picture, all of which follow from the picture's own.

use crate::{Error, Result};

/// Drawing is done in tenths of a pixel, because the drawing library counts in whole numbers.
pub(crate) const UNITS: i32 = 10;

/// Where something is in a picture, in units from its upper left corner.
pub(crate) type Place = (i32, i32);

/// The sizes a picture may have, in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 160..=10_000;

/// A picture's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    /// In pixels.
    pub(crate) width: u32,
    /// In pixels.
    pub(crate) height: u32,
}

/// The size, if a chart can have it.
pub(crate) fn check([width, height]: [u32; 2]) -> Result<Size> {
    if SIZES.contains(&width) && SIZES.contains(&height) {
        Ok(Size { width, height })
    } else {
        Err(Error::Size { width, height })
    }
}

impl Size {
    /// In units.
    pub(crate) fn units(self) -> (u32, u32) {
        (self.width * UNITS.unsigned_abs(), self.height * UNITS.unsigned_abs())
    }

    /// The size of ordinary text: larger in larger pictures, and legible in small ones.
    pub(crate) fn em(self) -> Em {
        let [width, height] = [self.width, self.height].map(|pixels| pixels as f32);
        Em((width.min(1.6 * height) / 64.0).clamp(11.0, 40.0) * UNITS as f32)
    }
}

/// The size of ordinary text, by which everything is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Em(f32);

impl Em {
    /// So many em in units, to the nearest.
    #[expect(clippy::cast_possible_truncation, reason = "a picture is at most 100,000 units wide")]
    pub(crate) fn times(self, factor: f32) -> i32 {
        (self.0 * factor).round() as i32
    }

    /// The width of a line in units, at least one pixel.
    pub(crate) fn stroke(self, factor: f32) -> u32 {
        self.times(factor).max(UNITS).unsigned_abs()
    }

    /// So many units in em.
    pub(crate) fn per(self, units: i32) -> f32 {
        units as f32 / self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_sizes_that_can_be_drawn() {
        assert!(check([1200, 600]).is_ok());
        assert!(check([160, 10_000]).is_ok());
        for size in [[0, 600], [159, 600], [1200, 10_001], [u32::MAX, u32::MAX]] {
            let error = check(size).unwrap_err().to_string();
            assert!(error.contains(&size[0].to_string()) && error.contains("160 to 10000"), "{error}");
        }
    }

    #[test]
    fn text_is_legible_at_every_size() {
        let em = |width, height| Size { width, height }.em().times(1.0);
        assert_eq!(em(480, 300), 110);
        assert_eq!(em(1200, 600), 150);
        assert_eq!(em(1200, 200), 110);
    }
}
