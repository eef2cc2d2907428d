//! What surfaces hold of a running agent: its picture, and a way to ask.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::effects::clock::boottime;
use crate::model::Epoch;
use crate::model::event::{Answer, Wish};
use crate::runtime::app_desk::AppDesk;
use crate::runtime::dns_desk::DnsDesk;
use crate::runtime::lease_keeper::Held;
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
    /// The lease that the keeper holds, whatever the decision loop does meanwhile.
    pub held: watch::Receiver<Held>,
    /// Wishes go here; bounded.
    pub requests: mpsc::Sender<Request>,
    /// Questions about DNS, which change nothing.
    pub dns: DnsDesk,
    /// The files of this site's apps, for people.
    pub apps: AppDesk,
}

/// The agent is stopping and takes no wishes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

impl AgentHandle {
    /// For how long the lease of this epoch is held at least; `None` if it is not.
    #[must_use]
    pub fn lease_left(&self, epoch: Epoch) -> Option<Duration> {
        let (held, fence_at) = (*self.held.borrow())?;
        (held == epoch).then(|| boottime().until(fence_at))
    }

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
