//! The state that all requests share.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chat::Template;
use tokio::sync::Semaphore;

use crate::{
    Error, Result, Settings,
    api::{constraint::Grammars, token_texts::TokenTexts},
    control::Control,
    error::ApiError,
    metrics::Metrics,
    worker::Worker,
};

/// More would only take the cores from the model.
const N_ENCODERS: usize = 4;

/// The state that all requests share.
#[derive(Debug)]
pub(crate) struct App {
    /// At least one.
    pub(crate) models: Vec<Served>,
    pub(crate) worker: Worker,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
    pub(crate) control: Control,
    /// A permit for each request whose prompt may be encoded at a time.
    pub(crate) encoders: Semaphore,
}

/// A served model.
#[derive(Debug)]
pub(crate) struct Served {
    /// Its name in requests.
    pub(crate) id: String,
    /// When the server started, in seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: Arc<engine::Model>,
    /// `None` if the model has no chat template, or an invalid one.
    pub(crate) template: Option<Template>,
    pub(crate) texts: TokenTexts,
    pub(crate) grammars: Grammars,
}

impl App {
    /// Starts the engine thread of these models.
    ///
    /// # Errors
    ///
    /// If there are no models, or two have the same name.
    pub(crate) fn start(
        settings: Settings,
        models: Vec<(String, engine::Model)>,
        control: Control,
    ) -> Result<Self> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let models = models.into_iter().map(|(id, model)| {
            let template = compile_template(&id, &model);
            let texts = TokenTexts::new(&model.tokenizer);
            Served { id, created, model: Arc::new(model), template, texts, grammars: Grammars::default() }
        });
        let models: Vec<Served> = models.collect();
        if models.is_empty() {
            return Err(Error::NoModel);
        }
        check_names(models.iter().map(|served| served.id.as_str()))?;
        let metrics = Metrics::new(models.iter().map(|served| served.id.as_str()), settings.n_slots);
        let loaded = models.iter().map(|served| served.model.clone()).collect();
        let worker = Worker::start(loaded, settings.n_slots, settings.queue, metrics.clone());
        let encoders = Semaphore::new(N_ENCODERS);
        Ok(Self { models, worker, metrics, settings, control, encoders })
    }

    /// The model that a request names, with its index. The first one if it names none.
    ///
    /// # Errors
    ///
    /// 404 if no served model has this name.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<(usize, &Served), ApiError> {
        let is_named = |served: &Served| name.is_none_or(|name| name.is_empty() || served.id == name);
        let found = self.models.iter().enumerate().find(|(_, served)| is_named(served));
        found.ok_or_else(|| {
            let served: Vec<&str> = self.models.iter().map(|served| served.id.as_str()).collect();
            ApiError::model_not_found(name.unwrap_or_default(), &served)
        })
    }
}

impl Served {
    /// The longest context in tokens.
    pub(crate) fn block_size(&self) -> usize {
        self.model.gpt.config().block_size
    }
}

/// Checks that models have different names.
///
/// # Errors
///
/// [`Error::DuplicateName`] with the first name that occurs twice.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::DuplicateName(name.to_owned())),
        None => Ok(()),
    }
}

/// The compiled chat template of a model. Warns if it is invalid.
fn compile_template(id: &str, model: &engine::Model) -> Option<Template> {
    let source = model.special_tokens.companions.chat_template()?;
    let texts = model.special_tokens.texts(&model.tokenizer);
    Template::new(source, &texts)
        .inspect_err(|error| tracing::warn!("{id} can't chat, but completions work: {error}"))
        .ok()
}
