//! Draws title, legend, grid and axes.

use plotters::{coord::Shift, prelude::*};

use crate::{
    Chart,
    axis::{self, Axis},
    callout::Area,
    font::Font,
    layout::{Em, Place},
    legend,
    look::{self, Drawn},
};

/// Margin around the chart in em, as all sizes here.
const MARGIN: f32 = 0.8;
/// Right margin, for half of the last tick label.
const RIGHT: f32 = 1.6;
const TITLE: f32 = 1.3;
const TITLE_ROW: f32 = 1.9;
const TICK_MARK: f32 = 0.3;
/// Tick labels and name of the horizontal axis.
const X_LABELS: f32 = 3.2;
/// Name of the vertical axis, with the space between it and the tick labels.
const Y_NAME: f32 = 1.7;

/// The axes that curves are drawn on.
pub(crate) struct Frame<'a, DB: DrawingBackend> {
    x: Axis,
    y: Axis,
    plot: ChartContext<'a, DB, Cartesian2d<Axis, Axis>>,
}

impl<'a, DB: DrawingBackend> Frame<'a, DB> {
    /// Draws everything except the curves.
    pub(crate) fn draw(
        chart: &Chart,
        em: Em,
        font: &Font,
        root: &'a DrawingArea<DB, Shift>,
    ) -> Drawn<DB, Self> {
        let (width, height) = dimensions(root);
        let margin = em.times(MARGIN);

        let entries = legend::arrange(
            &chart.series,
            chart.single_mark().is_none(),
            font,
            em.per(width - 2 * margin),
            0.4 * em.per(height),
        );
        let title_row = if chart.title.is_empty() { 0.0 } else { TITLE_ROW };
        let legend_top = margin + em.times(title_row);
        let top = legend_top + em.times(legend::height(&entries) + 0.6);

        let plot_height = height - top - em.times(X_LABELS) - margin;
        let y = Axis::up(values(chart, 1), chart.y_scale, room_for(em.per(plot_height), 2.4));
        let widest = y.ticks.iter().map(|tick| font.width(&tick.label)).fold(0.0, f32::max);
        let y_labels = em.times(widest + 3.0 * TICK_MARK + Y_NAME);
        let left = margin + y_labels;
        let plot_width = width - left - em.times(RIGHT);
        let x = Axis::across(values(chart, 0), chart.x_scale, room_for(em.per(plot_width), 5.5));

        let title = font.fit(&chart.title, em.per(width - left - margin) / TITLE);
        root.draw_text(&title, &look::text(em, TITLE, look::LEFT), (left, margin + em.times(0.5 * TITLE)))?;
        let legend_left = left.min(width - margin - em.times(legend::width(&entries)));
        legend::draw(&entries, em, (legend_left, legend_top), root)?;

        let mut plot = ChartBuilder::on(root)
            .margin_top(top)
            .margin_left(margin)
            .margin_right(em.times(RIGHT))
            .margin_bottom(margin)
            .x_label_area_size(em.times(X_LABELS))
            .y_label_area_size(y_labels)
            .build_cartesian_2d(x.clone(), y.clone())?;
        plot.configure_mesh()
            .bold_line_style(look::GRID.stroke_width(em.stroke(0.06)))
            .light_line_style(TRANSPARENT)
            .axis_style(look::AXIS.stroke_width(em.stroke(0.06)))
            .set_all_tick_mark_size(em.times(TICK_MARK))
            .label_style(look::text(em, 0.95, look::CENTER))
            .axis_desc_style(look::text(em, 1.0, look::CENTER))
            .x_desc(font.fit(&chart.x_label, em.per(plot_width)))
            .y_desc(font.fit(&chart.y_label, em.per(plot_height)))
            .draw()?;
        Ok(Self { x, y, plot })
    }

    /// The position of a point in the image; `None` if it can't be drawn.
    pub(crate) fn place(&self, [x, y]: [f64; 2]) -> Option<Place> {
        Some(self.plot.backend_coord(&(self.x.place(x)?, self.y.place(y)?)))
    }

    /// Whether no point can be drawn.
    pub(crate) fn is_empty(&self) -> bool {
        self.x.ticks.is_empty()
    }

    /// The plot area.
    pub(crate) fn area(&self) -> Area {
        let (x, y) = self.plot.plotting_area().get_pixel_range();
        Area { x, y }
    }
}

fn dimensions<DB: DrawingBackend>(root: &DrawingArea<DB, Shift>) -> (i32, i32) {
    let (x, y) = root.get_pixel_range();
    (x.end - x.start, y.end - y.start)
}

/// The x (`of` = 0) or y (`of` = 1) of all points that can be drawn.
fn values(chart: &Chart, of: usize) -> impl Iterator<Item = f64> {
    let points = chart.series.iter().flat_map(|series| series.points.iter().chain(&series.marked));
    let (across, up) = (chart.x_scale, chart.y_scale);
    let is_drawable = move |&[x, y]: &&[f64; 2]| axis::place(across, *x).and(axis::place(up, *y)).is_some();
    points.filter(is_drawable).map(move |point| point[of])
}

/// Number of labels that fit a length in em.
fn room_for(length: f32, each: f32) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "at most twelve")]
    let room = (length / each).clamp(2.0, 12.0) as usize;
    room
}
