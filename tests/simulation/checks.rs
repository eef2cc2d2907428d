//! What must never be: the safety rules, checked after every event against the truth, which no
//! process in the simulation knows.

use std::collections::{BTreeMap, BTreeSet};

use failover_agent::decision::decide::Order;
use failover_agent::model::journal::{JournalEntry, PlanEnd};
use failover_agent::model::lease::{
    ClusterRecord, LeaseCommand, LeaseReply, LeaseRequest, Verdict,
};
use failover_agent::model::plan::{Cause, Plan, PlanKind, StepKind};
use failover_agent::model::{Epoch, Moment, PlanId, SiteName, Timestamp};

use crate::clock::{MS, Real, SEC, nanos};
use crate::net::WITNESS;
use crate::setup::index;
use crate::world::{End, World, name};

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    S1OneWriter,
    S2FreshLease,
    S5OldTermWaitedOut,
    S7ThirdVote,
    S8Epoch,
    S9Order,
    S10StartsWritable,
    S11Journal,
    S14OnePlan,
    S14Paused,
    CommitsLost,
    TimelineLost,
    Liveness,
}

/// A lease that was held, by its holder's own counting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldUntil {
    pub(crate) epoch: Epoch,
    /// When its fence had to begin.
    pub(crate) fence_at: Real,
    /// When its fence had to have ended.
    pub(crate) end: Real,
}

pub(crate) type Begun = (PlanId, usize, u32, bool);

/// What is really so.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// By voter: which site's grant it counts, and until when.
    pub(crate) grants: [Option<(usize, Real)>; 3],
    pub(crate) held_until: [Option<HeldUntil>; 2],
    /// The epoch that each site holds right now.
    pub(crate) held: [Option<Epoch>; 2],
    pub(crate) holders: BTreeMap<Epoch, usize>,
    /// When no agent process ran at this site: dead, or frozen.
    pub(crate) gaps: [Vec<(Real, Option<Real>)>; 2],
    /// When this site last asked for the lease, the other one's database could be seen from it.
    pub(crate) saw_other: [bool; 2],
    pub(crate) began: [BTreeSet<Begun>; 2],
    /// The highest epoch under which a promotion, a start or a proof took effect.
    pub(crate) top_effect: Epoch,
    pub(crate) recorded: BTreeMap<Epoch, usize>,
    /// By branch of history, the newest commit that a client was told of.
    pub(crate) acknowledged: BTreeMap<u32, u64>,
    /// What a clean stop proved to be at the standby.
    pub(crate) handed_on: Option<(u32, u64)>,
    pub(crate) automatic: Option<(usize, Real)>,
    /// When each pause was asked for, by the time that it names.
    pub(crate) paused: BTreeMap<Timestamp, Real>,
    /// At this site the plan under way is automatic.
    pub(crate) by_itself: [bool; 2],
    /// The primary was at this site already when the plan under way was made.
    pub(crate) stays: [bool; 2],
    /// At this site the plan under way finishes a failover that was begun before.
    pub(crate) finishes: [bool; 2],
}

impl Truth {
    pub(crate) fn not_running(&mut self, site: usize, now: Real) {
        let open = self.gaps[site].last().is_some_and(|gap| gap.1.is_none());
        if !open {
            self.gaps[site].push((now, None));
        }
    }

    pub(crate) fn running(&mut self, site: usize, now: Real) {
        if let Some(gap) = self.gaps[site].last_mut()
            && gap.1.is_none()
        {
            gap.1 = Some(now);
        }
    }

    /// Until when enough voters count a grant to this site that nobody else can get one.
    fn granted_until(&self, site: usize, majority: usize) -> Real {
        let mut until: Vec<Real> = self
            .grants
            .iter()
            .flatten()
            .filter(|grant| grant.0 == site)
            .map(|grant| grant.1)
            .collect();
        until.sort_unstable_by(|left, right| right.cmp(left));
        until.get(majority - 1).copied().unwrap_or(0)
    }
}

