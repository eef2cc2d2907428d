//! The client side of the lease: one machine per agent that looks, asks, renews and gives up.
//!
//! Owns: what this agent believes about the lease, and every request it sends to the voters.
//! Must not: decide *when* to ask or to give up; [`LeaseCommand`]s say so. Start reading at
//! [`Contender::handle`], then `attempt` (asking), `hold` (renewing, and losing in time),
//! `give_back` (releasing) and `view` (what is told).
//!
//! Each request belongs to a numbered round. The runtime hands back the round's number with the
//! reply; replies to rounds older than one request timeout are not counted. The clock reading
//! handed to [`Contender::handle`] is taken before its messages are sent, so it is the `t_sent`
//! of S2.

mod attempt;
mod give_back;
mod hold;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use self::attempt::{Attempt, Ballot};
use self::give_back::GiveBack;
use self::hold::Hold;
use self::view::Told;
use super::rules::LeaseRules;
use crate::model::cell::{CellReply, CellRequest, PeerAsk, PeerWord};
use crate::model::lease::{
    ClusterRecord, LeaseChange, LeaseCommand, LeaseReply, LeaseRequest, Verdict, VoterView,
};
use crate::model::{Epoch, Member, Moment, SiteName};

/// The most rounds that are remembered at a time; the oldest are forgotten first.
const ROUNDS_MAX: usize = 64;

/// Something that the machine is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// The time asked for as [`Output::wake_at`] has come.
    Tick,
    /// The own voter saw a release that names this site as successor: look at once.
    Poke,
    /// The decision loop wants something.
    Command(LeaseCommand),
    /// A voter answered.
    Reply {
        /// Who.
        from: Member,
        /// The round of the request.
        round: u64,
        /// What it said.
        reply: LeaseReply,
    },
    /// A voter could not be reached, or did not answer in time.
    NoReply {
        /// Who.
        from: Member,
        /// The round of the request.
        round: u64,
    },
    /// The store of the cell answered, or did not in time.
    Cell {
        /// The round of the request.
        round: u64,
        /// What it said.
        reply: Option<CellReply>,
    },
    /// The other agent answered what it was asked beside the store, or did not in time.
    PeerSaid {
        /// The round of the request.
        round: u64,
        /// What it said.
        word: Option<PeerWord>,
    },
    /// The other agent asks; it is answered by [`Output::word`].
    PeerAsks(PeerAsk),
    /// The guard, and the word for the next life of this agent, have the deadline of the current
    /// view: the answer to [`Output::awaits_guard`].
    GuardKnows,
}

/// One request to send.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Send {
    /// To whom; the own voter is asked like every other.
    pub to: Member,
    /// To be handed back with the reply.
    pub round: u64,
    /// What to ask.
    pub request: LeaseRequest,
}

/// One request of the machine that keeps the lease in a cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// To be handed back with the answer.
    pub round: u64,
    /// What to ask of whom.
    pub what: Asked,
}

/// What an [`Ask`] asks of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asked {
    /// The store.
    Store(CellRequest),
    /// The other agent.
    Peer(PeerAsk),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Output {
    /// Requests to send to voters now.
    pub sends: Vec<Send>,
    /// Requests to send to the store of the cell, or to the other agent about it, now.
    pub asks: Vec<Ask>,
    /// The answer to [`Input::PeerAsks`].
    pub word: Option<PeerWord>,
    /// News for the decision loop, in order.
    pub changes: Vec<LeaseChange>,
    /// The lease of this epoch is gone: fence the node now, before anything else.
    pub fence: Option<Epoch>,
    /// The lease of this epoch was pinned, or is to be pinned no more: say [`Input::GuardKnows`]
    /// once whatever would fence the node has the deadline of the current view.
    pub awaits_guard: Option<Epoch>,
    /// When to tick, unless something else happens first.
    pub wake_at: Option<Moment>,
}

/// One agent's side of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Contender {
    rules: LeaseRules,
    site: SiteName,
    random: u64,
    last_round: u64,
    rounds: BTreeMap<u64, Round>,
    seen: BTreeMap<Member, Seen>,
    /// The highest epoch that any voter ever showed, or that was asked for here.
    epoch_seen: Epoch,
    /// The newest record seen, or handed in.
    record: Option<ClusterRecord>,
    phase: Phase,
    give_back: Option<GiveBack>,
    /// Until then this site's node may be writable under an epoch that is no longer held here:
    /// one held before the agent was restarted, or one whose fence is still under way. Until then
    /// nothing may be released: see [`attempt`].
    writable_until: Moment,
    looked_at: Moment,
    next_round_at: Moment,
    /// No attempt begins earlier: the random back-off of a loser.
    not_before: Moment,
    told: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Looking {
        /// A look that asked, at the same time, whether the next epoch would be granted.
        ballot: Option<Ballot>,
    },
    Asking(Attempt),
    Holding(Hold),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Round {
    sent: Moment,
    epoch: Epoch,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    Look,
    PreVote,
    Acquire,
    Renew,
    Release,
}

