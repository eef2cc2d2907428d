//! Which journal entry may follow which (S11). The journal of a correct agent never breaks these
//! rules, wherever it was stopped; one that does was written by a faulty program.
//!
//! Start reading at [`Follower::follow`].

use std::collections::BTreeMap;

use crate::decision::patience::{pending, undoes, wave};
use crate::model::PlanId;
use crate::model::journal::{JournalEntry, PlanEnd};
use crate::model::plan::{Plan, Step, StepKind};

/// What is wrong with an entry, given those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// A second plan beside one that has not ended (S11, S14).
    #[error("plan {second} begins while plan {first} has not ended")]
    SecondPlan {
        /// The one under way.
        first: PlanId,
        /// The one that begins.
        second: PlanId,
    },
    /// An entry about a plan that is not under way.
    #[error("an entry about plan {plan}, which is not under way")]
    NotUnderWay {
        /// The plan.
        plan: PlanId,
    },
    /// A plan goes on in another life of the agent than the one that began it.
    #[error("plan {plan} goes on after the agent was restarted")]
    FormerLife {
        /// The plan.
        plan: PlanId,
    },
    /// A step that the plan does not have.
    #[error("plan {plan} has no step {step}")]
    NoSuchStep {
        /// The plan.
        plan: PlanId,
        /// The index.
        step: usize,
    },
    /// A step is begun out of turn: too early, twice at once, or in the wrong direction.
    #[error("step {step} of plan {plan} must not begin now: {why}")]
    OutOfTurn {
        /// The plan.
        plan: PlanId,
        /// The index.
        step: usize,
        /// Why not.
        why: &'static str,
    },
    /// A step ends that was not running.
    #[error("step {step} of plan {plan} ends, but was not running")]
    NotRunning {
        /// The plan.
        plan: PlanId,
        /// The index.
        step: usize,
    },
    /// The plan's end does not fit its steps.
    #[error("plan {plan} cannot end like this: {why}")]
    WrongEnd {
        /// The plan.
        plan: PlanId,
        /// Why not.
        why: &'static str,
    },
    /// Something else than a start follows an orderly stop.
    #[error("an agent that has stopped goes on writing")]
    AfterStop,
}

/// Reads a journal entry by entry and refuses what cannot be.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    under_way: Option<Track>,
    stopped: bool,
}

#[derive(Debug, Clone)]
struct Track {
    plan: Plan,
    steps: BTreeMap<usize, StepTrack>,
    undoing: bool,
    former_life: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct StepTrack {
    attempts: u32,
    undo_attempts: u32,
    now: Place,
    /// It (or its undo) failed at least once.
    failed: bool,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Idle,
    Running,
    Done,
    Undone,
}

impl Follower {
    /// Takes in the next entry.
    ///
    /// # Errors
    /// [`Illegal`], when it cannot follow those before it.
    pub fn follow(&mut self, entry: &JournalEntry) -> Result<(), Illegal> {
        if self.stopped && !matches!(entry, JournalEntry::AgentStarted { .. }) {
            return Err(Illegal::AfterStop);
        }
        match entry {
            JournalEntry::AgentStarted { .. } => {
                self.stopped = false;
                if let Some(track) = &mut self.under_way {
                    track.former_life = true;
                }
                Ok(())
            }
            JournalEntry::AgentStopped => {
                self.stopped = true;
                Ok(())
            }
            JournalEntry::Remark { .. } => Ok(()),
            JournalEntry::Planned { plan, .. } => self.begin(plan),
            JournalEntry::StepStarted {
                plan,
                step,
                attempt,
                undo,
            } => self.track(plan)?.start(*step, *attempt, *undo),
            JournalEntry::StepDone {
                plan, step, undo, ..
            } => self.track(plan)?.end_step(*step, *undo, true),
            JournalEntry::StepFailed {
                plan, step, undo, ..
            } => self.track(plan)?.end_step(*step, *undo, false),
            JournalEntry::PlanEnded { plan, end } => {
                self.named(plan)?.end(end)?;
                self.under_way = None;
                Ok(())
            }
        }
    }

    /// The plan that has begun and not ended.
    #[must_use]
    pub fn under_way(&self) -> Option<&Plan> {
        self.under_way.as_ref().map(|track| &track.plan)
    }

    fn begin(&mut self, plan: &Plan) -> Result<(), Illegal> {
        if let Some(track) = &self.under_way {
            return Err(Illegal::SecondPlan {
                first: track.plan.id.clone(),
                second: plan.id.clone(),
            });
        }
        self.under_way = Some(Track {
            plan: plan.clone(),
            steps: BTreeMap::new(),
            undoing: false,
            former_life: false,
        });
        Ok(())
    }

    fn named(&mut self, plan: &PlanId) -> Result<&mut Track, Illegal> {
        self.under_way
            .as_mut()
            .filter(|track| track.plan.id == *plan)
            .ok_or_else(|| Illegal::NotUnderWay { plan: plan.clone() })
    }

