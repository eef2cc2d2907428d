//! Keeps the lease: drives the contender against the voters, and fences at the deadline.
//!
//! It runs beside the decision loop and does not wait for it: when the deadline passes, the fence
//! begins here, whatever the loop is doing (S2, S4). The loop only says whether the own node may
//! be taking writes (`armed`); a standby is not fenced.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::decision::lease::{Contender, Input, LeaseRules, Send};
use crate::effects::clock::boottime;
use crate::effects::postgres::control::NodeControl;
use crate::model::event::Event;
use crate::model::lease::{LeaseChange, LeaseCommand, LeaseView};
use crate::model::{Epoch, Moment, SiteName};
use crate::runtime::inherited;
use crate::runtime::members::Members;
use crate::runtime::tasks::spawn_named;
use crate::runtime::voter_host::VoterHost;

/// At most this many answers wait to be taken in.
const ANSWERS_MAX: usize = 256;

/// Between two attempts to fence a node that could not be fenced; doubles up to the longest.
const FENCE_PAUSE: Duration = Duration::from_millis(100);
const FENCE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The epoch that is held and its fence deadline, as the keeper knows them before anybody else.
pub type Held = Option<(Epoch, Moment)>;

/// What the keeper works with.
#[derive(Debug)]
pub struct LeaseKeeper {
    /// The lease's rules.
    pub rules: LeaseRules,
    /// This site.
    pub site: SiteName,
    /// Feeds the back-off of losers.
    pub seed: u64,
    /// The own vote.
    pub voter: VoterHost,
    /// The other voters.
    pub members: Members,
    /// The own node, to fence it.
    pub node: NodeControl,
    /// Where the deadline is left for the next life of this agent.
    pub state_dir: PathBuf,
    /// Whether the own node may be taking writes.
    pub armed: watch::Receiver<bool>,
    /// The lease that is held now, and when the node is fenced unless it is renewed.
    pub held: watch::Sender<Held>,
    /// News go to the decision loop.
    pub events: mpsc::Sender<Event>,
}

impl LeaseKeeper {
    /// Runs until stopped. Stopping releases nothing and fences nothing: the node goes on under
    /// the running grant, and the next life of this agent asks anew within the ttl.
    pub async fn run(self, mut commands: mpsc::Receiver<LeaseCommand>, stop: CancellationToken) {
        let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
        let site = self.site.clone();
        let mut contender = Contender::new(self.rules.clone(), site, self.seed, boottime());
        let mut input = Some(Input::Tick);
        let mut news = VecDeque::new();
        let deadlines = leave_deadlines(self.state_dir.clone());
        loop {
            let Some(now_input) = input.take() else {
                return;
            };
            let output = contender.handle(now_input, boottime());
            // Before `armed` is read: a step that may start writes arms first and looks here then,
            // so one of the two sees the other.
            self.held.send_replace(match contender.current_view() {
                LeaseView::Held { epoch, fence_at } => Some((epoch, fence_at)),
                LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => None,
            });
            if let Some(epoch) = output.fence {
                self.fence(epoch);
            }
            for send in output.sends {
                self.ask(send, answers.clone());
            }
            for change in output.changes {
                if let Some(at) = deadline_of(&change) {
                    deadlines.send_replace(Some(at));
                }
                queue(&mut news, change);
            }
            let wait = output
                .wake_at
                .map_or(self.rules.renew_every, |at| boottime().until(at));
            input = tokio::select! {
                () = stop.cancelled() => None,
                // Never waited for: a loop that hangs on a bad disk must not stop the fence (S4).
                room = self.events.reserve(), if !news.is_empty() => match room {
                    Ok(room) => {
                        if let Some(change) = news.pop_front() {
                            room.send(Event::Lease(change));
                        }
                        Some(Input::Tick)
                    }
                    // The decision loop is gone, and so is this agent.
                    Err(_) => None,
                },
                Some(answer) = answered.recv() => Some(answer),
                command = commands.recv() => command.map(Input::Command),
                () = self.voter.released_here() => Some(Input::Poke),
                () = tokio::time::sleep(wait) => Some(Input::Tick),
            };
        }
    }

