//! Transitions into actions: begins and ends plans, writes records, keeps house.

use std::time::Duration;

use crate::decision::check_plan::check_plan;
use crate::decision::decide::{Action, Order, Telling};
use crate::decision::diagnose;
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::progress::{Allowed, PlanRun, Todo};
use crate::decision::records;
use crate::decision::state::{Awaits, LeaseStep, Phase, State};
use crate::decision::transitions::{Deed, Transition};
use crate::model::Epoch;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::journal::{JournalEntry, PlanEnd};
use crate::model::lease::{ClusterRecord, LeaseCommand, LeaseView};
use crate::model::plan::{Cause, Plan, PlanKind, Step};
use crate::model::situation::{NodeState, Reach, RecordSays, Standing};
use crate::model::time::Now;

/// The record's WAL position is refreshed this often: it only serves agents that were down.
const RECORD_REFRESH: Duration = Duration::from_secs(30);

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
        Deed::AskForLease => actions.push(Action::Lease(LeaseCommand::Acquire)),
        Deed::GiveBack => give_back(policy, state, now, actions),
        Deed::Settle => settle(policy, state, actions),
        Deed::DropPlan => drop_plan(state, row.sentence, actions),
        Deed::ReplacePlan => {
            drop_plan(state, row.sentence, actions);
            begin_plan(policy, state, now, actions);
        }
        Deed::CallHuman => call_human(state, actions),
    }
}

/// A plan's sequence is over; what converges goes on, what has ended is put aside.
fn leave_plan(policy: &Policy, state: &mut State, from: Phase, now: Now) {
    if state.run.as_ref().is_some_and(|run| run.ended().is_some()) {
        let undone = state
            .run
            .as_ref()
            .is_some_and(|run| matches!(run.ended(), Some(PlanEnd::Undone { .. })));
        state.last_run = state.run.take();
        if undone {
            // The same attempt right away would fail the same way.
            state.not_before = Some(now.moment + policy.ttl);
            state.wanted = None;
        }
    }
    if from == Phase::GivingUp && state.phase == Phase::Watching {
        // The successor goes first; should it not come, this site asks again.
        state.not_before = Some(now.moment + policy.ttl + policy.renew_every);
        state.wanted = None;
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
    state.wanted = None;
    if state.held_epoch().is_some() {
        let peer_answers = state
            .facts
            .is_some_and(|facts| facts.peer_agent == Reach::Answers);
        let to = peer_answers.then(|| policy.peer.clone());
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
    let record = match &state.record {
        None => records::first(policy, state, epoch),
        Some(record) if record.epoch < epoch => Some(records::next(record, epoch)),
        Some(_) => None,
    };
    if let Some(record) = record {
        keep(state, record, actions);
    }
}

fn keep(state: &mut State, record: ClusterRecord, actions: &mut Vec<Action>) {
    state.record = Some(record.clone());
    actions.push(Action::Lease(LeaseCommand::Keep(Box::new(record))));
}

fn drop_plan(state: &mut State, why: &str, actions: &mut Vec<Action>) {
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
    let cause = cause(policy, state);
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
            let promoted = state.facts.is_some_and(|facts| {
                facts.record == RecordSays::MinePromoting && facts.own != NodeState::Standby
            });
            if promoted {
                plan::finish_take_over(policy, state, epoch, cause)
            } else {
                let id = plan::next_id(policy, state);
                plan::take_over(policy, state, &policy.me, id, epoch, cause)
            }
        }
        Phase::Restarting => plan::restart(policy, state, epoch, cause),
        Phase::Fencing | Phase::Stopped => plan::fence(policy, state, cause),
        Phase::Watching | Phase::Asking | Phase::Active => return,
    };
    state.was_taking_over = false;
    begin(policy, state, plan, now, actions);
}

