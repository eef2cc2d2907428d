//! `ack`, `pause` and `resume`: a person changes the brakes. Whoever holds the lease writes them
//! into the cluster record; the answer waits until a majority keeps it.

use crate::decision::brakes::tell;
use crate::decision::decide::Action;
use crate::decision::deeds::keep;
use crate::decision::guard_words::ONLY_OBSERVES;
use crate::decision::policy::Policy;
use crate::decision::records;
use crate::decision::state::{Phase, State};
use crate::model::Epoch;
use crate::model::brakes::{Acknowledged, Brake, Braked, Brakes, Conduct, Paused, span_words};
use crate::model::diagnosis::Severity;
use crate::model::event::Answer;
use crate::model::journal::JournalEntry;
use crate::model::lease::ClusterRecord;
use crate::model::situation::{Reach, Standing};
use crate::model::time::Now;

/// Answers that wait for a majority at most; one more is refused.
const WAITING_MAX: usize = 16;

/// An answer that waits until a majority keeps the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Of which command.
    pub id: u64,
    /// The record's version.
    pub version: (Epoch, u64),
    /// What is said then.
    pub answer: Answer,
}

/// Somebody's wish to change the brakes.
#[derive(Debug, Clone, Copy)]
pub struct BrakeWish<'a> {
    /// The command's number.
    pub id: u64,
    /// What is to change.
    pub brake: &'a Brake,
    /// Who asks.
    pub by: &'a str,
    /// Nothing changes.
    pub dry_run: bool,
}

/// Answers the wish now or, when it changes the record, once a majority keeps it.
pub fn handle(
    policy: &Policy,
    state: &mut State,
    wish: BrakeWish<'_>,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let BrakeWish {
        id,
        brake,
        by,
        dry_run,
    } = wish;
    let (record, epoch) = match writable_record(policy, state) {
        Ok((record, epoch)) => (record.clone(), epoch),
        Err(answer) => {
            if let (Answer::Refused { reasons }, false) = (&answer, dry_run) {
                let text = format!("refused {by}'s {brake}: {}", reasons.join("; "));
                actions.push(Action::Journal(JournalEntry::Remark { text }));
            }
            return actions.push(Action::Answer { id, answer });
        }
    };
    let (brakes, text) = changed(state, &record, brake, by, now);
    let same = brakes == *record.brakes;
    if let Some(reason) = against_guard_change(policy, state, &record, &brakes) {
        let reasons = vec![reason.to_owned()];
        let answer = Answer::Refused { reasons };
        return actions.push(Action::Answer { id, answer });
    }
    let braked = Braked {
        text: text.clone(),
        brakes: brakes.clone(),
        dry_run,
    };
    let answer = Answer::Braked(Box::new(braked));
    if dry_run || same {
        return actions.push(Action::Answer { id, answer });
    }
    let remark = format!("operator {by}: {brake}: {text}");
    actions.push(Action::Journal(JournalEntry::Remark { text: remark }));
    let mut new = records::next(&record, epoch);
    new.brakes = Box::new(brakes);
    state.brakes_waiting.push(Waiting {
        id,
        version: new.version(),
        answer,
    });
    keep(state, new, actions);
    let (topic, severity) = match brake {
        Brake::Ack => ("acknowledged", Severity::Fine),
        Brake::Pause { .. } => ("paused", Severity::Degraded),
        Brake::Resume => ("resumed", Severity::Fine),
    };
    actions.push(tell(topic, severity, text));
}

/// The record, if this agent may write it; else what to answer.
fn writable_record<'a>(
    policy: &Policy,
    state: &'a State,
) -> Result<(&'a ClusterRecord, Epoch), Answer> {
    let one = |reason: &str| {
        Err(Answer::Refused {
            reasons: vec![reason.to_owned()],
        })
    };
    if policy.conduct == Conduct::Observe {
        return one(ONLY_OBSERVES);
    }
    if state.brakes_waiting.len() >= WAITING_MAX {
        return one("too many such commands wait for a majority of voters already");
    }
    match (state.held_epoch(), &state.record) {
        (Some(epoch), Some(record)) => return Ok((record, epoch)),
        (Some(_), None) => return one("there is no cluster record yet: try again in a moment"),
        (None, _) => {}
    }
    let facts = state.facts;
    match facts.map(|facts| (facts.standing, facts.peer_agent)) {
        Some((Standing::Peer, Reach::Answers)) => Err(Answer::PassedOn {
            to: policy.peer.clone(),
        }),
        Some((Standing::Peer, _)) => one(
            "the other site holds the lease, so only its agent can write this into the cluster \
             record, and it does not answer: run the command there",
        ),
        _ => one(
            "nobody is known to hold the lease, so nobody can write this into the cluster record: \
             try again when a site is active; `agent failover` makes one active, also while paused",
        ),
    }
}

