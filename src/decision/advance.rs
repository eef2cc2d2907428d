//! The running plan goes on: which step may begin now, and what its end means. Beginning a step
//! is journalled before it is ordered (S11).

use std::time::Duration;

use crate::decision::brakes;
use crate::decision::decide::{Action, Order, Telling};
use crate::decision::deeds::keep;
use crate::decision::policy::Policy;
use crate::decision::progress::{Allowed, PlanRun, Todo};
use crate::decision::records;
use crate::decision::state::{Awaits, LeaseStep, Phase, State};
use crate::model::Epoch;
use crate::model::diagnosis::Severity;
use crate::model::journal::{JournalEntry, PlanEnd};
use crate::model::lease::{LeaseCommand, LeaseView};
use crate::model::plan::{PlanKind, Step};
use crate::model::time::Now;

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
        PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::FinishTakeOver | PlanKind::Restart => {
            true
        }
        PlanKind::Fence => {
            return Allowed {
                epoch: true,
                reserve: true,
            };
        }
        PlanKind::Converge => false,
    };
    if state.journal_broken.is_some() {
        // Nothing begins that cannot be journalled first (S11); the fence alone does.
        return Allowed {
            epoch: false,
            reserve: false,
        };
    }
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
            // What finishes a failover is no second one (S14): its begin was recorded. Nor does the
            // primary move when the site that had it promotes what the gate made a standby.
            let moves = run.plan.kind != PlanKind::FinishTakeOver && record.primary != *site;
            let by_itself = moves && brakes::counts_as_automatic(&run.plan.cause, &record);
            let new = match (&run.record_before, undo) {
                (Some(before), true) => records::restored(&record, before, epoch),
                _ if run.plan.kind == PlanKind::Restart => {
                    records::reaffirmed(policy, &record, epoch)
                }
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
            state.released = Some(run.plan.epoch);
            actions.push(Action::Lease(LeaseCommand::Release {
                to: Some(to.clone()),
            }));
        }
        Step::FenceOwn { .. }
        | Step::StartStandby { .. }
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
        Step::StartStandby { timeout }
        | Step::StartOwn { timeout }
        | Step::Promote { timeout }
        | Step::VerifyWrites { timeout } => *timeout + slack,
        Step::CheckCandidate { .. } => Duration::from_secs(5),
        Step::RewriteAppConfig { target, .. } => {
            let known = policy.app_configs.iter().find(|app| app.name == *target);
            known.map_or(slack, |app| app.longest + slack)
        }
        Step::UpdateDns { .. } => Duration::from_mins(1),
        Step::HandOver { .. } | Step::RecordPrimary { .. } | Step::Notify { .. } => {
            Duration::from_secs(10)
        }
    }
}

fn ended(state: &mut State, run: &PlanRun, end: PlanEnd, actions: &mut Vec<Action>) {
    if run.plan.kind == PlanKind::FinishTakeOver && matches!(end, PlanEnd::Undone { .. }) {
        // Once more only when somebody has started the node.
        state.finish_failed = true;
    }
    actions.push(Action::Journal(JournalEntry::PlanEnded {
        plan: run.plan.id.clone(),
        end: end.clone(),
    }));
    let (severity, topic, summary) = match end {
        PlanEnd::Completed => {
            if run.plan.kind != PlanKind::Fence && run.plan.kind != PlanKind::GiveUp {
                let record = state.record.as_ref();
                state.converged = record.map(|it| (it.primary.clone(), run.plan.epoch));
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
