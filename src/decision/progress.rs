//! A running plan: which step next, which again, which back. Pure; the executor only obeys.
//!
//! A plan has two parts. The *sequence* runs one step at a time, up to and including the last
//! step that decides who is primary; a failure before the commit point undoes it, backwards,
//! the failed step included (half-done work is work to undo). The rest *converges*: files, then
//! DNS, then people, each repeated until it is true, none waiting for another's success, nor for
//! long for another's first attempt.

use std::time::Duration;

use crate::decision::patience::{patience, pending, undoes, wave};
use crate::model::Moment;
use crate::model::event::StepFinished;
use crate::model::journal::PlanEnd;
use crate::model::lease::ClusterRecord;
use crate::model::outcome::FailureKind;
use crate::model::peer::StepState;
use crate::model::plan::{Plan, PlanKind, Step, StepKind};

/// Bound on how long another side may ask to be left alone before the next attempt.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// How long what follows lets a first attempt run before it begins beside it: an app that takes
/// minutes to reload delays neither DNS nor people (S9).
pub const WAVE_WAIT: Duration = Duration::from_secs(5);

/// A plan and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRun {
    /// The plan.
    pub plan: Plan,
    /// The cluster record when it was made, for undo.
    pub record_before: Option<ClusterRecord>,
    /// When it was begun.
    pub begun: Moment,
    /// One for each step of the plan.
    pub steps: Vec<StepRun>,
    /// Which way it goes.
    pub course: Course,
}

/// Which way a plan goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Step by step to the end.
    Forward,
    /// Back to where it came from.
    Undoing {
        /// What failed.
        why: String,
    },
    /// It has ended.
    Ended(PlanEnd),
}

/// One step and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRun {
    /// Where it stands.
    pub state: StepState,
    /// How often it (or its undo) was begun.
    pub attempts: u32,
    /// True once its undo was begun.
    pub undo: bool,
    /// Not again before this.
    pub retry_at: Moment,
    /// When it first began.
    pub started: Option<Moment>,
    /// When it last ended.
    pub ended: Option<Moment>,
    /// What it learned or why it failed.
    pub note: String,
}

/// What the executor is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Begin this step (or its undo).
    Start {
        /// Its index.
        step: usize,
        /// Counts from 1.
        attempt: u32,
        /// Whether to undo it.
        undo: bool,
    },
    /// The plan has just ended.
    Ended(PlanEnd),
}

/// What may be begun right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The plan's epoch is still ours (or, for a plan without a lease, still the highest).
    pub epoch: bool,
    /// Enough of the lease is left for a step that cannot be taken back (S8).
    pub reserve: bool,
}

impl PlanRun {
    /// A plan that begins at `now`.
    #[must_use]
    pub fn new(plan: Plan, record_before: Option<ClusterRecord>, now: Moment) -> Self {
        let waiting = StepRun {
            state: StepState::Waiting,
            attempts: 0,
            undo: false,
            retry_at: now,
            started: None,
            ended: None,
            note: String::new(),
        };
        let steps = vec![waiting; plan.steps.len()];
        Self {
            plan,
            record_before,
            begun: now,
            steps,
            course: Course::Forward,
        }
    }

    fn each(&self) -> impl Iterator<Item = (usize, &Step, &StepRun)> {
        self.plan
            .steps
            .iter()
            .zip(&self.steps)
            .enumerate()
            .map(|(i, (step, run))| (i, step, run))
    }

    fn kind(&self, index: usize) -> Option<StepKind> {
        self.plan.steps.get(index).map(Step::kind)
    }

    /// The promotion was begun, so the own node may take writes.
    #[must_use]
    pub fn promotion_begun(&self) -> bool {
        self.each().any(|(_, step, run)| {
            matches!(
                step.kind(),
                StepKind::StartStandby
                    | StepKind::Promote
                    | StepKind::StartOwn
                    | StepKind::VerifyWrites
            ) && run.state != StepState::Waiting
        })
    }

    /// Every step of the sequence is done: what follows only converges.
    #[must_use]
    pub fn sequence_done(&self) -> bool {
        self.course == Course::Forward
            && self
                .each()
                .filter(|(_, step, _)| wave(step.kind()).is_none())
                .all(|(_, _, run)| run.state == StepState::Done)
    }

