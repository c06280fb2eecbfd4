//! Compiled chat templates.

use std::{collections::BTreeMap, fmt, sync::Arc};

use minijinja::{Environment, Value, context, value::Serde};

use crate::{Error, Message, Result, environment::new_environment, generation_tag::without_generation_tags};

/// The name of the template within its environment.
const NAME: &str = "chat_template";

/// The texts of a model's special tokens, by their names in `tokenizer_config.json`, such as `bos_token`.
pub type SpecialTexts = BTreeMap<String, String>;

/// A compiled chat template with the special tokens of its model. Clones share it.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

/// The end of a rendered conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Conversation,
    GenerationPrompt,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// [`Error::Syntax`] if it is not valid Jinja.
    pub fn new(source: &str, special: &SpecialTexts) -> Result<Self> {
        let mut environment = new_environment();
        for (name, text) in special {
            environment.add_global(name.clone(), text.as_str());
        }
        let source = without_generation_tags(source).into_owned();
        environment.add_template_owned(NAME, source).map_err(|error| Error::of_compiling(&error))?;
        Ok(Self { environment: Arc::new(environment) })
    }

    /// The text of a conversation up to the start of the assistant's next message, which the model continues.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the template refuses the conversation, [`Error::Render`] if it fails, and
    /// [`Error::TooManySteps`] if it does not end in time.
    pub fn render_prompt(&self, messages: &[Message]) -> Result<String> {
        self.render(messages, End::GenerationPrompt)
    }

    /// The text of a conversation up to the end of its last message.
    ///
    /// # Errors
    ///
    /// As [`Template::render_prompt`].
    pub fn render_conversation(&self, messages: &[Message]) -> Result<String> {
        self.render(messages, End::Conversation)
    }

    fn render(&self, messages: &[Message], end: End) -> Result<String> {
        let context = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => end == End::GenerationPrompt,
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