impl World {
    pub(crate) fn violated(&mut self, rule: Rule, what: String) {
        self.note(|| format!("VIOLATION of {rule:?}: {what}"));
        self.end.get_or_insert(End::Violation(rule, what));
    }

    /// After every event.
    pub(crate) fn check(&mut self) {
        let writable = [0, 1].map(|site| self.sites[site].node.writable());
        if writable == [true, true] {
            self.two_writers();
        }
        for site in [0, 1] {
            if writable[site] {
                self.check_writer(site);
            }
        }
    }

    /// S1; but for a node that its host starts as a primary where no gate is installed.
    fn two_writers(&mut self) {
        for site in [0, 1] {
            if self.gate_is_missing(site) {
                return;
            }
        }
        self.violated(Rule::S1OneWriter, "both nodes take writes".to_owned());
    }

    /// A node that its host started as a primary at boot, before its agent could have seen it.
    fn gate_is_missing(&mut self, site: usize) -> bool {
        let Some(since) = self.sites[site].node.self_started else {
            return false;
        };
        let awake = self.sites[site].agent.as_ref().filter(|a| !a.frozen);
        let Some(awake_since) = awake.map(|agent| agent.awake_since) else {
            return true;
        };
        let span = self.setup.notice_span();
        let by = self.clock(site).after(since.max(awake_since), span);
        if self.now > by {
            let what = format!(
                "node {} started itself as primary and was not fenced",
                name(site)
            );
            self.violated(Rule::S10StartsWritable, what);
        }
        true
    }

    /// S2: with an agent that runs, a node is writable only while its site's lease runs.
    fn check_writer(&mut self, site: usize) {
        let Some(agent) = self.sites[site].agent.as_ref().filter(|a| !a.frozen) else {
            return;
        };
        let noticed = agent.awake_since + nanos(self.setup.notice_span()) * 101 / 100;
        let newcomer = self.truth.holders.is_empty();
        if self.setup.pair || newcomer || self.now < noticed {
            return;
        }
        if self.sites[site].node.self_started.is_some() {
            // Two writers or not: the same span applies.
            self.gate_is_missing(site);
            return;
        }
        let majority = self.setup.rules[site].voters.len() / 2 + 1;
        let until = self.truth.granted_until(site, majority);
        if self.now > until {
            let what = format!(
                "node {} takes writes {} ms after its site's lease ran out at the voters",
                name(site),
                (self.now - until) / 1_000_000
            );
            self.violated(Rule::S2FreshLease, what);
        }
    }

    /// A voter has answered.
    pub(crate) fn voted(&mut self, voter: usize, request: &LeaseRequest, reply: &LeaseReply) {
        if reply.verdict != Verdict::Ok {
            return;
        }
        match request {
            LeaseRequest::Read | LeaseRequest::PreVote { .. } => {}
            LeaseRequest::Acquire { candidate, .. } => self.granted(voter, candidate),
            LeaseRequest::Renew { holder, record, .. } => {
                self.granted(voter, holder);
                if let Some(record) = record
                    && record.promoting
                {
                    self.two_promoters(record.epoch, &record.primary);
                }
            }
            LeaseRequest::Release { holder, .. } => {
                let theirs = self.truth.grants[voter].is_some_and(|g| g.0 == index(holder));
                if theirs {
                    self.truth.grants[voter] = None;
                }
            }
        }
        self.pinned(voter, reply.knows.record.as_ref());
    }

    /// A voter whose record pins the lease grants nothing to anybody else.
    fn pinned(&mut self, voter: usize, record: Option<&ClusterRecord>) {
        if let Some(site) = record.and_then(ClusterRecord::pinned_to) {
            self.truth.grants[voter] = Some((index(site), Real::MAX));
        }
    }

    fn granted(&mut self, voter: usize, holder: &SiteName) {
        let rules = &self.setup.rules[voter];
        // A full ttl on any clock, whatever a broken rule makes of it.
        let span = rules.ttl.mul_f64(1.005);
        let until = self.clock(voter).after(self.now, span);
        self.truth.grants[voter] = Some((index(holder), until));
    }

