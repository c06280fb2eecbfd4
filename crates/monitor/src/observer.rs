//! Handles the events of a run: displays and logs them, and generates samples.

use console::{report, warn};
use journal::{
    LAST_SAMPLE_TOKENS, N_QUESTIONS, Questions, SAMPLE_TOKENS, SampleLog, sample,
    summary::{count, plural},
};
use model::Gpt;
use tokenizer::Tokenizer;
use trainer::{Control, Event, PreferenceFigures, SkipReason};

use crate::{chart_files::ChartFiles, screen::Screen};

/// The first step is reported if it takes this many seconds longer than later ones.
const SLOW_START: f64 = 1.0;

/// Handles the events of a run.
pub struct Observer {
    pub screen: Box<dyn Screen>,
    pub tokenizer: Tokenizer,
    /// Questions of validation conversations; `None` for a text.
    pub questions: Option<Questions>,
    pub samples: SampleLog,
    pub chart_files: ChartFiles,
    /// Seed of the samples.
    pub seed: u64,
}

impl Observer {
    /// Displays and logs one event.
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
                self.warn_once(|chart_files| chart_files.measured(metrics));
            }
            Event::Skipped { step, reason, loss } => skipped(step, reason, loss),
            Event::Reference { n_pairs } => {
                let pairs = plural(count(n_pairs as u64), "pair");
                report(format_args!("computing the log-probabilities of {pairs} with the initial model"));
            }
            Event::Evaluated { model, preferences, control, .. } => {
                if let Some(PreferenceFigures { n_pairs, accuracy, margin }) = preferences {
                    let pairs = plural(count(n_pairs as u64), "pair");
                    let share = 100.0 * accuracy;
                    report(format_args!(
                        "the chosen answer gained on the rejected one in {share:.0} % of {pairs}, mean margin {margin:.3}"
                    ));
                }
                self.answer(model, control);
            }
            Event::Sample { step, model, last } => self.sample(step, model, last),
            Event::Saved { step, asked: true } => report(format_args!("saved after step {step}")),
            Event::Saved { asked: false, .. } => {}
        }
    }

    /// Answers validation questions, and reports how many answers end by themselves.
    fn answer(&self, model: &Gpt, control: &Control) {
        let Some(questions) = &self.questions else { return };
        match questions.answers(model, &self.tokenizer, N_QUESTIONS, || control.should_stop()) {
            Ok(_) if control.should_stop() => {}
            Ok(answers) => {
                let n_ended = answers.iter().filter(|answer| answer.has_ended).count();
                report(format_args!("{n_ended} of {} answers end by themselves", answers.len()));
            }
            Err(error) => {
                warn(format_args!("cannot answer validation questions: {:#}", anyhow::Error::new(error)));
            }
        }
    }

    /// Generates a sample, or for conversations the answer to the first validation question, displays it and appends it
    /// to `samples.txt`.
    fn sample(&mut self, step: u64, model: &Gpt, last: bool) {
        let max_tokens = if last { LAST_SAMPLE_TOKENS } else { SAMPLE_TOKENS };
        let text = match &self.questions {
            Some(questions) => questions.answers(model, &self.tokenizer, 1, || false).map(|answers| {
                let answers = answers.into_iter().map(|answer| answer.text);
                questions.first(&self.tokenizer) + &answers.collect::<String>()
            }),
            None => sample(model, &self.tokenizer, self.seed, max_tokens),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                return warn(format_args!("cannot generate a sample: {:#}", anyhow::Error::new(error)));
            }
        };
        self.screen.sampled(step, &text);
        self.warn_once(|chart_files| chart_files.sampled(step, &text));
        if let Err(error) = self.samples.write(step, &text) {
            warn(format_args!("cannot write the sample to samples.txt: {error}"));
        }
    }

    /// A chart or event file that can't be written is a warning, not an error; later updates are skipped.
    fn warn_once(&mut self, update: impl FnOnce(&mut ChartFiles) -> journal::Result<()>) {
        if let Err(error) = update(&mut self.chart_files) {
            self.chart_files.disable();
            let error = anyhow::Error::new(error);
            warn(format_args!("charts and TensorBoard event files are no longer updated: {error:#}"));
        }
    }
}

/// The message about a slow first step.
fn first_step_line(seconds: f64, usual_seconds: f64) -> Option<String> {
    (seconds > usual_seconds + SLOW_START).then(|| {
        format!(
            "first step {seconds:.1} s (compiling and tuning kernels), then {:.0} ms per step",
            1e3 * usual_seconds
        )
    })
}

fn skipped(step: u64, reason: SkipReason, loss: f64) {
    let reason = match reason {
        SkipReason::NotFinite => "its loss or gradient is not finite".to_owned(),
        SkipReason::Spike { z_score } => {
            format!("its loss of {loss:.4} is {z_score:.1} standard deviations above the recent mean")
        }
    };
    warn(format_args!("skipped the update of step {step}: {reason}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slow_first_step_is_reported() {
        let line = first_step_line(12.34, 0.056).unwrap();
        assert_eq!(line, "first step 12.3 s (compiling and tuning kernels), then 56 ms per step");
        assert_eq!(first_step_line(0.9, 0.1), None);
        assert_eq!(first_step_line(30.5, 30.0), None);
    }
}
