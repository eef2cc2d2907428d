//! Carries what the machine of a lease that is kept in a store asks: to the store, and to the other
//! agent; and what that one asks, to the machine.
//!
//! Every request ends within the lease's request timeout, as an answer or as its absence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::decision::lease::{Ask, Asked, Input};
use crate::effects::error::EffectError;
use crate::effects::lease::etcd::EtcdCell;
use crate::model::cell::{CellRequest, PeerAsk, PeerWord};
use crate::model::{Epoch, Member};
use crate::runtime::lease_keeper::LeaseKeeper;
use crate::runtime::members::Members;
use crate::runtime::tasks::spawn_named;

/// Questions of the other agent that wait at most; it gives up after one request timeout.
const ASKS_MAX: usize = 16;

/// One lost answer is nothing to tell.
const TOLD_AFTER: u64 = 3;

/// The way out of the machine.
#[derive(Debug)]
pub struct CellLink {
    cell: Option<EtcdCell>,
    members: Members,
    peer: Member,
    patience: Duration,
    answers: mpsc::Sender<Input>,
    /// Requests in a row that the store did not answer.
    unanswered: Arc<AtomicU64>,
}

impl CellLink {
    /// The link of this keeper; its answers come back as inputs.
    #[must_use]
    pub fn new(keeper: &LeaseKeeper, answers: mpsc::Sender<Input>) -> Self {
        Self {
            cell: keeper.cell.clone(),
            members: keeper.members.clone(),
            peer: Member::Site(keeper.peer.clone()),
            patience: keeper.rules.request_timeout,
            answers,
            unanswered: Arc::default(),
        }
    }

    /// Sends each request in a task of its own.
    pub fn carry(&self, asks: Vec<Ask>) {
        for Ask { round, what } in asks {
            match what {
                Asked::Store(request) => self.ask_store(round, request),
                Asked::Peer(ask) => self.ask_peer(round, ask),
            }
        }
    }

    fn ask_store(&self, round: u64, request: CellRequest) {
        // Who keeps no cell asks for none.
        let Some(cell) = self.cell.clone() else {
            return;
        };
        let (answers, patience) = (self.answers.clone(), self.patience);
        let unanswered = Arc::clone(&self.unanswered);
        spawn_named("cell request", async move {
            let reply = match cell.call(&request, patience).await {
                Ok(reply) => {
                    answered(&unanswered);
                    Some(reply)
                }
                Err(error) => {
                    not_answered(&unanswered, &error);
                    None
                }
            };
            // Nobody receives any more once the keeper has stopped.
            answers.send(Input::Cell { round, reply }).await.ok();
        });
    }

    fn ask_peer(&self, round: u64, ask: PeerAsk) {
        let (members, peer) = (self.members.clone(), self.peer.clone());
        let answers = self.answers.clone();
        spawn_named("cell question", async move {
            let word = match members.cell(&peer, &ask).await {
                Ok(word) => Some(word),
                Err(error) => {
                    tracing::debug!(member = %peer, %error, "no word from the other agent");
                    None
                }
            };
            answers.send(Input::PeerSaid { round, word }).await.ok();
        });
    }
}

fn answered(unanswered: &AtomicU64) {
    if unanswered.swap(0, Ordering::Relaxed) >= TOLD_AFTER {
        tracing::info!("the lease store answers again");
    }
}

fn not_answered(unanswered: &AtomicU64, error: &EffectError) {
    // Once in each silence.
    if unanswered.fetch_add(1, Ordering::Relaxed) + 1 == TOLD_AFTER {
        let hint = error.hint.as_deref().unwrap_or_default();
        tracing::warn!(%error, hint, "the lease store does not answer");
    } else {
        tracing::debug!(%error, "no answer from the lease store");
    }
}

/// What waits for the machine's word.
type Waiting = (PeerAsk, oneshot::Sender<PeerWord>);

/// The way in: questions of the other agent.
#[derive(Debug, Default)]
pub struct PeerAsks {
    asks: Option<mpsc::Receiver<Waiting>>,
    answer_to: Option<oneshot::Sender<PeerWord>>,
}

/// Where they are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AskPeer {
    asks: mpsc::Sender<Waiting>,
}

impl PeerAsks {
    /// Both ends.
    #[must_use]
    pub fn channel() -> (AskPeer, Self) {
        let (sender, receiver) = mpsc::channel(ASKS_MAX);
        let asks = Self {
            asks: Some(receiver),
            answer_to: None,
        };
        (AskPeer { asks: sender }, asks)
    }

    /// The next question; never, when nobody can ask.
    pub async fn next(&mut self) -> PeerAsk {
        let asked = match &mut self.asks {
            Some(asks) => asks.recv().await,
            None => None,
        };
        let Some((ask, answer_to)) = asked else {
            return std::future::pending().await;
        };
        self.answer_to = Some(answer_to);
        ask
    }

    /// Answers the question that came last.
    pub fn answer(&mut self, word: PeerWord) {
        if let Some(answer_to) = self.answer_to.take() {
            // Who asked may have given up; a promise binds all the same.
            answer_to.send(word).ok();
        }
    }
}

impl AskPeer {
    /// Asks the machine; whoever gives up waiting may have been promised something all the same.
    pub async fn ask(&self, ask: PeerAsk) -> PeerWord {
        let (sender, receiver) = oneshot::channel();
        let word = match self.asks.send((ask, sender)).await {
            Ok(()) => receiver.await.ok(),
            Err(_) => None,
        };
        // The keeper has stopped: nothing is promised.
        word.unwrap_or(PeerWord {
            accepted: false,
            epoch: Epoch::NONE,
        })
    }
}
