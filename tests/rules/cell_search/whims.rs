//! People and plans: they ask, give up, restart agents, and switch the guard off, which pins the
//! lease, and on again.

use std::time::Duration;

use failover_agent::decision::lease::{CellContender, Input};
use failover_agent::model::brakes::Paused;
use failover_agent::model::lease::{ClusterRecord, LeaseCommand, LeaseView};
use failover_agent::model::{Epoch, Lsn, SystemId, Timeline, Timestamp};

use super::sites::{TTL, rules, site};
use super::{Happens, World};

fn record(epoch: Epoch, revision: u64, primary: usize, guard_off: bool) -> ClusterRecord {
    let mut record = ClusterRecord {
        epoch,
        revision,
        primary: site(primary),
        promoting: false,
        system_id: SystemId(1),
        timeline: Timeline(1),
        last_lsn: Lsn(0),
        last_failover: None,
        brakes: Box::default(),
    };
    record.brakes.paused = Some(Paused {
        by: "somebody".to_owned(),
        since: Timestamp(0),
        length: None,
        reason: None,
        guard_off,
    });
    record
}

impl World {
    /// People and plans: ask, give up, restart.
    pub(crate) fn whim(&mut self, index: usize) {
        let holds = self.held[index].is_some();
        match self.below(40) {
            0 => self.restart(index),
            1 if holds => {
                let to = (self.below(2) == 0).then(|| site(1 - index));
                self.feed(index, Input::Command(LeaseCommand::Release { to }));
            }
            2 if holds && self.may_pin => self.pin(index),
            // Somebody thinks better of it at once, while nobody hears of either.
            _ if holds && self.may_pin && !self.reaches[index] && self.below(4) == 0 => {
                self.pin(index);
                self.pin(index);
            }
            _ if holds => {}
            _ => {
                self.feed(index, Input::Command(LeaseCommand::Acquire));
            }
        }
        let after = 20_000 + self.below(300_000);
        self.at(after, Happens::Whim { site: index });
    }

    /// The node goes on until the deadline that the former life left.
    fn restart(&mut self, index: usize) {
        self.lives[index] += 1;
        self.held[index] = None;
        let (seed, start) = (self.next(), self.local(index));
        let (me, peer) = (site(index), site(1 - index));
        self.machines[index] = CellContender::new(rules(index, self.broken), me, peer, seed, start);
        self.feed(index, Input::Tick);
    }

    /// Somebody switches the guard off, or on again.
    pub(crate) fn pin(&mut self, index: usize) {
        let Some(epoch) = self.held[index] else {
            return;
        };
        self.pins += 1;
        self.pinned = !self.pinned;
        let record = record(epoch, self.pins, index, self.pinned);
        let keep = LeaseCommand::Keep(Box::new(record));
        self.feed(index, Input::Command(keep));
    }

    pub(crate) fn guard_knows(&mut self, index: usize) {
        let fence = Duration::from_millis(TTL) / 5;
        if let LeaseView::Held { fence_at, .. } = self.machines[index].current_view() {
            self.writable[index] = self.real(index, fence_at + fence);
        }
        self.feed(index, Input::GuardKnows);
    }
}
