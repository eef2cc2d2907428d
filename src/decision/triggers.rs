//! State → the most urgent trigger that applies now, and why others do not.

use crate::decision::absorb::News;
use crate::decision::brakes;
use crate::decision::diagnose::{self, Remedy};
use crate::decision::guards::{self, Mover};
use crate::decision::observing;
use crate::decision::own_view;
use crate::decision::policy::Policy;
use crate::decision::state::{Phase, State};
use crate::decision::transitions::{Trigger, transition};
use crate::model::Role;
use crate::model::brakes::Conduct;
use crate::model::journal::PlanEnd;
use crate::model::peer::StepState;
use crate::model::plan::{PlanKind, StepKind};
use crate::model::situation::{
    Disk, Facts, Identity, NodeState, PeerNode, Reach, RecordSays, Standing,
};
use crate::model::time::Now;

/// The most urgent trigger that applies and has a row for the present phase.
#[must_use]
pub fn find(policy: &Policy, state: &State, news: News, now: Now) -> Option<Trigger> {
    let facts = state.facts?;
    Trigger::ALL.into_iter().find(|trigger| {
        transition(state.phase, *trigger).is_some()
            && applies(policy, state, &facts, news, now, *trigger)
    })
}

fn applies(
    policy: &Policy,
    state: &State,
    facts: &Facts,
    news: News,
    now: Now,
    trigger: Trigger,
) -> bool {
    let due = state.not_before.is_none_or(|at| now.moment >= at);
    match trigger {
        Trigger::PlanStuck => plan_ended(state, |end| matches!(end, PlanEnd::NeedsHuman { .. })),
        Trigger::PlanDone => {
            state.run.as_ref().is_some_and(|run| run.sequence_done())
                || plan_ended(state, |end| matches!(end, PlanEnd::Completed))
        }
        Trigger::PlanUndone => {
            plan_ended(state, |end| matches!(end, PlanEnd::Undone { .. }))
                && (state.phase != Phase::TakingOver || seen_since_undone(state, facts))
        }
        Trigger::LeaseLost => lease_lost(policy, state, news, now),
        Trigger::LeaseRefused => news.lease_refused,
        Trigger::FenceCalled => fence_called(policy, state, facts, now),
        Trigger::HeldUnfenced => held_unfenced(policy, state, facts, now),
        Trigger::NodeDied => node_died(state, facts),
        Trigger::HeldAsStandby if state.phase == Phase::Active && !promotion_open(facts) => false,
        Trigger::HeldAsPrimary
        | Trigger::HeldAsStandby
        | Trigger::HeldWhileDown
        | Trigger::HeldInVain => held_as(policy, state, facts, now) == Some(trigger),
        Trigger::GiveUpCalled => {
            give_up_wanted(state, facts)
                && (due || restart_failed(state))
                && !restart_first(policy, state)
                && guards::against_give_up(policy, state, facts, mover(state), now).is_empty()
        }
        Trigger::RestartCalled => {
            facts.own == NodeState::Dead
                && facts.disk != Disk::Gone
                && state.journal_broken.is_none()
                && facts.standing == Standing::Active
                && !brakes::is_paused(state, now)
                && due
                && (restart_first(policy, state)
                    || !guards::against_give_up(policy, state, facts, mover(state), now).is_empty())
        }
        Trigger::ClaimCalled => due && claim_called(policy, state, facts, now),
    }
}

/// The active site's node was to be a primary, and runs as a standby: nobody has demoted it, its
/// promotion or its start has come to nothing.
fn promotion_open(facts: &Facts) -> bool {
    facts.record == RecordSays::MinePromoting && facts.own == NodeState::Standby
}

fn mover(state: &State) -> Mover {
    if state.wanted.is_some() {
        Mover::Operator
    } else {
        Mover::Agent
    }
}

fn plan_ended(state: &State, how: fn(&PlanEnd) -> bool) -> bool {
    state
        .run
        .as_ref()
        .and_then(|run| run.ended())
        .is_some_and(how)
}

