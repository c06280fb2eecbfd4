//! Draws a dashboard on a terminal of any size.

use ratatui::{
    Frame,
    buffer::{Buffer, Cell},
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    symbols::{Marker, bar},
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph, Sparkline, Widget, Wrap},
};

use crate::{Curve, Dashboard, Strip};

/// Minimum width, in columns, to place the metrics beside the curves rather than below.
const WIDE: u16 = 100;
const NUMBERS_WIDTH: u16 = 36;

/// Minimum width to place the metrics below the curves in two columns.
const HALF_WIDE: u16 = 60;

/// Minimum height of the chart; on a smaller terminal it is omitted.
const MIN_CHART: u16 = 7;

/// Minimum height of the sample.
const MIN_SAMPLE: u16 = 5;

const TRAINING: Color = Color::Cyan;
const VALIDATION: Color = Color::Magenta;

/// Draws a dashboard on the whole terminal.
pub fn draw(dashboard: &Dashboard, frame: &mut Frame<'_>) {
    let area = frame.area();
    let [head, progress, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(dashboard, frame, head);
    draw_progress(dashboard, frame, progress);
    draw_keys(frame, keys);
    if area.width >= WIDE && body.height >= MIN_CHART {
        draw_wide(dashboard, frame, body);
    } else {
        draw_narrow(dashboard, frame, body);
    }
}

/// Curves and metrics side by side, texts below.
fn draw_wide(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let texts = (area.height / 3).min(area.height.saturating_sub(MIN_CHART));
    let [top, bottom] = Layout::vertical([Constraint::Min(0), Constraint::Length(texts)]).areas(area);
    let columns = [Constraint::Min(0), Constraint::Length(NUMBERS_WIDTH)];
    let [losses, right] = Layout::horizontal(columns).areas(top);
    let rows = height_of(dashboard.numbers.len());
    let [numbers, strips] = Layout::vertical([Constraint::Length(rows), Constraint::Min(0)]).areas(right);
    draw_losses(dashboard, frame, losses);
    draw_numbers(dashboard, frame, numbers);
    draw_strips(&dashboard.strips, frame, strips);
    let [sample, messages] =
        Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(bottom);
    draw_sample(dashboard, frame, sample);
    draw_messages(dashboard, frame, messages);
}

/// Stacked panels. If space is short, metrics take precedence over curves, and curves over texts.
fn draw_narrow(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let is_in_two = area.width >= HALF_WIDE;
    let n_numbers = dashboard.numbers.len();
    let n_rows = if is_in_two { n_numbers.div_ceil(2) } else { n_numbers };
    let numbers_height = height_of(n_rows).min(area.height.saturating_sub(1));
    let [area, news] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let rest = area.height.saturating_sub(numbers_height);
    let (chart, texts) = match rest {
        _ if rest < MIN_CHART => (0, rest),
        _ if rest < MIN_CHART + MIN_SAMPLE => (rest, 0),
        _ => (rest - (rest / 3).max(MIN_SAMPLE), (rest / 3).max(MIN_SAMPLE)),
    };
    let heights = [chart, numbers_height, texts].map(Constraint::Length);
    let [losses, numbers, sample] = Layout::vertical(heights).areas(area);
    draw_losses(dashboard, frame, losses);
    if is_in_two {
        draw_numbers_in_two_columns(dashboard, frame, numbers);
    } else {
        draw_numbers(dashboard, frame, numbers);
    }
    draw_sample(dashboard, frame, sample);
    if let Some(message) = dashboard.messages().next_back() {
        frame.render_widget(Line::from(printable(message)), news);
    }
}

fn draw_head(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let head = Line::from(vec![
        Span::from(" kindling ").bold().reversed(),
        Span::from(format!(" {}", dashboard.title)).bold(),
        Span::from(format!("  {}", dashboard.subtitle)).dim(),
    ]);
    frame.render_widget(head, area);
}

fn draw_progress(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let gauge = LineGauge::default()
        .ratio(dashboard.done.clamp(0.0, 1.0))
        .label(format!(" {} ", dashboard.progress))
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(Style::new().fg(Color::Green).bold())
        .unfilled_style(Style::new().dim());
    frame.render_widget(gauge, area);
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect) {
    let keys = [("q", "stop"), ("s", "save"), ("w", "sample"), ("z", "zoom")];
    let mut spans = Vec::new();
    for (key, meaning) in keys {
        spans.extend([Span::from(format!(" {key} ")).reversed(), Span::from(format!(" {meaning} ")).dim()]);
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_losses(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let Some(window) = Window::of(dashboard) else {
        let note = Paragraph::new("no loss has been measured yet").dim().alignment(Alignment::Center);
        return frame.render_widget(note.block(panel("loss")), area);
    };
    let best: Vec<(f64, f64)> = dashboard.best.into_iter().collect();
    let line = |curve, color: Color| {
        let dataset = Dataset::default().marker(Marker::Braille).style(Style::new().fg(color));
        dataset.graph_type(GraphType::Line).data(Curve::from(curve, window.left))
    };
    // A cell has the colour of the last curve drawn, so the training loss, with more points, comes second.
    let datasets = vec![
        line(&dashboard.validation, VALIDATION),
        line(&dashboard.training, TRAINING),
        Dataset::default()
            .marker(Marker::Dot)
            .style(Style::new().fg(VALIDATION).bold())
            .graph_type(GraphType::Scatter)
            .data(&best),
    ];
    let axis = |bounds: [f64; 2], labels: Vec<String>| {
        Axis::default().bounds(bounds).labels(labels).style(Style::new().dim())
    };
    let [left, right] = [window.left, window.right];
    let steps = [left, left.midpoint(right), right].map(|step| format!("{step:.0}")).to_vec();
    let n_labels = usize::from(area.height / 4).clamp(2, 6);
    let [low, high] = [window.low, window.high];
    let losses = (0..n_labels).map(|i| low + (high - low) * i as f64 / (n_labels - 1) as f64);
    let chart = Chart::new(datasets)
        .block(panel("").title(legend(dashboard)))
        .x_axis(axis([left, right], steps))
        .y_axis(axis([low, high], losses.map(|loss| format!("{loss:.2}")).collect()));
    frame.render_widget(chart, area);
}

/// The names of the loss curves, in their colours.
fn legend(dashboard: &Dashboard) -> Line<'static> {
    let mut legend = vec![
        Span::from(if dashboard.is_zoomed { " loss, second half: " } else { " loss: " }),
        Span::from("training").fg(TRAINING),
        Span::from(", "),
        Span::from("validation").fg(VALIDATION),
    ];
    if let Some((_, best)) = dashboard.best {
        legend.push(Span::from(format!(" • best {best:.4}")).fg(VALIDATION).bold());
    }
    legend.push(Span::from(" "));
    Line::from(legend)
}

/// The visible range of the loss chart.
struct Window {
    left: f64,
    right: f64,
    low: f64,
    high: f64,
}

impl Window {
    /// The range of all losses or of their second half, with a margin above and below.
    fn of(dashboard: &Dashboard) -> Option<Self> {
        let curves = [&dashboard.training, &dashboard.validation];
        let all = || curves.into_iter().flat_map(Curve::points);
        let right = all().map(|point| point.0).fold(f64::MIN, f64::max);
        let first = all().map(|point| point.0).fold(f64::MAX, f64::min);
        if right < first {
            return None;
        }
        let left = if dashboard.is_zoomed { first.midpoint(right) } else { first };
        let seen = || curves.into_iter().flat_map(|curve| curve.from(left)).map(|point| point.1);
        let (low, high) = (seen().fold(f64::MAX, f64::min), seen().fold(f64::MIN, f64::max));
        let space = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-9);
        Some(Self { left, right: right.max(left + 1.0), low: low - space, high: high + space })
    }
}

fn draw_numbers(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let inner = area.width.saturating_sub(2);
    let rows = dashboard.numbers.iter().map(|(label, value)| row(label, value, inner));
    frame.render_widget(Paragraph::new(rows.collect::<Vec<_>>()).block(panel("metrics")), area);
}

fn draw_numbers_in_two_columns(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let block = panel("metrics");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let halves = [Constraint::Fill(1), Constraint::Length(2), Constraint::Fill(1)];
    let [left, _, right] = Layout::horizontal(halves).areas(inner);
    let half = dashboard.numbers.len().div_ceil(2);
    for (column, numbers) in [left, right].into_iter().zip(dashboard.numbers.chunks(half.max(1))) {
        let rows = numbers.iter().map(|(label, value)| row(label, value, column.width));
        frame.render_widget(Paragraph::new(rows.collect::<Vec<_>>()), column);
    }
}

/// A row with the label on the left and the value on the right.
fn row(label: &'static str, value: &str, width: u16) -> Line<'static> {
    let [label_width, value_width] = [label, value].map(|text| Span::from(text).width());
    let space = usize::from(width).saturating_sub(label_width + value_width).max(1);
    Line::from(vec![
        Span::from(label).dim(),
        Span::from(" ".repeat(space)),
        Span::from(value.to_owned()).bold(),
    ])
}

/// Draws each strip with its name, last value and bars.
fn draw_strips(strips: &[Strip], frame: &mut Frame<'_>, area: Rect) {
    let heights = strips.iter().map(|_| Constraint::Fill(1));
    for (strip, area) in strips.iter().zip(Layout::vertical(heights).split(area).iter()) {
        let title = format!(" {} {} ", strip.name, strip.last);
        let block = Block::bordered().border_style(Style::new().dim()).title(title);
        let inner = block.inner(*area);
        frame.render_widget(block, *area);
        let values = strip.curve.last_values(usize::from(inner.width));
        frame.render_widget(bars(values.collect()), inner);
    }
}

/// A one-line bar chart from zero, one bar per value; positive values get at least the lowest bar.
pub fn sparkline(values: &[f64]) -> String {
    let width = u16::try_from(values.len()).unwrap_or(u16::MAX);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, 1));
    let lowest = values.iter().copied().fold(0.0, f64::max) / 8.0; // The lowest of eight bars.
    let heights = values.iter().map(|&value| if value > 0.0 { value.max(lowest) } else { 0.0 });
    bars(heights.collect()).render(buffer.area, &mut buffer);
    buffer.content().iter().map(Cell::symbol).collect()
}

