//! The contents of the live view, as plain data.

use std::collections::VecDeque;

use crate::Curve;

/// Number of messages kept.
const MAX_MESSAGES: usize = 200;

/// The contents of the live view. Values and texts are already formatted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dashboard {
    pub title: String,
    /// Short description of the model and device.
    pub subtitle: String,
    /// Fraction of the run that is done, from 0 to 1.
    pub done: f64,
    /// Progress as text.
    pub progress: String,
    /// Labels and values.
    pub numbers: Vec<(&'static str, String)>,
    /// Training loss by step.
    pub training: Curve,
    /// Validation loss by step.
    pub validation: Curve,
    /// The step and the value of the lowest validation loss.
    pub best: Option<(f64, f64)>,
    /// Metrics shown as bars.
    pub strips: Vec<Strip>,
    /// The last sample.
    pub sample: Option<Sample>,
    /// Whether only the second half of the losses is shown.
    pub(crate) is_zoomed: bool,
    messages: VecDeque<String>,
}

/// A metric shown as a strip of bars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Strip {
    pub name: &'static str,
    pub curve: Curve,
    /// The last value, formatted.
    pub last: String,
}

/// A generated text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub title: String,
    pub text: String,
}

impl Dashboard {
    /// A dashboard without measurements or messages.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), ..Self::default() }
    }

    /// Adds a message, one entry per line.
    pub fn say(&mut self, message: &str) {
        let lines = message.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        self.messages.extend(lines);
        self.messages.drain(..self.messages.len().saturating_sub(MAX_MESSAGES));
    }

    /// The last messages, oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.messages.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_messages_are_kept() {
        let mut dashboard = Dashboard::default();
        (0..500).for_each(|number| dashboard.say(&format!("\n{number}\nand more")));
        let messages: Vec<&str> = dashboard.messages().collect();
        assert_eq!(messages.len(), MAX_MESSAGES);
        assert_eq!(messages[MAX_MESSAGES - 2..], ["499", "and more"]);
    }
}
