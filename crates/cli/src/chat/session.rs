//! Answers the messages of a conversation.

use ::chat::{Message, Template};
use anyhow::bail;
use console::report;
use engine::{Model, Output, Piece, Request, SampledToken, Scheduler};
use journal::summary::plural;
use sampler::{Options, StoppedBy};

use super::conversation::Conversation;
use crate::{ctrl_c::CtrlC, memory, sample_printer::SamplePrinter};

/// An answer has room for 1/4 of the block, unless `--max-tokens` is less.
const ANSWER_SHARE: usize = 4;

pub(super) struct Session<'a> {
    model: &'a Model,
    template: Template,
    options: Options,
    /// Maximum number of tokens to guess at a time.
    pub(super) prompt_lookup: usize,
    /// Reuses the keys and values of the conversation so far.
    scheduler: Scheduler<'a>,
    pub(super) conversation: Conversation,
    is_on_cpu: bool,
    /// The next answer is the sample with this index, so that a repeated message gives another answer.
    n_answers: u64,
}

/// A conversation that ends with a message of the user, and the ids of its prompt, which fit the block size.
pub(super) struct Prompt {
    conversation: Conversation,
    ids: Vec<u32>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        model: &'a Model,
        template: Template,
        options: Options,
        conversation: Conversation,
        is_on_cpu: bool,
    ) -> Self {
        let scheduler = Scheduler::new(&model.gpt, &model.tokenizer, 1);
        Self { model, template, options, prompt_lookup: 0, scheduler, conversation, is_on_cpu, n_answers: 0 }
    }

    /// The prompt for an answer to a message. If the conversation exceeds the block size, its oldest messages are
    /// dropped.
    pub(super) fn prompt(&self, message: String) -> anyhow::Result<Prompt> {
        let block_size = self.model.gpt.config().block_size;
        let room = self.options.max_tokens.min(block_size / ANSWER_SHARE).max(1);
        let mut conversation = self.conversation.clone();
        conversation.push(Message::user(message));
        let mut n_dropped = 0;
        let ids = loop {
            let text = self.template.render_prompt(&conversation.messages())?;
            // The text has all special tokens, BOS too.
            let ids = self.model.tokenizer.encode_special(&text)?;
            if ids.len() + room <= block_size {
                break ids;
            }
            match conversation.drop_oldest() {
                0 if ids.len() < block_size => break ids,
                0 => bail!(
                    "the message has {} with the system message, but the block size of the model is {block_size}; \
                     shorten it",
                    plural(ids.len(), "token")
                ),
                n => n_dropped += n,
            }
        };
        if n_dropped > 0 {
            report(format_args!(
                "note: the conversation exceeds the block size of {block_size}; dropped its oldest {}",
                plural(n_dropped, "message")
            ));
        }
        if self.is_on_cpu {
            memory::check_kv_cache(&self.model.gpt, 1, self.n_tokens_max(&ids) + ids.len())?;
        }
        Ok(Prompt { conversation, ids })
    }

    /// Generates the answer to a prompt, prints it as it is generated, and adds it to the conversation. Ctrl-C or a
    /// closed stdout ends it.
    pub(super) fn answer(
        &mut self,
        Prompt { conversation, ids }: Prompt,
        ctrl_c: &CtrlC,
    ) -> anyhow::Result<()> {
        let n_max = self.n_tokens_max(&ids);
        let options = Options { max_tokens: n_max, ..self.options.clone() };
        let samples = self.n_answers..self.n_answers + 1;
        self.n_answers += 1;
        ctrl_c.begin_samples();
        let prompt_lookup = self.prompt_lookup;
        let request = Request { samples, prompt_lookup, ..Request::new(ids, options) };
        let request = self.scheduler.submit(request)?;
        let mut printer = SamplePrinter::stdout("");
        let (mut answer, mut stopped_by) = (String::new(), None);
        while !self.scheduler.is_idle() {
            for (_, output) in self.scheduler.step()? {
                match output {
                    Output::Token(SampledToken { text, stopped_by: reason, .. }) => {
                        answer += &text;
                        stopped_by = reason;
                        printer.print_piece(Piece { sample: 0, text, stopped_by: None });
                    }
                    Output::Failed(error) => return Err(error.into()),
                    Output::Prompt(_) => {}
                }
            }
            if ctrl_c.is_pressed() || printer.has_failed() {
                self.scheduler.cancel(request);
            }
        }
        ctrl_c.end_samples();
        printer.finish()?;
        if stopped_by == Some(StoppedBy::MaxTokens) {
            report(format_args!("note: the answer has reached its limit of {}", plural(n_max, "token")));
        }
        self.conversation = conversation;
        self.conversation.push(Message::assistant(answer));
        Ok(())
    }

    /// Maximum length of an answer to a prompt: it does not exceed the block.
    fn n_tokens_max(&self, prompt: &[u32]) -> usize {
        self.options.max_tokens.min(self.model.gpt.config().block_size - prompt.len())
    }
}
