//! Holding the lease: renewing it, carrying the record, and losing it in time (S2, S8).
//!
//! The deadline counts from the newest moment such that a majority of the voters granted what was
//! sent then or later. It is never moved once it has passed: a holder that wakes up is told that
//! it lost, looks, and asks anew. Only a pinned lease has none: [`Pin`].

use std::collections::{BTreeMap, BTreeSet};

use super::give_back::GiveBack;
use super::{Contender, Output, Phase, Purpose, Round, Seen};
use crate::decision::lease::rules::{BrokenRule, LeaseRules, Mode};
use crate::model::lease::{ClusterRecord, LeaseChange, LeaseReply, LeaseRequest};
use crate::model::{Epoch, Member, Moment, SiteName};

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    epoch: Epoch,
    fence_at: Moment,
    /// For each voter, when the newest request that it granted was sent.
    granted: BTreeMap<Member, Moment>,
    /// For each voter, the newest record that it said to keep.
    kept: BTreeMap<Member, (Epoch, u64)>,
    /// The newest record that some voter is known to keep. One that was handed in and has reached
    /// nobody is forgotten with the lease: nobody else would ever hear of it.
    shown: Option<ClusterRecord>,
    /// The record whose keeping is still to be told.
    to_tell: Option<(Epoch, u64)>,
    pin: Pin,
}

/// Whether the record pins the lease: see the head of [`crate::decision::lease::rules`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pin {
    Off,
    /// Records of this version or newer do, under this epoch.
    On {
        since: (Epoch, u64),
        /// Who is known to keep one.
        kept_by: BTreeSet<Member>,
        /// The guard knows that there is no deadline.
        known: bool,
    },
    /// They do no more; but until the guard knows, the voters are told the last one that did.
    Ending {
        last: Box<ClusterRecord>,
    },
}

impl Pin {
    fn of(record: Option<&ClusterRecord>, site: &SiteName) -> Self {
        let pinned = record.filter(|record| record.pinned_to() == Some(site));
        pinned.map_or(Self::Off, |record| Self::On {
            since: record.version(),
            kept_by: BTreeSet::new(),
            known: false,
        })
    }
}