    fn track(&mut self, plan: &PlanId) -> Result<&mut Track, Illegal> {
        let track = self.named(plan)?;
        if track.former_life {
            return Err(Illegal::FormerLife { plan: plan.clone() });
        }
        Ok(track)
    }
}

impl Track {
    fn kind(&self, step: usize) -> Option<StepKind> {
        self.plan.steps.get(step).map(Step::kind)
    }

    fn at(&self, step: usize) -> StepTrack {
        self.steps.get(&step).copied().unwrap_or_default()
    }

    fn start(&mut self, step: usize, attempt: u32, undo: bool) -> Result<(), Illegal> {
        let plan = self.plan.id.clone();
        let Some(kind) = self.kind(step) else {
            return Err(Illegal::NoSuchStep { plan, step });
        };
        let track = self.at(step);
        let before = if undo {
            track.undo_attempts
        } else {
            track.attempts
        };
        let why = if track.now == Place::Running {
            Some("it is running")
        } else if attempt != before.saturating_add(1) {
            Some("its attempts do not count up")
        } else if undo {
            self.against_undo(step, kind)
        } else {
            self.against_apply(step, kind)
        };
        if let Some(why) = why {
            return Err(Illegal::OutOfTurn { plan, step, why });
        }
        self.undoing |= undo;
        let track = self.steps.entry(step).or_default();
        track.now = Place::Running;
        if undo {
            track.undo_attempts = attempt;
        } else {
            track.attempts = attempt;
        }
        Ok(())
    }

    fn against_apply(&self, step: usize, kind: StepKind) -> Option<&'static str> {
        let sequence_before = |index: usize| {
            self.kind(index).is_some_and(|kind| wave(kind).is_none())
                && (wave(kind).is_some() || index < step)
        };
        let waits = (0..self.plan.steps.len())
            .any(|index| sequence_before(index) && self.at(index).now != Place::Done);
        if self.undoing {
            Some("the plan is being undone")
        } else if self.at(step).now == Place::Done {
            Some("it is done")
        } else if waits {
            Some("a step that must come first is not done")
        } else {
            None
        }
    }

    fn against_undo(&self, step: usize, kind: StepKind) -> Option<&'static str> {
        let later = (step + 1..self.plan.steps.len()).any(|index| !self.is_back(index));
        if self.at(step).attempts == 0 && !pending(self.plan.kind, kind) {
            Some("what was never begun has no undo")
        } else if !undoes(self.plan.kind, kind) {
            Some("this kind of step has no undo")
        } else if later {
            Some("a later step is not undone yet")
        } else {
            None
        }
    }

    /// Nothing of this step is left to undo.
    fn is_back(&self, step: usize) -> bool {
        let track = self.at(step);
        let kind = self.kind(step);
        let undoable = kind.is_some_and(|kind| undoes(self.plan.kind, kind));
        let pending = kind.is_some_and(|kind| pending(self.plan.kind, kind));
        (track.attempts == 0 && !pending)
            || track.now == Place::Undone
            || (!undoable && track.now != Place::Running)
    }

    fn end_step(&mut self, step: usize, undo: bool, well: bool) -> Result<(), Illegal> {
        let plan = self.plan.id.clone();
        let undoing = self.undoing;
        let Some(track) = self.steps.get_mut(&step) else {
            return Err(Illegal::NotRunning { plan, step });
        };
        let direction_fits = undo == (track.undo_attempts > 0);
        if track.now != Place::Running || (undoing && !direction_fits) {
            return Err(Illegal::NotRunning { plan, step });
        }
        track.now = match (undo, well) {
            (false, true) => Place::Done,
            (true, true) => Place::Undone,
            (_, false) => Place::Idle,
        };
        track.failed |= !well;
        Ok(())
    }

    fn end(&self, end: &PlanEnd) -> Result<(), Illegal> {
        let count = self.plan.steps.len();
        let why = match end {
            PlanEnd::Superseded { .. } => None,
            _ if self.former_life => Some("only a superseded plan ends in another life"),
            PlanEnd::Completed if !(0..count).all(|step| self.at(step).now == Place::Done) => {
                Some("not every step is done")
            }
            PlanEnd::Undone { .. } if !(0..count).all(|step| self.is_back(step)) => {
                Some("not every step is undone")
            }
            PlanEnd::Undone { .. } | PlanEnd::NeedsHuman { .. }
                if !(0..count).any(|step| self.at(step).failed) =>
            {
                Some("no step has failed")
            }
            PlanEnd::Completed | PlanEnd::Undone { .. } | PlanEnd::NeedsHuman { .. } => None,
        };
        match why {
            Some(why) => Err(Illegal::WrongEnd {
                plan: self.plan.id.clone(),
                why,
            }),
            None => Ok(()),
        }
    }
}
