//! Draws a chart on any backend of plotters.

use plotters::{coord::Shift, prelude::*};

use crate::{
    Chart, curves,
    font::Font,
    frame::Frame,
    layout::Em,
    look::{self, Drawn},
};

/// Draws the background, the axes with title and legend, and the curves.
pub(crate) fn draw<DB: DrawingBackend>(
    chart: &Chart,
    em: Em,
    font: &Font,
    root: &DrawingArea<DB, Shift>,
) -> Drawn<DB> {
    root.fill(&WHITE)?;
    let frame = Frame::draw(chart, em, font, root)?;
    curves::draw(chart, em, font, &frame, root)?;
    if frame.is_empty() {
        let note = look::text(em, 1.0, look::CENTER);
        root.draw_text("nothing to show yet", &note, frame.area().center())?;
    }
    Ok(())
}
