//! Draws charts of made-up runs into a folder, to be looked at: `cargo run -p chart --example gallery -- FOLDER`.

use std::{error::Error, fs, path::PathBuf};

use chart::{Chart, Scale, Series, Style};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder to draw into")?);
    fs::create_dir_all(&folder)?;
    for (name, chart) in charts() {
        for size in [[1200, 600], [480, 300]] {
            let path = folder.join(format!("{name}-{}x{}", size[0], size[1]));
            fs::write(path.with_extension("svg"), chart.svg(size)?)?;
            fs::write(path.with_extension("png"), chart.png(size)?)?;
        }
    }
    Ok(())
}

fn charts() -> Vec<(&'static str, Chart)> {
    let loss = |title: &str, y_scale, series| Chart {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        x_scale: Scale::Linear,
        y_label: "loss (nats per token)".to_owned(),
        y_scale,
        series,
    };
    let run = || vec![training(2000, 10, 0), validation("validation", 2000, 250, 1.0, 1)];
    let names = [
        "baseline",
        "wide",
        "shakespeare-6-layers-384-wide-dropout-0.2-seed-1337",
        "Ἄνδρα",
        "no-bias",
        "<&>",
    ];
    let runs = names.iter().enumerate();
    let runs = runs.map(|(i, name)| validation(name, 5000, 250, 1.0 + 0.04 * i as f64, i)).collect();
    vec![
        ("run", loss("nanogpt-cpu", Scale::Linear, run())),
        ("run-log", loss("nanogpt-cpu", Scale::Log, run())),
        ("runs", loss("Six runs", Scale::Linear, runs)),
        ("long", loss("A long run", Scale::Log, vec![training(1_000_000, 10, 0)])),
        (
            "begun",
            loss("", Scale::Linear, vec![training(10, 10, 0), validation("validation", 10, 20, 1.0, 1)]),
        ),
        ("empty", loss("A run that has not begun", Scale::Linear, vec![])),
        (
            "learning-rate",
            Chart { y_label: "learning rate".to_owned(), ..loss("", Scale::Linear, vec![schedule()]) },
        ),
    ]
}

fn curve(name: &str, points: Vec<[f64; 2]>, style: Style, color: usize) -> Series {
    Series { name: name.to_owned(), points, style, color, marked: None }
}

/// A loss that falls from ln 65 to about 1.8.
fn expected_loss(step: f64) -> f64 {
    1.75 + 2.424 * (-step / 120.0).exp() * 0.6 + 2.424 * 0.4 / (1.0 + step / 300.0)
}

fn training(max_steps: u32, interval: u16, color: usize) -> Series {
    let noise = |step: f64| 0.06 * ((step * 12.9898).sin() * 43758.547).fract();
    let loss = |step: f64| expected_loss(step * (2000.0 / f64::from(max_steps)).min(1.0)) + noise(step);
    let steps = (interval.into()..=max_steps).step_by(interval.into()).map(f64::from);
    curve("training", steps.map(|step| [step, loss(step)]).collect(), Style::Pale, color)
}

fn validation(name: &str, max_steps: u32, interval: u16, factor: f64, color: usize) -> Series {
    let steps = (0..=max_steps).step_by(interval.into()).map(f64::from);
    let overfit = |step: f64| 0.3 * (step / f64::from(max_steps)).powi(4);
    let points: Vec<_> =
        steps.map(|step| [step, factor * (expected_loss(step) + 0.08 + overfit(step))]).collect();
    let best = points.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1]));
    Series { marked: best, ..curve(name, points, Style::Strong, color) }
}

/// Warm-up and a cosine.
fn schedule() -> Series {
    let rate = |step: f64| {
        if step < 100.0 {
            1e-3 * step / 100.0
        } else {
            1e-4 + 4.5e-4 * (1.0 + ((step - 100.0) / 1900.0 * std::f64::consts::PI).cos())
        }
    };
    curve("", (0..=2000).map(f64::from).map(|step| [step, rate(step)]).collect(), Style::Strong, 2)
}