    /// S14: nobody else gets past recording itself under the same epoch.
    fn two_promoters(&mut self, epoch: Epoch, primary: &SiteName) {
        let site = index(primary);
        let first = *self.truth.recorded.entry(epoch).or_insert(site);
        if first != site {
            let what = format!("both sites recorded themselves under epoch {epoch}");
            self.violated(Rule::S14OnePlan, what);
        }
    }

    /// A voter of a site was started: it counts its last grant for one more ttl.
    pub(crate) fn voter_booted(&mut self, voter: usize) {
        let stored = if voter == WITNESS {
            self.witness.vote.as_ref()
        } else {
            self.sites[voter].disk.vote.as_ref()
        };
        let record = stored.and_then(|vote| vote.record.clone());
        let holder = stored.filter(|vote| !vote.released);
        if let Some(holder) = holder.and_then(|vote| vote.granted_to.clone()) {
            self.granted(voter, &holder);
        }
        self.pinned(voter, record.as_ref());
    }

    /// A site's contender says that it holds the lease.
    pub(crate) fn held(&mut self, site: usize, epoch: Epoch, fence_at: Moment) {
        let fence_budget = self.setup.rules[site].fence_budget;
        let clock = self.clock(site);
        let until = HeldUntil {
            epoch,
            fence_at: clock.real(fence_at),
            end: clock.real(fence_at + fence_budget),
        };
        let now = self.now;
        let endless = fence_at == Moment::NEVER && !self.setup.pair;
        self.counts.pinned += u64::from(endless);
        self.truth.held_until[site] = Some(until);
        if self.truth.held[site] == Some(epoch) {
            return;
        }
        self.truth.held[site] = Some(epoch);
        self.note(|| format!("keeper {}: holds epoch {epoch}", name(site)));
        // Whoever started the node: from here on it is the lease's.
        self.sites[site].node.self_started = None;
        let first = *self.truth.holders.entry(epoch).or_insert(site);
        if first != site {
            let what = format!("epoch {epoch} was held by both sites");
            self.violated(Rule::S8Epoch, what);
        }
        if let Some(old) = self.truth.held_until[1 - site]
            && !self.setup.pair
            && old.end > now
        {
            let what = format!(
                "{} holds epoch {epoch} {} us before the fence of {} had to be over",
                name(site),
                (old.end - now) / 1000,
                name(1 - site)
            );
            self.violated(Rule::S5OldTermWaitedOut, what);
        }
    }

    /// The loop has told the keeper something.
    pub(crate) fn commanded(&mut self, site: usize, command: &LeaseCommand) {
        match command {
            LeaseCommand::Acquire => self.truth.saw_other[site] = self.sees_other(site),
            LeaseCommand::Release { .. } => {
                self.truth.held[site] = None;
                self.truth.held_until[site] = None;
                if self.sites[site].node.writable() {
                    let what = format!("{} releases the lease while its node writes", name(site));
                    self.violated(Rule::S9Order, what);
                }
            }
            LeaseCommand::Keep(record) => {
                if record.brakes.acknowledged.is_some() {
                    self.truth.automatic = None;
                }
                if let Some(paused) = &record.brakes.paused {
                    // It lasts from when a person asked for it, not from when it is recorded.
                    let wall = self.clock(site).now(self.now).wall;
                    let age = u64::try_from(wall.0 - paused.since.0).unwrap_or(0) * MS;
                    let since = self.now.saturating_sub(age);
                    self.truth.paused.entry(paused.since).or_insert(since);
                }
            }
        }
    }

