//! An answer that grows: one JSON line per value, sent as soon as there is one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Streams what `values` brings until its senders are gone. When the reader goes away first, the
/// channel closes: senders must stop then, and must never wait for a slow reader (S16).
pub fn json_lines<T: Serialize + Send + 'static>(values: mpsc::Receiver<T>) -> Response {
    let body = Body::new(Lines { values });
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

struct Lines<T> {
    values: mpsc::Receiver<T>,
}

impl<T: Serialize> HttpBody for Lines<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.values.poll_recv(context).map(|value| {
            let mut line = match serde_json::to_vec(&value?) {
                Ok(line) => line,
                Err(error) => {
                    tracing::warn!(%error, "a value has no JSON form and is left out");
                    Vec::new()
                }
            };
            line.push(b'\n');
            Some(Ok(Frame::data(line.into())))
        })
    }
}
