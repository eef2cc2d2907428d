//! What pins a lease and unpins it, and a guard that hears of it late.

use failover_agent::decision::lease::Input;
use failover_agent::model::brakes::Paused;
use failover_agent::model::lease::{ClusterRecord, LeaseCommand, LeaseView};
use failover_agent::model::{Epoch, Moment, Timestamp};

use super::machines::{FENCE_BUDGET, Machines};
use super::world::{Done, World, record};

/// Revisions of records that pin, or pinned: with room for the ones that releases make of them.
const PINS_FROM: u64 = 10_000;

/// Records of every other revision are paused ones: so that pauses begin, end and move.
pub(crate) fn pause_of((epoch, revision): (Epoch, u64)) -> Option<Paused> {
    (revision % 2 == 1).then(|| Paused {
        by: format!("whoever held {epoch}"),
        since: Timestamp(i64::try_from(revision).expect("a small number")),
        length: None,
        reason: None,
        guard_off: false,
    })
}

/// The record does not say of a pause what it said when it was kept.
pub(crate) fn forgot_pause(record: &ClusterRecord) -> bool {
    let paused = record.brakes.paused.as_ref();
    let pins = paused.is_some_and(|it| it.by == "whoever pins");
    !pins && paused != pause_of(record.version()).as_ref()
}

impl World {
    /// The holder hands in a record that pins the lease, or one that does no more.
    pub(crate) fn pin(&mut self, machines: &mut Machines, index: usize, epoch: Epoch) -> Done {
        let pins = !self.agents[index].pinned;
        let turn = 1000 - u64::from(self.budget.pins);
        let mut record = record(epoch, PINS_FROM + 3 * turn, index);
        record.brakes.paused = Some(Paused {
            by: "whoever pins".to_owned(),
            since: Timestamp(i64::try_from(record.revision).expect("a small number")),
            length: None,
            reason: None,
            guard_off: pins,
        });
        let keep = LeaseCommand::Keep(Box::new(record));
        self.feed(machines, index, Input::Command(keep))
    }

    /// The deadline that the holder counts on, if the guard does not know it yet.
    pub(crate) fn guard_lags(&self, machines: &Machines, index: usize) -> Option<Moment> {
        match self.view(machines, index) {
            LeaseView::Held { fence_at, .. } => Some(fence_at + FENCE_BUDGET),
            _ => None,
        }
        .filter(|until| self.agents[index].writable_until > Some(*until))
    }

    /// Whatever would fence the node knows the deadline that the holder counts on.
    pub(crate) fn guard_knows(&mut self, machines: &mut Machines, index: usize) -> Done {
        if let Some(until) = self.guard_lags(machines, index) {
            self.agents[index].writable_until = Some(until);
        }
        if !self.agents[index].awaits_guard {
            return Ok(());
        }
        self.feed(machines, index, Input::GuardKnows)
    }
}
