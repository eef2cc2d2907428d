//! Giving an epoch back: sent again until every voter has it, or until it would have run out.
//!
//! With two agents alone it never runs out, and the own voter hears of it first: a restarted holder
//! goes on under the epoch that its own voter grants it, so that voter must not be the last to
//! know.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Contender, Output, Purpose, Round};
use crate::decision::lease::rules::{LeaseRules, Mode};
use crate::model::lease::{ClusterRecord, LeaseChange, LeaseReply, LeaseRequest, Verdict};
use crate::model::{Epoch, Member, Moment, SiteName};

/// A release under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GiveBack {
    epoch: Epoch,
    to: Option<SiteName>,
    record: Option<ClusterRecord>,
    /// Who has not answered for good.
    pending: BTreeSet<Member>,
    acknowledged: BTreeSet<Member>,
    /// Only the own voter is told at first.
    own_first: bool,
    /// False for a loser, whose release nobody waits for, and once it was told.
    to_tell: bool,
    send_at: Moment,
    until: Moment,
}

impl GiveBack {
    pub(super) fn of_holder(
        rules: &LeaseRules,
        epoch: Epoch,
        to: Option<SiteName>,
        record: Option<ClusterRecord>,
        now: Moment,
    ) -> Self {
        let own_first = rules.mode == Mode::Pair;
        Self {
            own_first,
            to_tell: true,
            record,
            ..Self::of_loser(rules, epoch, to, now)
        }
    }

    pub(super) fn of_loser(
        rules: &LeaseRules,
        epoch: Epoch,
        to: Option<SiteName>,
        now: Moment,
    ) -> Self {
        Self {
            epoch,
            to,
            record: None,
            pending: rules.voters.iter().cloned().collect(),
            acknowledged: BTreeSet::new(),
            own_first: false,
            to_tell: false,
            send_at: now,
            until: match rules.mode {
                Mode::Quorum => now + rules.ttl,
                // Nothing runs out: what a voter does not hear of, it counts for ever.
                Mode::Pair => Moment::from_boot(Duration::MAX),
            },
        }
    }

    pub(super) fn is_of(&self, epoch: Epoch) -> bool {
        self.epoch == epoch
    }

    pub(super) fn wake_at(&self) -> Moment {
        self.send_at.min(self.until)
    }
}

impl Contender {
    pub(super) fn resend_release(&mut self, now: Moment, out: &mut Output) {
        let Some(giving) = &mut self.give_back else {
            return;
        };
        if now >= giving.until || giving.pending.is_empty() {
            self.give_back = None;
            return;
        }
        if now < giving.send_at {
            return;
        }
        giving.send_at = now + self.rules.renew_every / 4;
        let own_first = std::mem::take(&mut giving.own_first);
        let me = &self.rules.me;
        let asked = giving
            .pending
            .iter()
            .filter(|voter| !own_first || *voter == me);
        let asked: Vec<Member> = asked.cloned().collect();
        let request = LeaseRequest::Release {
            holder: self.site.clone(),
            epoch: giving.epoch,
            to: giving.to.clone(),
            record: giving.record.clone(),
        };
        let round = Round {
            sent: now,
            epoch: giving.epoch,
            purpose: Purpose::Release,
        };
        self.send_to(&asked, round, &request, out);
    }

    pub(super) fn count_release(
        &mut self,
        from: &Member,
        epoch: Epoch,
        reply: &LeaseReply,
        now: Moment,
        out: &mut Output,
    ) {
        let Some(giving) = self
            .give_back
            .as_mut()
            .filter(|giving| giving.epoch == epoch)
        else {
            return;
        };
        match reply.verdict {
            Verdict::NotDurable
            | Verdict::Abstains
            | Verdict::WrongCluster
            | Verdict::StoreSilent => return,
            // Whoever promised a higher epoch will not have anything to do with this one either.
            Verdict::StaleEpoch if reply.knows.promised <= epoch => {}
            Verdict::GrantRuns | Verdict::ReservedForSuccessor => {}
            Verdict::Ok | Verdict::StaleEpoch => {
                giving.acknowledged.insert(from.clone());
            }
        }
        giving.pending.remove(from);
        if self.rules.mode == Mode::Pair && *from == self.rules.me {
            // Now it is the other voter's turn.
            giving.send_at = now;
        }
        if giving.to_tell && giving.acknowledged.len() >= self.rules.majority() {
            giving.to_tell = false;
            out.changes.push(LeaseChange::Released {
                epoch,
                to: giving.to.clone(),
            });
        }
    }
}
