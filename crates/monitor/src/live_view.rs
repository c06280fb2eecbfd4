//! A run as a full-screen live view.

use std::sync::{Arc, Mutex, MutexGuard};

use console::{Diversion, divert, escaped, print};
use indicatif::HumanBytes;
use journal::summary::{count, duration};
pub use live::Key;
use live::{Dashboard, Live, Sample, Strip};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use trainer::{Metrics, Split};

use crate::{
    lines::print_sample,
    screen::{Pace, Screen, as_training, evaluation_line, loss_of, sample_heading, speed_of},
};

/// Number of messages printed after the view has closed.
const PRINTED_MESSAGES: usize = 12;

const STRIPS: [&str; 3] = ["learning rate", "gradient norm", "tokens/s"];

/// Displays a run on a full-screen dashboard.
pub struct LiveView {
    live: Live,
    values: Arc<Mutex<RunValues>>,
}

/// Restores the terminal when dropped, and prints the last messages and the last sample.
pub struct TerminalGuard {
    live: Live,
    values: Arc<Mutex<RunValues>>,
    diversion: Option<Diversion>,
}

/// The values that the dashboard shows.
struct RunValues {
    pace: Pace,
    train: Option<Metrics>,
    valid: Option<Metrics>,
    best: Option<Metrics>,
    /// Resident memory of this process, in bytes.
    memory: u64,
    /// The step and the text of the last sample.
    sample: Option<(u64, String)>,
}

impl LiveView {
    /// Opens the view. `before` has the metrics of earlier sessions; `on_key` is called for each key with an action.
    ///
    /// # Errors
    ///
    /// If the terminal can't be drawn to.
    pub fn open(
        (title, subtitle): (String, String),
        before: &[Metrics],
        on_key: impl Fn(Key) + Send + 'static,
    ) -> std::io::Result<(Self, TerminalGuard)> {
        let values = RunValues {
            pace: Pace::start(0, 0),
            train: None,
            valid: None,
            best: None,
            memory: 0,
            sample: None,
        };
        let values = Arc::new(Mutex::new(values));
        let mut dashboard = Dashboard::new(title, subtitle);
        dashboard.strips = STRIPS.map(|name| Strip { name, ..Strip::default() }).to_vec();
        for metrics in before {
            lock(&values).measured(metrics);
            plot(&mut dashboard, metrics);
        }
        let (clock, mut system) = (Arc::clone(&values), System::new());
        let refresh = move |dashboard: &mut Dashboard| {
            let mut values = lock(&clock);
            values.memory = memory_of_this_process(&mut system);
            values.show(dashboard);
        };
        let live = Live::open(dashboard, on_key, refresh)?;
        let messages = live.clone();
        let diversion = divert(move |line| {
            let plain = anstream::adapter::strip_str(line).to_string();
            messages.update(|dashboard| dashboard.say(&plain));
        });
        let view = Self { live: live.clone(), values: Arc::clone(&values) };
        Ok((view, TerminalGuard { live, values, diversion: Some(diversion) }))
    }

    /// Changes the values and redraws them.
    fn update(&self, change: impl FnOnce(&mut RunValues, &mut Dashboard)) {
        self.live.update(|dashboard| {
            let mut values = lock(&self.values);
            change(&mut values, dashboard);
            values.show(dashboard);
        });
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let shown = self.live.close();
        self.diversion = None;
        let Some(shown) = shown else { return };
        let mut left: Vec<&str> = shown.messages().rev().take(PRINTED_MESSAGES).collect();
        left.reverse();
        left.into_iter().for_each(print);
        if let Some((step, text)) = &lock(&self.values).sample {
            print(&sample_heading(*step));
            print_sample(text);
        }
    }
}

impl Screen for LiveView {
    fn started(&mut self, step: u64, max_steps: u64) {
        self.update(|values, _| values.pace = Pace::start(step, max_steps));
    }

    fn step(&mut self, step: u64) {
        self.update(|values, _| values.pace.step = step);
    }

