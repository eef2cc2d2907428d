//! What the world checks when a step takes effect: order, epochs, and who may promote.

use crate::checks::Rule;
use crate::clock::{SEC, nanos};
use crate::setup::index;
use crate::world::{Pointer, World, name};
use failover_agent::decision::decide::Order;
use failover_agent::model::plan::StepKind;

impl World {
    /// S8, S9: a step that can make a node writable, or proves it, takes effect now.
    pub(crate) fn takes_effect(&mut self, site: usize, order: &Order) {
        let kind = order.what.kind();
        self.note(|| {
            format!(
                "agent {}: effect '{kind}', epoch {}",
                name(site),
                order.epoch
            )
        });
        if order.epoch < self.truth.top_effect {
            let what = format!(
                "'{kind}' at {} under epoch {} after epoch {}",
                name(site),
                order.epoch,
                self.truth.top_effect
            );
            self.violated(Rule::S8Epoch, what);
        }
        self.truth.top_effect = self.truth.top_effect.max(order.epoch);
        if kind == StepKind::VerifyWrites {
            return;
        }
        let lease = self.truth.held_until[site];
        let in_time = lease.is_some_and(|held| {
            held.epoch == order.epoch && (self.setup.pair || self.now <= held.fence_at)
        });
        if !in_time {
            let what = format!("'{kind}' at {} after its lease {}", name(site), order.epoch);
            self.violated(Rule::S8Epoch, what);
        }
        self.check_recorded(site, order);
    }

    /// S9: a majority already keeps the record that names this site. The undo of a fence starts
    /// what it stopped a moment ago, under the same record as before.
    pub(crate) fn check_recorded(&mut self, site: usize, order: &Order) {
        let votes = [
            &self.sites[0].disk.vote,
            &self.sites[1].disk.vote,
            &self.witness.vote,
        ];
        let voters = self.setup.rules[site].voters.len();
        let keepers = votes
            .into_iter()
            .flatten()
            .filter_map(|vote| vote.record.as_ref())
            .filter(|record| record.epoch == order.epoch && index(&record.primary) == site)
            .count();
        if keepers <= voters / 2 && !order.undo {
            let kind = order.what.kind();
            let what = format!("'{kind}' at {} with {keepers} records", name(site));
            self.violated(Rule::S9Order, what);
        }
        let promotes = order.what.kind() == StepKind::Promote;
        if promotes && self.setup.pair && self.truth.held_until[1 - site].is_some() {
            let what = format!(
                "{} takes over from a silent site without a third vote",
                name(site)
            );
            self.violated(Rule::S7ThirdVote, what);
        }
    }

    /// A promotion has come true.
    pub(crate) fn promotion_happened(&mut self, site: usize) {
        self.counts.failovers += 1;
        let node = &self.sites[site].node;
        if let Some((branch, lsn)) = self.truth.handed_on
            && !node.contains(branch, lsn)
        {
            let what = format!(
                "{} lacks commits that a clean stop had handed on",
                name(site)
            );
            return self.violated(Rule::CommitsLost, what);
        }
        self.check_timeline(site);
        self.check_block(site);
    }

    /// No branch of history on which commits were acknowledged is missing as a whole.
    pub(crate) fn check_timeline(&mut self, site: usize) {
        let node = &self.sites[site].node;
        let newest = self.truth.acknowledged.keys().next_back();
        let known = newest.is_none_or(|id| node.history.iter().any(|known| known.id >= *id));
        if !known {
            let what = format!("{} takes writes without the newest timeline", name(site));
            self.violated(Rule::TimelineLost, what);
        }
    }

    /// S14: no second automatic failover within the block.
    pub(crate) fn check_block(&mut self, site: usize) {
        let now = self.now;
        if !self.truth.by_itself[site] || !self.setup.walls_agree {
            return;
        }
        // What the gate made a standby is promoted where it was: the primary does not move.
        if self.truth.stays[site] {
            return;
        }
        // The promotion of a former life may have come true without anyone who knew: finishing it
        // is the same failover, counted from its begin.
        if self.truth.finishes[site]
            && matches!(self.truth.automatic, Some((earlier, _)) if earlier == site)
        {
            return;
        }
        let block = nanos(self.setup.policies[site].block.mul_f64(0.98));
        if let Some((_, before)) = self.truth.automatic.replace((site, now))
            && now - before + SEC < block
        {
            let what = format!(
                "{} failed over again after {} ms",
                name(site),
                (now - before) / 1_000_000
            );
            self.violated(Rule::S14OnePlan, what);
        }
    }

    /// A node has become a writable primary.
    pub(crate) fn began_to_write(&mut self, site: usize) {
        self.truth.handed_on = None;
        if self.sites[1 - site].node.writable() {
            // Two writers: that is judged after every event.
            return;
        }
        if self.sites[site].node.self_started.is_none() {
            self.check_timeline(site);
        }
    }

    /// S8 at the targets: a pointer never goes back to an older epoch.
    pub(crate) fn pointed(&mut self, what: &str, site: usize, before: Pointer, after: Pointer) {
        self.note(|| {
            let (to, epoch) = (name(after.site), after.epoch);
            format!("agent {}: {what} names {to}, epoch {epoch}", name(site))
        });
        if after.epoch < before.epoch {
            let what = format!(
                "{what} went back from epoch {} to {}",
                before.epoch, after.epoch
            );
            self.violated(Rule::S8Epoch, what);
        }
    }
}
