//! A chart as plain data.

/// A picture of some curves over one pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the picture; may be empty. Shortened if it does not fit, as all texts are.
    pub title: String,
    /// What the horizontal axis counts, with its unit.
    pub x_label: String,
    /// How the horizontal axis is divided.
    pub x_scale: Scale,
    /// What the vertical axis measures, with its unit.
    pub y_label: String,
    /// How the vertical axis is divided.
    pub y_scale: Scale,
    /// The curves. Pale ones are drawn beneath strong ones.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says; with an empty name it says nothing.
    pub name: String,
    /// `[x, y]` of each point, in the order in which they are joined.
    pub points: Vec<[f64; 2]>,
    /// How the line looks.
    pub style: Style,
    /// The place of its colour among the seven there are: blue, vermilion, green, purple, orange, sky blue,
    /// black. An eighth is blue again. Curves that belong together may share one.
    pub color: usize,
    /// A point drawn as a larger dot, such as the best one. Its value is beside it, or, where several series have
    /// one, in the legend after the series' name.
    pub marked: Option<[f64; 2]>,
}

/// How a curve looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A thin, pale line, for what is noisy.
    Pale,
    /// A strong line, with a dot at each point unless they are too many.
    Strong,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten. What is not above zero has no place there.
    Log,
}

impl Chart {
    /// The one point that is marked, if there are not several.
    pub(crate) fn single_mark(&self) -> Option<[f64; 2]> {
        let mut marks = self.series.iter().filter_map(|series| series.marked);
        marks.next().filter(|_| marks.next().is_none())
    }
}
