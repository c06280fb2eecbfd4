//! A call: what a request asks for, checked and encoded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::Request;
use sampler::Options;
use tokio::task::spawn_blocking;

use super::{
    body::Fields,
    choices::Choices,
    options::{eos_tokens, seed},
};
use crate::{app::App, error::ApiError};

/// A longer time limit would be beyond the clock of some systems.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A request that can run.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) model_idx: usize,
    pub(crate) choices: Choices,
    /// One for each prompt.
    pub(crate) requests: Vec<Request>,
    pub(crate) delivery: Delivery,
    pub(crate) deadline: Instant,
}

impl Call {
    /// The part of a call that both routes share: constraint, seed, delivery and deadline.
    ///
    /// # Errors
    ///
    /// 400 for an invalid field, and for more log-probabilities than fit in memory.
    pub(crate) fn new(
        app: &App,
        fields: &Fields,
        model_idx: usize,
        choices: Choices,
        mut options: Options,
    ) -> Result<Self, ApiError> {
        let deadline = Instant::now() + app.settings.time_limit.min(MAX_TIME);
        let served = &app.models[model_idx];
        choices.check_logprobs(options.max_tokens)?;
        let constraint = served.grammars.constraint(fields, &served.model)?;
        if constraint.is_some() {
            options.stop_tokens = eos_tokens(&served.model); // A grammar ends with EOS, also with `ignore_eos`.
        }
        let mut requests = choices.requests(&options, seed(fields)?, constraint.as_deref());
        requests.iter_mut().for_each(|request| request.prompt_lookup = app.settings.prompt_lookup);
        Ok(Self { model_idx, choices, requests, delivery: Delivery::read(fields)?, deadline })
    }
}

/// How the choices are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    /// Server-sent events.
    Stream {
        include_usage: bool,
    },
}

impl Delivery {
    pub(crate) fn read(fields: &Fields) -> Result<Self, ApiError> {
        if !fields.get("stream")?.unwrap_or(false) {
            return Ok(Self::Whole);
        }
        let include_usage = match fields.get::<Fields>("stream_options")? {
            Some(options) => options.get("include_usage")?.unwrap_or(false),
            None => false,
        };
        Ok(Self::Stream { include_usage })
    }
}

/// Makes a call of a request's fields, on a thread for long work: a large prompt takes long to encode. Only a few
/// requests do so at a time.
///
/// # Errors
///
/// The error of `read`.
pub(crate) async fn read_call(
    app: &Arc<App>,
    fields: Fields,
    read: fn(&App, &Fields) -> Result<Call, ApiError>,
) -> Result<Call, ApiError> {
    let _permit = app.encoders.acquire().await;
    let app = app.clone();
    let call = spawn_blocking(move || read(&app, &fields)).await;
    call.unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}