/// What a voter said last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    round: u64,
    received: Moment,
    abstains: bool,
    view: VoterView,
}

impl Contender {
    /// A machine that knows nothing yet and looks at once. `rules.me` must be the agent of `site`;
    /// `seed` feeds the back-off of losers and should differ between the sites.
    #[must_use]
    pub fn new(rules: LeaseRules, site: SiteName, seed: u64, now: Moment) -> Self {
        Self {
            writable_until: now + rules.holder_span(),
            rules,
            site,
            random: seed,
            last_round: 0,
            rounds: BTreeMap::new(),
            seen: BTreeMap::new(),
            epoch_seen: Epoch::NONE,
            record: None,
            phase: Phase::Looking { ballot: None },
            give_back: None,
            looked_at: now,
            next_round_at: now,
            not_before: now,
            told: None,
        }
    }

    /// Takes one input, at the time read right before the output is carried out.
    pub fn handle(&mut self, input: Input, now: Moment) -> Output {
        let mut out = Output::default();
        self.forget_old(now);
        // First of all: after a freeze anything else would act on a lease that is gone.
        self.check_deadline(now, &mut out);
        match input {
            Input::Tick => {}
            Input::Poke => self.poke(now, &mut out),
            Input::Command(LeaseCommand::Acquire) => self.acquire(now, &mut out),
            Input::Command(LeaseCommand::Release { to }) => self.release(to, now),
            Input::Command(LeaseCommand::Keep(record)) => self.keep(*record, now),
            Input::Reply { from, round, reply } => {
                self.take_reply(&from, round, &reply, now, &mut out);
            }
            Input::NoReply { from, round } => self.count_vote(&from, round, None, now),
            Input::GuardKnows => self.guard_knows(now, &mut out),
            // Of a cell, which is not asked here.
            Input::Cell { .. } | Input::PeerSaid { .. } => {}
            Input::PeerAsks(_) => {
                out.word = Some(PeerWord {
                    accepted: false,
                    epoch: self.epoch_seen,
                });
            }
        }
        self.press_on(now, &mut out);
        self.resend_release(now, &mut out);
        self.renew_when_due(now, &mut out);
        self.look_when_due(now, &mut out);
        self.tell(&mut out);
        out.awaits_guard = self.awaits_guard();
        out.wake_at = self.wake_at();
        out
    }

    /// A fence needs at least so much time: from the next renewal on, it is reserved.
    pub fn reserve(&mut self, fence_budget: Duration) {
        self.rules.fence_budget = self.rules.fence_budget.max(fence_budget);
    }

    /// What the machine believes now.
    #[must_use]
    pub fn current_view(&self) -> crate::model::lease::LeaseView {
        self.lease_view()
    }

    fn forget_old(&mut self, now: Moment) {
        let (timeout, lately) = (self.rules.request_timeout, self.rules.lately());
        self.rounds
            .retain(|_, round| now.since(round.sent) <= timeout);
        while self.rounds.len() > ROUNDS_MAX {
            self.rounds.pop_first();
        }
        self.seen
            .retain(|_, seen| now.since(seen.received) < lately);
    }

    fn take_reply(
        &mut self,
        from: &Member,
        number: u64,
        reply: &LeaseReply,
        now: Moment,
        out: &mut Output,
    ) {
        if !self.rules.voters.contains(from) {
            return;
        }
        if reply.verdict != Verdict::WrongCluster {
            self.note(from, number, reply, now);
        }
        // Whoever sees a higher epoch stops at once (S8).
        self.yield_to_higher_epoch(now, out);
        let Some(round) = self.rounds.get(&number).copied() else {
            return;
        };
        match round.purpose {
            Purpose::Look => {}
            Purpose::PreVote | Purpose::Acquire | Purpose::Renew => {
                self.count_vote(from, number, Some(reply.verdict), now);
                if reply.verdict == Verdict::Ok {
                    self.count_grant(from, round, reply, now, out);
                }
            }
            Purpose::Release => self.count_release(from, round.epoch, reply, now, out),
        }
    }

