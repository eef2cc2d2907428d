//! `decide(policy, state, event, now) -> Verdict`: the whole of an agent's mind.
//!
//! One event at a time: absorb it, boil the state down to facts, diagnose, then follow the
//! transition table until nothing applies, then let the running plan go on. Every effect leaves
//! as an [`Action`]; whoever carries them out keeps their order, so that a journal entry is
//! durable before what it announces begins (S11).

use std::time::Duration;

use crate::decision::absorb::{News, absorb};
use crate::decision::advance;
use crate::decision::command;
use crate::decision::deeds;
use crate::decision::diagnose::{self, Remedy};
use crate::decision::housekeeping;
use crate::decision::observing;
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::{Phase, State};
use crate::decision::transitions::transition;
use crate::decision::triggers;
use crate::model::brakes::Conduct;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::event::{Answer, Event};
use crate::model::journal::JournalEntry;
use crate::model::lease::LeaseCommand;
use crate::model::plan::Step;
use crate::model::situation::Standing;
use crate::model::time::Now;
use crate::model::{Epoch, Moment, PlanId};

/// What comes out of one event.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The memory afterwards.
    pub state: State,
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// When to send [`Event::Tick`] at the latest.
    pub wake_at: Moment,
}

/// Something for the runtime to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make this durable before anything that follows.
    Journal(JournalEntry),
    /// Tell the lease machine.
    Lease(LeaseCommand),
    /// Run a step (or its undo).
    Run(Box<Order>),
    /// Stop waiting for the effects of this plan; what they still do is harmless by their epoch.
    Abandon(PlanId),
    /// Tell people.
    Tell(Telling),
    /// Answer a command.
    Answer {
        /// Its number.
        id: u64,
        /// The answer.
        answer: Answer,
    },
}

/// One step for the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Of which plan.
    pub plan: PlanId,
    /// Its index.
    pub step: usize,
    /// The step with its parameters.
    pub what: Step,
    /// The epoch it acts under.
    pub epoch: Epoch,
    /// Counts from 1.
    pub attempt: u32,
    /// Whether to undo it.
    pub undo: bool,
    /// Bound on the whole attempt.
    pub deadline: Duration,
}

/// News for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, stable over time: `database_dead`, `plan_completed`.
    pub topic: String,
    /// One line.
    pub summary: String,
    /// The plan it belongs to.
    pub plan: Option<PlanId>,
}

/// A chain of transitions is never longer than this in one event; more would be a loop.
const CHAIN_MAX: usize = 6;

/// Takes in one event and says what follows from it.
#[must_use]
pub fn decide(policy: &Policy, mut state: State, event: &Event, now: Now) -> Verdict {
    let mut actions = Vec::new();
    let mut news = absorb(policy, &mut state, event, now, &mut actions);
    look(policy, &mut state, now);
    if let Event::Command(command) = event {
        command::handle(policy, &mut state, command, now, &mut actions);
    }
    if policy.conduct == Conduct::Observe {
        observing::observe(policy, &mut state, now, &mut actions);
        tell_changes(policy, &mut state, now, &mut actions);
        let wake_at = wake_at(policy, &state, now);
        return Verdict {
            state,
            actions,
            wake_at,
        };
    }
    for _ in 0..CHAIN_MAX {
        advance::go_on(policy, &mut state, now, &mut actions);
        let Some(trigger) = triggers::find(policy, &state, news, now) else {
            break;
        };
        let Some(row) = transition(state.phase, trigger) else {
            break;
        };
        news = News::default();
        deeds::perform(policy, &mut state, row, now, &mut actions);
        look(policy, &mut state, now);
    }
    tell_changes(policy, &mut state, now, &mut actions);
    housekeeping::keep_house(policy, &mut state, now, &mut actions);
    let wake_at = wake_at(policy, &state, now);
    Verdict {
        state,
        actions,
        wake_at,
    }
}

/// Boils the state down to facts and names what is wrong.
fn look(policy: &Policy, state: &mut State, now: Now) {
    let facts = situate::situate(policy, state, now.moment);
    state.facts = Some(facts);
    state.diagnoses = diagnose::diagnose(&facts)
        .map(|row| row.diagnosis)
        .collect();
    state.refusals = triggers::refusals(policy, state, &facts, now);
}

/// Tells people of every diagnosis that is new, once, and of its end.
fn tell_changes(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let current: Vec<Diagnosis> = state
        .diagnoses
        .iter()
        .copied()
        .filter(|diagnosis| worth_telling(policy, state, *diagnosis, now))
        .collect();
    for &diagnosis in current.iter().filter(|d| !state.told.contains(d)) {
        let Some(row) = diagnose::row(diagnosis) else {
            continue;
        };
        actions.push(Action::Tell(Telling {
            severity: row.severity,
            topic: diagnosis.name().to_owned(),
            summary: row.sentence.to_owned(),
            plan: None,
        }));
    }
    for &diagnosis in state.told.iter().filter(|d| !current.contains(d)) {
        actions.push(Action::Tell(Telling {
            severity: Severity::Fine,
            topic: diagnosis.name().to_owned(),
            summary: format!("no longer: {diagnosis}"),
            plan: None,
        }));
    }
    state.told = current;
}

/// People are not told of what is about to pass by itself: a restart of this agent is no outage.
fn worth_telling(policy: &Policy, state: &State, diagnosis: Diagnosis, now: Now) -> bool {
    let Some(row) = diagnose::row(diagnosis) else {
        return false;
    };
    let standing = state.facts.map(|facts| facts.standing);
    let just_started = now.moment.since(state.started) <= policy.request_timeout * 2;
    let due = state.not_before.is_none_or(|at| now.moment >= at);
    let passes = match row.remedy {
        Remedy::None => true,
        // It is being asked for, or another site has one ttl to do so.
        Remedy::Claim => standing == Some(Standing::Inherited) || !due,
        // What comes next puts it right.
        Remedy::Tell if diagnosis == Diagnosis::DatabaseDemoted => state.phase != Phase::Active,
        Remedy::Tell if diagnosis == Diagnosis::CutOff => {
            standing == Some(Standing::Unknown) && just_started
        }
        Remedy::Tell => false,
        Remedy::GiveUp | Remedy::TakeOver | Remedy::Fence => false,
    };
    !passes && row.severity > Severity::Unclear
}

/// When the next look at the clock is due. While anything is unsettled: soon.
fn wake_at(policy: &Policy, state: &State, now: Now) -> Moment {
    let settled = matches!(state.phase, Phase::Active | Phase::Watching)
        && state.diagnoses.first().is_none_or(|first| {
            diagnose::row(*first).is_none_or(|row| row.severity <= Severity::Degraded)
        });
    let rhythm = if settled {
        policy.renew_every
    } else {
        policy.renew_every.min(Duration::from_millis(100))
    };
    let next = now.moment + rhythm;
    [
        state.run.as_ref().and_then(|run| run.wake_at(now.moment)),
        state.fence_by,
        state.not_before,
    ]
    .into_iter()
    .flatten()
    .filter(|at| *at > now.moment)
    .fold(next, Moment::min)
}
