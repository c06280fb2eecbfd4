//! Limits the size of a request's body and the time that it takes to arrive.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::error::ApiError;

/// In bytes. A prompt of 100,000 token ids needs less than 1 MB.
const MAX_BODY: u64 = 8 << 20;

/// A larger body is not even read to its end. Most clients see the answer to a body only after they have sent it.
const MAX_DISCARDED: u64 = 8 * MAX_BODY;

const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Reads the body before the request is handled. Answers 413 or 408 if it exceeds a limit.
pub(crate) async fn read_body(request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_in_time(body).await?;
    Ok(next.run(Request::from_parts(parts, body.into())).await)
}

async fn read_in_time(body: Body) -> Result<Vec<u8>, ApiError> {
    timeout(TIME_LIMIT, read(body)).await.unwrap_or_else(|_| {
        let seconds = TIME_LIMIT.as_secs();
        Err(ApiError::timeout(format!("the body did not arrive within {seconds} seconds")))
    })
}

async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    if body.size_hint().lower() > MAX_DISCARDED {
        return Err(too_large());
    }
    let mut size = 0;
    let mut content = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::invalid(format!("the body is cut off: {error}"), None))?;
        size += chunk.len() as u64;
        if size <= MAX_BODY {
            content.extend_from_slice(&chunk);
        } else if size > MAX_DISCARDED {
            break;
        }
    }
    if size > MAX_BODY { Err(too_large()) } else { Ok(content) }
}

fn too_large() -> ApiError {
    ApiError::client(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} MiB", MAX_BODY >> 20))
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::Bytes;
    use futures_util::stream::{self, StreamExt as _};

    use super::*;

    fn chunk() -> io::Result<Bytes> {
        Ok(Bytes::from(vec![b' '; 1 << 20]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let slow = stream::iter([chunk()]).chain(stream::pending());
        let error = read_in_time(Body::from_stream(slow)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);

        let endless = stream::repeat_with(chunk);
        let error = read_in_time(Body::from_stream(endless)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_may_have_the_largest_size() {
        let mib = |n| Body::from_stream(stream::repeat_with(chunk).take(n));
        assert_eq!(read_in_time(mib(8)).await.unwrap().len(), 8 << 20);
        let error = read_in_time(mib(9)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(error.message.contains("8 MiB"), "{}", error.message);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_an_error() {
        let cut_off = stream::iter([chunk(), Err(io::ErrorKind::UnexpectedEof.into())]);
        let error = read_in_time(Body::from_stream(cut_off)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }
}
