//! Errors of the server at its start, and the errors that requests get.

use std::{io, net::SocketAddr};

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("port {} of {} is in use; choose another with --port, or --port 0 for a free one", .0.port(), .0.ip())]
    AddressInUse(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("two models are named `{0}`; rename the folder of one of them, or serve one only")]
    DuplicateName(String),
    #[error("there is no model to serve")]
    NoModel,
    #[error(
        "`{0}` is not an origin; write it as `https://example.org` or `http://localhost:3000`, or `*` for any"
    )]
    Origin(String),
    #[error("the API key is empty or has characters that an HTTP header can't have; use letters and digits")]
    Key,
    #[error("cannot start the server")]
    Start(#[source] io::Error),
}

/// Seconds after which a client may try again if the queue was full.
const RETRY_AFTER: u64 = 1;

/// An error of a request, sent in OpenAI's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    /// The field of the request at fault.
    pub(crate) param: Option<&'static str>,
    pub(crate) message: String,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None }
    }

    /// Another status than 400 for a mistake of the client.
    pub(crate) fn client(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// 400. `param` is the field at fault, if it is one.
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { param, ..Self::client(StatusCode::BAD_REQUEST, message) }
    }

    /// 400 for a prompt that does not fit the context.
    pub(crate) fn context_length(n_prompt: usize, block_size: usize) -> Self {
        let message = format!(
            "the prompt has {n_prompt} tokens, but the model's context is {block_size} tokens; shorten the prompt"
        );
        Self { code: Some("context_length_exceeded"), ..Self::invalid(message, Some("prompt")) }
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let message = "missing or wrong API key; send it as `Authorization: Bearer KEY`";
        Self { code: Some("invalid_api_key"), ..Self::client(StatusCode::UNAUTHORIZED, message) }
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::client(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::client(StatusCode::NOT_FOUND, message)
    }

    /// 404 for a model that is not served.
    pub(crate) fn model_not_found(name: &str, served: &[&str]) -> Self {
        let message = format!("the model `{name}` is not served; this server has {}", served.join(", "));
        Self { code: Some("model_not_found"), param: Some("model"), ..Self::not_found(message) }
    }

    /// 405.
    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        Self::client(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not have the method {method}"))
    }

    /// 408 for a body that arrives too slowly, or for a request that exceeds the time limit.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self { code: Some("timeout"), ..Self::client(StatusCode::REQUEST_TIMEOUT, message) }
    }

    /// 429.
    pub(crate) fn queue_full() -> Self {
        let message = "too many requests are waiting; try again later";
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// 503.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: Some("service_unavailable"),
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    /// 503 for a request without a token at its time limit.
    pub(crate) fn too_late() -> Self {
        Self::unavailable("the server is busy: the time limit passed before the first token; try again later")
    }

    /// 503 for requests that wait when the server stops.
    pub(crate) fn shutting_down() -> Self {
        Self::unavailable("the server is shutting down; try another server, or again later")
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}`. Errors within a stream have it too.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let Self { kind, code, param, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A path or query that is not valid UTF-8.
impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::client(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::client(rejection.status(), rejection.body_text())
    }
}
