//! What keeps the agents from acting by themselves (S14): the block after an automatic failover,
//! the limit on how many there may be, and a pause. All of it stands in the cluster record.
//!
//! Ages are counted on both clocks: a wall clock that jumped, or that of another host, can end a
//! brake too early but never make it last longer than its length from when this agent first saw it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decision::decide::{Action, Telling};
use crate::decision::deeds::keep;
use crate::decision::guards::Guard;
use crate::decision::policy::Policy;
use crate::decision::records;
use crate::decision::state::State;
use crate::decision::transitions::Trigger;
use crate::model::brakes::{Brakes, Paused};
use crate::model::diagnosis::Severity;
use crate::model::journal::JournalEntry;
use crate::model::lease::ClusterRecord;
use crate::model::plan::Cause;
use crate::model::situation::{Facts, RecordSays, Standing};
use crate::model::time::Now;
use crate::model::{Moment, Timestamp};

/// When this agent first saw each time that the record's brakes name.
pub type FirstSeen = BTreeMap<Timestamp, Moment>;

/// Notes what the record names now, and forgets what it does not name any more.
pub fn remember(state: &mut State, now: Moment) {
    let named: Vec<Timestamp> = state.record.iter().flat_map(times).collect();
    state.first_seen.retain(|at, _| named.contains(at));
    for at in named {
        state.first_seen.entry(at).or_insert(now);
    }
}

fn times(record: &ClusterRecord) -> impl Iterator<Item = Timestamp> {
    let brakes = &record.brakes;
    let paused = brakes.paused.as_ref().map(|paused| paused.since);
    let last = record.last_failover.into_iter().chain(paused);
    last.chain(brakes.failovers.iter().copied())
}

/// What is left of `length` since `at`.
fn left(state: &State, at: Timestamp, length: Duration, now: Now) -> Option<Duration> {
    let by_wall = u64::try_from(now.wall.0.saturating_sub(at.0)).unwrap_or(0);
    let seen = state.first_seen.get(&at).copied().unwrap_or(now.moment);
    let age = Duration::from_millis(by_wall).max(now.moment.since(seen));
    length.checked_sub(age).filter(|left| !left.is_zero())
}

/// How much longer the block after the last automatic failover lasts.
#[must_use]
pub fn block_left(policy: &Policy, state: &State, now: Now) -> Option<Duration> {
    let record = state.record.as_ref()?;
    if record.brakes.acknowledged.is_some() {
        return None;
    }
    left(state, record.last_failover?, policy.block, now)
}

/// The automatic failovers of the last window: what is left of it for each, oldest first.
#[must_use]
pub fn recent_failovers(policy: &Policy, state: &State, now: Now) -> Vec<Duration> {
    let brakes = state.record.iter().flat_map(|r| &r.brakes.failovers);
    let mut ages: Vec<Duration> = brakes
        .filter_map(|at| left(state, *at, policy.window, now))
        .collect();
    ages.sort_unstable();
    ages
}

/// How long until there may be another one, when the limit is reached.
#[must_use]
pub fn limit_left(policy: &Policy, state: &State, now: Now) -> Option<Duration> {
    let recent = recent_failovers(policy, state, now);
    let over = recent.len().checked_sub(policy.max_automatic)?;
    recent.get(over).copied()
}

/// The pause that holds now, and what is left of it; `None`: until somebody resumes.
#[must_use]
pub fn pause(state: &State, now: Now) -> Option<(&Paused, Option<Duration>)> {
    let paused = state.record.as_ref()?.brakes.paused.as_ref()?;
    match paused.length {
        None => Some((paused, None)),
        Some(length) => Some((paused, Some(left(state, paused.since, length, now)?))),
    }
}

/// A pause holds.
#[must_use]
pub fn is_paused(state: &State, now: Now) -> bool {
    pause(state, now).is_some()
}

/// What speaks against anything automatic.
#[must_use]
pub fn against_automatic(policy: &Policy, state: &State, now: Now) -> Vec<Guard> {
    let mut guards: Vec<Guard> = paused_guard(state, now).into_iter().collect();
    if let Some(left) = block_left(policy, state, now) {
        guards.push(Guard::Blocked { left });
    }
    if let Some(left) = limit_left(policy, state, now) {
        guards.push(Guard::LimitReached {
            limit: policy.max_automatic,
            window: policy.window,
            left,
        });
    }
    guards
}