/// Begins a checked plan: journalled first, with its evidence.
fn begin(policy: &Policy, state: &mut State, plan: Plan, now: Now, actions: &mut Vec<Action>) {
    if let Err(refusal) = check_plan(&plan, state.held_epoch(), &policy.me) {
        // A plan that breaks an invariant is a fault of this program: stop, do not guess.
        state.phase = Phase::Stopped;
        state.stopped = Some(format!("plan {} is unsafe: {refusal}", plan.id));
        actions.push(Action::Journal(JournalEntry::Remark {
            text: format!("refused plan {} to {}: {refusal}", plan.id, plan.kind),
        }));
        return;
    }
    state.next_plan = state.next_plan.saturating_add(1);
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
    let diagnosis = state
        .diagnoses
        .first()
        .copied()
        .unwrap_or(Diagnosis::Unknown);
    let released_here = state.handed_over
        && state.phase == Phase::TakingOver
        && state
            .record
            .as_ref()
            .is_some_and(|record| record.primary == policy.peer);
    if released_here {
        Cause::HandedOver {
            from: policy.peer.clone(),
        }
    } else if state.phase == Phase::TakingOver && diagnosis == Diagnosis::Healthy {
        Cause::Diagnosed {
            diagnosis: Diagnosis::SiteSilent,
        }
    } else {
        Cause::Diagnosed { diagnosis }
    }
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

/// Lets the running plan go on as far as it may.
pub fn go_on(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let Some(run) = &state.run else { return };
    let allowed = allowed(policy, state, run, now);
    let Some(mut run) = state.run.take() else {
        return;
    };
    let todos = run.advance(allowed, now.moment);
    for todo in todos {
        match todo {
            Todo::Start {
                step,
                attempt,
                undo,
            } => {
                start(policy, state, &run, (step, attempt, undo), now, actions);
            }
            Todo::Ended(end) => ended(state, &run, end, actions),
        }
    }
    let finished_converging =
        run.ended().is_some() && matches!(state.phase, Phase::Active | Phase::Watching);
    if finished_converging {
        state.last_run = Some(run);
    } else {
        state.run = Some(run);
    }
}

fn allowed(policy: &Policy, state: &State, run: &PlanRun, now: Now) -> Allowed {
    let needs_lease = match run.plan.kind {
        PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::Restart => true,
        PlanKind::Fence => {
            return Allowed {
                epoch: true,
                reserve: true,
            };
        }
        PlanKind::Converge => false,
    };
    match state.lease {
        LeaseView::Held { epoch, fence_at } => Allowed {
            epoch: epoch == run.plan.epoch || (!needs_lease && epoch >= run.plan.epoch),
            reserve: now.moment + policy.step_reserve() < fence_at,
        },
        LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => {
            let newest = state
                .record
                .as_ref()
                .map_or(Epoch::NONE, |record| record.epoch);
            Allowed {
                epoch: !needs_lease && newest <= run.plan.epoch,
                reserve: false,
            }
        }
    }
}

fn start(
    policy: &Policy,
    state: &mut State,
    run: &PlanRun,
    (index, attempt, undo): (usize, u32, bool),
    now: Now,
    actions: &mut Vec<Action>,
) {
    let Some(what) = run.plan.steps.get(index) else {
        return;
    };
    let plan = run.plan.id.clone();
    actions.push(Action::Journal(JournalEntry::StepStarted {
        plan: plan.clone(),
        step: index,
        attempt,
        undo,
    }));
    let lease_step = |awaits| LeaseStep {
        plan: plan.clone(),
        step: index,
        attempt,
        undo,
        begun: now.moment,
        awaits,
    };
    match what {
        Step::RecordPrimary { site } => {
            let Some(record) = state.record.clone() else {
                return;
            };
            let epoch = run.plan.epoch;
            let by_itself = !matches!(run.plan.cause, Cause::Operator { .. });
            let new = match (&run.record_before, undo) {
                (Some(before), true) => records::restored(&record, before, epoch),
                _ => {
                    let at = by_itself.then_some(now.wall);
                    records::claiming(policy, state, &record, epoch, site, at)
                }
            };
            state.lease_step = Some(lease_step(Awaits::Record(new.epoch, new.revision)));
            keep(state, new, actions);
        }
        Step::HandOver { to } => {
            state.lease_step = Some(lease_step(Awaits::Release(run.plan.epoch)));
            actions.push(Action::Lease(LeaseCommand::Release {
                to: Some(to.clone()),
            }));
        }
        Step::FenceOwn { .. }
        | Step::StartOwn { .. }
        | Step::CheckCandidate { .. }
        | Step::Promote { .. }
        | Step::VerifyWrites { .. }
        | Step::RewriteAppConfig { .. }
        | Step::UpdateDns { .. }
        | Step::Notify { .. } => actions.push(Action::Run(Box::new(Order {
            plan,
            step: index,
            what: what.clone(),
            epoch: run.plan.epoch,
            attempt,
            undo,
            deadline: deadline(policy, what, undo),
        }))),
    }
}

/// Bound on one attempt of a step; the effect's own bounds are shorter.
fn deadline(policy: &Policy, step: &Step, undo: bool) -> Duration {
    let slack = Duration::from_secs(1);
    match step {
        Step::FenceOwn { .. } if undo => policy.start_timeout + slack,
        Step::Promote { .. } if undo => policy.fence_budget + slack,
        Step::FenceOwn { grace, budget } => *grace + *budget + slack,
        Step::StartOwn { timeout } | Step::Promote { timeout } | Step::VerifyWrites { timeout } => {
            *timeout + slack
        }
        Step::CheckCandidate { .. } => Duration::from_secs(5),
        Step::RewriteAppConfig { .. } => Duration::from_mins(5),
        Step::UpdateDns { .. } => Duration::from_mins(1),
        Step::HandOver { .. } | Step::RecordPrimary { .. } | Step::Notify { .. } => {
            Duration::from_secs(10)
        }
    }
}

fn ended(state: &mut State, run: &PlanRun, end: PlanEnd, actions: &mut Vec<Action>) {
    actions.push(Action::Journal(JournalEntry::PlanEnded {
        plan: run.plan.id.clone(),
        end: end.clone(),
    }));
    let (severity, topic, summary) = match end {
        PlanEnd::Completed => {
            if run.plan.kind != PlanKind::Fence && run.plan.kind != PlanKind::GiveUp {
                state.converged = state.record.as_ref().map(|record| record.primary.clone());
            }
            if run.plan.kind == PlanKind::Converge {
                return;
            }
            (
                Severity::Fine,
                "plan_completed",
                format!("done: {}", run.plan.kind),
            )
        }
        PlanEnd::Undone { why } => (
            Severity::Outage,
            "plan_undone",
            format!("{} was undone: {why}", run.plan.kind),
        ),
        PlanEnd::NeedsHuman { why } => (
            Severity::Danger,
            "plan_stuck",
            format!("{} got stuck: {why}", run.plan.kind),
        ),
        PlanEnd::Superseded { why } => (
            Severity::Degraded,
            "plan_superseded",
            format!("{} was dropped: {why}", run.plan.kind),
        ),
    };
    let plan = Some(run.plan.id.clone());
    actions.push(Action::Tell(Telling {
        severity,
        topic: topic.to_owned(),
        summary,
        plan,
    }));
}

/// What is due when nothing happens: files and DNS in line with the record, a fresh record.
pub fn keep_house(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let Some(facts) = state.facts else { return };
    if facts.standing == Standing::FreeForMe {
        state.handed_over = true;
    } else if facts.standing == Standing::Peer {
        state.handed_over = false;
    }
    refresh_record(state, facts.own, now, actions);
    let Some(record) = state.record.clone() else {
        return;
    };
    let mine = record.primary == policy.me;
    let settled = match state.phase {
        Phase::Active => mine && state.held_epoch() == Some(record.epoch),
        // The other agent may be anywhere, but the record of a majority names its site.
        Phase::Watching => !mine && facts.standing == Standing::Peer,
        Phase::Asking
        | Phase::GivingUp
        | Phase::TakingOver
        | Phase::Restarting
        | Phase::Fencing
        | Phase::Stopped => false,
    };
    let wanted = settled
        && !record.promoting
        && state.run.is_none()
        && state.journal_broken.is_none()
        && state.converged.as_ref() != Some(&record.primary);
    if !wanted {
        return;
    }
    let plan = plan::converge(policy, state, &record.primary, record.epoch);
    if plan.steps.is_empty() {
        state.converged = Some(record.primary);
    } else {
        begin(policy, state, plan, now, actions);
        go_on(policy, state, now, actions);
    }
}

fn refresh_record(state: &mut State, own: NodeState, now: Now, actions: &mut Vec<Action>) {
    let due = now.moment.since(state.record_refreshed) >= RECORD_REFRESH;
    let (Some(epoch), Some(record)) = (state.held_epoch(), &state.record) else {
        return;
    };
    let steady = state.phase == Phase::Active && own == NodeState::Primary && state.run.is_none();
    if !due || !steady || record.promoting || record.epoch != epoch {
        return;
    }
    let report = crate::decision::situate::own_report(state);
    let fresh = records::proved(record, epoch, report);
    state.record_refreshed = now.moment;
    keep(state, fresh, actions);
}
