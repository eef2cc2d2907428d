//! Transitions into actions: begins and ends plans, asks for and gives back the lease.

use std::time::Duration;

use crate::decision::brakes;
use crate::decision::check_plan::check_plan;
use crate::decision::decide::{Action, Telling};
use crate::decision::diagnose::{self, Remedy};
use crate::decision::own_view;
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::progress::PlanRun;
use crate::decision::records;
use crate::decision::state::{Phase, State};
use crate::decision::transitions::{Deed, Transition, Trigger};
use crate::decision::triggers;
use crate::model::Role;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::journal::{JournalEntry, PlanEnd};
use crate::model::lease::{ClusterRecord, LeaseCommand, LeaseView};
use crate::model::plan::{Cause, Plan, PlanKind};
use crate::model::situation::{NodeState, Reach, RecordSays, Standing};
use crate::model::time::Now;

/// Follows one row of the transition table.
pub fn perform(
    policy: &Policy,
    state: &mut State,
    row: &Transition,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let from = state.phase;
    if state.phase != row.to {
        state.phase = row.to;
        state.phase_since = now.moment;
    }
    match row.deed {
        Deed::Nothing => leave_plan(policy, state, from, now),
        Deed::AskForLease => {
            state.asked_because = Some(cause(policy, state));
            actions.push(Action::Lease(LeaseCommand::Acquire));
        }
        Deed::GiveBack => give_back(policy, state, now, actions),
        Deed::Settle => settle(policy, state, actions),
        Deed::DropPlan => {
            drop_plan(state, row.sentence, actions);
            if row.trigger == Trigger::NodeDied && from == Phase::Restarting {
                // A node that dies as soon as it runs is not started over and over.
                state.restart_tried = true;
                state.not_before = Some(now.moment + policy.ttl);
            }
        }
        Deed::ReplacePlan => {
            drop_plan(state, row.sentence, actions);
            begin_plan(policy, state, now, actions);
        }
        Deed::CallHuman => call_human(state, actions),
    }
    // A wish is for here and now: it does not outlive what it could be fulfilled by (S15).
    if row.to == Phase::Watching
        && let Some(wish) = state.wanted.take()
    {
        actions.push(Action::Tell(Telling {
            severity: Severity::Degraded,
            topic: "wish_dropped".to_owned(),
            summary: format!("operator's {wish} was dropped: {}", row.sentence),
            plan: None,
        }));
    }
}

/// A plan's sequence is over; what converges goes on, what has ended is put aside.
fn leave_plan(policy: &Policy, state: &mut State, from: Phase, now: Now) {
    let ended = state.run.as_ref().and_then(PlanRun::ended);
    let undone = matches!(ended, Some(PlanEnd::Undone { .. }));
    if ended.is_some() {
        state.last_run = state.run.take();
    }
    if undone {
        // The same attempt right away would fail the same way.
        state.not_before = Some(now.moment + policy.ttl);
    }
    if from == Phase::GivingUp && state.phase == Phase::Watching {
        // The successor goes first; should it not come, this site asks again.
        state.not_before = Some(now.moment + policy.ttl + policy.renew_every);
    } else if state.phase == Phase::Active && !undone {
        state.not_before = None;
    }
    if from == Phase::Restarting {
        state.restart_tried = true;
    }
    state.lease_step = None;
}

fn give_back(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    leave_plan(policy, state, state.phase, now);
    state.not_before = Some(now.moment + policy.ttl + policy.renew_every);
    state.was_taking_over = false;
    if let Some(epoch) = state.held_epoch() {
        state.released = Some(epoch);
        // A named successor may start at once, so nothing here may be able to write (S3).
        let successor_may_start = state
            .facts
            .is_some_and(|facts| facts.peer_agent == Reach::Answers && !state.own_may_write());
        let to = successor_may_start.then(|| policy.peer.clone());
        state.fence_by = Some(now.moment);
        actions.push(Action::Lease(LeaseCommand::Release { to }));
        state.lease = LeaseView::Unknown;
    }
}

