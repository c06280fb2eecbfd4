//! Thins long curves to the resolution of the image.

use crate::layout::{Place, UNITS};

/// Splits a curve into lines without gaps, each with at most two points per pixel column besides its first and last.
///
/// `None` is a point that can't be drawn: it ends a line, and another starts after it. Of the points in a column, the
/// lowest and the highest are kept, in their order.
pub(crate) fn lines(points: impl Iterator<Item = Option<Place>>) -> Vec<Vec<Place>> {
    let points: Vec<_> = points.collect();
    let lines = points.split(|point| point.is_none()).filter(|line| !line.is_empty());
    lines.map(|line| thinned(&line.iter().copied().flatten().collect::<Vec<_>>())).collect()
}

fn thinned(line: &[Place]) -> Vec<Place> {
    let mut kept: Vec<_> = line.first().copied().into_iter().collect();
    for points in line.chunk_by(|a, b| a.0 / UNITS == b.0 / UNITS) {
        let lowest = (0..points.len()).min_by_key(|&i| points[i].1).expect("a chunk has a point");
        let highest = (0..points.len()).max_by_key(|&i| points[i].1).expect("a chunk has a point");
        kept.extend([points[lowest.min(highest)], points[lowest.max(highest)]]);
    }
    kept.extend(line.last());
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_points_become_two_a_column_and_keep_their_spikes() {
        let n_columns = 1000;
        let mut points: Vec<_> =
            (0..100_000).map(|i| (i * n_columns * UNITS / 100_000, i * 7919 % 500)).collect();
        points[54_321].1 = 900;
        points[54_322].1 = -900;
        let [line] = &lines(points.iter().copied().map(Some))[..] else { panic!("one line") };

        assert!((1900..=2002).contains(&line.len()), "{}", line.len());
        assert!(line.contains(&points[54_321]) && line.contains(&points[54_322]));
        assert_eq!((line.first(), line.last()), (points.first(), points.last()));
        assert!(line.is_sorted_by_key(|point| point.0), "points keep their order");
    }

    #[test]
    fn few_points_are_unchanged() {
        let points = vec![(0, 3), (10, 2), (20, 2), (30, 7)];
        assert_eq!(lines(points.iter().copied().map(Some)), [points]);
    }

    #[test]
    fn a_gap_ends_a_line() {
        let points = [None, Some((0, 1)), Some((10, 2)), None, None, Some((40, 1)), None];
        assert_eq!(lines(points.into_iter()), [vec![(0, 1), (10, 2)], vec![(40, 1)]]);
    }
}
