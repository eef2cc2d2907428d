//! The client side of a lease that is kept in one cell of a store (etcd), changed by
//! compare-and-swap.
//!
//! Owns: what this agent believes about the lease, what it writes, and what it promises the other
//! agent while the store is away. Must not: decide *when* to ask or to give up; `LeaseCommand`s say
//! so. Start reading at [`CellContender::handle`], then `evidence` (when the lease is free),
//! `attempt` (asking), `hold` (renewing, and losing in time), `consent` (the store is away) and
//! `view` (what is told).
//!
//! # Why the holder is fenced before the other site starts (S2, S5)
//!
//! Nothing here relies on a clock of the store, on its leases, or on its leader; only on this: a
//! write that asks for a revision is applied only if the cell still has it, and a look shows a
//! state that no later look takes back. Spans are those of [`super::rules`].
//!
//! - *Run out.* The holder counts from the sending of its newest write that was applied; its fence
//!   ends at most `ttl` of real time later. The candidate counts from the *receipt* of the first
//!   look that showed the cell as it still is, waits `ttl·(1 + ρ)` on its own clock, which is at
//!   least `ttl` of real time, and then writes on the condition that the cell has not changed.
//!   If that is applied, the newest renewal was applied before the candidate's first look came
//!   back, so it was sent before. So: fenced ≤ sent + ttl ≤ seen + ttl ≤ taken. ∎
//! - *Consent.* While the store is away the holder may count from the sending of a question to the
//!   other agent instead, which answers that it will not take over for `ttl·(1 + ρ)` from the
//!   receipt. It is the only other candidate. It gives no consent while a write of its own may
//!   still be counted, and does not count a write that is answered later than that.
//! - *A write that is applied too late.* It was sent when the other site had stopped, and a site
//!   whose deadline has passed never goes on under that epoch; a new epoch of it is a new revision,
//!   on which the late write fails. So a cell of the own site means that the other one has stopped,
//!   also to an agent that was restarted.
//! - *A promise that a restart forgets.* An agent that has just started takes a cell of the other
//!   site only after one whole span from its own first look, which is later than the promise.
//! - *Pinned.* A cell whose record pins the lease to the other site is never taken, until a newer
//!   record says otherwise; the holder counts anew from before it first writes that one, which it
//!   does not before its guard has a deadline again.
//! - *Released.* Only its holder writes that, and never acts under that epoch again.

mod attempt;
mod consent;
mod evidence;
mod hold;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use self::attempt::Attempt;
use self::consent::Promise;
use self::evidence::Observed;
use self::hold::{GiveBack, Hold};
use self::view::Told;
use super::contender::{Ask, Asked, Input, Output};
use super::rules::LeaseRules;
use crate::model::cell::{CELL_FORMAT, Cell, CellReply, CellRequest, PeerAsk, PeerWish};
use crate::model::lease::{ClusterRecord, LeaseCommand, LeaseView};
use crate::model::{Epoch, Moment, SiteName};

/// The most rounds that are remembered at a time; the oldest are forgotten first.
const ROUNDS_MAX: usize = 64;

/// Looks in the time between two renewals: how much later than a voter, who counts from the
/// receipt, a candidate learns of the last one.
const LOOKS_PER_RENEWAL: u32 = 4;

