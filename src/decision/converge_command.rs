//! A person wants files and DNS in line with the record once more, because somebody else changed
//! them. It is the same plan as after a move, under the same epoch (S8).

use crate::decision::decide::Action;
use crate::decision::guard_words::ONLY_OBSERVES;
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::state::{Phase, State};
use crate::model::brakes::Conduct;
use crate::model::event::Answer;
use crate::model::journal::JournalEntry;
use crate::model::lease::ClusterRecord;
use crate::model::situation::NodeState;

/// Answers the wish with this id; when it may be fulfilled, housekeeping begins the plan.
pub fn handle(
    policy: &Policy,
    state: &mut State,
    (id, dry_run): (u64, bool),
    actions: &mut Vec<Action>,
) {
    let answer = match may_begin(policy, state) {
        Err(reason) => Answer::Refused {
            reasons: vec![reason],
        },
        Ok(record) => {
            let plan = plan::converge(policy, state, &record.primary, record.epoch);
            if plan.steps.is_empty() {
                Answer::Refused {
                    reasons: vec!["there are neither files nor DNS records to set".to_owned()],
                }
            } else if dry_run {
                Answer::WouldDo {
                    plans: vec![(policy.me.clone(), plan)],
                }
            } else {
                state.converged = None;
                actions.push(Action::Journal(JournalEntry::Remark {
                    text: "operator: files and DNS in line with the record once more".to_owned(),
                }));
                Answer::Started { plan: plan.id }
            }
        }
    };
    actions.push(Action::Answer { id, answer });
}

/// The record that would be followed, or why not.
fn may_begin(policy: &Policy, state: &State) -> Result<ClusterRecord, String> {
    if policy.conduct == Conduct::Observe {
        return Err(ONLY_OBSERVES.to_owned());
    }
    let Some(record) = state.record.clone() else {
        return Err("no cluster record is known yet; try again in a moment".to_owned());
    };
    if record.primary != policy.me {
        return Err(format!(
            "site {} is the active one: ask its agent",
            record.primary
        ));
    }
    let serves = state
        .facts
        .is_some_and(|facts| facts.own == NodeState::Primary);
    let settled = state.phase == Phase::Active && serves && !record.promoting;
    if !settled || state.held_epoch() != Some(record.epoch) {
        return Err(format!(
            "site {} is not active under the record's epoch {} ({}); see `agent status`",
            policy.me, record.epoch, state.phase
        ));
    }
    if let Some(run) = &state.run {
        return Err(format!(
            "plan {} is already under way, and tries until it is done; see `agent status`",
            run.plan.id
        ));
    }
    if state.journal_broken.is_some() {
        return Err("the journal cannot be written; see `agent status`".to_owned());
    }
    Ok(record)
}
