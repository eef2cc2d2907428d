//! What is due when nothing happens: files and DNS in line with the record, a fresh record.

use std::time::Duration;

use crate::decision::advance::go_on;
use crate::decision::brakes;
use crate::decision::decide::Action;
use crate::decision::deeds::{begin, drop_plan, keep};
use crate::decision::own_view;
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::records;
use crate::decision::state::{Phase, State};
use crate::model::lease::ClusterRecord;
use crate::model::plan::PlanKind;
use crate::model::situation::{NodeState, Standing};
use crate::model::time::Now;

/// The record's WAL position is refreshed this often: it only serves agents that were down.
const RECORD_REFRESH: Duration = Duration::from_secs(30);

/// What is due when nothing happens: files and DNS in line with the record, a fresh record.
pub fn keep_house(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let Some(facts) = state.facts else { return };
    brakes::end_pause(state, now, actions);
    refresh_record(policy, state, facts.own, now, actions);
    let Some(record) = state.record.clone() else {
        return;
    };
    replace_outdated(state, &record, actions);
    let wanted = is_settled(policy, state, &record)
        && state.run.is_none()
        && state.journal_broken.is_none()
        && state.converged != Some((record.primary.clone(), record.epoch));
    if !wanted {
        return;
    }
    let plan = plan::converge(policy, state, &record.primary, record.epoch);
    if plan.steps.is_empty() {
        state.converged = Some((record.primary, record.epoch));
    } else {
        begin(policy, state, plan, now, actions);
        go_on(policy, state, now, actions);
    }
}

/// Whether this site is where the record says, so that its files may be brought in line with it:
/// active under the record's epoch, or the standby of a site that is active.
pub(crate) fn is_settled(policy: &Policy, state: &State, record: &ClusterRecord) -> bool {
    let Some(facts) = state.facts else {
        return false;
    };
    let mine = record.primary == policy.me;
    let settled = match state.phase {
        Phase::Active => {
            mine && state.held_epoch() == Some(record.epoch) && facts.own == NodeState::Primary
        }
        // The other agent may be anywhere, but the record of a majority names its site.
        Phase::Watching => !mine && facts.standing == Standing::Peer,
        Phase::Asking
        | Phase::GivingUp
        | Phase::TakingOver
        | Phase::Restarting
        | Phase::Fencing
        | Phase::Stopped => false,
    };
    settled && !record.promoting
}

/// Converging to a record that is no longer the newest could never end: it may not act any more
/// (S8), and it would keep the next plan from beginning.
fn replace_outdated(state: &mut State, record: &ClusterRecord, actions: &mut Vec<Action>) {
    let outdated = state
        .run
        .as_ref()
        .is_some_and(|run| run.plan.kind == PlanKind::Converge && run.plan.epoch < record.epoch);
    if outdated {
        drop_plan(state, "the cluster record moved on", actions);
        state.converged = None;
    }
}

fn refresh_record(
    policy: &Policy,
    state: &mut State,
    own: NodeState,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let due = now.moment.since(state.record_refreshed) >= RECORD_REFRESH;
    let (Some(epoch), Some(record)) = (state.held_epoch(), &state.record) else {
        return;
    };
    let steady = state.phase == Phase::Active && own == NodeState::Primary;
    if !due || !steady || record.promoting || record.epoch != epoch {
        return;
    }
    let report = own_view::own_report(state);
    let fresh = records::proved(policy, record, epoch, report);
    state.record_refreshed = now.moment;
    keep(state, fresh, actions);
}
