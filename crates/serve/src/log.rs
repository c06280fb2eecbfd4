//! Logs and counts requests: method, path, status, time and tokens. Prompts, keys and query strings are never logged.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};

use crate::{App, control::RunningRequest};

/// The route of requests to unknown paths in metrics.
const UNKNOWN_ROUTE: &str = "unknown";

/// The status in metrics of a request whose client left before the response, as in nginx.
const CLIENT_LEFT: u16 = 499;

/// The tokens of a request, for its line in the log. A handler finds it among the extensions of the request.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenCounts(Arc<[AtomicU64; 2]>);

impl TokenCounts {
    /// Adds tokens of the prompt.
    pub(crate) fn add_prompt(&self, n: u64) {
        self.0[0].fetch_add(n, Ordering::Relaxed);
    }

    /// Adds generated tokens.
    pub(crate) fn add_generated(&self, n: u64) {
        self.0[1].fetch_add(n, Ordering::Relaxed);
    }

    fn totals(&self) -> (u64, u64) {
        (self.0[0].load(Ordering::Relaxed), self.0[1].load(Ordering::Relaxed))
    }
}

/// Logs and counts a request. It runs until the response is sent or the client has left.
pub(crate) async fn log(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let tokens = TokenCounts::default();
    request.extensions_mut().insert(tokens.clone());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut exchange = Exchange {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        route: route.unwrap_or_else(|| UNKNOWN_ROUTE.to_owned()),
        tokens,
        began: Instant::now(),
        status: None,
        is_complete: false,
        _running: app.control.begin_request(),
        app,
    };
    let response = next.run(request).await;
    exchange.app.metrics.answered(&exchange.route, response.status().as_u16());
    exchange.status = Some(response.status());
    // hyper does not poll a body without data.
    exchange.is_complete = response.body().is_end_stream() || exchange.method == Method::HEAD;
    response.map(|body| Body::new(LoggedBody { body, exchange }))
}

/// A request and its response.
#[derive(Debug)]
struct Exchange {
    method: Method,
    path: String,
    route: String,
    tokens: TokenCounts,
    began: Instant,
    status: Option<StatusCode>,
    is_complete: bool,
    _running: RunningRequest,
    app: Arc<App>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Self { method, path, .. } = self;
        let milliseconds = self.began.elapsed().as_millis();
        let status = match self.status {
            Some(status) => status.as_u16(),
            None => {
                self.app.metrics.answered(&self.route, CLIENT_LEFT);
                CLIENT_LEFT
            }
        };
        let tokens = match self.tokens.totals() {
            (0, 0) => String::new(),
            (prompt, generated) => format!(", {prompt} prompt tokens, {generated} generated"),
        };
        let left = if self.is_complete { "" } else { ", the client left" };
        let line = format_args!("{method} {path} {status} in {milliseconds} ms{tokens}{left}");
        // Pages and monitors poll with GET, which would hide other lines.
        if *method == Method::GET && status == StatusCode::OK {
            tracing::debug!("{line}");
        } else {
            tracing::info!("{line}");
        }
    }
}

/// A response body that ends an exchange when it is sent or dropped.
#[derive(Debug)]
struct LoggedBody {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.exchange.is_complete = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
