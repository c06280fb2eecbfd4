//! Turns conversations into token ids, with a mask of the tokens to train.

use std::{collections::BTreeSet, ops::Range};

use jiff::civil::Date;
use tokenizer::Tokenizer;

use crate::{
    Conversation, Error, Message, Result, SpecialTexts, Template,
    align::token_ranges,
    chatml,
    error::CHAT_TEMPLATE,
    spans::{Format, Formatted, Span, format},
    train_on::TrainOn,
};

/// The ids of a conversation, and which of them are trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub ids: Vec<u32>,
    /// For each id whether the model learns to generate it.
    pub trained: Vec<bool>,
}

impl Example {
    /// The number of trained ids.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|&&is_trained| is_trained).count()
    }
}

/// A conversation in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    Whole(Example),
    /// Without the last turns, which did not fit.
    Cut {
        example: Example,
        n_messages_dropped: usize,
        /// The tokens of the whole conversation.
        n_tokens_whole: usize,
    },
    /// Not even the first answer fits: with it, the conversation has `n_tokens`.
    TooLong {
        n_tokens: usize,
    },
}

/// Encodes conversations for training.
///
/// The whole text is encoded with special tokens recognised, as a model gets it at inference. A token is
/// trained if any of its text is: a token across the start of an answer, too. Masks never depend on the padding token,
/// so it may be the EOS token.
///
/// ```
/// # use chat::{Conversation, Encoder, Message, SpecialTexts, TrainOn};
/// use tokenizer::Tokenizer;
///
/// let template = "{% for message in messages %}{{ message.role + ':\n' + message.content + eos_token }}{% endfor %}\
///     {% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}";
/// let special = SpecialTexts::from([("eos_token".to_owned(), "<|endoftext|>".to_owned())]);
/// let encoder = Encoder::new(template, &special, Tokenizer::gpt2(), TrainOn::Assistant, chat::today())?;
///
/// let messages = vec![Message::user("2 + 2?"), Message::assistant("four")];
/// let example = encoder.encode(&Conversation::new(messages)?)?;
/// let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
/// let trained: Vec<u32> = trained.map(|(id, _)| *id).collect();
/// assert_eq!(encoder.tokenizer().decode(&trained), "four<|endoftext|>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Encoder {
    format: Format,
    tokenizer: Tokenizer,
    train_on: TrainOn,
}

impl Encoder {
    /// An encoder of a chat template. [`chatml::TEMPLATE`] is formatted without the template engine. A template that
    /// prints the date prints `date`.
    ///
    /// # Errors
    ///
    /// If the template is invalid, or can't format a question and its answer so that the end of the answer is trained.
    pub fn new(
        template: &str,
        special: &SpecialTexts,
        tokenizer: Tokenizer,
        train_on: TrainOn,
        date: Date,
    ) -> Result<Self> {
        let format = match template {
            chatml::TEMPLATE => {
                let is_missing = |token: &&str| !is_special_text(&tokenizer, token);
                if let Some(token) = chatml::SPECIAL_TOKENS.into_iter().find(is_missing) {
                    return Err(Error::MissingToken { token: token.to_owned() });
                }
                Format::ChatMl
            }
            _ => Format::Template(Template::with_date(template, special, date)?),
        };
        let encoder = Self { format, tokenizer, train_on };
        encoder.encode(&probe()).map_err(|error| match error {
            // All letters of the probe are in the template's roles too.
            Error::UnknownCharacter { character, .. } => {
                Error::UnknownCharacter { place: CHAT_TEMPLATE.to_owned(), character }
            }
            error => error,
        })?;
        Ok(encoder)
    }

    /// The tokenizer of the ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether conversations may have the date in their text.
    pub fn prints_date(&self) -> bool {
        match &self.format {
            Format::ChatMl => false,
            Format::Template(template) => template.prints_time(),
        }
    }

    /// The special token that ends an answer: the model should have it as an EOS token.
    pub fn end_token(&self) -> Result<u32> {
        let Example { ids, trained } = self.encode(&probe())?;
        let mut last = ids.into_iter().zip(trained).rev();
        let end = last.find(|&(id, is_trained)| is_trained && self.tokenizer.is_special(id));
        end.map(|(id, _)| id).ok_or(Error::NoEnd { number: 2 })
    }

    /// Texts such as `<|user|>` that the template prints, but that are not tokens.
    ///
    /// Few templates intend that, so it is worth a warning: the tokenizer may belong to another model.
    pub fn text_like_special_tokens(&self) -> Result<BTreeSet<String>> {
        let Formatted { text, .. } = format(&self.format, &probe(), self.train_on)?;
        let candidates = text.split("<|").skip(1).filter_map(|rest| rest.split_once("|>"));
        let candidates = candidates.map(|(name, _)| format!("<|{name}|>"));
        Ok(candidates.filter(|token| self.tokenizer.id_of(token).is_none()).collect())
    }

