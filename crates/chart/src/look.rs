//! Colours, line styles and text styles.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Series, Style, layout::Em};

/// The result of drawing.
pub(crate) type Drawn<DB, T = ()> = Result<T, DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Text colour.
const INK: RGBColor = RGBColor(51, 51, 51);
pub(crate) const AXIS: RGBColor = RGBColor(110, 110, 110);
pub(crate) const GRID: RGBColor = RGBColor(230, 230, 230);

pub(crate) const LEFT: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };
pub(crate) const CENTER: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Center };

/// The palette of Okabe and Ito, Color Universal Design (2008), without its yellow, which is hard to see on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// plotters divides font sizes by this factor in SVG files.
pub(crate) const FONT_FACTOR: f64 = 1.24;

/// The drawing style of a curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) line: ShapeStyle,
    /// Radius of the dots at points, and of a point without neighbours.
    pub(crate) radius: u32,
    pub(crate) has_dots: bool,
}

impl Look {
    pub(crate) fn of(series: &Series, em: Em) -> Self {
        let color = PALETTE[series.color % PALETTE.len()];
        match series.style {
            Style::Pale => Self {
                line: color.mix(0.45).stroke_width(em.stroke(0.08)),
                radius: em.stroke(0.2),
                has_dots: false,
            },
            Style::Strong => {
                Self { line: color.stroke_width(em.stroke(0.17)), radius: em.stroke(0.22), has_dots: true }
            }
        }
    }
}

/// A text style with a size of `factor` em.
pub(crate) fn text(em: Em, factor: f32, anchor: Pos) -> TextStyle<'static> {
    let size = f64::from(em.times(factor)) * FONT_FACTOR;
    TextStyle::from((FontFamily::SansSerif, size)).color(&INK).pos(anchor)
}