    /// Sends one request; the answer, or its absence, comes back as an input.
    fn ask(&self, send: Send, answers: mpsc::Sender<Input>) {
        let Send { to, round, request } = send;
        let (members, voter) = (self.members.clone(), self.voter.clone());
        let identity = self.rules.identity.clone();
        let own = to == self.rules.me;
        let patience = self.rules.request_timeout;
        spawn_named("lease request", async move {
            let reply = if own {
                let answer = voter.handle(identity, request);
                tokio::time::timeout(patience, answer).await.ok()
            } else {
                match members.lease(&to, request).await {
                    Ok(reply) => Some(reply),
                    Err(error) => {
                        tracing::debug!(member = %to, %error, "voter did not answer");
                        None
                    }
                }
            };
            let from = to.clone();
            let input = match reply.clone() {
                Some(reply) => Input::Reply { from, round, reply },
                None => Input::NoReply { from, round },
            };
            // Nobody receives any more once the keeper has stopped.
            answers.send(input).await.ok();
            // After it: the own voter's disk must not hold up what the others granted.
            if let Some(reply) = reply.filter(|_| !own) {
                let learning = voter.learn(&reply, &to);
                tokio::time::timeout(patience, learning).await.ok();
            }
        });
    }

    /// Fences the own node because the lease of `epoch` is gone. Does not block the keeper, and
    /// goes on until it has succeeded, or until this site holds the lease anew: then the node may
    /// be serving again, and the decision loop knows what it was told of this loss.
    fn fence(&self, epoch: Epoch) {
        if !*self.armed.borrow() {
            tracing::info!(%epoch, "lease gone; the own node takes no writes");
            return;
        }
        tracing::error!(%epoch, "lease gone: fencing the own node");
        let node = self.node.clone();
        let budget = self.rules.fence_budget;
        let held = self.held.subscribe();
        spawn_named("deadline fence", async move {
            let mut pause = FENCE_PAUSE;
            loop {
                match node.fence(epoch, Duration::ZERO, budget).await {
                    Ok(report) => {
                        tracing::warn!(%epoch, took = ?report.took, "own node fenced");
                        return;
                    }
                    Err(error) => {
                        tracing::error!(%epoch, %error, "cannot fence the own node; trying again");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(FENCE_PAUSE_MAX);
                if held.borrow().is_some_and(|(newer, _)| newer > epoch) {
                    tracing::warn!(%epoch, "this site holds the lease anew: no longer fencing");
                    return;
                }
            }
        });
    }
}

/// The deadline that news of the lease set for the next life of this agent.
fn deadline_of(change: &LeaseChange) -> Option<Moment> {
    match change {
        LeaseChange::View {
            view: LeaseView::Held { fence_at, .. },
            ..
        } => Some(*fence_at),
        LeaseChange::Lost { .. } | LeaseChange::Released { .. } => Some(Moment::default()),
        LeaseChange::View { .. }
        | LeaseChange::NotAcquired { .. }
        | LeaseChange::RecordKept { .. } => None,
    }
}

/// Leaves word of the newest deadline for the next life of this agent (see `runtime::inherited`).
///
/// In a task of its own: the keeper must never wait for a disk (S4). What a hanging disk does not
/// take is an older and so an earlier deadline, which is safe.
fn leave_deadlines(state_dir: PathBuf) -> watch::Sender<Option<Moment>> {
    let (sender, mut newest) = watch::channel(None);
    spawn_named("fence deadline", async move {
        while newest.changed().await.is_ok() {
            let Some(at) = *newest.borrow_and_update() else {
                continue;
            };
            let dir = state_dir.clone();
            let left = tokio::task::spawn_blocking(move || inherited::leave(&dir, at)).await;
            if let Ok(Err(error)) = left {
                tracing::debug!(%error, "cannot leave word of the fence deadline");
            }
        }
    });
    sender
}

/// Puts news behind the others; a view that nobody has taken yet is replaced by a newer one, so
/// that the queue stays as short as the number of things that really happened.
fn queue(news: &mut VecDeque<LeaseChange>, change: LeaseChange) {
    let replaces = matches!(change, LeaseChange::View { .. })
        && matches!(news.back(), Some(LeaseChange::View { .. }));
    if replaces {
        news.pop_back();
    }
    news.push_back(change);
}