fn lease_lost(policy: &Policy, state: &State, news: News, now: Now) -> bool {
    if news.lease_lost {
        return true;
    }
    let Some(held) = state.held_epoch() else {
        // Once the release is under way the lease is meant to be gone. But a site that is cut off
        // in just that moment never hears that its release arrived: after one ttl the lease
        // machine stops telling the voters, and nothing is waited for any longer.
        let overdue = state
            .lease_step
            .as_ref()
            .is_some_and(|step| now.moment.since(step.begun) > policy.ttl + policy.request_timeout);
        let releasing = state.run.as_ref().is_some_and(|run| {
            run.plan
                .steps
                .iter()
                .zip(&run.steps)
                .any(|(step, progress)| {
                    step.kind() == StepKind::HandOver && progress.state != StepState::Waiting
                })
        });
        return state.phase != Phase::Asking && (!releasing || overdue);
    };
    let sequence = matches!(
        state.phase,
        Phase::GivingUp | Phase::TakingOver | Phase::Restarting
    );
    sequence && state.run.as_ref().is_some_and(|run| run.plan.epoch != held)
}

/// S1, S8, S10: a node that may take writes without a lease is fenced; at once when the other
/// site is known to be the primary, else when the time for getting the lease is over. Nothing but
/// a fence that is under way, or that failed a moment ago, delays it.
fn fence_called(policy: &Policy, state: &State, facts: &Facts, now: Now) -> bool {
    if !may_write(state, facts) || state.held_epoch().is_some() || fence_tried(policy, state, now) {
        return false;
    }
    let called = first_remedy(state) == Some(Remedy::Fence);
    let overdue =
        state.fence_by.is_some_and(|at| now.moment >= at) && facts.identity != Identity::Differs;
    called || overdue
}

/// The own node takes writes, or will when it thaws. A node that last said it was a standby and
/// now says nothing does not.
fn may_write(state: &State, facts: &Facts) -> bool {
    match facts.own {
        NodeState::Primary => true,
        NodeState::Busy
        | NodeState::RefusesUs
        | NodeState::CannotWrite
        | NodeState::Disputed
        | NodeState::Hung => {
            own_view::own_report(state).is_none_or(|report| report.role == Role::Primary)
        }
        NodeState::Unknown | NodeState::Standby | NodeState::Starting | NodeState::Dead => false,
    }
}

/// A fence is under way, or has just failed: the same again at once would fail the same way.
fn fence_tried(policy: &Policy, state: &State, now: Now) -> bool {
    let newest = state.run.as_ref().or(state.last_run.as_ref());
    let Some(fence) = newest.filter(|run| run.plan.kind == PlanKind::Fence) else {
        return false;
    };
    match fence.ended() {
        None => true,
        Some(PlanEnd::NeedsHuman { .. }) => {
            let ended = fence.steps.iter().filter_map(|step| step.ended).max();
            ended.is_some_and(|at| now.moment.since(at) < policy.ttl)
        }
        Some(PlanEnd::Completed | PlanEnd::Undone { .. } | PlanEnd::Superseded { .. }) => false,
    }
}

/// A lease that is of no use here is given back, and whoever gets it may start at once: so
/// nothing here may be able to write by then (S3, S9). A node of another cluster is nobody's
/// writer here, and not this agent's to stop.
fn held_unfenced(policy: &Policy, state: &State, facts: &Facts, now: Now) -> bool {
    let in_vain = match state.phase {
        Phase::TakingOver => plan_ended(state, |end| matches!(end, PlanEnd::Undone { .. })),
        Phase::Watching | Phase::Asking => {
            held_as(policy, state, facts, now) == Some(Trigger::HeldInVain)
        }
        Phase::Active | Phase::GivingUp | Phase::Restarting | Phase::Fencing | Phase::Stopped => {
            false
        }
    };
    in_vain
        && state.held_epoch().is_some()
        && facts.identity != Identity::Differs
        && state.own_may_write()
        && !fence_tried(policy, state, now)
}

/// The own node was looked at since the take-over failed: what was known before may be why it did.
fn seen_since_undone(state: &State, facts: &Facts) -> bool {
    let steps = state.run.iter().flat_map(|run| &run.steps);
    let ended = steps.filter_map(|step| step.ended).max();
    facts.own != NodeState::Standby || own_view::answered_at(state) > ended
}

/// The promotion or the start is known to have happened, and the node is dead.
fn node_died(state: &State, facts: &Facts) -> bool {
    let came_up = match state.phase {
        Phase::TakingOver => state.promoted,
        Phase::Restarting => state.run.as_ref().is_some_and(|run| {
            let mut steps = run.plan.steps.iter().zip(&run.steps);
            steps.any(|(step, progress)| {
                step.kind() == StepKind::StartOwn && progress.state == StepState::Done
            })
        }),
        Phase::Watching
        | Phase::Asking
        | Phase::Active
        | Phase::GivingUp
        | Phase::Fencing
        | Phase::Stopped => false,
    };
    came_up && facts.own == NodeState::Dead && facts.standing == Standing::Active
}