    fn measured(&mut self, metrics: &Metrics) {
        self.update(|values, dashboard| {
            values.measured(metrics);
            plot(dashboard, metrics);
            if metrics.split == Split::Valid {
                dashboard.say(&evaluation_line(metrics, values.train.as_ref(), values.pace.max_steps));
            }
        });
    }

    fn sampled(&mut self, step: u64, text: &str) {
        self.update(|values, dashboard| {
            values.sample = Some((step, text.to_owned()));
            dashboard.say(&format!("sample generated after step {step}"));
            let title = format!("sample after step {step}");
            dashboard.sample = Some(Sample { title, text: escaped(text).into_owned() });
        });
    }
}

impl RunValues {
    fn measured(&mut self, metrics: &Metrics) {
        if let Some(train) = as_training(metrics) {
            self.train = Some(train.clone());
            return;
        }
        self.valid = Some(metrics.clone());
        let before = self.best.as_ref().and_then(|best| best.loss);
        if metrics.loss.is_some_and(|loss| before.is_none_or(|before| loss < before)) {
            self.best = Some(metrics.clone());
        }
    }

    fn show(&self, dashboard: &mut Dashboard) {
        let Pace { step, max_steps, .. } = self.pace;
        dashboard.done = if max_steps == 0 { 0.0 } else { step as f64 / max_steps as f64 };
        dashboard.progress = format!("{step}/{max_steps}  {} left", self.pace.time_left());
        let loss = |metrics: &Option<Metrics>| metrics.as_ref().map_or_else(|| "-".to_owned(), loss_of);
        let best = self
            .best
            .as_ref()
            .map_or_else(|| "-".to_owned(), |best| format!("{} at step {}", loss_of(best), best.step));
        let train = self.train.as_ref();
        let number = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), show);
        let rate = number(train.and_then(|it| it.learning_rate), |rate| format!("{rate:.2e}"));
        let norm = number(train.and_then(|it| it.grad_norm), |norm| format!("{norm:.3}"));
        let speed = train.map_or_else(|| "-".to_owned(), speed_of);
        for (strip, last) in dashboard.strips.iter_mut().zip([&rate, &norm, &speed]) {
            strip.last.clone_from(last);
        }
        let tokens = [&self.train, &self.valid].into_iter().flatten().map(|it| it.tokens).max();
        dashboard.numbers = vec![
            ("training loss", loss(&self.train)),
            ("validation loss", loss(&self.valid)),
            ("best", best),
            ("learning rate", rate),
            ("gradient norm", norm),
            ("tokens/s", speed),
            ("tokens", count(tokens.unwrap_or_default())),
            ("skipped steps", train.map_or(0, |it| it.skipped_steps).to_string()),
            ("memory", HumanBytes(self.memory).to_string()),
            ("elapsed", duration(self.pace.elapsed())),
        ];
        let best = self.best.as_ref();
        dashboard.best = best.and_then(|best| Some((best.step as f64, best.loss?)));
    }
}

/// Adds metrics to the dashboard's curves.
fn plot(dashboard: &mut Dashboard, metrics: &Metrics) {
    let step = metrics.step as f64;
    let push = |curve: &mut live::Curve, value: Option<f64>| {
        if let Some(value) = value {
            curve.push(step, value);
        }
    };
    match metrics.split {
        Split::Valid => push(&mut dashboard.validation, metrics.loss),
        Split::Train => {
            push(&mut dashboard.training, metrics.loss);
            let measured = [metrics.learning_rate, metrics.grad_norm, metrics.tokens_per_second];
            for (strip, value) in dashboard.strips.iter_mut().zip(measured) {
                push(&mut strip.curve, value);
            }
        }
    }
}

/// Resident memory, in bytes.
fn memory_of_this_process(system: &mut System) -> u64 {
    let Ok(id) = sysinfo::get_current_pid() else { return 0 };
    let refresh = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, refresh);
    system.process(id).map_or(0, sysinfo::Process::memory)
}

fn lock(values: &Mutex<RunValues>) -> MutexGuard<'_, RunValues> {
    values.lock().expect("no holder of the lock panics")
}
