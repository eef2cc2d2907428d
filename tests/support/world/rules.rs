//! What must hold for every verdict, whatever happened.

use failover_agent::decision::decide::{Action, Order};
use failover_agent::decision::policy::Policy;
use failover_agent::decision::state::{Phase, State};
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::lease::{LeaseCommand, LeaseView};
use failover_agent::model::plan::{Plan, PlanKind, Step, StepKind};
use failover_agent::model::time::Now;

/// What broke a rule, with the rule's name.
pub(crate) fn broken(
    policy: &Policy,
    before: Phase,
    state: &State,
    actions: &[Action],
    lines: &[JournalEntry],
    now: Now,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        let announced = actions.get(..index).unwrap_or_default();
        match action {
            Action::Run(order) => {
                problems.extend(run(policy, state, order, announced, lines, now));
            }
            Action::Lease(command) => {
                problems.extend(lease(state, command, announced, lines));
            }
            Action::Journal(_) | Action::Abandon(_) | Action::Tell(_) | Action::Answer { .. } => {}
        }
    }
    if before == Phase::Stopped {
        problems.extend(actions.iter().filter_map(while_stopped));
    }
    problems
}

/// S11: the journal says it before it is done.
fn announced_as(order: &Order, announced: &[Action]) -> bool {
    announced.iter().any(|action| {
        matches!(action, Action::Journal(JournalEntry::StepStarted { plan, step, attempt, undo })
            if *plan == order.plan && *step == order.step
                && *attempt == order.attempt && *undo == order.undo)
    })
}

fn plan_of<'a>(order: &Order, lines: &'a [JournalEntry]) -> Option<&'a Plan> {
    let mut plans = lines.iter().rev().filter_map(|entry| {
        if let JournalEntry::Planned { plan, .. } = entry {
            Some(plan)
        } else {
            None
        }
    });
    plans.find(|plan| plan.id == order.plan)
}

fn run(
    policy: &Policy,
    state: &State,
    order: &Order,
    announced: &[Action],
    lines: &[JournalEntry],
    now: Now,
) -> Vec<String> {
    let mut problems = Vec::new();
    let kind = order.what.kind();
    if !announced_as(order, announced) {
        problems.push(format!("S11: '{kind}' runs without being journalled first"));
    }
    if state.journal_broken.is_some() && kind != StepKind::FenceOwn {
        problems.push(format!("S11: '{kind}' begins while the journal is broken"));
    }
    let Some(plan) = plan_of(order, lines) else {
        problems.push(format!(
            "S11: '{kind}' runs for a plan that was never planned"
        ));
        return problems;
    };
    if plan.steps.get(order.step) != Some(&order.what) || plan.epoch != order.epoch {
        problems.push(format!("S8: '{kind}' is not what the plan says"));
    }
    // Whatever makes a node writable.
    let makes_writable = matches!(
        (kind, order.undo),
        (
            StepKind::StartStandby | StepKind::Promote | StepKind::StartOwn,
            false
        ) | (StepKind::FenceOwn, true)
    );
    if makes_writable {
        let fresh = matches!(state.lease, LeaseView::Held { epoch, fence_at }
            if epoch == order.epoch && now.moment + policy.step_reserve() < fence_at);
        if !fresh {
            problems.push(format!(
                "S2, S8: '{kind}' without a fresh lease of its epoch"
            ));
        }
    }
    if kind == StepKind::Promote && !order.undo {
        let recorded = plan
            .steps
            .iter()
            .position(|step| step.kind() == StepKind::RecordPrimary)
            .is_some_and(|record| done(order, record, lines));
        if !recorded {
            problems.push("S9: promotion before the record is kept".to_owned());
        }
    }
    problems
}

fn done(order: &Order, index: usize, lines: &[JournalEntry]) -> bool {
    lines.iter().any(|entry| {
        matches!(entry, JournalEntry::StepDone { plan, step, undo: false, .. }
            if *plan == order.plan && *step == index)
    })
}

/// S3: whoever names a successor has been fenced, or has nothing that could write.
fn lease(
    state: &State,
    command: &LeaseCommand,
    announced: &[Action],
    lines: &[JournalEntry],
) -> Vec<String> {
    let LeaseCommand::Release { to: Some(to) } = command else {
        return Vec::new();
    };
    let by_plan = announced.iter().any(|action| {
        matches!(
            action,
            Action::Journal(JournalEntry::StepStarted { undo: false, .. })
        )
    }) && state.run.as_ref().is_some_and(|run| {
        run.plan.kind == PlanKind::GiveUp
            && run
                .plan
                .steps
                .iter()
                .any(|step| matches!(step, Step::HandOver { .. }))
            && lines.iter().any(|entry| {
                matches!(entry, JournalEntry::StepDone { plan, step: 0, undo: false, .. }
                    if *plan == run.plan.id)
            })
    });
    if by_plan || !state.own_may_write() {
        Vec::new()
    } else {
        vec![format!("S3: released to {to} while the own node may write")]
    }
}

fn while_stopped(action: &Action) -> Option<String> {
    match action {
        Action::Journal(_) | Action::Tell(_) | Action::Answer { .. } | Action::Abandon(_) => None,
        Action::Run(order) if order.what.kind() == StepKind::FenceOwn && !order.undo => None,
        Action::Run(order) => Some(format!("stopped, but runs '{}'", order.what.kind())),
        Action::Lease(command) => Some(format!("stopped, but tells the lease {command:?}")),
    }
}