impl Hold {
    pub(super) fn won(
        rules: &LeaseRules,
        epoch: Epoch,
        granted: BTreeMap<Member, Moment>,
        shown: Option<ClusterRecord>,
        site: &SiteName,
    ) -> Self {
        // Without a majority only two agents alone hold, and there the deadline is never.
        let fence_at = deadline(rules, &granted).unwrap_or(rules.fence_at(Moment::default()));
        Self {
            epoch,
            fence_at,
            granted,
            kept: BTreeMap::new(),
            pin: Pin::of(shown.as_ref(), site),
            shown,
            to_tell: None,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn fence_at(&self) -> Moment {
        self.fence_at
    }
}

impl Hold {
    /// A voter keeps this record. With a majority of such voters the lease is pinned.
    fn count_pin(
        &mut self,
        rules: &LeaseRules,
        site: &SiteName,
        from: &Member,
        record: &ClusterRecord,
    ) {
        let Pin::On { since, kept_by, .. } = &mut self.pin else {
            return;
        };
        // Of this epoch: a late renewal of a former life may still replace an older one there.
        let counts = record.epoch == self.epoch && record.version() >= *since;
        if counts && record.pinned_to() == Some(site) {
            kept_by.insert(from.clone());
        }
        if kept_by.len() >= rules.majority() {
            self.fence_at = Moment::NEVER;
        }
    }

    /// The pin is in force: nobody counts the time.
    fn is_pinned(&self) -> bool {
        matches!(self.pin, Pin::On { .. }) && self.fence_at == Moment::NEVER
    }

    /// Another record is carried from now on.
    fn pin_or_unpin(
        &mut self,
        rules: &LeaseRules,
        site: &SiteName,
        old: Option<&ClusterRecord>,
        new: &ClusterRecord,
        now: Moment,
    ) {
        let pins = new.pinned_to() == Some(site);
        match (&self.pin, pins, old) {
            (Pin::Off | Pin::Ending { .. }, true, _) => {
                self.pin = Pin::of(Some(new), site);
            }
            (Pin::On { .. }, false, Some(last)) if self.is_pinned() => {
                self.end_pin(rules, last, now);
                if rules.breaks(BrokenRule::UnpinnedTooSoon) {
                    self.pin = Pin::Off;
                }
            }
            (Pin::On { .. }, false, _) => self.pin = Pin::Off,
            (Pin::Off | Pin::On { .. } | Pin::Ending { .. }, ..) => {}
        }
    }

    /// Counts the time again. What pinned voters granted runs until they hear of the end: that is
    /// not before now.
    fn end_pin(&mut self, rules: &LeaseRules, last: &ClusterRecord, now: Moment) {
        let last = Box::new(last.clone());
        let ending = Pin::Ending { last };
        if let Pin::On { kept_by, .. } = std::mem::replace(&mut self.pin, ending) {
            let granted = kept_by.into_iter().map(|voter| (voter, now));
            self.granted.extend(granted);
        }
        if let Some(fence_at) = deadline(rules, &self.granted) {
            self.fence_at = fence_at;
        }
    }
}

/// The deadline by the newest sending that a majority granted.
fn deadline(rules: &LeaseRules, granted: &BTreeMap<Member, Moment>) -> Option<Moment> {
    let mut sent: Vec<Moment> = granted.values().copied().collect();
    sent.sort_unstable_by(|left, right| right.cmp(left));
    let majority_sent = sent.get(rules.majority().saturating_sub(1))?;
    Some(rules.fence_at(*majority_sent))
}

impl Contender {
    /// Loses the lease if its deadline has passed (S2).
    pub(super) fn check_deadline(&mut self, now: Moment, out: &mut Output) {
        if let Phase::Holding(hold) = &self.phase
            && now >= hold.fence_at
        {
            let fenced_at = hold.fence_at + self.rules.fence_budget;
            self.lose_hold(hold.epoch, fenced_at, now, out);
        }
    }

    /// A voter says that this epoch was given back.
    pub(super) fn is_shown_released(&self, epoch: Epoch) -> bool {
        let shown = |seen: &Seen| seen.view.released && seen.view.promised == epoch;
        self.seen.values().any(shown)
    }

    /// Loses the lease if a voter has shown a higher epoch (S8), or that a former life of a pair's
    /// agent gave this one back: that voter renews it no more, and nothing would ever run out.
    pub(super) fn yield_to_higher_epoch(&mut self, now: Moment, out: &mut Output) {
        let pair = self.rules.mode == Mode::Pair;
        if let Phase::Holding(hold) = &self.phase
            && (self.epoch_seen > hold.epoch || (pair && self.is_shown_released(hold.epoch)))
        {
            let fenced_at = now + self.rules.fence_budget;
            self.lose_hold(hold.epoch, fenced_at, now, out);
        }
    }

    fn lose_hold(&mut self, epoch: Epoch, fenced_at: Moment, now: Moment, out: &mut Output) {
        let phase = std::mem::replace(&mut self.phase, Phase::Looking { ballot: None });
        if let Phase::Holding(hold) = phase {
            self.record = hold.shown;
        }
        self.writable_until = fenced_at;
        self.next_round_at = now;
        out.fence = Some(epoch);
        out.changes.push(LeaseChange::Lost { epoch });
    }

    pub(super) fn renew_when_due(&mut self, now: Moment, out: &mut Output) {
        let Phase::Holding(hold) = &self.phase else {
            return;
        };
        if now < self.next_round_at {
            return;
        }
        let epoch = hold.epoch;
        let record = match &hold.pin {
            Pin::Ending { last } => Some(ClusterRecord::clone(last)),
            Pin::Off | Pin::On { .. } => self.record.clone(),
        };
        let holder = self.site.clone();
        let request = LeaseRequest::Renew {
            holder,
            epoch,
            record,
        };
        self.send_round(Purpose::Renew, epoch, &request, now, out);
        self.next_round_at = now + self.rules.renew_every;
    }

    /// Counts a voter's grant of what was sent in `round`.
    pub(super) fn count_grant(
        &mut self,
        from: &Member,
        round: Round,
        reply: &LeaseReply,
        now: Moment,
        out: &mut Output,
    ) {
        let from_reply = self.rules.breaks(BrokenRule::CountFromReply);
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        if round.epoch != hold.epoch || round.purpose == Purpose::PreVote {
            return;
        }
        let sent = if from_reply { now } else { round.sent };
        let granted = hold.granted.entry(from.clone()).or_insert(sent);
        *granted = sent.max(*granted);
        if let Some(fence_at) = deadline(&self.rules, &hold.granted) {
            hold.fence_at = hold.fence_at.max(fence_at);
        }
        if let Some(record) = &reply.knows.record {
            hold.count_pin(&self.rules, &self.site, from, record);
            let kept = hold
                .kept
                .entry(from.clone())
                .or_insert_with(|| record.version());
            *kept = record.version().max(*kept);
            let version = |record: &ClusterRecord| record.version();
            if Some(record.version()) > hold.shown.as_ref().map(version) {
                hold.shown = Some(record.clone());
            }
        }
        self.tell_kept(out);
    }

    /// Tells that a record is kept: by a majority, and, where it pins, with a guard that knows.
    fn tell_kept(&mut self, out: &mut Output) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        let keepers = |version| hold.kept.values().filter(|kept| **kept >= version).count();
        if let Some(version) = hold.to_tell
            && !matches!(hold.pin, Pin::On { known: false, .. })
            && keepers(version) >= self.rules.majority()
        {
            hold.to_tell = None;
            out.changes.push(LeaseChange::RecordKept { version });
        }
    }

    /// The command: carry this record, beginning now. Only the holder can, and only a record that
    /// is not older than the newest one known; the same one again is told again when kept.
    pub(super) fn keep(&mut self, record: ClusterRecord, now: Moment) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        let version = record.version();
        let known = self.record.as_ref().map(ClusterRecord::version);
        if Some(version) < known || record.epoch > hold.epoch {
            return;
        }
        if Some(version) > known {
            hold.pin_or_unpin(&self.rules, &self.site, self.record.as_ref(), &record, now);
            self.record = Some(record);
        }
        hold.to_tell = Some(version);
        self.next_round_at = now;
    }

