//! The legend: a line sample and the name of each series, in rows above the curves.

use plotters::{coord::Shift, prelude::*};

use crate::{
    Series,
    font::Font,
    layout::{Em, Place},
    look::{self, Drawn, Look},
    number,
};

/// Length of a line sample in em, as all sizes here.
const SAMPLE: f32 = 1.8;
/// Gap between sample and name.
const GAP: f32 = 0.5;
/// Gap between entries.
const BETWEEN: f32 = 1.6;
/// Width factor of the widest font that an SVG viewer may use.
const WIDER: f32 = 1.12;
const ROW: f32 = 1.5;
const LONGEST_NAME: f32 = 20.0;

/// An entry with its position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry<'a> {
    series: &'a Series,
    name: String,
    left: f32,
    width: f32,
    /// From zero.
    row: u8,
}

/// Arranges the named series in rows, as far as they fit. `has_values` adds the values of marked points.
pub(crate) fn arrange<'a>(
    series: &'a [Series],
    has_values: bool,
    font: &Font,
    width: f32,
    height: f32,
) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry> = vec![];
    let (mut left, mut row) = (0.0, 0_u8);
    for series in series.iter().filter(|series| !series.name.is_empty()) {
        let value = series.marked.filter(|_| has_values);
        let value = value.map_or_else(String::new, |[_, value]| format!(" {}", number::value(value)));
        let room = ((width - SAMPLE - GAP) / WIDER).min(LONGEST_NAME) - font.width(&value);
        let name = font.fit(&series.name, room) + &value;
        let entry_width = SAMPLE + GAP + WIDER * font.width(&name);
        if left > 0.0 && left + entry_width > width {
            (left, row) = (0.0, row.saturating_add(1));
        }
        if f32::from(row + 1) * ROW > height {
            break;
        }
        entries.push(Entry { series, name, left, width: entry_width, row });
        left += entry_width + BETWEEN;
    }
    entries
}

/// Width of the widest row.
pub(crate) fn width(entries: &[Entry]) -> f32 {
    entries.iter().map(|entry| entry.left + entry.width).fold(0.0, f32::max)
}

/// Height of all rows.
pub(crate) fn height(entries: &[Entry]) -> f32 {
    entries.last().map_or(0.0, |entry| f32::from(entry.row + 1) * ROW)
}

/// Draws the entries, with the first at the given position.
pub(crate) fn draw<DB: DrawingBackend>(
    entries: &[Entry],
    em: Em,
    (left, top): Place,
    root: &DrawingArea<DB, Shift>,
) -> Drawn<DB> {
    for entry in entries {
        let x = left + em.times(entry.left);
        let y = top + em.times(ROW * (f32::from(entry.row) + 0.5));
        let end = x + em.times(SAMPLE);
        let look = Look::of(entry.series, em);
        root.draw(&PathElement::new(vec![(x, y), (end, y)], look.line))?;
        if look.has_dots {
            root.draw(&Circle::new((x.midpoint(end), y), look.radius, look.line.color.filled()))?;
        }
        root.draw_text(&entry.name, &look::text(em, 1.0, look::LEFT), (end + em.times(GAP), y))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Style;

    #[test]
    fn names_wrap_to_the_next_row_and_empty_ones_are_left_out() {
        let names = ["training", "", "validation", &"a long name of a run ".repeat(4), "x"];
        let series = names.map(|name| Series {
            name: name.to_owned(),
            points: vec![],
            style: Style::Pale,
            color: 0,
            marked: None,
        });
        let entries = arrange(&series, false, &Font::load(), 30.0, 9.0);
        assert_eq!(entries.iter().map(|entry| entry.row).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert!(entries[1].left > entries[0].left);
        assert_eq!(entries[2].left, 0.0);
        assert!(entries[2].name.contains('…'));
        assert!(width(&entries) <= 30.0);
        assert_eq!(height(&entries), 2.0 * ROW);
        assert_eq!(
            arrange(&series, false, &Font::load(), 30.0, 2.0),
            entries[..2],
            "the second row does not fit"
        );
    }

    #[test]
    fn values_are_beside_names_and_are_not_shortened() {
        let name = "a long name of a run ".repeat(4);
        let series =
            [Series { name, points: vec![], style: Style::Strong, color: 0, marked: Some([7.0, 1.469_72]) }];
        let text = |has_values| arrange(&series, has_values, &Font::load(), 40.0, 9.0)[0].name.clone();
        assert!(text(true).contains('…') && text(true).ends_with(" 1.470"), "{}", text(true));
        assert!(!text(false).contains("1.470"));
    }
}
