//! The log lines that go with journal entries.
//!
//! Must not: read anything but the entry, so that the log and the journal tell the same.

use crate::model::journal::JournalEntry;

/// Tells the log what the journal is told: a steady system says nothing.
pub(crate) fn log(entry: &JournalEntry) {
    match entry {
        JournalEntry::AgentStarted { version } => tracing::info!(version, "agent started"),
        JournalEntry::AgentStopped => tracing::info!("agent stopped; the node goes on"),
        JournalEntry::Planned { plan, .. } => {
            tracing::warn!(
                plan_id = %plan.id,
                epoch = %plan.epoch,
                reason = %plan.cause,
                kind = %plan.kind,
                "planned"
            );
        }
        JournalEntry::StepStarted {
            plan,
            step,
            attempt,
            undo,
        } => {
            tracing::info!(plan_id = %plan, step, attempt, undo, "step started");
        }
        JournalEntry::StepDone {
            plan,
            step,
            undo,
            took,
            note,
        } => {
            let elapsed_ms = took.as_millis();
            tracing::info!(plan_id = %plan, step, undo, elapsed_ms, note, "step done");
        }
        JournalEntry::StepFailed {
            plan,
            step,
            undo,
            failure,
        } => {
            tracing::warn!(plan_id = %plan, step, undo, error = %failure, "step failed");
        }
        JournalEntry::PlanEnded { plan, end } => {
            tracing::warn!(plan_id = %plan, reason = %end, "plan ended");
        }
        JournalEntry::Remark { text } => tracing::info!(reason = text, "remark"),
    }
}