    /// S14: while it is paused, as far as this agent knows, nobody but a person begins anything.
    fn paused_plan(&mut self, site: usize, plan: &Plan, record: Option<&ClusterRecord>) {
        let moves = match plan.kind {
            PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::Restart => true,
            PlanKind::FinishTakeOver | PlanKind::Fence | PlanKind::Converge => false,
        };
        let automatic = matches!(plan.cause, Cause::Diagnosed { .. });
        let Some(paused) = record.and_then(|record| record.brakes.paused.as_ref()) else {
            return;
        };
        self.counts.paused_plans += 1;
        let lasts = paused.length.is_none_or(|length| {
            let from = self.truth.paused.get(&paused.since).copied().unwrap_or(0);
            self.setup.walls_agree && self.now < from + nanos(length) * 98 / 100
        });
        if moves && automatic && lasts {
            let what = format!("{} begins to {} while it is paused", name(site), plan.kind);
            self.violated(Rule::S14Paused, what);
        }
    }

    /// Whether the other site's database could be seen from here all the time that a veto takes.
    fn sees_other(&mut self, site: usize) -> bool {
        let other = 1 - site;
        self.write(other);
        let span = self.setup.policies[site].silent_after() * 2 + self.setup.probe_timeout * 4;
        let Some(since) = self.now.checked_sub(nanos(span) + SEC) else {
            return false;
        };
        let clean = |one, other| self.net.clean_since(one, other, since);
        let by_witness = !self.setup.pair
            && self.witness.voter.is_some()
            && self.witness.started <= since
            && clean(site, WITNESS)
            && clean(other, WITNESS);
        let served = self.sites[other].host_up && self.sites[other].node.served_since(since);
        served && (clean(site, other) || by_witness)
    }

    /// S11, S14: an entry is about to be written.
    pub(crate) fn journalled(&mut self, site: usize, entry: &JournalEntry) {
        if let Err(illegal) = self.sites[site].disk.follower.follow(entry) {
            let rule = match illegal {
                failover_agent::decision::journal_rules::Illegal::SecondPlan { .. } => {
                    Rule::S14OnePlan
                }
                _ => Rule::S11Journal,
            };
            self.violated(rule, format!("journal of {}: {illegal}", name(site)));
        }
        match entry {
            JournalEntry::StepStarted {
                plan,
                step,
                attempt,
                undo,
            } => {
                let begun = (plan.clone(), *step, *attempt, *undo);
                self.truth.began[site].insert(begun);
            }
            JournalEntry::Planned { plan, record, .. } => {
                self.paused_plan(site, plan, record.as_ref());
                let planned = record.as_ref().is_some_and(|r| r.brakes.planned);
                let by_itself = match plan.cause {
                    Cause::Operator { .. } => false,
                    Cause::HandedOver { .. } => !planned,
                    Cause::Diagnosed { .. } | Cause::RecordMoved => true,
                };
                self.truth.by_itself[site] = by_itself;
                self.truth.finishes[site] = plan.kind == PlanKind::FinishTakeOver;
                self.truth.stays[site] = record
                    .as_ref()
                    .is_some_and(|it| !it.promoting && index(&it.primary) == site);
                match plan.kind {
                    PlanKind::TakeOver if matches!(plan.cause, Cause::HandedOver { .. }) => {
                        self.counts.handovers += 1;
                    }
                    PlanKind::TakeOver | PlanKind::FinishTakeOver => self.counts.takeovers += 1,
                    PlanKind::Restart => self.counts.restarts_in_place += 1,
                    PlanKind::GiveUp | PlanKind::Fence | PlanKind::Converge => {}
                }
            }
            JournalEntry::PlanEnded {
                end: PlanEnd::NeedsHuman { .. },
                ..
            } => {}
            _ => {}
        }
    }

    /// S11: a step is begun, so the journal must say so.
    pub(crate) fn step_begins(&mut self, site: usize, order: &Order) {
        let begun = (order.plan.clone(), order.step, order.attempt, order.undo);
        // Making a node safe may not wait for a broken disk.
        let agent = self.sites[site].agent.as_ref();
        let durable = agent.is_some_and(|agent| agent.broken.is_none());
        let fence = order.what.kind() == StepKind::FenceOwn && !durable;
        if !fence && !self.truth.began[site].contains(&begun) {
            let what = format!("{} began '{}' unjournalled", name(site), order.what.kind());
            self.violated(Rule::S11Journal, what);
        }
    }
}