/// Values as bars from zero, one per column.
fn bars(values: Vec<f64>) -> Sparkline<'static> {
    const FULL: f64 = 1000.0;
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 1000")]
    let heights = values.into_iter().map(|value| (value / highest * FULL).clamp(0.0, FULL) as u64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1000 fits")]
    let full = FULL as u64;
    Sparkline::default()
        .data(heights.collect::<Vec<u64>>())
        .max(full)
        .bar_set(bar::NINE_LEVELS)
        .style(Style::new().fg(TRAINING))
}

fn draw_sample(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let Some(sample) = &dashboard.sample else {
        return frame.render_widget(panel("sample"), area);
    };
    let block = panel(&sample.title);
    let text = Paragraph::new(printable(&sample.text)).wrap(Wrap { trim: false }).block(block);
    frame.render_widget(text, area);
}

/// The last messages, the newest at the bottom.
fn draw_messages(dashboard: &Dashboard, frame: &mut Frame<'_>, area: Rect) {
    let block = panel("messages");
    let inner = block.inner(area);
    let all: Vec<Line<'_>> = dashboard.messages().map(|message| Line::from(printable(message))).collect();
    let text = Paragraph::new(all).wrap(Wrap { trim: false });
    let n_lines = u16::try_from(n_wrapped_lines(dashboard, inner.width)).unwrap_or(u16::MAX);
    let text = text.scroll((n_lines.saturating_sub(inner.height), 0));
    frame.render_widget(block, area);
    frame.render_widget(text, inner);
}

/// Approximate number of lines of the wrapped messages.
fn n_wrapped_lines(dashboard: &Dashboard, width: u16) -> usize {
    let lines = dashboard.messages().map(|message| Span::from(message).width());
    lines.map(|columns| columns.div_ceil(usize::from(width.max(1))).max(1)).sum()
}

/// Removes control characters, which would move the cursor, and replaces tabs.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|&c| c == '\n' || !c.is_control()).collect()
}

fn panel(title: &str) -> Block<'static> {
    let block = Block::bordered().border_style(Style::new().dim());
    if title.is_empty() { block } else { block.title(format!(" {title} ")) }
}

fn height_of(n_rows: usize) -> u16 {
    u16::try_from(n_rows).unwrap_or(u16::MAX).saturating_add(2)
}
