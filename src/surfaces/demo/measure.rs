//! What was noted → the figures. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::writer::Ack;
use crate::model::journal::{JournalEntry, JournalLine};
use crate::model::plan::{PlanKind, StepKind};
use crate::model::{Moment, PlanId, Timestamp};

/// Each mark of the service timeline stands for this much time.
const MARK: Duration = Duration::from_millis(50);
/// How much of the time before the fault is drawn.
const DRAWN_BEFORE: Duration = Duration::from_millis(500);
/// No timeline is wider.
const MARKS_MAX: u32 = 120;

/// A step of a plan that ended after the fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepShown {
    /// Milliseconds after the fault at which it had ended.
    pub at_ms: i64,
    /// Whose agent ran it.
    pub site: String,
    /// Of which plan.
    pub plan: PlanId,
    /// What it did.
    pub step: StepKind,
    /// Whether it was done (or failed, and was tried again).
    pub done: bool,
    /// How long it took.
    pub took_ms: u64,
    /// What it learned, or why it failed.
    pub note: String,
}

/// When what had happened, in milliseconds after the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Milestones {
    pub(super) detected: Option<i64>,
    pub(super) fenced: Option<i64>,
    pub(super) promoted: Option<i64>,
    pub(super) config: Option<i64>,
    pub(super) dns: Option<i64>,
}

/// The longest time without an acknowledged commit that ended after the fault, counted from the
/// last acknowledgement before it; `None` if there is none after it.
pub(super) fn unavailable(acks: &[Ack], fault: Moment) -> Option<Duration> {
    let pairs = acks.iter().zip(acks.iter().skip(1));
    pairs
        .filter(|(_, later)| later.at > fault)
        .map(|(earlier, later)| later.at.since(earlier.at))
        .max()
}

/// How many acknowledged rows the node does not have.
pub(super) fn lost(acks: &[Ack], there: &BTreeSet<i64>) -> u64 {
    let missing = acks.iter().filter(|ack| !there.contains(&ack.number));
    missing.count() as u64
}

/// Every step that ended after the fault, in order, from the journals of both sites.
pub(super) fn steps(journals: &[(&str, Vec<JournalLine>)], fault: Timestamp) -> Vec<StepShown> {
    let mut shown = Vec::new();
    for (site, lines) in journals {
        let mut plans = BTreeMap::new();
        for line in lines {
            if let JournalEntry::Planned { plan, .. } = &line.entry {
                plans.insert(plan.id.clone(), plan.steps.clone());
            }
            let (plan, index, done, took, note) = match &line.entry {
                JournalEntry::StepDone {
                    plan,
                    step,
                    took,
                    note,
                    ..
                } => (plan, *step, true, *took, note.clone()),
                JournalEntry::StepFailed {
                    plan,
                    step,
                    failure,
                    ..
                } => (plan, *step, false, Duration::ZERO, failure.to_string()),
                JournalEntry::AgentStarted { .. }
                | JournalEntry::AgentStopped
                | JournalEntry::Planned { .. }
                | JournalEntry::StepStarted { .. }
                | JournalEntry::PlanEnded { .. }
                | JournalEntry::Remark { .. } => continue,
            };
            let step = plans.get(plan).and_then(|steps| steps.get(index));
            let Some(step) = step.filter(|_| line.at >= fault) else {
                continue;
            };
            shown.push(StepShown {
                at_ms: line.at.0 - fault.0,
                site: (*site).to_owned(),
                plan: plan.clone(),
                step: step.kind(),
                done,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                note,
            });
        }
    }
    shown.sort_by_key(|step| step.at_ms);
    shown
}

/// The milestones, from the journals and their steps.
pub(super) fn milestones(
    journals: &[(&str, Vec<JournalLine>)],
    steps: &[StepShown],
    fault: Timestamp,
) -> Milestones {
    let planned = |line: &JournalLine| {
        let JournalEntry::Planned { plan, .. } = &line.entry else {
            return false;
        };
        matches!(
            plan.kind,
            PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::FinishTakeOver
        ) && line.at >= fault
    };
    let decisions = journals.iter().flat_map(|(_, lines)| lines.iter());
    let first = |kind| {
        let mut of_kind = steps.iter().filter(|step| step.done && step.step == kind);
        of_kind.next().map(|step| step.at_ms)
    };
    let last = |kind| {
        let of_kind = steps.iter().filter(|step| step.done && step.step == kind);
        of_kind.map(|step| step.at_ms).max()
    };
    Milestones {
        detected: decisions
            .filter(|line| planned(line))
            .map(|line| line.at.0 - fault.0)
            .min(),
        fenced: first(StepKind::FenceOwn),
        promoted: first(StepKind::Promote),
        config: last(StepKind::RewriteAppConfig),
        dns: last(StepKind::UpdateDns),
    }
}

/// The service timeline: one line for each node, a mark wherever it acknowledged a commit.
pub(super) fn timeline(acks: &[Ack], names: [&str; 2], fault: Moment, end: Moment) -> String {
    let begin = fault - DRAWN_BEFORE;
    let marks = end.since(begin).as_millis() / MARK.as_millis();
    let marks = u32::try_from(marks).unwrap_or(MARKS_MAX).min(MARKS_MAX);
    let mut text = String::new();
    for (node, name) in names.into_iter().enumerate() {
        let line: String = (0..marks)
            .map(|mark| {
                let from = begin + MARK * mark;
                let here = |ack: &Ack| ack.node == node && ack.at >= from && ack.at < from + MARK;
                if acks.iter().any(here) { '█' } else { '·' }
            })
            .collect();
        push(&mut text, format_args!("  {name:<5} {line}\n"));
    }
    let arrow = DRAWN_BEFORE.as_millis() / MARK.as_millis();
    let indent = usize::try_from(arrow).unwrap_or(0) + 8;
    push(
        &mut text,
        format_args!("{:indent$}↑ fault; one mark is {} ms", "", MARK.as_millis()),
    );
    text
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(number: i64, node: usize, ms: u64) -> Ack {
        let at = Moment::from_boot(Duration::from_millis(ms));
        Ack { number, node, at }
    }

    #[test]
    fn unavailability_is_the_longest_gap_that_ends_after_the_fault() {
        let fault = Moment::from_boot(Duration::from_millis(1000));
        let acks = [
            ack(1, 0, 100),
            ack(2, 0, 900),
            ack(3, 0, 990),
            ack(5, 1, 1300),
            ack(6, 1, 1310),
        ];
        assert_eq!(unavailable(&acks, fault), Some(Duration::from_millis(310)));
        assert_eq!(unavailable(&acks[..3], fault), None);
    }

    #[test]
    fn acknowledged_rows_that_are_not_there_are_lost() {
        let acks = [ack(1, 0, 1), ack(2, 0, 2), ack(4, 0, 3)];
        assert_eq!(lost(&acks, &BTreeSet::from([1, 2, 3])), 1);
        assert_eq!(lost(&acks, &BTreeSet::from([1, 2, 4])), 0);
    }

    #[test]
    fn timeline_marks_who_acknowledged_when() {
        let fault = Moment::from_boot(Duration::from_millis(1000));
        let end = Moment::from_boot(Duration::from_millis(1200));
        let acks = [ack(1, 0, 520), ack(2, 0, 990), ack(3, 1, 1160)];
        let text = timeline(&acks, ["fra", "ams"], fault, end);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  fra   █········█····");
        assert_eq!(lines[1], "  ams   ·············█");
        assert!(lines[2].trim_start().starts_with("↑ fault"));
    }
}
