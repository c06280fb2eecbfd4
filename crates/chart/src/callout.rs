//! Places the label of a marked point where it covers the least.

use std::ops::Range;

use crate::layout::Place;

/// A rectangle in units (see [`crate::layout::UNITS`]).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: Range<i32>,
    pub(crate) y: Range<i32>,
}

impl Area {
    fn around((x, y): Place, (width, height): (i32, i32)) -> Self {
        let (left, top) = (x - width / 2, y - height / 2);
        Self { x: left..left + width, y: top..top + height }
    }

    pub(crate) fn center(&self) -> Place {
        (self.x.start.midpoint(self.x.end), self.y.start.midpoint(self.y.end))
    }

    fn contains(&self, (x, y): Place) -> bool {
        self.x.contains(&x) && self.y.contains(&y)
    }

    fn holds(&self, other: &Self) -> bool {
        self.contains((other.x.start, other.y.start)) && self.contains((other.x.end - 1, other.y.end - 1))
    }
}

/// The area for a label of the given size near a point: within `bounds`, and over as few points of curves as possible.
/// Among equals, near areas come first, and below before above.
pub(crate) fn place(point: Place, size: (i32, i32), bounds: &Area, curves: &[Place]) -> Option<Area> {
    let (width, height) = size;
    let candidates = (0..4).flat_map(|nth| {
        let (dx, dy) = (width / 2 + height * (nth + 1) / 2, height + height * nth / 2);
        [(0, dy), (0, -dy), (-dx, 0), (dx, 0), (-dx, dy), (dx, dy), (-dx, -dy), (dx, -dy)]
    });
    let areas = candidates.map(|(dx, dy)| Area::around((point.0 + dx, point.1 + dy), size));
    let within = areas.filter(|area| bounds.holds(area));
    within.min_by_key(|area| curves.iter().filter(|&&point| area.contains(point)).count())
}

/// Points along a line at most `step` apart, so that every area the line crosses has one.
pub(crate) fn along(line: &[Place], step: i32) -> Vec<Place> {
    let mut points = line.first().copied().into_iter().collect::<Vec<_>>();
    for pair in line.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let n = (x1 - x0).abs().max((y1 - y0).abs()) / step + 1;
        points.extend((1..=n).map(|i| (x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Area = Area { x: 0..1000, y: 0..1000 };
    const SIZE: (i32, i32) = (80, 40);

    #[test]
    fn a_label_is_below_its_point_if_the_area_is_free() {
        let area = place((500, 500), SIZE, &BOUNDS, &[]).unwrap();
        assert_eq!(area.center(), (500, 540));
    }

    #[test]
    fn a_label_avoids_curves_and_edges() {
        let below = along(&[(400, 540), (600, 540)], 10);
        assert_eq!(place((500, 500), SIZE, &BOUNDS, &below).unwrap().center(), (500, 460));
        let around = along(&[(400, 540), (600, 540), (600, 460), (400, 460)], 10);
        let beside = place((500, 500), SIZE, &BOUNDS, &around).unwrap();
        assert!(!around.iter().any(|&point| beside.contains(point)), "{beside:?}");
        let corner = place((999, 999), SIZE, &BOUNDS, &[]).unwrap();
        assert!(BOUNDS.holds(&corner) && !corner.contains((999, 999)), "{corner:?}");
    }

    #[test]
    fn a_label_larger_than_the_bounds_has_no_area() {
        assert_eq!(place((20, 20), SIZE, &Area { x: 0..79, y: 0..500 }, &[]), None);
    }
}
