//! What surfaces hold of a running agent: its picture, and a way to ask.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::model::event::{Answer, Wish};
use crate::runtime::status::Snapshot;

/// A wish and where its answer goes.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub wish: Wish,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// A running agent, as surfaces see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    /// The newest picture.
    pub status: watch::Receiver<Arc<Snapshot>>,
    /// Wishes go here; bounded.
    pub requests: mpsc::Sender<Request>,
}

/// The agent is stopping and takes no wishes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

impl AgentHandle {
    /// Asks for something and waits for the answer (not for its fulfilment).
    ///
    /// # Errors
    /// [`Stopping`] when the decision loop has ended.
    pub async fn ask(&self, wish: Wish) -> Result<Answer, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request { wish, answer })
            .await
            .map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}
