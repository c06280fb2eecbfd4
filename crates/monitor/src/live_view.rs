//! A run as a live view on the whole terminal.

use std::sync::{Arc, Mutex, MutexGuard};

use console::{Diversion, divert, escaped, print};
use indicatif::HumanBytes;
use journal::words::{count, duration};
pub use live::Key;
use live::{Dashboard, Live, Sample, Strip};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use trainer::{Metrics, Split};

use crate::{
    lines::print_sample,
    screen::{Pace, Screen, as_training, evaluation_line, loss_of, sample_heading, speed_of},
};

/// Messages that are left on the terminal when the view is gone.
const LEFT: usize = 12;

const STRIPS: [&str; 3] = ["learning rate", "gradient norm", "tokens/s"];

/// Shows a run as it happens.
pub struct LiveView {
    live: Live,
    facts: Arc<Mutex<Facts>>,
}

/// Gives the terminal back when it is dropped, with the last of what was shown.
pub struct OnTerminal {
    live: Live,
    facts: Arc<Mutex<Facts>>,
    diversion: Option<Diversion>,
}

/// What the numbers are made of.
struct Facts {
    pace: Pace,
    train: Option<Metrics>,
    valid: Option<Metrics>,
    best: Option<Metrics>,
    memory: u64,
    /// The step and the text of the last sample.
    sample: Option<(u64, String)>,
}

impl LiveView {
    /// Takes the terminal. `before` are the metrics of earlier sessions; `on_key` hears of keys that ask for something.
    ///
    /// # Errors
    ///
    /// If the terminal can't be drawn on.
    pub fn open(
        (title, subtitle): (String, String),
        before: &[Metrics],
        on_key: impl Fn(Key) + Send + 'static,
    ) -> std::io::Result<(Self, OnTerminal)> {
        let facts =
            Facts { pace: Pace::start(0, 0), train: None, valid: None, best: None, memory: 0, sample: None };
        let facts = Arc::new(Mutex::new(facts));
        let mut dashboard = Dashboard::new(title, subtitle);
        dashboard.strips = STRIPS.map(|name| Strip { name, ..Strip::default() }).to_vec();
        for metrics in before {
            lock(&facts).measured(metrics);
            plot(&mut dashboard, metrics);
        }
        let (clock, mut system) = (Arc::clone(&facts), System::new());
        let refresh = move |dashboard: &mut Dashboard| {
            let mut facts = lock(&clock);
            facts.memory = memory_of_this_process(&mut system);
            facts.show(dashboard);
        };
        let live = Live::open(dashboard, on_key, refresh)?;
        let teller = live.clone();
        let diversion = divert(move |line| {
            let plain = anstream::adapter::strip_str(line).to_string();
            teller.update(|dashboard| dashboard.say(&plain));
        });
        let view = Self { live: live.clone(), facts: Arc::clone(&facts) };
        Ok((view, OnTerminal { live, facts, diversion: Some(diversion) }))
    }

    /// Changes the facts and what is shown of them.
    fn update(&self, change: impl FnOnce(&mut Facts, &mut Dashboard)) {
        self.live.update(|dashboard| {
            let mut facts = lock(&self.facts);
            change(&mut facts, dashboard);
            facts.show(dashboard);
        });
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let shown = self.live.close();
        self.diversion = None;
        let Some(shown) = shown else { return };
        let mut left: Vec<&str> = shown.messages().rev().take(LEFT).collect();
        left.reverse();
        left.into_iter().for_each(print);
        if let Some((step, text)) = &lock(&self.facts).sample {
            print(&sample_heading(*step));
            print_sample(text);
        }
    }
}

impl Screen for LiveView {
    fn started(&mut self, step: u64, max_steps: u64) {
        self.update(|facts, _| facts.pace = Pace::start(step, max_steps));
    }

    fn step(&mut self, step: u64) {
        self.update(|facts, _| facts.pace.step = step);
    }

    fn measured(&mut self, metrics: &Metrics) {
        self.update(|facts, dashboard| {
            facts.measured(metrics);
            plot(dashboard, metrics);
            if metrics.split == Split::Valid {
                dashboard.say(&evaluation_line(metrics, facts.train.as_ref(), facts.pace.max_steps));
            }
        });
    }

    fn sampled(&mut self, step: u64, text: &str) {
        self.update(|facts, dashboard| {
            facts.sample = Some((step, text.to_owned()));
            dashboard.say(&format!("a sample after step {step}"));
            let title = format!("what it writes after step {step}");
            dashboard.sample = Some(Sample { title, text: escaped(text).into_owned() });
        });
    }
}

impl Facts {
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

    /// Writes them as they are read.
    fn show(&self, dashboard: &mut Dashboard) {
        let Pace { step, max_steps, .. } = self.pace;
        dashboard.done = if max_steps == 0 { 0.0 } else { step as f64 / max_steps as f64 };
        dashboard.progress = format!("{step}/{max_steps}  {} left", self.pace.left());
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

/// Adds metrics to the curves.
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

/// In bytes.
fn memory_of_this_process(system: &mut System) -> u64 {
    let Ok(id) = sysinfo::get_current_pid() else { return 0 };
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, what);
    system.process(id).map_or(0, sysinfo::Process::memory)
}

fn lock(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().expect("nothing panics while it is held")
}
