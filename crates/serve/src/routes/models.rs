//! `/v1/models`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::get,
};
use serde_json::{Value, json};

use crate::{App, app::Served, error::ApiError};

/// The id of a model may have slashes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*id}", get(one))
}

async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let models: Vec<Value> = app.models.iter().map(describe).collect();
    Json(json!({ "object": "list", "data": models }))
}

async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    let (_, served) = app.model(Some(&id))?;
    Ok(Json(describe(served)))
}

fn describe(served: &Served) -> Value {
    json!({
        "id": served.id,
        "object": "model",
        "created": served.created,
        "owned_by": "kindling",
        "max_model_len": served.block_size(),
    })
}