    /// It has ended, one way or another.
    #[must_use]
    pub fn ended(&self) -> Option<&PlanEnd> {
        match &self.course {
            Course::Ended(end) => Some(end),
            Course::Forward | Course::Undoing { .. } => None,
        }
    }

    /// Some step (or undo) is being applied right now.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.steps.iter().any(|run| run.state == StepState::Running)
    }

    /// When next something is to be tried again, or what follows has waited long enough.
    #[must_use]
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        self.steps
            .iter()
            .filter_map(|run| match run.state {
                StepState::Retrying => Some(run.retry_at),
                StepState::Running => run.started.map(|at| at + WAVE_WAIT),
                StepState::Waiting | StepState::Done | StepState::Failed | StepState::Undone => {
                    None
                }
            })
            .filter(|at| *at > now)
            .min()
    }

    /// Ends the plan between steps, because something stronger came.
    pub fn supersede(&mut self, why: impl Into<String>) -> PlanEnd {
        let end = PlanEnd::Superseded { why: why.into() };
        self.course = Course::Ended(end.clone());
        end
    }

    /// Takes in the end of a step. Returns false for one that is not running (a late echo).
    pub fn finish(&mut self, finished: &StepFinished, now: Moment) -> bool {
        let kind = self.plan.steps.get(finished.step).map(Step::kind);
        let (Some(kind), Some(run)) = (kind, self.steps.get_mut(finished.step)) else {
            return false;
        };
        let expected = run.state == StepState::Running
            && run.undo == finished.undo
            && run.attempts == finished.attempt;
        if !expected || finished.plan != self.plan.id {
            return false;
        }
        run.ended = Some(now);
        match &finished.result {
            Ok(learned) => {
                run.note.clone_from(&learned.note);
                run.state = if finished.undo {
                    StepState::Undone
                } else {
                    StepState::Done
                };
            }
            Err(failure) => {
                run.note = failure.to_string();
                let patience = patience(kind);
                let again = patience.attempts_max.is_none_or(|max| run.attempts < max)
                    && (failure.kind != FailureKind::Permanent || patience.attempts_max.is_none());
                if again {
                    let doublings = run.attempts.saturating_sub(1).min(10);
                    let pause = patience.pause_first.saturating_mul(1 << doublings);
                    let asked = failure.retry_after.unwrap_or_default();
                    let asked = asked.min(RETRY_AFTER_MAX);
                    run.retry_at = now + pause.min(patience.pause_max).max(asked);
                    run.state = StepState::Retrying;
                } else {
                    run.state = StepState::Failed;
                }
            }
        }
        true
    }

    /// Says what to begin now, and marks it as begun.
    pub fn advance(&mut self, allowed: Allowed, now: Moment) -> Vec<Todo> {
        loop {
            match &self.course {
                Course::Ended(_) => return Vec::new(),
                Course::Forward => {
                    let Some(failed) = self
                        .steps
                        .iter()
                        .position(|run| run.state == StepState::Failed)
                    else {
                        return self.go_on(allowed, now);
                    };
                    if let Some(end) = self.turn_back(failed) {
                        return vec![Todo::Ended(end)];
                    }
                }
                Course::Undoing { why } => {
                    let why = why.clone();
                    return self.go_back(&why, allowed, now);
                }
            }
        }
    }

    /// Decides what a failed step of the sequence means.
    fn turn_back(&mut self, failed: usize) -> Option<PlanEnd> {
        let step = self
            .plan
            .steps
            .get(failed)
            .map_or_else(String::new, |s| s.kind().to_string());
        let note = self.steps.get(failed).map_or("", |run| run.note.as_str());
        let why = format!("{step}: {note}");
        // One without a promotion finishes that of a former life.
        let promoted = match self
            .each()
            .find(|(_, step, _)| step.kind() == StepKind::Promote)
        {
            Some((_, _, run)) => run.state == StepState::Done,
            None => self.plan.kind == PlanKind::FinishTakeOver,
        };
        if promoted || self.plan.kind == PlanKind::Fence {
            let end = PlanEnd::NeedsHuman { why };
            self.course = Course::Ended(end.clone());
            return Some(end);
        }
        for (run, step) in self.steps.iter_mut().zip(&self.plan.steps) {
            let kind = step.kind();
            let touched = run.state != StepState::Waiting || pending(self.plan.kind, kind);
            run.state = match (touched, undoes(self.plan.kind, kind)) {
                (true, true) => StepState::Retrying,
                (true, false) => StepState::Undone,
                (false, _) => StepState::Waiting,
            };
            run.undo = touched;
            run.attempts = 0;
            run.retry_at = Moment::default();
        }
        self.course = Course::Undoing { why };
        None
    }

    fn go_back(&mut self, why: &str, allowed: Allowed, now: Moment) -> Vec<Todo> {
        let last = self
            .steps
            .iter()
            .rposition(|run| run.undo && run.state != StepState::Undone);
        let Some(index) = last else {
            let end = PlanEnd::Undone {
                why: why.to_owned(),
            };
            self.course = Course::Ended(end.clone());
            return vec![Todo::Ended(end)];
        };
        let Some(run) = self.steps.get(index) else {
            return Vec::new();
        };
        match run.state {
            StepState::Failed => {
                let end = PlanEnd::NeedsHuman {
                    why: format!("{why}; and the undo failed: {}", run.note),
                };
                self.course = Course::Ended(end.clone());
                vec![Todo::Ended(end)]
            }
            StepState::Retrying if allowed.epoch && run.retry_at <= now => {
                // The undo of a fence starts a primary: that needs a fresh lease (S2).
                let starts = self.kind(index) == Some(StepKind::FenceOwn);
                if starts && !allowed.reserve {
                    Vec::new()
                } else {
                    vec![self.begin(index, now)]
                }
            }
            StepState::Retrying
            | StepState::Waiting
            | StepState::Running
            | StepState::Done
            | StepState::Undone => Vec::new(),
        }
    }

    fn go_on(&mut self, allowed: Allowed, now: Moment) -> Vec<Todo> {
        // Nothing is left to do: that is so with or without the lease, which the last step of a
        // handover has just given away.
        if self.steps.iter().all(|run| run.state == StepState::Done) {
            self.course = Course::Ended(PlanEnd::Completed);
            return vec![Todo::Ended(PlanEnd::Completed)];
        }
        if !allowed.epoch {
            return Vec::new();
        }
        let next_in_sequence = self
            .each()
            .find(|(_, step, run)| wave(step.kind()).is_none() && run.state != StepState::Done)
            .map(|(index, step, run)| (index, step.kind(), startable(run, now)));
        if let Some((index, kind, startable)) = next_in_sequence {
            let starts = matches!(
                kind,
                StepKind::StartStandby | StepKind::Promote | StepKind::StartOwn
            );
            let reserved = allowed.reserve || !starts;
            return if startable && reserved {
                vec![self.begin(index, now)]
            } else {
                Vec::new()
            };
        }
        let ready: Vec<usize> = self
            .each()
            .filter(|(_, step, run)| startable(run, now) && self.wave_is_on(step.kind(), now))
            .map(|(index, _, _)| index)
            .collect();
        ready
            .into_iter()
            .map(|index| self.begin(index, now))
            .collect()
    }

    /// Every converging step of an earlier wave has had its first attempt, or long enough for it.
    fn wave_is_on(&self, kind: StepKind, now: Moment) -> bool {
        let had_its_turn = |run: &StepRun| {
            run.ended.is_some() || run.started.is_some_and(|at| now >= at + WAVE_WAIT)
        };
        self.each()
            .filter(|(_, step, _)| wave(step.kind()) < wave(kind))
            .all(|(_, _, run)| had_its_turn(run))
    }

    fn begin(&mut self, index: usize, now: Moment) -> Todo {
        let Some(run) = self.steps.get_mut(index) else {
            // The callers take the index from this very list.
            return Todo::Ended(PlanEnd::Superseded {
                why: "no such step".to_owned(),
            });
        };
        run.attempts = run.attempts.saturating_add(1);
        run.state = StepState::Running;
        run.started.get_or_insert(now);
        Todo::Start {
            step: index,
            attempt: run.attempts,
            undo: run.undo,
        }
    }
}

fn startable(run: &StepRun, now: Moment) -> bool {
    match run.state {
        StepState::Waiting => true,
        StepState::Retrying => run.retry_at <= now,
        StepState::Running | StepState::Done | StepState::Failed | StepState::Undone => false,
    }
}
