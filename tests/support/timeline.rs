//! How long each part of a failover took, from the agents' own journals. Printed, never asserted.

use std::path::Path;

use failover_agent::effects::clock;
use failover_agent::model::Timestamp;
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::plan::{Plan, PlanKind, StepKind};
use failover_agent::runtime::journal::read_all;

/// The moment of a fault, to be taken right before it.
pub fn now() -> Timestamp {
    clock::wall()
}

/// Prints what happened since the fault at both sites, as milliseconds after it.
pub fn print(what: &str, fault: Timestamp, state_dirs: [&Path; 2]) {
    let mut events: Vec<(i64, String)> = state_dirs
        .into_iter()
        .flat_map(|dir| events(fault, dir))
        .collect();
    events.sort();
    let words: Vec<String> = events
        .into_iter()
        .map(|(after, word)| format!("{word} +{after}"))
        .collect();
    println!("timing {what} (ms): {}", words.join(", "));
}

fn events(fault: Timestamp, dir: &Path) -> Vec<(i64, String)> {
    let mut plan: Option<Plan> = None;
    let mut events = Vec::new();
    for line in read_all(dir).unwrap_or_default() {
        let after = line.at.0 - fault.0;
        let word = match line.entry {
            JournalEntry::Planned { plan: begun, .. } => {
                let word = match begun.kind {
                    PlanKind::GiveUp => Some("detected".to_owned()),
                    PlanKind::TakeOver | PlanKind::FinishTakeOver => {
                        Some("take-over begun".to_owned())
                    }
                    PlanKind::Restart => Some("restart begun".to_owned()),
                    PlanKind::Fence => Some("fence begun".to_owned()),
                    PlanKind::Converge => None,
                };
                plan = Some(begun);
                word
            }
            JournalEntry::StepDone {
                step, undo: false, ..
            } => {
                let step = plan.as_ref().and_then(|plan| plan.steps.get(step));
                step.map(|step| match step.kind() {
                    StepKind::FenceOwn => "fenced".to_owned(),
                    StepKind::HandOver => "handed over".to_owned(),
                    StepKind::Promote => "promoted".to_owned(),
                    StepKind::VerifyWrites => "verified".to_owned(),
                    other => other.to_string(),
                })
            }
            _ => None,
        };
        events.extend(word.filter(|_| after >= 0).map(|word| (after, word)));
    }
    events
}
