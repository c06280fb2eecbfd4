//! The text of a conversation and what of it is trained.
//!
//! The tags `{% generation %}` of a template say it. For a template without them it is the difference of two prompts:
//! the messages before an answer with the generation prompt, and the messages with the answer. So an answer is trained
//! with all that the template prints after it: the end token, and often a line break.

use std::ops::Range;

use crate::{Conversation, Error, Message, Result, Template, TrainOn, chatml};

/// The format of conversations.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    ChatMl,
    Template(Template),
}

/// A formatted conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Formatted {
    pub(crate) text: String,
    /// In order and without overlap.
    pub(crate) spans: Vec<Span>,
}

/// Text that is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) bytes: Range<usize>,
    /// The index of its message.
    pub(crate) message: usize,
}

/// Formats a conversation. There is at least one span, and none is empty.
pub(crate) fn format(format: &Format, conversation: &Conversation, train_on: TrainOn) -> Result<Formatted> {
    let messages = conversation.messages();
    let n_answers = conversation.answers().len();
    let n_skipped = match train_on {
        TrainOn::Assistant => 0,
        TrainOn::Last => n_answers - 1,
    };
    let answers = conversation.answers().skip(n_skipped);
    let formatted = match format {
        Format::ChatMl => {
            let (text, ranges) = chatml::render(messages);
            let spans = answers.map(|message| Span { bytes: ranges[message].clone(), message });
            Formatted { text, spans: spans.collect() }
        }
        Format::Template(template) if template.has_generation_tags() => {
            by_tags(template, messages, n_skipped, n_answers)?
        }
        Format::Template(template) => by_prefixes(template, messages, answers)?,
    };
    let n_trained = formatted.spans.len();
    match formatted.spans.iter().find(|span| span.bytes.is_empty()) {
        Some(empty) => Err(Error::NothingTrained { number: empty.message + 1 }),
        None if n_trained == 0 => Err(Error::NothingTrained { number: messages.len() }),
        None => Ok(formatted),
    }
}

/// The spans between the tags `{% generation %}`.
fn by_tags(
    template: &Template,
    messages: &[Message],
    n_skipped: usize,
    n_answers: usize,
) -> Result<Formatted> {
    let last = messages.len() - 1;
    let (text, ranges) = template.render_generated(messages).map_err(|error| up_to(messages, last, error))?;
    // A template may have several blocks in an answer.
    let n_skipped_ranges = match n_skipped {
        0 => 0,
        _ if ranges.len() == n_answers => n_skipped,
        _ => {
            let before = &messages[..last];
            let rendered =
                template.render_generated(before).map_err(|error| up_to(messages, last - 1, error))?;
            rendered.1.len()
        }
    };
    let is_one_each = ranges.len() == n_answers;
    let first = messages.len() % 2 + 1;
    let message = |idx: usize| if is_one_each { first + 2 * idx } else { last };
    let spans = ranges.into_iter().enumerate().skip(n_skipped_ranges);
    Ok(Formatted { text, spans: spans.map(|(idx, bytes)| Span { bytes, message: message(idx) }).collect() })
}

/// The spans that the generation prompt and the text before it leave.
fn by_prefixes(
    template: &Template,
    messages: &[Message],
    answers: impl Iterator<Item = usize>,
) -> Result<Formatted> {
    let last = messages.len() - 1;
    let text = template.render_conversation(messages).map_err(|error| up_to(messages, last, error))?;
    let mut spans = Vec::new();
    for message in answers {
        let changed = |idx: usize| Error::PrefixChanges { number: idx + 1, role: messages[idx].role.clone() };
        let prompt = template
            .render_prompt(&messages[..message])
            .map_err(|error| up_to(messages, message - 1, error))?;
        if !text.starts_with(&prompt) {
            return Err(changed(message - 1));
        }
        let end = if message == last {
            text.len()
        } else {
            let answered = template
                .render_conversation(&messages[..=message])
                .map_err(|error| up_to(messages, message, error))?;
            if !text.starts_with(&answered) || answered.len() < prompt.len() {
                return Err(changed(message));
            }
            answered.len()
        };
        spans.push(Span { bytes: prompt.len()..end, message });
    }
    Ok(Formatted { text, spans })
}

/// Adds the message to an error of a template.
fn up_to(messages: &[Message], idx: usize, source: Error) -> Error {
    Error::UpTo { number: idx + 1, role: messages[idx].role.clone(), source: Box::new(source) }
}