/// Active: the record says so under the held epoch.
fn settle(policy: &Policy, state: &mut State, actions: &mut Vec<Action>) {
    let Some(epoch) = state.held_epoch() else {
        return;
    };
    state.was_taking_over = false;
    state.wanted = None;
    state.asked_because = None;
    state.not_before = None;
    let record = match &state.record {
        None => records::first(policy, state, epoch),
        Some(record) if record.epoch < epoch => Some(records::next(record, epoch)),
        Some(_) => None,
    };
    if let Some(record) = record {
        keep(state, record, actions);
    }
}

/// Hands a new version of the record to the lease machine.
pub(super) fn keep(state: &mut State, record: ClusterRecord, actions: &mut Vec<Action>) {
    state.record = Some(record.clone());
    actions.push(Action::Lease(LeaseCommand::Keep(Box::new(record))));
}

/// Ends the running plan, if there is one, as superseded.
pub(super) fn drop_plan(state: &mut State, why: &str, actions: &mut Vec<Action>) {
    state.lease_step = None;
    let Some(mut run) = state.run.take() else {
        return;
    };
    if run.ended().is_none() {
        let end = run.supersede(why);
        actions.push(Action::Abandon(run.plan.id.clone()));
        actions.push(Action::Journal(JournalEntry::PlanEnded {
            plan: run.plan.id.clone(),
            end,
        }));
    }
    state.last_run = Some(run);
}

fn call_human(state: &mut State, actions: &mut Vec<Action>) {
    let why = match state.run.as_ref().and_then(PlanRun::ended) {
        Some(PlanEnd::NeedsHuman { why }) => why.clone(),
        _ => "a plan got stuck".to_owned(),
    };
    state.last_run = state.run.take();
    state.stopped = Some(why.clone());
    state.wanted = None;
    actions.push(Action::Tell(Telling {
        severity: Severity::Danger,
        topic: "stopped".to_owned(),
        summary: format!("the agent stopped and calls a human: {why}"),
        plan: state.last_run.as_ref().map(|run| run.plan.id.clone()),
    }));
}

/// Makes the plan of the present phase, checks it, and begins it.
fn begin_plan(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let held = state.held_epoch();
    let epoch = held.unwrap_or_default();
    let asked = state.asked_because.take();
    let cause = asked
        .filter(|_| matches!(state.phase, Phase::TakingOver | Phase::Restarting))
        .unwrap_or_else(|| cause(policy, state));
    let plan = match state.phase {
        Phase::GivingUp => {
            let living = state
                .facts
                .is_some_and(|facts| facts.own == NodeState::Primary);
            let grace = if living {
                policy.stop_grace
            } else {
                Duration::ZERO
            };
            plan::give_up(policy, state, epoch, cause, grace)
        }
        Phase::TakingOver => {
            let begun = state
                .facts
                .filter(|facts| facts.record == RecordSays::MinePromoting);
            if let Some(facts) = begun {
                // A standby, too, cannot write for long when its directory is gone.
                let primary = matches!(facts.own, NodeState::Primary | NodeState::CannotWrite)
                    && own_view::own_report(state)
                        .is_some_and(|report| report.role == Role::Primary);
                let begun = if facts.own == NodeState::Dead {
                    plan::Begun::NodeDied
                } else if primary || (state.promoted && facts.own != NodeState::Standby) {
                    plan::Begun::CameTrue
                } else {
                    plan::Begun::Open
                };
                plan::finish_take_over(policy, state, epoch, cause, begun)
            } else {
                let id = plan::next_id(policy, state);
                plan::take_over(policy, state, &policy.me, id, epoch, cause)
            }
        }
        Phase::Restarting => {
            // A first try before a handover that would be possible is worth its budget only.
            let timeout = if triggers::restart_first(policy, state) {
                policy.restart_budget.min(policy.start_timeout)
            } else {
                policy.start_timeout
            };
            plan::restart(policy, state, epoch, cause, timeout)
        }
        Phase::Fencing | Phase::Stopped => plan::fence(policy, state, cause),
        Phase::Watching | Phase::Asking | Phase::Active => return,
    };
    state.was_taking_over = false;
    state.wanted = None;
    let gives_up = (plan.kind == PlanKind::GiveUp).then(|| plan.cause.clone());
    begin(policy, state, plan, now, actions);
    if let Some(cause) = gives_up {
        brakes::mark_planned(state, &cause, actions);
    }
}

