//! Holding the lease: renewing it, carrying the record, losing it in time (S2, S8), giving it up.

use super::{CellContender, Output, Phase, Purpose, Round};
use crate::decision::lease::rules::{BrokenRule, LeaseRules};
use crate::model::cell::{Cell, CellReply, CellRequest, PeerWish};
use crate::model::lease::{ClusterRecord, LeaseChange};
use crate::model::{Epoch, Moment, SiteName};

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    epoch: Epoch,
    claim: u64,
    /// The revision that the cell is believed to have.
    revision: u64,
    fence_at: Moment,
    /// The renewal that is under way, and when it was sent.
    renewing: Option<(u64, Moment)>,
    /// The store did not answer to the newest renewal that is over.
    store_silent: bool,
    /// The newest record that the store is known to have taken. One that was handed in and never
    /// reached it is forgotten with the lease: nobody else would ever hear of it.
    shown: Option<ClusterRecord>,
    /// The record whose keeping is still to be told.
    to_tell: Option<(Epoch, u64)>,
    next_renewal_at: Moment,
    pin: Pin,
}

/// Whether the record pins the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pin {
    Off,
    /// Records of this version or newer do, under this epoch.
    On {
        since: (Epoch, u64),
        /// The guard knows that there is no deadline.
        known: bool,
    },
    /// It does no more; but until the guard knows, the last one that did is written.
    Ending {
        last: Box<ClusterRecord>,
    },
}

impl Pin {
    fn of(record: Option<&ClusterRecord>, site: &SiteName) -> Self {
        let pinned = record.filter(|record| record.pinned_to() == Some(site));
        pinned.map_or(Self::Off, |record| Self::On {
            since: record.version(),
            known: false,
        })
    }

    /// The store has taken this record.
    fn holds_with(&self, record: Option<&ClusterRecord>) -> bool {
        match self {
            Self::On { since, .. } => record.is_some_and(|it| it.version() >= *since),
            Self::Off | Self::Ending { .. } => false,
        }
    }
}

impl Hold {
    pub(super) fn won(rules: &LeaseRules, cell: &Cell, revision: u64, sent: Moment) -> Self {
        let pin = Pin::of(cell.record.as_ref(), &cell.holder);
        Self {
            epoch: cell.epoch,
            claim: cell.claim,
            revision,
            fence_at: match pin {
                Pin::On { .. } => Moment::NEVER,
                Pin::Off | Pin::Ending { .. } => rules.fence_at(sent),
            },
            pin,
            renewing: None,
            store_silent: false,
            shown: cell.record.clone(),
            to_tell: None,
            next_renewal_at: sent + rules.renew_every,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn fence_at(&self) -> Moment {
        self.fence_at
    }

    pub(super) fn wake_at(&self) -> Moment {
        self.fence_at.min(self.next_renewal_at)
    }

    fn renews_by(&self, number: u64) -> bool {
        self.renewing.is_some_and(|(round, _)| round == number)
    }

    /// Counts something that lets this site go on for one span from its sending.
    pub(super) fn extend(&mut self, rules: &LeaseRules, sent: Moment, now: Moment) {
        let from_reply = rules.breaks(BrokenRule::CountFromReply);
        let sent = if from_reply { now } else { sent };
        self.fence_at = self.fence_at.max(rules.fence_at(sent));
    }

    /// The pin is in force: nobody counts the time.
    fn is_pinned(&self) -> bool {
        matches!(self.pin, Pin::On { .. }) && self.fence_at == Moment::NEVER
    }

    /// Counts the time again, from before the store hears of it.
    fn end_pin(&mut self, rules: &LeaseRules, last: ClusterRecord, now: Moment) {
        self.pin = Pin::Ending {
            last: Box::new(last),
        };
        self.fence_at = rules.fence_at(now);
    }

    /// Tells that a record is kept: by the store, and, where it pins, with a guard that knows.
    fn tell_kept(&mut self, out: &mut Output) {
        let kept = self.shown.as_ref().map(ClusterRecord::version);
        let waits = matches!(self.pin, Pin::On { known: false, .. });
        let version = self.to_tell.filter(|version| kept >= Some(*version));
        if let Some(version) = version.filter(|_| !waits) {
            self.to_tell = None;
            out.changes.push(LeaseChange::RecordKept { version });
        }
    }

    /// True when the cell says that this very lease is over.
    fn is_over_by(&self, cell: &Cell) -> bool {
        let other = cell.epoch == self.epoch && (cell.claim != self.claim || cell.released);
        cell.epoch > self.epoch || other
    }
}

/// A release under way: written again until the store has it, or until it would have run out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GiveBack {
    epoch: Epoch,
    claim: u64,
    to: Option<SiteName>,
    revision: u64,
    send_at: Moment,
    until: Moment,
}

impl GiveBack {
    pub(super) fn wake_at(&self) -> Moment {
        self.send_at.min(self.until)
    }
}

impl CellContender {
    /// Loses the lease if its deadline has passed (S2).
    pub(super) fn check_deadline(&mut self, now: Moment, out: &mut Output) {
        if let Phase::Holding(hold) = &self.phase
            && now >= hold.fence_at
        {
            self.lose_hold(hold.epoch, now, out);
        }
    }

