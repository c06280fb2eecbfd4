//! Answers to questions of validation conversations, which show whether a model has learned to answer and to stop.

use engine::{MAX_BATCH_SIZE, Output, Request, RequestId, Scheduler};
use model::Gpt;
use sampler::{Options, StoppedBy};
use tokenizer::Tokenizer;

use crate::Result;

/// Questions that are answered after each evaluation.
pub const N_QUESTIONS: usize = 32;

/// The longest answer, in tokens.
pub const ANSWER_TOKENS: usize = 256;

/// Questions, and the tokens that end an answer.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The ids of each conversation up to the start of its first answer. At least one.
    pub prompts: Vec<Vec<u32>>,
    pub stop_tokens: Vec<u32>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// Whether a stop token ended it, instead of the maximum number of tokens.
    pub has_ended: bool,
}

impl Questions {
    /// The greedy answers to the first `n` questions. They stay incomplete once `should_stop` holds.
    ///
    /// # Errors
    ///
    /// If the logits are not finite, as in a model that diverged.
    pub fn answers(
        &self,
        model: &Gpt,
        tokenizer: &Tokenizer,
        n: usize,
        should_stop: impl Fn() -> bool,
    ) -> Result<Vec<Answer>> {
        let options = Options {
            max_tokens: ANSWER_TOKENS,
            temperature: 0.0,
            stop_tokens: self.stop_tokens.clone(),
            ..Options::default()
        };
        let mut scheduler = Scheduler::new(model, tokenizer, MAX_BATCH_SIZE);
        let mut answers: Vec<(RequestId, Answer)> = Vec::new();
        for prompt in self.prompts.iter().take(n) {
            let id = scheduler.submit(Request::new(prompt.clone(), options.clone()))?;
            answers.push((id, Answer { text: String::new(), has_ended: false }));
        }
        while !scheduler.is_idle() && !should_stop() {
            for (id, output) in scheduler.step()? {
                let token = match output {
                    Output::Token(token) => token,
                    Output::Prompt(_) => continue,
                    Output::Failed(error) => return Err(error.into()),
                };
                let found = answers.iter_mut().find(|(request, _)| *request == id);
                let (_, answer) = found.expect("each request has an answer");
                answer.text += &token.text;
                answer.has_ended |= token.stopped_by == Some(StoppedBy::StopToken);
            }
        }
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// The text of the first question.
    pub fn first(&self, tokenizer: &Tokenizer) -> String {
        self.prompts.first().map(|prompt| tokenizer.decode(prompt)).unwrap_or_default()
    }
}