    fn note(&mut self, from: &Member, number: u64, reply: &LeaseReply, now: Moment) {
        let knows = &reply.knows;
        self.epoch_seen = self.epoch_seen.max(knows.promised);
        let version = |record: &Option<ClusterRecord>| record.as_ref().map(ClusterRecord::version);
        // Only the holder makes records now. One of an older term that turns up late was never
        // kept by a majority, or the votes for this term would have shown it.
        let holds = matches!(self.phase, Phase::Holding(_));
        if !holds && version(&knows.record) > version(&self.record) {
            self.record.clone_from(&knows.record);
        }
        // Replies may come out of order: a newer one is not replaced by an older.
        let newer = self.seen.get(from).is_none_or(|seen| seen.round < number);
        if newer && self.rounds.contains_key(&number) {
            let abstains = reply.verdict == Verdict::Abstains;
            let seen = Seen {
                round: number,
                received: now,
                abstains,
                view: knows.clone(),
            };
            self.seen.insert(from.clone(), seen);
        }
    }

    fn look_when_due(&mut self, now: Moment, out: &mut Output) {
        if self.look_due_at().is_some_and(|due| due <= now) {
            let as_successor = self.is_successor();
            self.look(as_successor, now, out);
        }
    }

    fn poke(&mut self, now: Moment, out: &mut Output) {
        match &self.phase {
            Phase::Looking { .. } => self.look(true, now, out),
            Phase::Asking(_) => self.not_before = now,
            Phase::Holding(_) => {}
        }
    }

    /// The successor asks, in the same round, whether it would get the lease.
    fn look(&mut self, as_successor: bool, now: Moment, out: &mut Output) {
        self.looked_at = now;
        self.next_round_at = now + self.rules.renew_every;
        let ballot = as_successor.then(|| self.send_pre_vote(now, out));
        if ballot.is_none() {
            self.send_round(Purpose::Look, Epoch::NONE, &LeaseRequest::Read, now, out);
        }
        if matches!(self.phase, Phase::Looking { .. }) {
            self.phase = Phase::Looking { ballot };
        }
    }

    /// Sends one request to every voter, as a new round.
    fn send_round(
        &mut self,
        purpose: Purpose,
        epoch: Epoch,
        request: &LeaseRequest,
        now: Moment,
        out: &mut Output,
    ) -> u64 {
        let voters = self.rules.voters.clone();
        self.send_to(
            &voters,
            Round {
                sent: now,
                epoch,
                purpose,
            },
            request,
            out,
        )
    }

    fn send_to(
        &mut self,
        voters: &[Member],
        round: Round,
        request: &LeaseRequest,
        out: &mut Output,
    ) -> u64 {
        self.last_round += 1;
        let number = self.last_round;
        self.rounds.insert(number, round);
        out.sends.extend(voters.iter().map(|to| Send {
            to: to.clone(),
            round: number,
            request: request.clone(),
        }));
        number
    }

    /// When the next look is due; `None` while there is something better to do.
    fn look_due_at(&self) -> Option<Moment> {
        let looking = match &self.phase {
            Phase::Looking { .. } => true,
            Phase::Asking(attempt) => attempt.waits(),
            Phase::Holding(_) => false,
        };
        // A release arrives at the voters one by one: the successor looks again very soon.
        if self.release_is_spreading() {
            let soon = self.looked_at + self.rules.renew_every / 32;
            return looking.then_some(soon);
        }
        // Looking again right when a majority's grants run out, as they told it, saves up to one
        // interval of a takeover. A bounded rhythm even if they keep telling of tiny rests.
        let soonest = self.looked_at + self.rules.renew_every / 8;
        let due = self.free_at().map_or(self.next_round_at, |at| {
            self.next_round_at.min(at.max(soonest))
        });
        looking.then_some(due)
    }

    fn wake_at(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Looking { .. } => None,
            Phase::Asking(attempt) => Some(attempt.wake_at(&self.rules, self.not_before)),
            Phase::Holding(hold) => Some(hold.fence_at().min(self.next_round_at)),
        };
        let stale = self
            .seen
            .values()
            .map(|seen| seen.received + self.rules.lately())
            .min();
        let release = self.give_back.as_ref().map(GiveBack::wake_at);
        [phase, self.look_due_at(), stale, release]
            .into_iter()
            .flatten()
            .min()
    }

    /// A random span below `bound`. Source: splitmix64, S. Vigna, public domain; it only has to
    /// differ between two sites.
    pub(super) fn random_below(&mut self, bound: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let thousandths = u32::try_from(mixed % 1000).unwrap_or(0);
        bound.saturating_mul(thousandths) / 1000
    }
}
