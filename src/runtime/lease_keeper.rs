//! Keeps the lease: drives the contender against the voters, and fences at the deadline.
//!
//! It runs beside the decision loop and does not wait for it: when the deadline passes, the fence
//! begins here, whatever the loop is doing (S2, S4). The loop only says whether the own node may
//! be taking writes (`armed`); a standby is not fenced.

use std::collections::VecDeque;
use std::path::PathBuf;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::decision::lease::{Input, LeaseMachine, LeaseRules, Send};
use crate::effects::clock::boottime;
use crate::effects::lease::etcd::EtcdCell;
use crate::effects::postgres::control::NodeControl;
use crate::model::event::Event;
use crate::model::lease::{LeaseChange, LeaseCommand, LeaseStore, LeaseView};
use crate::model::{Epoch, Moment, SiteName, SystemId};
use crate::runtime::cell_link::{CellLink, PeerAsks};
use crate::runtime::deadline_fence::{Attempt, DeadlineFence};
use crate::runtime::fence_time::FenceTime;
use crate::runtime::guard::protocol::Term;
use crate::runtime::known_deadlines::KnownDeadlines;
use crate::runtime::members::Members;
use crate::runtime::tasks::spawn_named;
use crate::runtime::voter_host::VoterHost;

/// At most this many answers wait to be taken in.
const ANSWERS_MAX: usize = 256;

/// The epoch that is held and its fence deadline, as the keeper knows them before anybody else.
pub type Held = Option<(Epoch, Moment)>;

/// A node that may be taking writes under no lease of this process, because it has just started.
#[derive(Debug, Clone, Copy)]
pub struct Unleased {
    /// Fenced at this moment, unless the lease has come by then.
    pub fence_at: Moment,
    /// The database cluster that it must belong to, when that is known.
    pub system_id: Option<SystemId>,
}

/// What the keeper works with.
#[derive(Debug)]
pub struct LeaseKeeper {
    /// The lease's rules.
    pub rules: LeaseRules,
    /// This site.
    pub site: SiteName,
    /// The highest epoch that a former life of this agent knew.
    pub epoch_before: Epoch,
    /// Feeds the back-off of losers.
    pub seed: u64,
    /// The own vote.
    pub voter: VoterHost,
    /// The other voters.
    pub members: Members,
    /// The own node, to fence it.
    pub node: NodeControl,
    /// What the previous life of this agent may have left running.
    pub unleased: Option<Unleased>,
    /// Where the deadline is left for the next life of this agent.
    pub state_dir: PathBuf,
    /// The lease for which the guard has confirmed that it is armed; `None`: there is no guard.
    pub guard: Option<watch::Receiver<Option<Term>>>,
    /// How long fences took.
    pub fence_time: FenceTime,
    /// Whether the own node may be taking writes.
    pub armed: watch::Receiver<bool>,
    /// The lease that is held now, and when the node is fenced unless it is renewed.
    pub held: watch::Sender<Held>,
    /// News go to the decision loop.
    pub events: mpsc::Sender<Event>,
    /// Where the lease is kept.
    pub store: LeaseStore,
    /// The cell, where it is kept in one.
    pub cell: Option<EtcdCell>,
    /// The other site.
    pub peer: SiteName,
    /// What the other agent asks about that.
    pub asked: PeerAsks,
}