/// One agent's side of a lease that is kept in a cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CellContender {
    rules: LeaseRules,
    site: SiteName,
    /// The other site: the only other candidate.
    peer: SiteName,
    random: u64,
    last_round: u64,
    rounds: BTreeMap<u64, Round>,
    /// The cell as it was last seen, and since when it looks like that.
    observed: Option<Observed>,
    /// When the other agent last consented.
    consented_at: Option<Moment>,
    /// The highest epoch that the store ever showed, or that is or was held here.
    epoch_seen: Epoch,
    /// The newest record seen, or handed in.
    record: Option<ClusterRecord>,
    phase: Phase,
    give_back: Option<GiveBack>,
    promised: Option<Promise>,
    /// Numbers this process's writes.
    beat: u64,
    /// The look that is under way.
    looking: Option<u64>,
    next_look_at: Moment,
    /// No attempt begins earlier: the random back-off of a loser.
    not_before: Moment,
    told: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Looking,
    Asking(Attempt),
    Holding(Hold),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Round {
    sent: Moment,
    purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Purpose {
    Look,
    Acquire(Box<Cell>),
    Renew(Box<Cell>),
    Release(Box<Cell>),
    Consent(Epoch),
    Notice,
}

impl CellContender {
    /// A machine that knows nothing yet and looks at once. `rules.me` must be the agent of `site`;
    /// `seed` must differ between sites and between lives of one agent.
    #[must_use]
    pub fn new(rules: LeaseRules, site: SiteName, peer: SiteName, seed: u64, now: Moment) -> Self {
        Self {
            rules,
            site,
            peer,
            random: seed,
            last_round: 0,
            rounds: BTreeMap::new(),
            observed: None,
            consented_at: None,
            epoch_seen: Epoch::NONE,
            record: None,
            phase: Phase::Looking,
            give_back: None,
            promised: None,
            beat: 0,
            looking: None,
            next_look_at: now,
            not_before: now,
            told: None,
        }
    }

    /// An epoch that was seen in a former life.
    pub fn remember(&mut self, epoch: Epoch) {
        self.epoch_seen = self.epoch_seen.max(epoch);
    }

    /// Takes one input, at the time read right before the output is carried out.
    pub fn handle(&mut self, input: Input, now: Moment) -> Output {
        let mut out = Output::default();
        self.forget_old(now);
        // First of all: after a freeze anything else would act on a lease that is gone.
        self.check_deadline(now, &mut out);
        match input {
            // Voters are not asked here.
            Input::Tick | Input::Reply { .. } | Input::NoReply { .. } => {}
            Input::Poke => self.look(now, &mut out),
            Input::Command(LeaseCommand::Acquire) => self.acquire(now, &mut out),
            Input::Command(LeaseCommand::Release { to }) => self.release(to, now),
            Input::Command(LeaseCommand::Keep(record)) => self.keep(*record, now),
            Input::Cell { round, reply } => self.take_cell(round, reply.as_ref(), now, &mut out),
            Input::PeerSaid { round, word } => self.take_word(round, word, now, &mut out),
            Input::PeerAsks(ask) => self.answer(&ask, now, &mut out),
            Input::GuardKnows => self.guard_knows(now, &mut out),
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
    pub fn current_view(&self) -> LeaseView {
        self.lease_view()
    }

    fn forget_old(&mut self, now: Moment) {
        let (timeout, lately) = (self.rules.request_timeout, self.rules.lately());
        self.rounds
            .retain(|_, round| now.since(round.sent) <= timeout);
        while self.rounds.len() > ROUNDS_MAX {
            self.rounds.pop_first();
        }
        self.looking = self
            .looking
            .filter(|number| self.rounds.contains_key(number));
        if let Some(observed) = &mut self.observed {
            observed.fresh = observed.fresh && now.since(observed.at) < lately;
        }
        self.consented_at = self.consented_at.filter(|at| now.since(*at) < lately);
    }

    fn take_cell(&mut self, number: u64, reply: Option<&CellReply>, now: Moment, out: &mut Output) {
        if self.looking == Some(number) {
            self.looking = None;
        }
        let Some(reply) = reply else {
            self.store_silent(number, now, out);
            return;
        };
        // True however late it comes: epochs only grow. Whoever sees a higher one stops (S8).
        self.note_epoch(reply);
        self.yield_to_higher_epoch(now, out);
        // An answer that is too late is not counted.
        let Some(round) = self.rounds.remove(&number) else {
            return;
        };
        self.observe(&reply.seen, now);
        match &round.purpose {
            Purpose::Look => self.take_look(number, now, out),
            Purpose::Acquire(cell) => self.take_acquired(&round, cell, reply, now, out),
            Purpose::Renew(cell) => self.take_renewed(number, &round, cell, reply, now, out),
            Purpose::Release(cell) => self.take_released(cell, reply, now, out),
            Purpose::Consent(_) | Purpose::Notice => {}
        }
    }

    fn store_silent(&mut self, number: u64, now: Moment, out: &mut Output) {
        self.attempt_unanswered(number, now, out);
        self.renewal_unanswered(number, now, out);
    }

    fn note_epoch(&mut self, reply: &CellReply) {
        let Some(cell) = &reply.seen.cell else {
            return;
        };
        // Another cluster's cell says nothing about this one.
        if cell.identity != self.rules.identity {
            return;
        }
        self.epoch_seen = self.epoch_seen.max(cell.epoch);
        let version = |record: &Option<ClusterRecord>| record.as_ref().map(ClusterRecord::version);
        if version(&cell.record) > version(&self.record) {
            self.record.clone_from(&cell.record);
        }
    }

    fn look_when_due(&mut self, now: Moment, out: &mut Output) {
        if self.looking.is_none() && self.look_due_at().is_some_and(|due| due <= now) {
            self.look(now, out);
        }
    }

    fn look(&mut self, now: Moment, out: &mut Output) {
        let number = self.ask_store(Purpose::Look, CellRequest::Look, now, out);
        self.looking = Some(number);
        self.next_look_at = now + self.rules.renew_every / LOOKS_PER_RENEWAL;
    }

    /// When the next look is due; `None` while there is something better to do.
    fn look_due_at(&self) -> Option<Moment> {
        let looking = match &self.phase {
            Phase::Looking => true,
            Phase::Asking(attempt) => attempt.waits(),
            Phase::Holding(_) => false,
        };
        // Looking right when the time is over saves up to one interval of a take-over.
        let due = self
            .runs_out_at()
            .filter(|at| self.observed.as_ref().is_some_and(|seen| seen.at < *at))
            .map_or(self.next_look_at, |at| self.next_look_at.min(at));
        looking.then_some(due)
    }

    /// A cell that this site writes, with the newest record.
    fn own_cell(&mut self, epoch: Epoch, claim: u64) -> Cell {
        self.beat += 1;
        Cell {
            format: CELL_FORMAT,
            identity: self.rules.identity.clone(),
            epoch,
            holder: self.site.clone(),
            claim,
            beat: self.beat,
            released: false,
            released_to: None,
            record: self.record_to_write(),
        }
    }

    fn ask_store(
        &mut self,
        purpose: Purpose,
        request: CellRequest,
        now: Moment,
        out: &mut Output,
    ) -> u64 {
        self.ask(purpose, Asked::Store(request), now, out)
    }

    fn ask_peer(
        &mut self,
        purpose: Purpose,
        epoch: Epoch,
        wish: PeerWish,
        now: Moment,
        out: &mut Output,
    ) {
        let ask = PeerAsk {
            identity: self.rules.identity.clone(),
            holder: self.site.clone(),
            epoch,
            wish,
        };
        self.ask(purpose, Asked::Peer(ask), now, out);
    }

    fn ask(&mut self, purpose: Purpose, what: Asked, now: Moment, out: &mut Output) -> u64 {
        self.last_round += 1;
        let number = self.last_round;
        self.rounds.insert(number, Round { sent: now, purpose });
        out.asks.push(Ask {
            round: number,
            what,
        });
        number
    }

    fn wake_at(&self) -> Option<Moment> {
        let phase = match &self.phase {
            Phase::Looking => None,
            Phase::Asking(attempt) => Some(attempt.wake_at(&self.rules, self.not_before)),
            Phase::Holding(hold) => Some(hold.wake_at()),
        };
        let stale = self
            .observed
            .as_ref()
            .filter(|observed| observed.fresh)
            .map(|observed| observed.at + self.rules.lately());
        let consent = self.consented_at.map(|at| at + self.rules.lately());
        let release = self.give_back.as_ref().map(GiveBack::wake_at);
        // The runtime answers for a look that is under way, in time.
        let look = self.look_due_at().filter(|_| self.looking.is_none());
        [phase, look, stale, consent, release]
            .into_iter()
            .flatten()
            .min()
    }

    /// Source: splitmix64, S. Vigna, public domain; it only has to differ between two sites and
    /// between two attempts.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random span below `bound`.
    fn random_below(&mut self, bound: Duration) -> Duration {
        let thousandths = u32::try_from(self.random() % 1000).unwrap_or(0);
        bound.saturating_mul(thousandths) / 1000
    }
}
