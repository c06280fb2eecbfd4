//! The routes of the server, and the checks that each request passes.

mod health;
mod models;
mod page;
mod runs;
mod tokenize;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};

use crate::{
    App, api,
    body_limit::read_body,
    error::ApiError,
    log,
    security::{self, Hosts},
};

/// All routes of a server that listens on `address`.
pub(crate) fn router(app: &Arc<App>, address: SocketAddr) -> Router {
    let routes = Router::new()
        .merge(api::routes())
        .merge(health::routes())
        .merge(models::routes())
        .merge(tokenize::routes())
        .merge(runs::routes())
        .merge(page::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method);
    // The last layer runs first: hosts before origins before keys.
    let mut checked = routes
        .layer(DefaultBodyLimit::disable()) // `read_body` has its own.
        .layer(from_fn(read_body))
        .layer(from_fn_with_state(app.clone(), security::check_key));
    if !app.settings.origins.is_empty() {
        checked = checked.layer(security::cors(&app.settings.origins));
    }
    checked
        .layer(from_fn_with_state(Hosts::of(address), security::check_host))
        .layer(from_fn(do_not_sniff))
        .layer(from_fn_with_state(app.clone(), log::log))
        .with_state(app.clone())
}

async fn unknown_route(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::not_found(format!(
        "there is no {method} {path}; this server has /v1/models, /v1/completions and /v1/chat/completions"
    ))
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method(), request.uri().path())
}

/// Keeps browsers from taking a response for another type than it says.
async fn do_not_sniff(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
