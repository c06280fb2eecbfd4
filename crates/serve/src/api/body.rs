//! The JSON body of a request.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Characters of a wrong value that an error quotes.
const MAX_QUOTED: usize = 80;

/// The fields of a JSON object, such as the body of a request. Unknown fields are ignored, and `null` is the same as a missing field.
#[derive(Debug, Deserialize)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The value of a field; `None` if it is missing or null. A whole number may be written as 2.0.
    ///
    /// # Errors
    ///
    /// 400 if the field has another type, or is out of the range of its type.
    pub(crate) fn get<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        let value = self.value(name);
        if value.is_null() {
            return Ok(None);
        }
        let whole = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0);
        let whole = whole.and_then(|number| format!("{number:.0}").parse().ok().map(Value::Number));
        let parsed = T::deserialize(whole.as_ref().unwrap_or(value)).or_else(|_| T::deserialize(value));
        parsed.map(Some).map_err(|_| {
            let given: String = value.to_string().chars().take(MAX_QUOTED).collect();
            ApiError::invalid(format!("`{name}` can't be {given}"), Some(name))
        })
    }

    /// The JSON of a field; null if it is missing.
    pub(crate) fn value(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether a field is present and not null, false, empty or zero.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Bool(true) => true,
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    /// Requires `content-type: application/json`, which a page of another site can't send without asking first.
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "the body must be JSON, with the header `content-type: application/json`";
            return Err(ApiError::client(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| ApiError::client(rejection.status(), rejection.body_text()))?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::invalid("the body must be a JSON object", None)),
            Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"), None)),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}
