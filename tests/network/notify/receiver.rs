//! A receiver of webhooks that answers as told, and waiting with a bound.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::JoinHandle;

/// The part of the URL that is a password.
pub(crate) const SECRET_PATH: &str = "/hooks/T00000000/XsecretX";

/// How the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(u16),
    Busy { retry_after: u64 },
    Redirect,
    Never,
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) replies: VecDeque<Reply>,
    /// Idempotency key and body of every request.
    alerts: Vec<(String, Value)>,
}

/// A receiver of webhooks; it stops when dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let received = Arc::new(Mutex::new(Received::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{SECRET_PATH}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&received));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            received,
            task,
        }
    }

    /// The next answers; after them 200.
    pub(crate) fn reply(&self, replies: &[Reply]) {
        self.received.lock().unwrap().replies.extend(replies);
    }

    pub(crate) fn alerts(&self) -> Vec<(String, Value)> {
        self.received.lock().unwrap().alerts.clone()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let text =
            |(_, body): (String, Value)| body.get("event").unwrap().as_str().unwrap().to_owned();
        self.alerts().into_iter().map(text).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    State(received): State<Arc<Mutex<Received>>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    assert_eq!(uri.path(), SECRET_PATH);
    let key = headers
        .get("idempotency-key")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let reply = {
        let mut received = received.lock().unwrap();
        let alert = serde_json::from_str(&body).unwrap();
        received.alerts.push((key, alert));
        received.replies.pop_front()
    };
    match reply.unwrap_or(Reply::Status(200)) {
        Reply::Status(status) => {
            // What is echoed must not come back to the operator's eyes either.
            (StatusCode::from_u16(status).unwrap(), uri.to_string()).into_response()
        }
        Reply::Busy { retry_after } => {
            let header = [("retry-after", retry_after.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, header).into_response()
        }
        Reply::Redirect => (StatusCode::FOUND, [("location", "http://192.0.2.1/")]).into_response(),
        Reply::Never => pending().await,
    }
}

pub(crate) async fn until(what: &str, reached: impl Fn() -> bool) {
    for attempt in 0.. {
        if reached() {
            return;
        }
        assert!(attempt < 4000, "never: {what}");
        // bounded: 4,000 attempts, some 20 seconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
