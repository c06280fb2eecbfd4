//! Sizes in an image, all derived from the image size.

use crate::{Error, Result};

/// Units per pixel. plotters has integer coordinates, so a unit is a tenth of a pixel.
pub(crate) const UNITS: i32 = 10;

/// A position in units from the upper left corner.
pub(crate) type Place = (i32, i32);

/// Valid widths and heights in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 160..=10_000;

/// An image size in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Checks that width and height are in the valid range.
pub(crate) fn check([width, height]: [u32; 2]) -> Result<Size> {
    if SIZES.contains(&width) && SIZES.contains(&height) {
        Ok(Size { width, height })
    } else {
        Err(Error::Size { width, height })
    }
}

impl Size {
    /// Width and height in units.
    pub(crate) fn units(self) -> (u32, u32) {
        (self.width * UNITS.unsigned_abs(), self.height * UNITS.unsigned_abs())
    }

    /// The text size: proportional to the image, with a legible minimum.
    pub(crate) fn em(self) -> Em {
        let [width, height] = [self.width, self.height].map(|pixels| pixels as f32);
        Em((width.min(1.6 * height) / 64.0).clamp(11.0, 40.0) * UNITS as f32)
    }
}

/// The text size in units, by which everything is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Em(f32);

impl Em {
    /// `factor` em in units, rounded.
    #[expect(clippy::cast_possible_truncation, reason = "an image is at most 100,000 units wide")]
    pub(crate) fn times(self, factor: f32) -> i32 {
        (self.0 * factor).round() as i32
    }

    /// A line width of `factor` em in units, at least one pixel.
    pub(crate) fn stroke(self, factor: f32) -> u32 {
        self.times(factor).max(UNITS).unsigned_abs()
    }

    /// Converts units to em.
    pub(crate) fn per(self, units: i32) -> f32 {
        units as f32 / self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_out_of_range_are_errors() {
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
