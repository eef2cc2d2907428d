//! What is told about a schedule: its timeline, when asked for, and what it is counted as.

use std::fmt;
use std::ops::AddAssign;

use crate::clock::{MS, Real};

/// What happened, in words; written only when somebody will read it.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) lines: Option<Vec<String>>,
}

impl Timeline {
    pub(crate) fn wanted(wanted: bool) -> Self {
        Self {
            lines: wanted.then(Vec::new),
        }
    }

    pub(crate) fn note(&mut self, now: Real, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, micros) = (now / 1000 / MS, now / 1000 % MS);
            lines.push(format!("{seconds:>3}.{micros:06}  {}", text()));
        }
    }
}

/// What happened in one schedule, or in many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) schedules: u64,
    pub(crate) events: u64,
    pub(crate) decisions: u64,
    pub(crate) failovers: u64,
    pub(crate) takeovers: u64,
    pub(crate) handovers: u64,
    pub(crate) restarts_in_place: u64,
    pub(crate) deadline_fences: u64,
    pub(crate) agent_lives: u64,
    pub(crate) paused_plans: u64,
    pub(crate) well: u64,
    pub(crate) explained: u64,
    pub(crate) guard_fences: u64,
    pub(crate) needs_gate: u64,
    pub(crate) pinned: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.decisions += other.decisions;
        self.failovers += other.failovers;
        self.takeovers += other.takeovers;
        self.handovers += other.handovers;
        self.restarts_in_place += other.restarts_in_place;
        self.deadline_fences += other.deadline_fences;
        self.agent_lives += other.agent_lives;
        self.paused_plans += other.paused_plans;
        self.well += other.well;
        self.explained += other.explained;
        self.guard_fences += other.guard_fences;
        self.needs_gate += other.needs_gate;
        self.pinned += other.pinned;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules, {} events, {} decisions: {} failovers ({} take-overs of a silent site, \
             {} hand-overs), {} restarts in place, {} deadline fences, {} by guards, \
             {} lives of agents, {} plans while paused, {} pinned leases; {} ended well, {} explained; excluded: {} \
             need the gate",
            self.schedules,
            self.events,
            self.decisions,
            self.failovers,
            self.takeovers,
            self.handovers,
            self.restarts_in_place,
            self.deadline_fences,
            self.guard_fences,
            self.agent_lives,
            self.paused_plans,
            self.pinned,
            self.well,
            self.explained,
            self.needs_gate,
        )
    }
}
