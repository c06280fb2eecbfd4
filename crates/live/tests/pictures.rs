//! The dashboard on terminals of several sizes.

use expect_test::{ExpectFile, expect_file};
use live::{Dashboard, Sample, Strip, draw};
use ratatui::{Terminal, backend::TestBackend};

/// A run after half of its steps.
fn dashboard() -> Dashboard {
    let mut dashboard = Dashboard::new("runs/tiny", "804k parameters, on cpu");
    dashboard.done = 0.5;
    dashboard.progress = "1000/2000  1m10s left".to_owned();
    let numbers = [
        ("training loss", "1.6512"),
        ("validation loss", "1.7034"),
        ("best", "1.7034 at step 1000"),
        ("learning rate", "8.09e-4"),
        ("gradient norm", "1.125"),
        ("tokens/s", "23k"),
        ("tokens", "768k"),
        ("skipped steps", "0"),
        ("memory", "126.70 MiB"),
        ("elapsed", "1m10s"),
    ];
    dashboard.numbers = numbers.map(|(label, value)| (label, value.to_owned())).to_vec();
    let loss = |step: f64| 1.5 + 2.7 / (1.0 + step / 100.0);
    for step in (10..=1000).step_by(10).map(f64::from) {
        dashboard.training.push(step, loss(step));
    }
    for step in [0.0, 500.0, 1000.0] {
        dashboard.validation.push(step, loss(step) + 0.05);
    }
    dashboard.best = Some((1000.0, loss(1000.0) + 0.05));
    let mut speed = Strip { last: "23k".to_owned(), ..Strip::default() };
    (0..30).for_each(|step| speed.curve.push(f64::from(step), f64::from(20 + step % 3)));
    let names = ["learning rate", "gradient norm", "tokens/s"];
    dashboard.strips = names.map(|name| Strip { name, ..speed.clone() }).to_vec();
    let text = "ROMEO:\nWhat light \u{1b}[2Jis\tthis?".to_owned();
    dashboard.sample = Some(Sample { title: "sample after step 1000".to_owned(), text });
    dashboard.say("saved after step 900");
    dashboard
}

fn picture(dashboard: &Dashboard, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(dashboard, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content.chunks(usize::from(width));
    let rows = rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    rows.map(|row| format!("{}\n", row.trim_end())).collect()
}

fn check(width: u16, height: u16, expected: &ExpectFile) {
    expected.assert_eq(&picture(&dashboard(), width, height));
}

#[test]
fn a_wide_terminal_has_panels_side_by_side() {
    check(110, 28, &expect_file!["pictures/wide.txt"]);
}

#[test]
fn a_usual_terminal_has_stacked_panels() {
    check(80, 24, &expect_file!["pictures/usual.txt"]);
}

#[test]
fn a_small_terminal_shows_only_the_metrics() {
    check(40, 9, &expect_file!["pictures/small.txt"]);
}

#[test]
fn a_run_without_losses_says_so() {
    let empty = Dashboard::new("runs/tiny", "");
    assert!(picture(&empty, 80, 24).contains("no loss has been measured yet"));
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (2, 3), (10, 2), (3, 40), (200, 4), (99, 15), (100, 11)] {
        picture(&dashboard(), width, height);
        picture(&Dashboard::default(), width, height);
    }
}
