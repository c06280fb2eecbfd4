//! Compiled chat templates.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range, sync::Arc};

use jiff::civil::Date;
use minijinja::{Environment, Value, context, value::Serde};

use crate::{
    Error, Message, Result,
    environment::{STRFTIME_NOW, new_environment},
    generation_tag::{with_filter_blocks, without_marks},
};

/// The name of the template within its environment.
const NAME: &str = "chat_template";

/// The texts of a model's special tokens, by their names in `tokenizer_config.json`, such as `bos_token`.
pub type SpecialTexts = BTreeMap<String, String>;

/// A compiled chat template with the special tokens of its model. Clones share it.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    has_generation_tags: bool,
    prints_time: bool,
}

/// The end of a rendered conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Conversation,
    GenerationPrompt,
}

/// The marks in a rendered conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    None,
    /// Around the text between the tags `{% generation %}`.
    Generation,
}

impl Template {
    /// Compiles a template. If it prints the date or the time, each rendering has the current one.
    ///
    /// # Errors
    ///
    /// [`Error::Syntax`] if it is not valid Jinja.
    pub fn new(source: &str, special: &SpecialTexts) -> Result<Self> {
        Self::compile(source, special, new_environment(None))
    }

    /// Like [`Template::new`], with a fixed date: equal conversations have equal texts on all days.
    ///
    /// # Errors
    ///
    /// As [`Template::new`].
    pub fn with_date(source: &str, special: &SpecialTexts, date: Date) -> Result<Self> {
        Self::compile(source, special, new_environment(Some(date)))
    }

    fn compile(source: &str, special: &SpecialTexts, mut environment: Environment<'static>) -> Result<Self> {
        for (name, text) in special {
            environment.add_global(name.clone(), text.as_str());
        }
        let source = with_filter_blocks(source);
        let has_generation_tags = matches!(source, Cow::Owned(_));
        environment
            .add_template_owned(NAME, source.into_owned())
            .map_err(|error| Error::of_compiling(&error))?;
        let template = environment.get_template(NAME).map_err(|error| Error::of_compiling(&error))?;
        let prints_time = template.undeclared_variables(false).contains(STRFTIME_NOW);
        Ok(Self { environment: Arc::new(environment), has_generation_tags, prints_time })
    }

    /// The text of a conversation up to the start of the assistant's next message, which the model continues.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the template refuses the conversation, [`Error::Render`] if it fails, and
    /// [`Error::TooManySteps`] if it does not end in time.
    pub fn render_prompt(&self, messages: &[Message]) -> Result<String> {
        self.render(messages, End::GenerationPrompt, Marks::None)
    }

    /// The text of a conversation up to the end of its last message.
    ///
    /// # Errors
    ///
    /// As [`Template::render_prompt`].
    pub fn render_conversation(&self, messages: &[Message]) -> Result<String> {
        self.render(messages, End::Conversation, Marks::None)
    }

    /// Whether the template has the tags `{% generation %}`, around the text that the assistant generates.
    pub fn has_generation_tags(&self) -> bool {
        self.has_generation_tags
    }

    /// Whether the template may print the date or the time, with `strftime_now`.
    pub fn prints_time(&self) -> bool {
        self.prints_time
    }

    /// The text of [`render_conversation`](Self::render_conversation), and its byte ranges between the tags
    /// `{% generation %}`.
    ///
    /// # Errors
    ///
    /// As [`Template::render_prompt`], and [`Error::GenerationTags`] if the template changes the text after the tags.
    pub fn render_generated(&self, messages: &[Message]) -> Result<(String, Vec<Range<usize>>)> {
        let text = self.render_conversation(messages)?;
        let marked = self.render(messages, End::Conversation, Marks::Generation)?;
        without_marks(&marked).filter(|(unmarked, _)| *unmarked == text).ok_or(Error::GenerationTags)
    }

    fn render(&self, messages: &[Message], end: End, marks: Marks) -> Result<String> {
        let context = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => end == End::GenerationPrompt,
            generation_is_marked => marks == Marks::Generation,
            tools => (),
            documents => (),
        };
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(context)).map_err(|error| Error::of_rendering(&error))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}
