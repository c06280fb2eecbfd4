//! What is shown of a run, as plain data.

use std::collections::VecDeque;

use crate::Curve;

/// Messages that are kept.
const MAX_MESSAGES: usize = 200;

/// What is shown of a run. Numbers and texts come as they are to be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dashboard {
    /// The run's name.
    pub title: String,
    /// What it trains, in a few words.
    pub subtitle: String,
    /// How much of it is done, from 0 to 1.
    pub done: f64,
    /// The same in words.
    pub progress: String,
    /// Labels and values.
    pub numbers: Vec<(&'static str, String)>,
    /// Training loss by step.
    pub training: Curve,
    /// Validation loss by step.
    pub validation: Curve,
    /// The step and the value of the lowest validation loss.
    pub best: Option<(f64, f64)>,
    /// Other measurements.
    pub strips: Vec<Strip>,
    /// What the model wrote last.
    pub sample: Option<Sample>,
    /// Whether only the last half of the losses is shown.
    pub(crate) is_zoomed: bool,
    messages: VecDeque<String>,
}

/// A measurement that is shown as a strip of bars.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Strip {
    /// What it is.
    pub name: &'static str,
    /// By step.
    pub curve: Curve,
    /// Its last value, as it is to be read.
    pub last: String,
}

/// What a model wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// After which step, in words.
    pub title: String,
    /// The text.
    pub text: String,
}

impl Dashboard {
    /// Nothing has happened yet.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), ..Self::default() }
    }

    /// Adds a message for the person who looks.
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
