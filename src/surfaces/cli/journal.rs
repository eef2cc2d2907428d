//! `agent journal`: what was decided and done, read from the state directory itself, so that it
//! works while the agent is down.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use super::status::span;
use super::{Context, settings};
use crate::model::journal::{JournalEntry, JournalLine, PlanEnd};
use crate::model::plan::Plan;
use crate::model::{PlanId, Timestamp};
use crate::runtime::journal::read_all;

/// Between two looks of `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Show the timeline of everything that was decided and done. Needs no running agent.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only the last lines.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<usize>,
    /// Only this plan.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
    /// Go on showing what is added, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Where the journal is; found through the settings file if left out.
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let state_dir = match &arguments.state_dir {
        Some(directory) => directory.clone(),
        None => settings::places(context)?.state_dir,
    };
    let mut seen = fingerprint(&state_dir);
    let mut lines = read(&state_dir)?;
    if lines.is_empty() && !arguments.follow {
        let text = format!(
            "no journal in {}: no agent has run here yet",
            state_dir.display()
        );
        return Err(Failure::text(Exit::Failed, text));
    }
    if let Some(plan) = &arguments.plan
        && !arguments.follow
        && !has_plan(&lines, &PlanId::new(plan))
    {
        let text = format!(
            "the journal in {} has no plan {plan}{}",
            state_dir.display(),
            newest_plan(&lines)
        );
        return Err(Failure::text(Exit::Failed, text));
    }
    let mut teller = Teller {
        json: context.global.json,
        only: arguments.plan.as_ref().map(PlanId::new),
        plans: BTreeMap::new(),
    };
    let mut skip = arguments
        .lines
        .map_or(0, |wanted| lines.len().saturating_sub(wanted));
    let mut next = 0;
    loop {
        for (index, line) in lines.iter().enumerate() {
            teller.learn(&line.entry);
            if index >= skip {
                teller.tell(line)?;
            }
            next = line.number + 1;
        }
        skip = 0;
        if !arguments.follow {
            return Ok(Exit::Fine);
        }
        // A long journal is not read again for nothing.
        while fingerprint(&state_dir) == seen {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        seen = fingerprint(&state_dir);
        lines = read(&state_dir)?;
        lines.retain(|line| line.number >= next);
    }
}

fn has_plan(lines: &[JournalLine], plan: &PlanId) -> bool {
    lines.iter().any(|line| plan_of(&line.entry) == Some(plan))
}

/// Where to look instead.
fn newest_plan(lines: &[JournalLine]) -> String {
    let newest = lines.iter().rev().find_map(|line| plan_of(&line.entry));
    newest.map_or_else(
        || ", nor any other".to_owned(),
        |plan| format!("; the newest is {plan}"),
    )
}

/// Changes whenever something is added: the newest file and its length.
fn fingerprint(state_dir: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(state_dir.join("journal")).ok()?;
    Some((metadata.ino(), metadata.len()))
}

fn read(state_dir: &Path) -> Result<Vec<JournalLine>, Failure> {
    read_all(state_dir).map_err(|error| Failure::new(Exit::Failed, error))
}

/// Tells lines, with what was said of their plan before.
struct Teller {
    json: bool,
    only: Option<PlanId>,
    plans: BTreeMap<PlanId, Plan>,
}

impl Teller {
    fn learn(&mut self, entry: &JournalEntry) {
        if let JournalEntry::Planned { plan, .. } = entry {
            self.plans.insert(plan.id.clone(), plan.clone());
        }
    }

    fn tell(&self, line: &JournalLine) -> Result<(), Failure> {
        let plan = plan_of(&line.entry);
        if self.only.is_some() && self.only.as_ref() != plan {
            return Ok(());
        }
        match self.json {
            true => output::json(line),
            false => output::line(self.words(line)),
        }
    }

    fn words(&self, line: &JournalLine) -> String {
        let what = match &line.entry {
            JournalEntry::AgentStarted { version } => {
                styled(BOLD, format_args!("agent {version} started"))
            }
            JournalEntry::AgentStopped => styled(BOLD, "agent stopped in order"),
            JournalEntry::Planned { plan, evidence, .. } => planned(plan, evidence),
            JournalEntry::StepStarted {
                plan,
                step,
                attempt,
                undo,
            } => {
                let again = match attempt {
                    0 | 1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                let word = if *undo { "undoes" } else { "begins" };
                format!("{}: {word} {}{again}", plan, self.step(plan, *step))
            }
            JournalEntry::StepDone {
                plan,
                step,
                undo,
                took,
                note,
            } => {
                let word = if *undo { "undone" } else { "done" };
                let took = span(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                let done = styled(GOOD, format_args!("{word} in {took}"));
                format!(
                    "{plan}: {} {done}{}",
                    self.step(plan, *step),
                    dim_note(note)
                )
            }
            JournalEntry::StepFailed {
                plan,
                step,
                undo,
                failure,
            } => {
                let word = if *undo { "undo failed" } else { "failed" };
                let failed = styled(BAD, format_args!("{word}: {failure}"));
                format!("{plan}: {} {failed}", self.step(plan, *step))
            }
            JournalEntry::PlanEnded { plan, end } => {
                let style = match end {
                    PlanEnd::Completed => GOOD,
                    PlanEnd::Undone { .. } | PlanEnd::Superseded { .. } => WARN,
                    PlanEnd::NeedsHuman { .. } => BAD,
                };
                format!("{plan}: {}", styled(style, end))
            }
            JournalEntry::Remark { text } => text.clone(),
        };
        format!("{} {what}", styled(DIM, moment(line.at)))
    }

    /// A step in words; by its number when its plan is in a file that is gone.
    fn step(&self, plan: &PlanId, index: usize) -> String {
        let step = self.plans.get(plan).and_then(|plan| plan.steps.get(index));
        match step {
            Some(step) => format!("[{}] {}", index + 1, step.kind()),
            None => format!("[{}]", index + 1),
        }
    }
}

fn dim_note(note: &str) -> String {
    match note {
        "" => String::new(),
        note => styled(DIM, format_args!(" ({note})")),
    }
}

fn planned(plan: &Plan, evidence: &[String]) -> String {
    let title = styled(BOLD, format_args!("{}: {}", plan.id, plan.kind));
    let mut text = format!("{title}, epoch {}, because {}", plan.epoch, plan.cause);
    for seen in evidence {
        text.push_str(&format!("\n{:25}seen: {seen}", ""));
    }
    for (number, step) in (1..).zip(&plan.steps) {
        text.push_str(&format!("\n{:25}[{number}] {step}", ""));
    }
    text
}

fn plan_of(entry: &JournalEntry) -> Option<&PlanId> {
    match entry {
        JournalEntry::Planned { plan, .. } => Some(&plan.id),
        JournalEntry::StepStarted { plan, .. }
        | JournalEntry::StepDone { plan, .. }
        | JournalEntry::StepFailed { plan, .. }
        | JournalEntry::PlanEnded { plan, .. } => Some(plan),
        JournalEntry::AgentStarted { .. }
        | JournalEntry::AgentStopped
        | JournalEntry::Remark { .. } => None,
    }
}

fn moment(at: Timestamp) -> String {
    at.to_string()
}
