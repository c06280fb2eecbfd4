//! Draws the curves, and the marked points with their values.

use plotters::{coord::Shift, prelude::*};

use crate::{
    Chart, Style,
    callout::{self, Area},
    font::Font,
    frame::Frame,
    layout::{Em, Place},
    look::{self, Drawn, Look},
    number, thin,
};

/// Draws pale curves first, then strong ones, then the marked points.
pub(crate) fn draw<DB: DrawingBackend>(
    chart: &Chart,
    em: Em,
    font: &Font,
    frame: &Frame<DB>,
    root: &DrawingArea<DB, Shift>,
) -> Drawn<DB> {
    let mut crossed = vec![];
    for style in [Style::Pale, Style::Strong] {
        for series in chart.series.iter().filter(|series| series.style == style) {
            let lines = thin::lines(series.points.iter().map(|&point| frame.place(point)));
            draw_lines(&lines, Look::of(series, em), frame.area(), root)?;
            crossed.extend(lines.iter().flat_map(|line| callout::along(line, em.times(0.3))));
        }
    }
    draw_marks(chart, em, font, frame, root, &crossed)
}

/// Draws one curve, with dots if they fit.
fn draw_lines<DB: DrawingBackend>(
    lines: &[Vec<Place>],
    look: Look,
    area: Area,
    root: &DrawingArea<DB, Shift>,
) -> Drawn<DB> {
    let n_points: usize = lines.iter().map(Vec::len).sum();
    // One dot per 1.5 dot widths.
    let room = area.x.len() / (3 * look.radius as usize);
    let has_dots = look.has_dots && n_points <= room;
    for line in lines {
        if line.len() > 1 {
            root.draw(&PathElement::new(line.clone(), look.line))?;
        }
        // A single point is drawn as a dot.
        if has_dots || line.len() == 1 {
            for &point in line {
                root.draw(&Circle::new(point, look.radius, look.line.color.filled()))?;
            }
        }
    }
    Ok(())
}

/// Draws marked points as ringed dots. A single one has its value beside it.
fn draw_marks<DB: DrawingBackend>(
    chart: &Chart,
    em: Em,
    font: &Font,
    frame: &Frame<DB>,
    root: &DrawingArea<DB, Shift>,
    crossed: &[Place],
) -> Drawn<DB> {
    for series in &chart.series {
        let Some(place) = series.marked.and_then(|point| frame.place(point)) else { continue };
        let color = Look::of(series, em).line.color;
        root.draw(&Circle::new(place, em.stroke(0.48), WHITE.filled()))?;
        root.draw(&Circle::new(place, em.stroke(0.36), color.filled()))?;
    }
    let Some([x, value]) = chart.single_mark() else { return Ok(()) };
    let label = number::value(value);
    let size = (em.times(font.width(&label) + 0.4), em.times(1.1));
    let place = frame.place([x, value]);
    let Some(area) = place.and_then(|place| callout::place(place, size, &frame.area(), crossed)) else {
        return Ok(());
    };
    let corners = [(area.x.start, area.y.start), (area.x.end, area.y.end)];
    root.draw(&Rectangle::new(corners, WHITE.mix(0.75).filled()))?;
    root.draw_text(&label, &look::text(em, 1.0, look::CENTER), area.center())
}
