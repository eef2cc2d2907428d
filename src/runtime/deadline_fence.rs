//! The fence at a deadline: begins when the lease keeper says so, whatever the decision loop is
//! doing (S2, S4), and says how each attempt ended.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::effects::postgres::control::NodeControl;
use crate::model::{Epoch, SystemId};
use crate::runtime::lease_keeper::Held;
use crate::runtime::tasks::spawn_named;

/// Between two attempts to fence a node that could not be fenced; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Ends of attempts that wait to be taken in; a later one that finds no room says nothing new.
const ATTEMPTS_MAX: usize = 4;

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// No process of the node is left.
    Fenced {
        /// How long it took.
        took: Duration,
    },
    /// There was nothing to fence.
    Spared,
    /// It failed and is tried again.
    Failed,
}

/// Fences the own node at deadlines.
#[derive(Debug)]
pub struct DeadlineFence {
    node: NodeControl,
    budget: Duration,
    held: watch::Receiver<Held>,
    ended: mpsc::Sender<Attempt>,
}

impl DeadlineFence {
    /// A fence of `node` within `budget`, that gives up once `held` shows a newer lease. The
    /// receiver gets the end of each attempt.
    #[must_use]
    pub fn new(
        node: NodeControl,
        budget: Duration,
        held: watch::Receiver<Held>,
    ) -> (Self, mpsc::Receiver<Attempt>) {
        let (ended, attempts) = mpsc::channel(ATTEMPTS_MAX);
        let fence = Self {
            node,
            budget,
            held,
            ended,
        };
        (fence, attempts)
    }

    /// The lease of `epoch` is gone. Does not block, and goes on until it has succeeded, or until
    /// this site holds the lease anew: then the node may be serving again, and the decision loop
    /// knows what it was told of this loss.
    pub fn begin(&self, epoch: Epoch) {
        tracing::error!(%epoch, "lease gone: fencing the own node");
        let (node, held) = (self.node.clone(), self.held.clone());
        let (budget, ended) = (self.budget, self.ended.clone());
        spawn_named(
            "deadline fence",
            until_fenced(node, budget, epoch, held, ended),
        );
    }

    /// This process has just started, and the time that a node without a lease is given is over
    /// (S10). Spares a node that takes no writes, and one of another cluster than `expected`.
    pub fn begin_at_start(&self, expected: Option<SystemId>) {
        let (node, held) = (self.node.clone(), self.held.clone());
        let (budget, ended) = (self.budget, self.ended.clone());
        spawn_named("deadline fence", async move {
            if !node.may_be_writing(expected).await {
                // Nobody receives any more once the keeper has stopped.
                ended.send(Attempt::Spared).await.ok();
                return;
            }
            tracing::error!("the own node takes writes and no lease came: fencing it");
            until_fenced(node, budget, Epoch::NONE, held, ended).await;
        });
    }
}

async fn until_fenced(
    node: NodeControl,
    budget: Duration,
    epoch: Epoch,
    held: watch::Receiver<Held>,
    ended: mpsc::Sender<Attempt>,
) {
    let mut pause = PAUSE;
    loop {
        if held.borrow().is_some_and(|(newer, _)| newer > epoch) {
            tracing::warn!(%epoch, "this site holds the lease anew: no longer fencing");
            ended.send(Attempt::Spared).await.ok();
            return;
        }
        match node.fence(epoch, Duration::ZERO, budget).await {
            Ok(report) => {
                tracing::warn!(%epoch, took = ?report.took, "own node fenced");
                let took = report.took;
                ended.send(Attempt::Fenced { took }).await.ok();
                return;
            }
            Err(error) => {
                tracing::error!(%epoch, %error, "cannot fence the own node; trying again");
                ended.try_send(Attempt::Failed).ok();
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
