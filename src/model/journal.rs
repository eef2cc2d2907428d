//! The journal: what was decided, begun and finished, in that order, durable before it happens
//! (S11).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::ClusterRecord;
use super::outcome::Failure;
use super::plan::Plan;
use super::{PlanId, Timestamp};

/// One durable line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// Counts up from 1 without gaps.
    pub number: u64,
    /// When, for people.
    pub at: Timestamp,
    /// What.
    pub entry: JournalEntry,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum JournalEntry {
    /// The agent began to run.
    AgentStarted {
        /// Its version.
        version: String,
    },
    /// The agent was stopped in order: somebody was there (ends [`PlanEnd::NeedsHuman`]).
    AgentStopped,
    /// A plan was decided, with its evidence in words.
    Planned {
        /// The plan.
        plan: Plan,
        /// The record as it was, for undo.
        record: Option<ClusterRecord>,
        /// What was seen that led to it.
        evidence: Vec<String>,
    },
    /// A step is about to be applied (or, with `undo`, undone).
    StepStarted {
        /// Of which plan.
        plan: PlanId,
        /// Its index in the plan.
        step: usize,
        /// Counts from 1.
        attempt: u32,
        /// True when this is the undo.
        undo: bool,
    },
    /// A step was applied and verified (or undone).
    StepDone {
        /// Of which plan.
        plan: PlanId,
        /// Its index.
        step: usize,
        /// True when this was the undo.
        undo: bool,
        /// How long it took.
        took: Duration,
        /// What it learned, in words.
        note: String,
    },
    /// A step (or its undo) failed.
    StepFailed {
        /// Of which plan.
        plan: PlanId,
        /// Its index.
        step: usize,
        /// True when this was the undo.
        undo: bool,
        /// Why.
        failure: Failure,
    },
    /// The plan will not go on.
    PlanEnded {
        /// Which.
        plan: PlanId,
        /// How.
        end: PlanEnd,
    },
    /// Something that people should find later: a refusal, an alert, an operator's command.
    Remark {
        /// What, in words.
        text: String,
    },
}

/// How a plan ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum PlanEnd {
    /// Every step is done.
    Completed,
    /// A step before the commit point failed and all before it were undone.
    Undone {
        /// What failed.
        why: String,
    },
    /// The plan's epoch is over: it was stopped between steps and nothing of it may go on (S8).
    Superseded {
        /// What ended it.
        why: String,
    },
    /// It cannot go on and cannot be undone: the agent does nothing more until a person has looked.
    NeedsHuman {
        /// What is wrong and what to do.
        why: String,
    },
}

impl fmt::Display for PlanEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Undone { why } => write!(f, "undone: {why}"),
            Self::Superseded { why } => write!(f, "superseded: {why}"),
            Self::NeedsHuman { why } => write!(f, "needs a human: {why}"),
        }
    }
}
