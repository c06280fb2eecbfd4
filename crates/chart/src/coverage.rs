//! How much of each pixel a shape covers.

use zeno::{Command, Mask, Style};

/// How much of each pixel of a rectangle is covered, row by row, from 0 to 255.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coverage {
    left: i64,
    top: i64,
    width: usize,
    covered: Vec<u8>,
}

impl Coverage {
    /// What is within a path, or along it; in pixels.
    pub(crate) fn of(path: &[Command], style: Style) -> Self {
        let (covered, place) = Mask::new(path).style(style).render();
        Self { left: place.left.into(), top: place.top.into(), width: place.width as usize, covered }
    }

    /// What any of some shapes covers; where several do, it is one layer of colour.
    pub(crate) fn union(shapes: &[Self]) -> Self {
        let edge = |of: fn(&Self) -> i64| shapes.iter().map(of);
        let (left, top) =
            (edge(|shape| shape.left).min().unwrap_or(0), edge(|shape| shape.top).min().unwrap_or(0));
        let right = edge(|shape| shape.left + shape.width as i64).max().unwrap_or(0);
        let bottom = edge(|shape| shape.top + shape.height()).max().unwrap_or(0);

        let length =
            |from: i64, to: i64| usize::try_from(to - from).expect("an edge is not before its opposite");
        let (width, height) = (length(left, right), length(top, bottom));
        let mut covered = vec![0_u8; width * height];
        for shape in shapes {
            let rows = shape.covered.chunks(shape.width.max(1));
            for (row, y) in rows.zip(length(top, shape.top)..) {
                let first = y * width + length(left, shape.left);
                for (all, &new) in covered[first..].iter_mut().zip(row) {
                    *all = new.max(*all);
                }
            }
        }
        Self { left, top, width, covered }
    }

    /// The x, y and coverage of each pixel that is not left out altogether.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = (i64, i64, u8)> {
        let rows = self.covered.chunks(self.width.max(1)).zip(self.top..);
        let pixels =
            rows.flat_map(|(row, y)| row.iter().zip(self.left..).map(move |(&covered, x)| (x, y, covered)));
        pixels.filter(|&(.., covered)| covered > 0)
    }

    fn height(&self) -> i64 {
        (self.covered.len() / self.width.max(1)) as i64
    }
}

#[cfg(test)]
mod tests {
    use zeno::{Fill, PathBuilder};

    use super::*;

    fn rectangle(x: f32, y: f32, width: f32, height: f32) -> Coverage {
        let mut path: Vec<Command> = vec![];
        path.add_rect([x, y], width, height);
        Coverage::of(&path, Fill::NonZero.into())
    }

    #[test]
    fn a_rectangle_covers_its_pixels_and_half_of_one() {
        let pixels: Vec<_> = rectangle(-2.0, 3.0, 1.5, 2.0).pixels().collect();
        assert_eq!(pixels, [(-2, 3, 255), (-1, 3, 127), (-2, 4, 255), (-1, 4, 127)]);
    }

    #[test]
    fn a_union_covers_what_its_parts_do_and_nothing_twice() {
        let parts =
            [rectangle(1.0, 5.0, 2.5, 1.0), rectangle(3.0, 4.0, 1.0, 2.0), rectangle(-1.0, 4.0, 0.5, 1.0)];
        let pixels: Vec<_> = Coverage::union(&parts).pixels().collect();
        assert_eq!(pixels, [(-1, 4, 127), (3, 4, 255), (1, 5, 255), (2, 5, 255), (3, 5, 255)]);
        assert_eq!(Coverage::union(&parts[..1]), parts[0]);
        assert_eq!(Coverage::union(&[]).pixels().count(), 0);
    }
}