    /// The guard must know a deadline, or that there is none, before anybody else may count on it.
    pub(super) fn awaits_guard(&self) -> Option<Epoch> {
        let Phase::Holding(hold) = &self.phase else {
            return None;
        };
        let waits = match &hold.pin {
            Pin::Off => false,
            Pin::On { known, .. } => !known && hold.fence_at == Moment::NEVER,
            Pin::Ending { .. } => true,
        };
        waits.then_some(hold.epoch)
    }

    /// It knows.
    pub(super) fn guard_knows(&mut self, now: Moment, out: &mut Output) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        match &mut hold.pin {
            Pin::Off => {}
            Pin::On { known, .. } => {
                *known = hold.fence_at == Moment::NEVER;
                self.tell_kept(out);
            }
            Pin::Ending { .. } => {
                hold.pin = Pin::Off;
                self.next_round_at = now;
            }
        }
    }

    /// The command: give the lease up. By the time it is given the node must be fenced or cleanly
    /// stopped: voters may grant the lease to the successor as soon as they hear of it.
    pub(super) fn release(&mut self, to: Option<SiteName>, now: Moment) {
        let Phase::Holding(hold) = &self.phase else {
            return;
        };
        let (epoch, mut record) = (hold.epoch, self.record.clone());
        // A pin is taken back by a newer record only.
        if let Some(record) = record.as_mut().filter(|it| it.pinned_to().is_some()) {
            record.unpin();
            record.succeed(epoch);
        }
        self.record.clone_from(&record);
        self.phase = Phase::Looking { ballot: None };
        self.writable_until = now;
        self.next_round_at = now + self.rules.renew_every;
        self.give_back = Some(GiveBack::of_holder(&self.rules, epoch, to, record, now));
    }
}
