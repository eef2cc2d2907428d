//! Where in its plans an agent stands, told by the last line of its journal.

use failover_agent::decision::journal_rules::Follower;
use failover_agent::model::PlanId;
use failover_agent::model::journal::{JournalEntry, JournalLine};
use failover_agent::model::plan::{Plan, PlanKind};

/// Names the place that a journal has come to with each of its lines.
#[derive(Debug, Default)]
pub(crate) struct Places {
    plan: Option<Plan>,
}

impl Places {
    /// The place after the next line.
    pub(crate) fn next(&mut self, entry: &JournalEntry) -> String {
        match entry {
            JournalEntry::AgentStarted { .. } => "agent started".to_owned(),
            JournalEntry::AgentStopped => "agent stopped".to_owned(),
            JournalEntry::Remark { .. } => "remark".to_owned(),
            JournalEntry::Planned { plan, .. } => {
                self.plan = Some(plan.clone());
                self.of(&plan.id, "planned")
            }
            JournalEntry::StepStarted {
                plan, step, undo, ..
            } => self.step(plan, *step, *undo, "begun"),
            JournalEntry::StepDone {
                plan, step, undo, ..
            } => self.step(plan, *step, *undo, "done"),
            JournalEntry::StepFailed {
                plan, step, undo, ..
            } => self.step(plan, *step, *undo, "failed"),
            JournalEntry::PlanEnded { plan, .. } => self.of(plan, "ended"),
        }
    }

    fn of(&self, id: &PlanId, what: &str) -> String {
        let known = self.plan.as_ref().filter(|plan| plan.id == *id);
        match known.map(|plan| plan.kind) {
            Some(PlanKind::GiveUp) => format!("give up: {what}"),
            Some(PlanKind::TakeOver) => format!("take over: {what}"),
            Some(PlanKind::FinishTakeOver) => format!("finish the take-over: {what}"),
            Some(PlanKind::Restart) => format!("restart: {what}"),
            Some(PlanKind::Fence) => format!("fence: {what}"),
            Some(PlanKind::Converge) => format!("converge: {what}"),
            None => format!("former plan: {what}"),
        }
    }

    fn step(&self, id: &PlanId, step: usize, undo: bool, what: &str) -> String {
        let known = self.plan.as_ref().filter(|plan| plan.id == *id);
        let kind = known
            .and_then(|plan| plan.steps.get(step))
            .map_or_else(|| format!("step {step}"), |step| step.kind().to_string());
        let undone = if undo { "undo of " } else { "" };
        self.of(id, &format!("{undone}{kind} {what}"))
    }
}

/// The place of each line.
pub(crate) fn places(lines: &[JournalLine]) -> Vec<String> {
    let mut places = Places::default();
    lines.iter().map(|line| places.next(&line.entry)).collect()
}

/// The plan that has begun in these lines and not ended. Fails if they break a rule (S11): a
/// second plan beside an unfinished one, or one that goes on in another life.
pub(crate) fn unfinished(lines: &[JournalLine]) -> Option<Plan> {
    let mut follower = Follower::default();
    for line in lines {
        if let Err(illegal) = follower.follow(&line.entry) {
            panic!(
                "line {}: {illegal}\n{}",
                line.number,
                places(lines).join("\n")
            );
        }
    }
    follower.under_way().cloned()
}