    /// Loses the lease if a higher epoch was seen (S8).
    pub(super) fn yield_to_higher_epoch(&mut self, now: Moment, out: &mut Output) {
        if let Phase::Holding(hold) = &self.phase
            && self.epoch_seen > hold.epoch
        {
            self.lose_hold(hold.epoch, now, out);
        }
    }

    fn lose_hold(&mut self, epoch: Epoch, now: Moment, out: &mut Output) {
        let phase = std::mem::replace(&mut self.phase, Phase::Looking);
        // Forgets the own changes that reached nobody; what a successor wrote stays.
        let successors = self
            .record
            .as_ref()
            .is_some_and(|record| record.epoch > epoch);
        if let Phase::Holding(hold) = phase
            && !successors
        {
            self.record = hold.shown;
        }
        self.next_look_at = now;
        out.fence = Some(epoch);
        out.changes.push(LeaseChange::Lost { epoch });
    }

    pub(super) fn renew_when_due(&mut self, now: Moment, out: &mut Output) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        if now < hold.next_renewal_at {
            return;
        }
        hold.next_renewal_at = now + self.rules.renew_every;
        // One that is under way for too long is as good as unanswered.
        let timeout = self.rules.request_timeout;
        hold.store_silent |= hold
            .renewing
            .is_some_and(|(_, sent)| now.since(sent) >= timeout);
        let (epoch, claim, revision) = (hold.epoch, hold.claim, hold.revision);
        let silent = hold.store_silent;
        let cell = Box::new(self.own_cell(epoch, claim));
        let request = CellRequest::Write {
            if_revision: revision,
            cell: cell.clone(),
        };
        let number = self.ask_store(Purpose::Renew(cell), request, now, out);
        if let Phase::Holding(hold) = &mut self.phase {
            hold.renewing = Some((number, now));
        }
        if silent {
            self.ask_consent(epoch, now, out);
        }
    }