/// What the most severe diagnosis calls for.
#[must_use]
pub fn first_remedy(state: &State) -> Option<Remedy> {
    let first = state.diagnoses.first()?;
    diagnose::row(*first).map(|row| row.remedy)
}

/// What a lease that has come is good for.
///
/// Without a journal no plan may begin (S11), so what needs one is given back.
fn held_as(policy: &Policy, state: &State, facts: &Facts, now: Now) -> Option<Trigger> {
    let mut held_as = held_for(policy, state, facts, now)?;
    if brakes::is_paused(state, now) {
        held_as = brakes::held_while_paused(state, facts, held_as)?;
    }
    let plans = matches!(held_as, Trigger::HeldAsStandby | Trigger::HeldWhileDown);
    let guardless = state.guard_lost.is_some();
    Some(if guardless || (plans && state.journal_broken.is_some()) {
        Trigger::HeldInVain
    } else {
        held_as
    })
}

fn held_for(policy: &Policy, state: &State, facts: &Facts, now: Now) -> Option<Trigger> {
    if !matches!(facts.standing, Standing::Active | Standing::ActiveCutOff) {
        return None;
    }
    if facts.identity == Identity::Differs {
        return Some(Trigger::HeldInVain);
    }
    let alive = matches!(
        facts.own,
        NodeState::Primary
            | NodeState::Busy
            | NodeState::RefusesUs
            | NodeState::CannotWrite
            | NodeState::Disputed
            | NodeState::Hung
    );
    if matches!(facts.own, NodeState::Unknown | NodeState::Starting) {
        let since = state.phase_since.max(state.process_since);
        let waited = now.moment.since(since) > policy.ttl * 2;
        return (waited && facts.own == NodeState::Unknown).then_some(Trigger::HeldInVain);
    }
    let mute = matches!(
        facts.own,
        NodeState::Busy | NodeState::RefusesUs | NodeState::Disputed
    );
    match facts.record {
        // Nobody knows yet whether it is the first primary: it will say.
        RecordSays::Nothing if alive && facts.own != NodeState::Primary => return None,
        // It lives, but does not say yet whether it was promoted.
        RecordSays::MinePromoting if mute && !state.promoted => return None,
        RecordSays::Nothing
        | RecordSays::Mine
        | RecordSays::MinePromoting
        | RecordSays::Theirs
        | RecordSays::TheirsPromoting => {}
    }
    Some(match facts.record {
        RecordSays::Nothing if facts.own == NodeState::Primary => Trigger::HeldAsPrimary,
        RecordSays::Mine if alive => Trigger::HeldAsPrimary,
        RecordSays::Mine if facts.own == NodeState::Dead => Trigger::HeldWhileDown,
        // A promotion of a former life: finish it, whichever way the node turned out.
        RecordSays::MinePromoting
            if alive
                || facts.own == NodeState::Standby
                || (facts.own == NodeState::Dead && !facts.finish_failed) =>
        {
            Trigger::HeldAsStandby
        }
        RecordSays::Mine | RecordSays::Theirs if facts.own == NodeState::Standby => {
            Trigger::HeldAsStandby
        }
        RecordSays::Nothing
        | RecordSays::Mine
        | RecordSays::MinePromoting
        | RecordSays::Theirs
        | RecordSays::TheirsPromoting => Trigger::HeldInVain,
    })
}

fn give_up_wanted(state: &State, facts: &Facts) -> bool {
    facts.standing == Standing::Active
        && (first_remedy(state) == Some(Remedy::GiveUp) || state.wanted.is_some())
}

/// A restart in place is allowed a first try before the site is given up.
#[must_use]
pub fn restart_first(policy: &Policy, state: &State) -> bool {
    !policy.restart_budget.is_zero()
        && state.facts.is_some_and(|facts| {
            facts.own == NodeState::Dead
                && facts.standing == Standing::Active
                // On a broken disk it would be in vain.
                && facts.disk == Disk::Fine
        })
        // Only a site that was active: one that has just got the lease has nothing to hand over.
        && state
            .record
            .as_ref()
            .is_some_and(|record| state.held_epoch() == Some(record.epoch))
        && !state.restart_tried
        && state.wanted.is_none()
}

/// A restart in place was tried and came to nothing: the handover does not wait for its pause.
fn restart_failed(state: &State) -> bool {
    state.last_run.as_ref().is_some_and(|run| {
        run.plan.kind == PlanKind::Restart
            && matches!(
                run.ended(),
                Some(PlanEnd::Undone { .. } | PlanEnd::Superseded { .. })
            )
    })
}

