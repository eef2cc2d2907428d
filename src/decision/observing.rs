//! `mode = "observe"`: the agent looks, diagnoses, plans, journals and tells, and does nothing.
//!
//! It never asks for the lease, so nobody need hold one. What would be so if the agents acted is
//! imagined from the nodes: the site whose node is the primary is the active one.

use crate::decision::decide::Action;
use crate::decision::diagnose::{self, Remedy};
use crate::decision::guards::{self, Mover};
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::state::State;
use crate::decision::{brakes, own_view, triggers};
use crate::model::Role;
use crate::model::brakes::Conduct;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::journal::JournalEntry;
use crate::model::plan::{Cause, Plan, PlanKind};
use crate::model::situation::{Facts, PeerNode, Reach, RecordSays, Standing};
use crate::model::time::Now;

/// What an observing agent would do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intention {
    diagnosis: Diagnosis,
    kind: Option<PlanKind>,
}

/// Who would be active, and what the record would say, if the agents acted.
#[must_use]
pub fn imagined(
    policy: &Policy,
    state: &State,
    real: (Standing, RecordSays),
    peer: (PeerNode, Reach),
) -> (Standing, RecordSays) {
    let nobody_holds_it = matches!(
        real.0,
        Standing::Free | Standing::FreeForMe | Standing::Inherited
    );
    if policy.conduct == Conduct::Act || !nobody_holds_it {
        return real;
    }
    match own_view::own_report(state).map(|report| report.role) {
        None => real,
        Some(Role::Primary) => (Standing::Active, RecordSays::Mine),
        Some(Role::Standby) if peer == (PeerNode::Down, Reach::Silent) => {
            (Standing::Free, RecordSays::Theirs)
        }
        Some(Role::Standby) => (Standing::Peer, RecordSays::Theirs),
    }
}

/// Writes down and tells what would be done, whenever that changes.
pub fn observe(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let would = intention(policy, state, now);
    let known = would.as_ref().map(|(intention, _)| intention);
    if known == state.intention.as_ref() {
        return;
    }
    let text = match &would {
        Some((_, words)) => format!("observe: I would {words}"),
        None => "observe: there is nothing any more that I would do".to_owned(),
    };
    let severity = match &would {
        Some(_) => Severity::Outage,
        None => Severity::Fine,
    };
    state.intention = would.map(|(intention, _)| intention);
    actions.push(Action::Journal(JournalEntry::Remark { text: text.clone() }));
    actions.push(brakes::tell("would_act", severity, text));
}

fn intention(policy: &Policy, state: &State, now: Now) -> Option<(Intention, String)> {
    let facts: Facts = state.facts?;
    let diagnosis = *state.diagnoses.first()?;
    let cause = Cause::Diagnosed { diagnosis };
    let epoch = state.epoch().next();
    let may = |guards: Vec<guards::Guard>| guards.is_empty();
    let plan = match diagnose::row(diagnosis)?.remedy {
        Remedy::None | Remedy::Tell => return None,
        Remedy::GiveUp => may(guards::against_give_up(
            policy,
            state,
            &facts,
            Mover::Agent,
            now,
        ))
        .then(|| plan::give_up(policy, state, epoch, cause, std::time::Duration::ZERO))?,
        Remedy::TakeOver => may(guards::against_take_over(
            policy,
            state,
            &facts,
            Mover::Agent,
            now,
        ))
        .then(|| {
            let id = plan::next_id(policy, state);
            plan::take_over(policy, state, &policy.me, id, epoch, cause)
        })?,
        Remedy::Fence => plan::fence(policy, state, cause),
        Remedy::Claim => {
            let intention = Intention {
                diagnosis,
                kind: None,
            };
            let words = format!("ask for the lease (diagnosis {diagnosis})");
            return Some((intention, words));
        }
    };
    let intention = Intention {
        diagnosis,
        kind: Some(plan.kind),
    };
    Some((intention, in_words(&plan)))
}

fn in_words(plan: &Plan) -> String {
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    format!("{} ({}): {}", plan.kind, plan.cause, steps.join("; "))
}

/// What is said about why nothing is done: it would be done otherwise.
#[must_use]
pub fn only_observes(policy: &Policy, state: &State) -> bool {
    let acts = match triggers::first_remedy(state) {
        Some(Remedy::GiveUp | Remedy::TakeOver | Remedy::Claim | Remedy::Fence) => true,
        Some(Remedy::None | Remedy::Tell) | None => false,
    };
    policy.conduct == Conduct::Observe && acts
}