    /// The store did not answer to this request: the other agent is asked, at once.
    pub(super) fn renewal_unanswered(&mut self, number: u64, now: Moment, out: &mut Output) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        if !hold.renews_by(number) {
            return;
        }
        hold.renewing = None;
        hold.store_silent = true;
        let epoch = hold.epoch;
        self.ask_consent(epoch, now, out);
    }

    fn ask_consent(&mut self, epoch: Epoch, now: Moment, out: &mut Output) {
        self.ask_peer(Purpose::Consent(epoch), epoch, PeerWish::Consent, now, out);
    }

    pub(super) fn take_renewed(
        &mut self,
        number: u64,
        round: &Round,
        cell: &Cell,
        reply: &CellReply,
        now: Moment,
        out: &mut Output,
    ) {
        let Phase::Holding(hold) = &mut self.phase else {
            return;
        };
        if (hold.epoch, hold.claim) != (cell.epoch, cell.claim) {
            return;
        }
        if hold.renews_by(number) {
            hold.renewing = None;
        }
        hold.store_silent = false;
        let seen = reply.seen.cell.as_ref();
        if reply.written || seen.map(Cell::mark) == Some(cell.mark()) {
            hold.revision = hold.revision.max(reply.seen.revision);
            hold.extend(&self.rules, round.sent, now);
            if hold.pin.holds_with(cell.record.as_ref()) {
                hold.fence_at = Moment::NEVER;
            }
            let kept = cell.record.as_ref().map(ClusterRecord::version);
            if kept > hold.shown.as_ref().map(ClusterRecord::version) {
                hold.shown.clone_from(&cell.record);
            }
            hold.tell_kept(out);
            return;
        }
        if seen.is_some_and(|seen| hold.is_over_by(seen)) {
            let epoch = hold.epoch;
            self.lose_hold(epoch, now, out);
            return;
        }
        // An own renewal that was given up came true all the same; or the store lost its memory,
        // which this site, whose lease still runs, gives back to it.
        hold.revision = reply.seen.revision;
        hold.next_renewal_at = now;
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
            let pin = Pin::of(Some(&record), &self.site);
            match (&hold.pin, pin, self.record.take()) {
                // One that was never in force has changed nothing.
                (Pin::On { .. }, Pin::Off, Some(last)) if hold.is_pinned() => {
                    hold.end_pin(&self.rules, last, now);
                    if self.rules.breaks(BrokenRule::UnpinnedTooSoon) {
                        hold.pin = Pin::Off;
                    }
                }
                (Pin::Ending { .. }, pin @ Pin::On { .. }, _) => hold.pin = pin,
                (Pin::Ending { .. }, ..) | (Pin::On { .. }, Pin::On { .. }, _) => {}
                (Pin::Off | Pin::On { .. }, pin, _) => hold.pin = pin,
            }
            self.record = Some(record);
        }
        hold.to_tell = Some(version);
        hold.next_renewal_at = now;
    }

    /// What a cell that is written now carries.
    pub(super) fn record_to_write(&self) -> Option<ClusterRecord> {
        if let Phase::Holding(hold) = &self.phase
            && let Pin::Ending { last } = &hold.pin
        {
            return Some(ClusterRecord::clone(last));
        }
        self.record.clone()
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
                hold.tell_kept(out);
            }
            Pin::Ending { .. } => {
                hold.pin = Pin::Off;
                hold.next_renewal_at = now;
            }
        }
    }

    /// The command: give the lease up. By the time it is given the node must be fenced or cleanly
    /// stopped: the successor may write the next epoch as soon as it sees this.
    pub(super) fn release(&mut self, to: Option<SiteName>, now: Moment) {
        let Phase::Holding(hold) = &self.phase else {
            return;
        };
        let epoch = hold.epoch;
        self.give_back = Some(GiveBack {
            epoch,
            claim: hold.claim,
            to,
            revision: hold.revision,
            send_at: now,
            until: now + self.rules.ttl,
        });
        // A pin is taken back by a newer record only.
        if let Some(record) = self.record.as_mut().filter(|it| it.pinned_to().is_some()) {
            record.unpin();
            record.succeed(epoch);
        }
        self.phase = Phase::Looking;
        self.next_look_at = now + self.rules.renew_every;
    }

    pub(super) fn resend_release(&mut self, now: Moment, out: &mut Output) {
        let Some(giving) = &mut self.give_back else {
            return;
        };
        if now >= giving.until {
            self.give_back = None;
            return;
        }
        if now < giving.send_at {
            return;
        }
        giving.send_at = now + self.rules.renew_every / 4;
        let (epoch, claim) = (giving.epoch, giving.claim);
        let (to, if_revision) = (giving.to.clone(), giving.revision);
        let mut cell = Box::new(self.own_cell(epoch, claim));
        cell.released = true;
        cell.released_to = to;
        let request = CellRequest::Write {
            if_revision,
            cell: cell.clone(),
        };
        self.ask_store(Purpose::Release(cell), request, now, out);
    }

    pub(super) fn take_released(
        &mut self,
        cell: &Cell,
        reply: &CellReply,
        now: Moment,
        out: &mut Output,
    ) {
        let Some(giving) = self
            .give_back
            .as_mut()
            .filter(|giving| (giving.epoch, giving.claim) == (cell.epoch, cell.claim))
        else {
            return;
        };
        let seen = reply.seen.cell.as_ref();
        let own = |seen: &&Cell| (seen.epoch, seen.claim) == (cell.epoch, cell.claim);
        let still_held = seen.filter(own).is_some_and(|seen| !seen.released);
        if !reply.written && still_held {
            // An own renewal came in between.
            giving.revision = reply.seen.revision;
            giving.send_at = now;
            return;
        }
        // Released; or somebody took the next epoch; or the cell is gone, and runs out.
        let (epoch, to) = (giving.epoch, giving.to.clone());
        self.give_back = None;
        out.changes.push(LeaseChange::Released { epoch, to });
        self.ask_peer(Purpose::Notice, epoch, PeerWish::Released, now, out);
    }
}