fn claim_called(policy: &Policy, state: &State, facts: &Facts, now: Now) -> bool {
    let needs_plan = matches!(facts.own, NodeState::Standby | NodeState::Dead);
    if facts.identity == Identity::Differs
        || (needs_plan && state.journal_broken.is_some())
        || state.guard_lost.is_some()
    {
        return false;
    }
    let handed_over = facts.standing == Standing::FreeForMe
        && facts.record == RecordSays::Theirs
        && guards::against_own_node(policy, state, facts).is_empty();
    let left_over = facts.standing == Standing::Inherited
        && facts.record == RecordSays::Theirs
        && !brakes::is_paused(state, now)
        && left_over_is_of_use(policy, state, facts);
    // Two primaries: nobody acts. With one at the other site, the record is out of date.
    let peer_writes = facts.peer_node == PeerNode::Primary;
    let called = match first_remedy(state) {
        Some(Remedy::Claim) => !peer_writes,
        Some(Remedy::TakeOver) => {
            guards::against_take_over(policy, state, facts, Mover::Agent, now).is_empty()
        }
        _ => false,
    };
    let wanted = state.wanted.is_some()
        && matches!(
            facts.standing,
            Standing::Free | Standing::FreeForMe | Standing::Inherited
        )
        && facts.record == RecordSays::Theirs
        && guards::against_take_over(policy, state, facts, Mover::Operator, now).is_empty();
    handed_over || left_over || called || wanted
}

/// The grant of a former life that had not begun its plan yet, or was about to give it back. One
/// that runs out is left to do so; that of a pair never does. It was given after the other site had
/// released it, so where the own node cannot use it, it is asked for to be given back.
fn left_over_is_of_use(policy: &Policy, state: &State, facts: &Facts) -> bool {
    let for_ever = !policy.lease_runs_out();
    match facts.own {
        NodeState::Standby => {
            let fit = || guards::against_own_node(policy, state, facts).is_empty();
            state.was_taking_over || (for_ever && fit())
        }
        NodeState::Dead => for_ever && facts.peer_agent == Reach::Answers,
        NodeState::Primary
        | NodeState::Unknown
        | NodeState::Starting
        | NodeState::Busy
        | NodeState::RefusesUs
        | NodeState::CannotWrite
        | NodeState::Disputed
        | NodeState::Hung => false,
    }
}

/// Why the agent does not act on what it sees, in words; empty when it does or need not.
#[must_use]
pub fn refusals(policy: &Policy, state: &State, facts: &Facts, now: Now) -> Vec<String> {
    if state.phase == Phase::Stopped {
        let why = state.stopped.as_deref().unwrap_or("a plan got stuck");
        return vec![format!(
            "stopped: {why}; put it right, then stop and start the agent in order"
        )];
    }
    let mut guards = match first_remedy(state) {
        Some(Remedy::GiveUp)
            if policy.conduct == Conduct::Observe
                || matches!(state.phase, Phase::Active | Phase::Restarting) =>
        {
            guards::against_give_up(policy, state, facts, mover(state), now)
        }
        Some(Remedy::TakeOver) => {
            guards::against_take_over(policy, state, facts, mover(state), now)
        }
        _ if facts.standing == Standing::FreeForMe && facts.record == RecordSays::Theirs => {
            guards::against_own_node(policy, state, facts)
        }
        // Nobody knows who holds the lease: that is the reason itself.
        _ if facts.standing == Standing::Unknown
            && facts.own == NodeState::Standby
            && facts.peer_agent == Reach::Silent
            && facts.peer_node == PeerNode::Down =>
        {
            guards::against_take_over(policy, state, facts, mover(state), now)
        }
        // Even while all is well: the next plan could not begin.
        _ => {
            let journal = guards::journal_broken(state).into_iter();
            journal.chain(guards::no_guard(state)).collect()
        }
    };
    // A pause is shown even while all is well, so that nobody forgets it.
    let paused = brakes::paused_guard(state, now).filter(|guard| !guards.contains(guard));
    guards.extend(paused);
    let unfit = guards::unfit(policy, state, now).filter(|guard| !guards.contains(guard));
    guards.extend(unfit);
    if observing::only_observes(policy, state) {
        guards.push(guards::Guard::Observing);
    }
    guards.iter().map(ToString::to_string).collect()
}
