//! What a person sees of a run: a progress bar and lines on a terminal, plain lines elsewhere.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use sampler::Options;
use tokenizer::Tokenizer;
use trainer::{Event, Metrics, SkipReason, Split};

use crate::{
    console::{count, duration},
    generate::{Writer, beginning},
    samples::SampleLog,
    shown::Shown,
    views::Views,
};

/// How long the samples are that are printed as a model learns.
const SAMPLE_TOKENS: usize = 200;
const LAST_SAMPLE_TOKENS: usize = 500;

/// Elsewhere than on a terminal, a line of training metrics at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows a run as it happens.
pub(crate) struct Display {
    bar: ProgressBar,
    tokenizer: Tokenizer,
    samples: SampleLog,
    views: Views,
    seed: u64,
    max_steps: u64,
    /// When this session began, and after how many steps.
    started: (Instant, u64),
    last_line: Option<Instant>,
    last_train: Option<Metrics>,
}

impl Display {
    /// Samples are appended to the file as well.
    pub(crate) fn new(tokenizer: Tokenizer, samples: SampleLog, views: Views, seed: u64) -> Self {
        let bar = ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}").expect("the template is well-formed"),
        );
        let started = (Instant::now(), 0);
        Self {
            bar,
            tokenizer,
            samples,
            views,
            seed,
            max_steps: 0,
            started,
            last_line: None,
            last_train: None,
        }
    }

    pub(crate) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { step, max_steps } => {
                self.max_steps = max_steps;
                self.started = (Instant::now(), step);
                self.bar.set_length(max_steps);
                self.bar.set_position(step);
            }
            Event::Step { step } => {
                self.bar.set_position(step);
                if step == self.max_steps {
                    self.bar.finish_and_clear();
                }
            }
            Event::Metrics(metrics) => {
                match metrics.split {
                    Split::Train => self.trained(metrics),
                    Split::Valid => self.evaluated(metrics),
                }
                self.warn_once(|views| views.measured(metrics));
            }
            Event::Skipped { step, reason, loss } => self.skipped(step, reason, loss),
            Event::Sample { step, model, last } => self.sample(step, model, last),
            Event::Saved { step, asked: true } => self.line(&format!("saved after step {step}")),
            Event::Saved { asked: false, .. } => {}
        }
    }

    fn trained(&mut self, metrics: &Metrics) {
        let speed = count_of(metrics.tokens_per_second);
        let left = duration(self.time_left(metrics.step));
        let loss = loss_of(metrics);
        self.bar.set_message(format!("loss {loss}  {speed} tokens/s  {left} left"));
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            let rate = metrics.learning_rate.unwrap_or_default();
            self.line(&format!(
                "step {:>6}/{}  loss {loss}  learning rate {rate:.2e}  {speed} tokens/s  {left} left",
                metrics.step, self.max_steps
            ));
            self.last_line = Some(Instant::now());
        }
        self.last_train = Some(metrics.clone());
    }

    fn evaluated(&mut self, metrics: &Metrics) {
        let train = self.last_train.as_ref().filter(|train| train.step == metrics.step);
        let train = train.map_or_else(String::new, |train| {
            format!("  training {}  {} tokens/s", loss_of(train), count_of(train.tokens_per_second))
        });
        self.line(&format!(
            "step {:>6}/{}  validation loss {}{train}",
            metrics.step,
            self.max_steps,
            loss_of(metrics)
        ));
    }

    fn skipped(&self, step: u64, reason: SkipReason, loss: f64) {
        let reason = match reason {
            SkipReason::NotFinite => "its loss or gradient is not finite".to_owned(),
            SkipReason::Spike { z_score } => {
                format!("its loss of {loss:.4} is {z_score:.1} standard deviations above those before")
            }
        };
        self.line(&format!("warning: step {step} has left the weights as they were: {reason}"));
    }

    /// Writes a sample to stdout and to the run folder.
    fn sample(&mut self, step: u64, model: &model::Gpt, last: bool) {
        let max_tokens = if last { LAST_SAMPLE_TOKENS } else { SAMPLE_TOKENS };
        let stop_tokens = self.tokenizer.end_of_text().into_iter().collect();
        let options = Options { max_tokens, stop_tokens, seed: self.seed, ..Options::default() };
        let prompt = beginning(&self.tokenizer);
        let writer = Writer { model, tokenizer: &self.tokenizer, options: &options };
        let samples = writer.write(0..1, &prompt, &mut Shown::nothing());
        let text = match samples {
            Ok(samples) => samples.into_iter().map(|sample| sample.text).collect::<String>(),
            Err(error) => return self.line(&format!("warning: no sample: {error:#}")),
        };
        self.line(&format!("--- what it writes after step {step} ---"));
        self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{text}\n").and_then(|()| out.flush()); // A closed stdout does not stop training.
        });
        self.warn_once(|views| views.sampled(step, &text));
        if let Err(error) = self.samples.write(step, &text) {
            self.line(&format!("warning: the sample could not be added to samples.txt: {error}"));
        }
    }

    /// A view that can't be written is worth a warning and no more, and is left alone from then on.
    fn warn_once(&mut self, show: impl FnOnce(&mut Views) -> anyhow::Result<()>) {
        if let Err(error) = show(&mut self.views) {
            self.views.end();
            self.line(&format!("warning: pictures and event files stay as they are: {error:#}"));
        }
    }

    fn time_left(&self, step: u64) -> Duration {
        let (start, first) = self.started;
        let done = step.saturating_sub(first).max(1);
        let share = self.max_steps.saturating_sub(step) as f64 / done as f64;
        start.elapsed().mul_f64(share)
    }

    fn line(&self, line: &str) {
        self.bar.suspend(|| crate::console::report(format_args!("{line}")));
    }
}

fn loss_of(metrics: &Metrics) -> String {
    metrics.loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.4}"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a speed is positive and far below 2^64"
)]
fn count_of(speed: Option<f64>) -> String {
    count(speed.unwrap_or_default() as u64)
}