    /// The ids of a conversation and its mask, which has at least one trained token.
    ///
    /// # Errors
    ///
    /// If the template refuses the conversation, changes earlier turns, or does not end an answer with a special token.
    pub fn encode(&self, conversation: &Conversation) -> Result<Example> {
        let messages = conversation.messages();
        let Formatted { text, spans } = format(&self.format, conversation, self.train_on)?;
        let ids =
            self.tokenizer.encode_special(&text).map_err(|error| Error::of_encoding(error, messages))?;
        let ranges = token_ranges(&self.tokenizer, &ids, &text);
        let mut trained = vec![false; ids.len()];
        let mut previous = None;
        for span in &spans {
            let tokens = overlapping(&ranges, &span.bytes);
            if is_cut_in_changed_text(&ranges, &span.bytes) {
                return Err(Error::Unaligned { number: span.message + 1 });
            }
            trained[tokens.clone()].fill(true);
            // An answer may have several spans; its end is in the last one.
            if let Some((previous, tokens)) = previous.replace((span, tokens))
                && previous.message != span.message
            {
                self.check_end(previous, messages, &text, &ids[tokens.clone()], &ranges[tokens])?;
            }
        }
        if let Some((span, tokens)) = previous {
            self.check_end(span, messages, &text, &ids[tokens.clone()], &ranges[tokens])?;
        }
        Ok(Example { ids, trained })
    }

    /// Encodes a conversation for a block of `n_tokens_max` ids. If it is longer, the last turns are dropped, so that it
    /// ends with an answer; with [`TrainOn::Last`] that answer is trained.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode`].
    pub fn fit(&self, conversation: &Conversation, n_tokens_max: usize) -> Result<Fit> {
        let example = self.encode(conversation)?;
        if example.ids.len() <= n_tokens_max {
            return Ok(Fit::Whole(example));
        }
        let n_tokens_whole = example.ids.len();
        let (mut best, mut shortest) = (None, n_tokens_whole);
        // The numbers of answers that may fit.
        let (mut low, mut high) = (1, conversation.answers().len() - 1);
        while low <= high {
            let n = low.midpoint(high);
            let cut = conversation.with_answers(n);
            let example = self.encode(&cut)?;
            if example.ids.len() <= n_tokens_max {
                let n_messages_dropped = conversation.messages().len() - cut.messages().len();
                best = Some(Fit::Cut { example, n_messages_dropped, n_tokens_whole });
                low = n + 1;
            } else {
                shortest = example.ids.len();
                high = n - 1;
            }
        }
        Ok(best.unwrap_or(Fit::TooLong { n_tokens: shortest }))
    }

    /// Checks that the last trained token of an answer, except white space, is a special token.
    fn check_end(
        &self,
        span: &Span,
        messages: &[Message],
        text: &str,
        ids: &[u32],
        ranges: &[Range<usize>],
    ) -> Result<()> {
        let number = span.message + 1;
        let is_text = |range: &Range<usize>| !text.as_bytes()[range.clone()].trim_ascii().is_empty();
        match ranges.iter().rposition(is_text) {
            None => Err(Error::NothingTrained { number }),
            Some(last) if self.tokenizer.is_special(ids[last]) => Ok(()),
            Some(_) => {
                let content = messages[span.message].content.trim();
                let answer = &text[span.bytes.clone()];
                let end = answer.rfind(content).map_or("", |start| answer[start + content.len()..].trim());
                match end {
                    "" => Err(Error::NoEnd { number }),
                    _ => Err(Error::EndIsText { number, text: end.to_owned() }),
                }
            }
        }
    }
}

/// A question and its answer. All their letters are in `user` and `assistant`, because a character vocabulary may lack
/// others.
fn probe() -> Conversation {
    Conversation::new(vec![Message::user("rest"), Message::assistant("trains")])
        .expect("a question and its answer are a conversation")
}

/// Whether a text is a special token.
fn is_special_text(tokenizer: &Tokenizer, text: &str) -> bool {
    tokenizer.id_of(text).is_some_and(|id| tokenizer.is_special(id))
}

/// The tokens that have any byte of a span, and the space that a tokenizer adds at its start.
fn overlapping(ranges: &[Range<usize>], span: &Range<usize>) -> Range<usize> {
    let start = ranges.partition_point(|range| range.end <= span.start && range.start < span.start);
    let end = ranges.partition_point(|range| range.start < span.end);
    start..end.max(start)
}

/// Whether a border of the span is within text that several tokens share.
fn is_cut_in_changed_text(ranges: &[Range<usize>], span: &Range<usize>) -> bool {
    [span.start, span.end].into_iter().any(|border| {
        let first = ranges.partition_point(|range| range.end <= border);
        let is_across = |range: &Range<usize>| range.start < border && border < range.end;
        ranges[first..].iter().take_while(|range| is_across(range)).nth(1).is_some()
    })
}