/// Why the guard cannot be switched off, or on again, now.
fn against_guard_change(
    policy: &Policy,
    state: &State,
    record: &ClusterRecord,
    wanted: &Brakes,
) -> Option<&'static str> {
    let off = |brakes: &Brakes| brakes.paused.as_ref().is_some_and(|it| it.guard_off);
    let renews = state
        .facts
        .is_some_and(|facts| facts.standing == Standing::Active);
    match (off(&record.brakes), off(wanted)) {
        (false, true) if !policy.lease_runs_out() => Some(
            "without a witness the lease does not run out, so nothing fences the node at its end: \
             pause without --guard-off",
        ),
        (false, true) if !is_settled(policy, state, record) => Some(
            "the guard can be switched off only once the active site's node is the proved primary, \
             and no plan is under way: try again in a moment",
        ),
        (false, true) | (true, false) if !renews => Some(CUT_OFF),
        _ => None,
    }
}

fn is_settled(policy: &Policy, state: &State, record: &ClusterRecord) -> bool {
    record.primary == policy.me && !record.promoting && state.phase == Phase::Active
}

const CUT_OFF: &str = "those who keep the lease do not answer: with its guard on, this site's node \
    is fenced when the lease runs out; look at `agent status`, and try again when they answer";

/// The brakes as the wish wants them, in words.
fn changed(
    state: &State,
    record: &ClusterRecord,
    brake: &Brake,
    by: &str,
    now: Now,
) -> (Brakes, String) {
    let old = Brakes::clone(&record.brakes);
    match brake {
        Brake::Ack => acknowledged(record, by, now),
        Brake::Pause {
            length,
            reason,
            guard_off,
        } => {
            let span = length.map_or_else(
                || "until `agent resume`".to_owned(),
                |length| format!("for {}", span_words(length)),
            );
            let why = reason
                .as_ref()
                .map_or_else(String::new, |why| format!(" ({why})"));
            let safety = match guard_off {
                false => "a lost lease still fences the node".to_owned(),
                true => format!(
                    "the guard is off: the lease of site {0} does not run out, nothing fences its \
                     node, and no other site can be made active before it says so",
                    record.primary
                ),
            };
            let text = format!(
                "paused by {by} {span}{why}: no automatic failover, restart or take-over; {safety}"
            );
            let since = unused_time(state, now);
            let paused = Some(Paused {
                by: by.to_owned(),
                since,
                length: *length,
                reason: reason.clone(),
                guard_off: *guard_off,
            });
            (Brakes { paused, ..old }, text)
        }
        Brake::Resume => match &old.paused {
            None => (old, "not paused: nothing to resume".to_owned()),
            Some(paused) => {
                let text = format!(
                    "resumed by {by}: failovers are automatic again{} (paused by {})",
                    if paused.guard_off {
                        ", and the guard is on"
                    } else {
                        ""
                    },
                    paused.by
                );
                let new = Brakes {
                    paused: None,
                    ..old
                };
                (new, text)
            }
        },
    }
}

/// A pause is known by its time: one that no other brake has, so that its age is its own.
fn unused_time(state: &State, now: Now) -> crate::model::Timestamp {
    let mut at = now.wall;
    while state.first_seen.contains_key(&at) {
        at.0 = at.0.saturating_add(1);
    }
    at
}

fn acknowledged(record: &ClusterRecord, by: &str, now: Now) -> (Brakes, String) {
    let old = Brakes::clone(&record.brakes);
    let Some(last) = record.last_failover else {
        let text = "there was no automatic failover: nothing to acknowledge".to_owned();
        return (old, text);
    };
    if let Some(known) = &old.acknowledged {
        let text = format!(
            "the automatic failover of {last} was acknowledged by {} at {} already",
            known.by, known.at
        );
        return (old, text);
    }
    let text = format!(
        "the automatic failover of {last} is acknowledged by {by}: the next one is not held back \
         by it"
    );
    let acknowledged = Some(Acknowledged {
        by: by.to_owned(),
        at: now.wall,
    });
    let new = Brakes {
        failovers: Vec::new(),
        acknowledged,
        ..old
    };
    (new, text)
}

/// A majority keeps the record of this version.
pub fn record_kept(state: &mut State, version: (Epoch, u64), actions: &mut Vec<Action>) {
    let kept = state
        .brakes_waiting
        .extract_if(.., |waiting| {
            waiting.version.0 == version.0 && waiting.version.1 <= version.1
        })
        .map(|waiting| Action::Answer {
            id: waiting.id,
            answer: waiting.answer,
        });
    actions.extend(kept);
}

/// What waits for a majority under a lease that is gone waits in vain.
pub fn lease_moved(state: &mut State, actions: &mut Vec<Action>) {
    let held = state.held_epoch();
    let lost = state
        .brakes_waiting
        .extract_if(.., |waiting| Some(waiting.version.0) != held)
        .map(|waiting| Action::Answer {
            id: waiting.id,
            answer: Answer::Refused {
                reasons: vec![
                    "the lease was lost before a majority of voters had it: look at `agent status` \
                     whether it holds all the same, and ask again"
                        .to_owned(),
                ],
            },
        });
    actions.extend(lost);
}