impl LeaseKeeper {
    /// Runs until stopped. Stopping releases nothing and fences nothing: the node goes on under
    /// the running grant, and the next life of this agent asks anew within the ttl.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<LeaseCommand>,
        stop: CancellationToken,
    ) {
        let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
        let (fence, mut attempts) = DeadlineFence::new(
            self.node.clone(),
            self.rules.fence_budget,
            self.held.subscribe(),
        );
        let mut contender = self.machine();
        let cell = CellLink::new(&self, answers.clone());
        let mut input = Some(Input::Tick);
        let mut news = VecDeque::new();
        let mut fencing = Fencing::default();
        let mut asked = std::mem::take(&mut self.asked);
        let mut known = KnownDeadlines::new(self.state_dir.clone(), self.guard.clone());
        loop {
            let Some(now_input) = input.take() else {
                return;
            };
            contender.reserve(self.fence_time.budget());
            let output = contender.handle(now_input, boottime());
            // Before `armed` is read: a step that may start writes arms first and looks here then,
            // so one of the two sees the other.
            let held = held_by(&contender.current_view());
            self.held.send_replace(held);
            self.fence_if_due(output.fence, &fence, &mut fencing);
            for send in output.sends {
                self.ask(send, answers.clone());
            }
            cell.carry(output.asks);
            if let Some(word) = output.word {
                asked.answer(word);
            }
            for change in output.changes {
                if let Some(at) = deadline_of(&change) {
                    known.leave(at);
                }
                queue(&mut news, change);
            }
            let waits = output.awaits_guard.and(held);
            if known.covers_what_is_awaited(waits, *self.armed.borrow()) {
                input = Some(Input::GuardKnows);
                continue;
            }
            let wake_at = self.wake_at(output.wake_at);
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
                Some(attempt) = attempts.recv() => {
                    if let Attempt::Fenced { took } = attempt {
                        self.fence_time.measured(took);
                    }
                    Some(fencing.ended(attempt, &mut news))
                }
                Some(answer) = answered.recv() => Some(answer),
                command = commands.recv() => command.map(|command| fencing.filter(command)),
                ask = asked.next() => Some(Input::PeerAsks(ask)),
                () = self.voter.released_here() => Some(Input::Poke),
                () = known.changed(), if waits.is_some() => Some(Input::Tick),
                () = tokio::time::sleep(boottime().until(wake_at)) => Some(Input::Tick),
            };
        }
    }

    /// When the machine wants a tick, or a node without a lease has had its time.
    fn wake_at(&self, wanted: Option<Moment>) -> Moment {
        let wake_at = wanted.unwrap_or_else(|| boottime() + self.rules.renew_every);
        self.unleased
            .map_or(wake_at, |unleased| wake_at.min(unleased.fence_at))
    }

    fn machine(&self) -> LeaseMachine {
        let (site, peer) = (self.site.clone(), self.peer.clone());
        let rules = self.rules.clone();
        let mut machine = LeaseMachine::new(self.store, rules, site, peer, self.seed, boottime());
        machine.remember(self.epoch_before);
        machine
    }

    /// Begins the fence of a lease that is lost, or of a node that was found running without one.
    fn fence_if_due(&mut self, lost: Option<Epoch>, fence: &DeadlineFence, fencing: &mut Fencing) {
        let armed = *self.armed.borrow();
        if let Some(epoch) = lost {
            if armed {
                fencing.begun();
                fence.begin(epoch);
            } else {
                tracing::info!(%epoch, "lease gone; the own node takes no writes");
            }
        }
        if self.held.borrow().is_some() {
            self.unleased = None;
        }
        let due = |unleased: &mut Unleased| unleased.fence_at <= boottime();
        // Whatever the loop thinks of it: the processes of the node say whether there is a need.
        if let Some(unleased) = self.unleased.take_if(due) {
            fencing.begun();
            fence.begin_at_start(unleased.system_id);
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
}

/// A fence at a deadline, and what waits for it.
///
/// While it is under way the lease is not asked for anew: what it will have done to the node is not
/// known, and a plan that begins meanwhile would have its node killed under it.
#[derive(Debug, Default)]
struct Fencing {
    under_way: bool,
    wanted: bool,
}

impl Fencing {
    fn begun(&mut self) {
        self.under_way = true;
    }

    /// Passes a command on, unless it must wait.
    fn filter(&mut self, command: LeaseCommand) -> Input {
        if self.under_way && command == LeaseCommand::Acquire {
            self.wanted = true;
            return Input::Tick;
        }
        Input::Command(command)
    }

    /// Takes in the end of an attempt, and lets go on what has waited for the first one: a node
    /// that cannot be fenced is better off under a lease.
    fn ended(&mut self, attempt: Attempt, news: &mut VecDeque<LeaseChange>) -> Input {
        if let Attempt::Fenced { took } = attempt {
            queue(news, LeaseChange::Fenced { took });
        }
        self.under_way = false;
        if std::mem::take(&mut self.wanted) {
            return Input::Command(LeaseCommand::Acquire);
        }
        Input::Tick
    }
}

fn held_by(view: &LeaseView) -> Held {
    match view {
        LeaseView::Held { epoch, fence_at } => Some((*epoch, *fence_at)),
        LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => None,
    }
}

/// The deadline that news of the lease set for the next life of this agent.
fn deadline_of(change: &LeaseChange) -> Option<Held> {
    match change {
        LeaseChange::View {
            view: LeaseView::Held { epoch, fence_at },
            ..
        } => Some(Some((*epoch, *fence_at))),
        LeaseChange::Lost { .. } | LeaseChange::Released { .. } => Some(None),
        LeaseChange::View { .. }
        | LeaseChange::NotAcquired { .. }
        | LeaseChange::Fenced { .. }
        | LeaseChange::RecordKept { .. } => None,
    }
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