/// The pause as a reason.
#[must_use]
pub fn paused_guard(state: &State, now: Now) -> Option<Guard> {
    let (paused, left) = pause(state, now)?;
    Some(Guard::Paused {
        by: paused.by.clone(),
        reason: paused.reason.clone(),
        left,
    })
}

/// The guard of the other site is off, also if the pause has run out meanwhile: its node may take
/// writes for as long as its agent does not say otherwise.
#[must_use]
pub fn peer_guard_off(policy: &Policy, state: &State) -> Option<Guard> {
    let record = state.record.as_ref()?;
    let site = record.pinned_to().filter(|site| **site == policy.peer)?;
    let paused = record.brakes.paused.as_ref()?;
    Some(Guard::GuardOff {
        site: site.clone(),
        by: paused.by.clone(),
    })
}

/// What a lease that is held is good for while a pause holds. What a person began, and what was
/// begun before the pause, goes on: half a handover is worse than a whole one.
#[must_use]
pub fn held_while_paused(state: &State, facts: &Facts, found: Trigger) -> Option<Trigger> {
    let begun = matches!(
        state.asked_because,
        Some(Cause::HandedOver { .. } | Cause::Operator { .. })
    );
    match (found, facts.record) {
        (Trigger::HeldWhileDown, _) | (Trigger::HeldAsStandby, RecordSays::Mine) => None,
        (Trigger::HeldAsStandby, RecordSays::Theirs) if !begun => Some(Trigger::HeldInVain),
        (found, _) => Some(found),
    }
}

/// A move that is about to be recorded counts as one that nobody asked for.
#[must_use]
pub fn counts_as_automatic(cause: &Cause, record: &ClusterRecord) -> bool {
    match cause {
        Cause::Operator { .. } => false,
        Cause::HandedOver { .. } => !record.brakes.planned,
        Cause::Diagnosed { .. } | Cause::RecordMoved => true,
    }
}

/// The site begins to give up: the successor must know whether a person asked for it.
pub fn mark_planned(state: &mut State, cause: &Cause, actions: &mut Vec<Action>) {
    let planned = matches!(cause, Cause::Operator { .. });
    let (Some(epoch), Some(record)) = (state.held_epoch(), &state.record) else {
        return;
    };
    if record.brakes.planned == planned || record.epoch != epoch {
        return;
    }
    let mut new = records::next(record, epoch);
    new.brakes.planned = planned;
    keep(state, new, actions);
}

/// A pause that has run out is taken out of the record by whoever may write it.
///
/// One that keeps the guard off goes on, for the guard, until those who keep the lease answer: an
/// armed node that cannot renew would be fenced.
pub fn end_pause(state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let pinned = state.record.as_ref().and_then(ClusterRecord::pinned_to);
    let cut_off = state
        .facts
        .is_none_or(|facts| facts.standing != Standing::Active);
    if pinned.is_some() && cut_off {
        return;
    }
    let over = state
        .record
        .as_ref()
        .is_some_and(|record| record.brakes.paused.is_some())
        && !is_paused(state, now);
    let (Some(epoch), Some(record)) = (state.held_epoch(), &state.record) else {
        return;
    };
    if !over || record.epoch != epoch {
        return;
    }
    let mut new = records::next(record, epoch);
    let Some(paused) = new.brakes.paused.take() else {
        return;
    };
    let text = format!(
        "the pause of {} has run out: failovers are automatic again",
        paused.by
    );
    keep(state, new, actions);
    actions.push(Action::Journal(JournalEntry::Remark { text: text.clone() }));
    actions.push(tell("resumed", Severity::Fine, text));
}

/// News of the brakes for people.
pub(super) fn tell(topic: &str, severity: Severity, summary: String) -> Action {
    Action::Tell(Telling {
        severity,
        topic: topic.to_owned(),
        summary,
        plan: None,
    })
}

/// The brakes as they were before a move that came to nothing; what people did meanwhile stays.
#[must_use]
pub fn restored(now: &Brakes, before: &Brakes) -> Brakes {
    let acknowledged = now.acknowledged.is_some();
    Brakes {
        failovers: if acknowledged {
            Vec::new()
        } else {
            before.failovers.clone()
        },
        acknowledged: now
            .acknowledged
            .clone()
            .or_else(|| before.acknowledged.clone()),
        paused: now.paused.clone(),
        planned: before.planned,
    }
}
