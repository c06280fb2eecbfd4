//! What becomes of each event of a run: it is shown, logged, and answered by a sample.

use console::{report, warn};
use journal::{LAST_SAMPLE_TOKENS, SAMPLE_TOKENS, SampleLog, sample};
use model::Gpt;
use tokenizer::Tokenizer;
use trainer::{Event, SkipReason};

use crate::{screen::Screen, views::Views};

/// A first step is worth a line if it takes so much longer than the others, in seconds.
const SLOW_START: f64 = 1.0;

/// Takes in what happens in a run.
pub struct Observer {
    /// Where the run is shown.
    pub screen: Box<dyn Screen>,
    /// Of the samples.
    pub tokenizer: Tokenizer,
    /// The samples in the run folder.
    pub samples: SampleLog,
    /// Pictures and event files.
    pub views: Views,
    /// Of the samples.
    pub seed: u64,
}

impl Observer {
    /// Shows and keeps what an event says.
    pub fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { step, max_steps } => self.screen.started(step, max_steps),
            Event::Step { step } => self.screen.step(step),
            Event::FirstStep { seconds, usual_seconds } => {
                if let Some(line) = first_step_line(seconds, usual_seconds) {
                    report(format_args!("{line}"));
                }
            }
            Event::Metrics(metrics) => {
                self.screen.measured(metrics);
                self.warn_once(|views| views.measured(metrics));
            }
            Event::Skipped { step, reason, loss } => skipped(step, reason, loss),
            Event::Sample { step, model, last } => self.sample(step, model, last),
            Event::Saved { step, asked: true } => report(format_args!("saved after step {step}")),
            Event::Saved { asked: false, .. } => {}
        }
    }

    /// Has a sample written, shown, and added to those in the run folder.
    fn sample(&mut self, step: u64, model: &Gpt, last: bool) {
        let max_tokens = if last { LAST_SAMPLE_TOKENS } else { SAMPLE_TOKENS };
        let text = match sample(model, &self.tokenizer, self.seed, max_tokens) {
            Ok(text) => text,
            Err(error) => return warn(format_args!("no sample: {:#}", anyhow::Error::new(error))),
        };
        self.screen.sampled(step, &text);
        self.warn_once(|views| views.sampled(step, &text));
        if let Err(error) = self.samples.write(step, &text) {
            warn(format_args!("the sample could not be added to samples.txt: {error}"));
        }
    }

    /// A view that can't be written is worth a warning and no more, and is left alone from then on.
    fn warn_once(&mut self, show: impl FnOnce(&mut Views) -> journal::Result<()>) {
        if let Err(error) = show(&mut self.views) {
            self.views.end();
            let error = anyhow::Error::new(error);
            warn(format_args!("pictures and event files stay as they are: {error:#}"));
        }
    }
}

/// What is said of a first step that took its time.
fn first_step_line(seconds: f64, usual_seconds: f64) -> Option<String> {
    (seconds > usual_seconds + SLOW_START).then(|| {
        format!(
            "first step {seconds:.1} s, in which kernels are compiled and tuned; {:.0} ms a step since",
            1e3 * usual_seconds
        )
    })
}

fn skipped(step: u64, reason: SkipReason, loss: f64) {
    let reason = match reason {
        SkipReason::NotFinite => "its loss or gradient is not finite".to_owned(),
        SkipReason::Spike { z_score } => {
            format!("its loss of {loss:.4} is {z_score:.1} standard deviations above those before")
        }
    };
    warn(format_args!("step {step} has left the weights as they were: {reason}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slow_first_step_is_told() {
        let line = first_step_line(12.34, 0.056).unwrap();
        assert_eq!(line, "first step 12.3 s, in which kernels are compiled and tuned; 56 ms a step since");
        assert_eq!(first_step_line(0.9, 0.1), None);
        assert_eq!(first_step_line(30.5, 30.0), None);
    }
}
