//! The journal after a restart → what the agent may assume.
//!
//! A plan never goes on under the epoch of a former life: the new process asks for the lease
//! anew, and what is left to do is derived from reality (which node is a primary, what the record
//! says). So every unfinished plan ends as superseded, and the next one takes its place: there is
//! never a second plan beside an unfinished one (S11).

use crate::model::journal::{JournalEntry, JournalLine, PlanEnd};
use crate::model::lease::ClusterRecord;
use crate::model::plan::PlanKind;
use crate::model::{Epoch, PlanId};

/// What the journal says about former lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they occur in every combination"
)]
pub struct Resumed {
    /// The number of the next plan.
    pub next_plan: u64,
    /// A plan that had begun and not ended.
    pub unfinished: Option<PlanId>,
    /// That plan was to take the active role.
    pub was_taking_over: bool,
    /// The last take-over's promotion is known to have happened, so the own node is a primary
    /// whenever it runs, and nothing but its first write may be missing.
    pub promoted: bool,
    /// A promotion was begun and not undone, or the journal does not go back far enough to tell.
    pub promotion_pending: bool,
    /// A plan ended with a call for a human, and nobody has stopped the agent in order since.
    pub stopped: Option<String>,
    /// The highest epoch of a plan.
    pub epoch: Epoch,
    /// The own voter has once promised an epoch, so this cluster has had a lease: a primary that
    /// runs without one is no newcomer.
    pub was_member: bool,
    /// The record that the last plan saw: a hint until the voters answer.
    pub record: Option<ClusterRecord>,
}

/// Reads what matters from the journal.
#[must_use]
pub fn resume(lines: &[JournalLine]) -> Resumed {
    let mut resumed = Resumed {
        promotion_pending: true,
        ..Resumed::default()
    };
    let mut promotes = None;
    for line in lines {
        match &line.entry {
            JournalEntry::AgentStopped => resumed.stopped = None,
            JournalEntry::Planned { plan, .. } => {
                resumed.next_plan = resumed.next_plan.max(number(&plan.id)).saturating_add(1);
                resumed.unfinished = Some(plan.id.clone());
                resumed.was_member |= plan.epoch > Epoch::NONE;
                resumed.epoch = resumed.epoch.max(plan.epoch);
                resumed.was_taking_over =
                    matches!(plan.kind, PlanKind::TakeOver | PlanKind::FinishTakeOver);
                promotes = plan.promotes();
                if promotes.is_some() {
                    resumed.promoted = false;
                }
                // One that finishes a promotion is no word on the promotion that it found.
                if plan.kind == PlanKind::TakeOver {
                    resumed.promotion_pending = false;
                }
            }
            JournalEntry::PlanEnded { plan, end } => {
                if resumed.unfinished.as_ref() == Some(plan) {
                    resumed.unfinished = None;
                    resumed.was_taking_over = false;
                }
                if let PlanEnd::NeedsHuman { why } = end {
                    resumed.stopped = Some(why.clone());
                }
            }
            JournalEntry::StepDone { step, undo, .. } if promotes == Some(*step) => {
                resumed.promoted = !undo;
                resumed.promotion_pending = !undo;
            }
            JournalEntry::StepStarted {
                step, undo: false, ..
            } if promotes == Some(*step) => resumed.promotion_pending = true,
            JournalEntry::AgentStarted { .. }
            | JournalEntry::StepStarted { .. }
            | JournalEntry::StepDone { .. }
            | JournalEntry::StepFailed { .. }
            | JournalEntry::Remark { .. } => {}
        }
    }
    resumed.next_plan = resumed.next_plan.max(1);
    resumed
}

/// The number in a plan's id. Counting plans would not do: old journal files are deleted.
fn number(plan: &PlanId) -> u64 {
    plan.as_str()
        .rsplit_once('-')
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}