/// Begins a checked plan: journalled first, with its evidence.
pub(super) fn begin(
    policy: &Policy,
    state: &mut State,
    plan: Plan,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let checked = check_plan(&plan, state.held_epoch(), state.record.as_ref(), &policy.me);
    if let Err(refusal) = checked {
        // A plan that breaks an invariant is a fault of this program: stop, do not guess.
        state.phase = Phase::Stopped;
        state.stopped = Some(format!("plan {} is unsafe: {refusal}", plan.id));
        actions.push(Action::Journal(JournalEntry::Remark {
            text: format!("refused plan {} to {}: {refusal}", plan.id, plan.kind),
        }));
        return;
    }
    state.next_plan = state.next_plan.saturating_add(1);
    if plan.promotes().is_some() {
        state.promoted = false;
    }
    if plan.kind == PlanKind::TakeOver {
        // Whatever was promoted before: this one's promotion has not been asked for yet.
        state.promotion_pending = false;
    }
    if let Some(unfinished) = state.unfinished.take() {
        actions.push(Action::Journal(JournalEntry::PlanEnded {
            plan: unfinished,
            end: PlanEnd::Superseded {
                why: "the agent was restarted".to_owned(),
            },
        }));
    }
    actions.push(Action::Journal(JournalEntry::Planned {
        plan: plan.clone(),
        record: state.record.clone(),
        evidence: evidence(state),
    }));
    if plan.kind != PlanKind::Converge {
        state.converged = None;
        actions.push(Action::Tell(Telling {
            severity: Severity::Outage,
            topic: "plan_begun".to_owned(),
            summary: format!("begins to {}: {}", plan.kind, plan.cause),
            plan: Some(plan.id.clone()),
        }));
    }
    state.run = Some(PlanRun::new(plan, state.record.clone(), now.moment));
}

fn cause(policy: &Policy, state: &State) -> Cause {
    if let Some(request) = &state.wanted {
        return Cause::Operator {
            request: request.clone(),
        };
    }
    let released_here = state.facts.is_some_and(|facts| {
        facts.standing == Standing::FreeForMe && facts.record == RecordSays::Theirs
    });
    if released_here {
        return Cause::HandedOver {
            from: policy.peer.clone(),
        };
    }
    let row = state
        .diagnoses
        .first()
        .and_then(|first| diagnose::row(*first));
    let acts = row.is_some_and(|row| !matches!(row.remedy, Remedy::None | Remedy::Tell));
    let diagnosis = match row {
        // What was begun in a former life goes on; what led to it may no longer be seen.
        Some(_) if !acts && matches!(state.phase, Phase::Asking | Phase::TakingOver) => {
            Diagnosis::SiteSilent
        }
        Some(row) => row.diagnosis,
        None => Diagnosis::Unknown,
    };
    Cause::Diagnosed { diagnosis }
}

/// What was seen, in words, for the journal.
#[must_use]
pub fn evidence(state: &State) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(facts) = &state.facts {
        words.push(format!("own node: {}", facts.own));
        words.push(format!("other node: {}", facts.peer_node));
        words.push(facts.standing.to_string());
    }
    for diagnosis in &state.diagnoses {
        if let Some(row) = diagnose::row(*diagnosis) {
            words.push(format!("{diagnosis}: {}", row.sentence));
        }
    }
    if let Some(record) = &state.record {
        words.push(format!(
            "record: primary {}, timeline {}, {} at epoch {}",
            record.primary, record.timeline, record.last_lsn, record.epoch
        ));
    }
    words
}
