//! A call: what a request asks for, checked and encoded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::Request;
use tokio::task::spawn_blocking;

use super::{body::Fields, choices::Choices};
use crate::{app::App, error::ApiError};

/// A longer time limit would be beyond the clock of some systems.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

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
