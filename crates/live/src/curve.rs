//! A curve with a bounded number of points.

/// More than the columns of Braille dots on a terminal.
const MAX_POINTS: usize = 4096;

/// Points from left to right. When there are too many, pairs are merged: each point is the mean of equally many
/// measurements.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// log2 of the number of measurements per point, except for the last.
    halvings: u32,
    /// Number of measurements in the last point.
    n_in_last: u32,
}

impl Curve {
    /// Adds a measurement to the right of the earlier ones. Values that are not finite are skipped.
    pub fn push(&mut self, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        match self.points.last_mut() {
            Some((last_x, last_y)) if self.n_in_last < 1 << self.halvings => {
                let n = f64::from(self.n_in_last);
                (*last_x, *last_y) = ((*last_x * n + x) / (n + 1.0), (*last_y * n + y) / (n + 1.0));
                self.n_in_last += 1;
            }
            _ => {
                self.points.push((x, y));
                self.n_in_last = 1;
            }
        }
        if self.points.len() == MAX_POINTS && self.n_in_last == 1 << self.halvings {
            let pairs = self.points.chunks_exact(2);
            self.points =
                pairs.map(|pair| (mean(pair, |point| point.0), mean(pair, |point| point.1))).collect();
            self.halvings += 1;
            self.n_in_last = 1 << self.halvings;
        }
    }

    /// The points `(x, y)`.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The points from `x` on.
    pub(crate) fn from(&self, x: f64) -> &[(f64, f64)] {
        &self.points[self.points.partition_point(|point| point.0 < x)..]
    }

    /// The last `n` values.
    pub(crate) fn last_values(&self, n: usize) -> impl Iterator<Item = f64> {
        self.points[self.points.len().saturating_sub(n)..].iter().map(|point| point.1)
    }
}

fn mean(points: &[(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    points.iter().map(of).sum::<f64>() / points.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_curve_keeps_every_finite_point() {
        let mut curve = Curve::default();
        for (x, y) in [(1.0, 4.0), (2.0, f64::NAN), (3.0, 3.0), (4.0, f64::INFINITY)] {
            curve.push(x, y);
        }
        assert_eq!(curve.points(), [(1.0, 4.0), (3.0, 3.0)]);
        assert_eq!(curve.from(1.5), [(3.0, 3.0)]);
        assert_eq!(curve.last_values(5).collect::<Vec<_>>(), [4.0, 3.0]);
    }

    #[test]
    fn a_long_curve_has_means_of_equal_weight() {
        let mut curve = Curve::default();
        let n = 10 * MAX_POINTS;
        for x in 0..n {
            curve.push(x as f64, 2.0 * x as f64);
        }
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&curve.points().len()), "{}", curve.points().len());
        let steps: Vec<f64> = curve.points().windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(steps[..steps.len() - 1].iter().all(|&step| step == steps[0]), "every measurement counts");
        assert_eq!(curve.points()[0].0, (steps[0] - 1.0) / 2.0);
        assert!(curve.points().iter().all(|&(x, y)| y == 2.0 * x));
    }
}
