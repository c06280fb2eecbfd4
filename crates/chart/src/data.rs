//! A chart as plain data.

/// A line chart: curves over one pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Title above the chart; may be empty. Like all texts, it is shortened if it does not fit.
    pub title: String,
    /// Label of the horizontal axis, with its unit.
    pub x_label: String,
    pub x_scale: Scale,
    /// Label of the vertical axis, with its unit.
    pub y_label: String,
    pub y_scale: Scale,
    /// The curves. Pale ones are drawn beneath strong ones.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend; an empty name has no legend entry.
    pub name: String,
    /// `[x, y]` of each point, in the order in which they are joined.
    pub points: Vec<[f64; 2]>,
    pub style: Style,
    /// Index into the palette of seven colours, modulo 7: blue, vermilion, green, purple, orange, sky blue, black.
    pub color: usize,
    /// A point drawn as a larger dot, such as the best one. Its value is printed beside it or, if several series have a
    /// marked point, in the legend.
    pub marked: Option<[f64; 2]>,
}

/// Line style of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A thin, pale line, for noisy curves.
    Pale,
    /// A strong line, with a dot at each point unless there are too many.
    Strong,
}

/// Scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Base 10. Values that are not above zero can't be drawn.
    Log,
}

impl Chart {
    /// The marked point, if there is exactly one.
    pub(crate) fn single_mark(&self) -> Option<[f64; 2]> {
        let mut marks = self.series.iter().filter_map(|series| series.marked);
        marks.next().filter(|_| marks.next().is_none())
    }
}
