//! `expect`: what the agent has done since the last `when`, and how it stands now.

use failover_agent::decision::brakes;
use failover_agent::decision::decide::Action;
use failover_agent::decision::diagnose;
use failover_agent::decision::state::Phase;
use failover_agent::model::diagnosis::{Diagnosis, Severity};
use failover_agent::model::event::Answer;
use failover_agent::model::journal::{JournalEntry, PlanEnd};
use failover_agent::model::lease::{ClusterRecord, LeaseCommand};
use failover_agent::model::plan::{Plan, PlanKind, Step};
use failover_agent::model::{ClusterName, PlanId};
use failover_agent::runtime::status;

use super::actions::step_kind;
use super::script::When;
use super::stage::Stage;

/// Whether an expectation holds; words that say nothing known are an error.
pub(crate) fn check(
    stage: &mut Stage,
    mark: usize,
    when: When,
    words: &[&str],
) -> Result<(), String> {
    match when {
        When::Now => {
            if holds(stage, mark, words)? {
                Ok(())
            } else {
                Err("does not hold".to_owned())
            }
        }
        When::By(until) => {
            let until = stage.zero + until;
            while !holds(stage, mark, words)? {
                if !stage.step_towards(until) {
                    return Err("did not come true in time".to_owned());
                }
            }
            Ok(())
        }
        When::NotUntil(until) => {
            let until = stage.zero + until;
            let mark = stage.log.len();
            while !holds(stage, mark, words)? {
                if !stage.step_towards(until) {
                    return Ok(());
                }
            }
            Err("came true".to_owned())
        }
    }
}

/// Whether the words are true right now.
fn holds(stage: &Stage, mark: usize, words: &[&str]) -> Result<bool, String> {
    let state = &stage.agent.state;
    let mut done = stage.log.iter().skip(mark).map(|(_, action)| action);
    Ok(match words {
        ["phase", name] => {
            let known = Phase::ALL.iter().any(|phase| phase.to_string() == *name);
            known_or(known, name)? && state.phase.to_string() == *name
        }
        ["diagnosis", name] => state.diagnoses.first() == Some(&diagnosis(name)?),
        ["also", name] => state.diagnoses.contains(&diagnosis(name)?),
        ["healthy"] => diagnose::row(*state.diagnoses.first().unwrap_or(&Diagnosis::Unknown))
            .is_some_and(|row| row.severity < Severity::Degraded),
        ["settled"] => {
            let (cluster, policy) = (ClusterName::new("test"), &stage.agent.policy);
            status::snapshot(&cluster, policy, state, Vec::new(), stage.clocks()).settled
        }
        ["no", rest @ ..] => !holds(stage, mark, rest)?,
        ["plan"] => planned(stage, mark).any(|_| true),
        ["plan", kind] => planned(stage, mark).any(|plan| plan_kind(kind) == Ok(plan.kind)),
        ["plan", kind, "ended", end] => {
            let kind = plan_kind(kind)?;
            ended(stage, kind).any(|known| end_name(known) == *end)
        }
        ["plan", kind, "because", cause @ ..] => {
            let (kind, cause) = (plan_kind(kind)?, cause.join(" "));
            planned(stage, mark).any(|plan| {
                plan.kind == kind && plan.cause.to_string().replace(':', "").contains(&cause)
            })
        }
        ["plan", kind, steps @ ..] => {
            let kind = plan_kind(kind)?;
            let steps: Result<Vec<_>, _> = steps.iter().map(|name| step_kind(name)).collect();
            let steps = steps?;
            planned(stage, mark).any(|plan| {
                plan.kind == kind && plan.steps.iter().map(Step::kind).eq(steps.iter().copied())
            })
        }
        ["plans", count] => count.parse() == Ok(planned(stage, mark).count()),
        ["run", name] => ran(done, name, false)?,
        ["undo", name] => ran(done, name, true)?,
        ["lease", "acquire"] => {
            done.any(|action| matches!(action, Action::Lease(LeaseCommand::Acquire)))
        }
        ["lease", "release", "to", to] => done.any(|action| {
            matches!(action, Action::Lease(LeaseCommand::Release { to: named })
                if named.as_ref().map_or("nobody", |site| site.as_str()) == *to)
        }),
        ["record", site, "promoting"] => kept(done, site, true),
        ["record", site] => kept(done, site, false),
        ["record"] => done.any(|action| matches!(action, Action::Lease(LeaseCommand::Keep(_)))),
        ["refusal", text @ ..] => {
            let text = text.join(" ");
            state
                .refusals
                .iter()
                .any(|refusal| plain(refusal).contains(&text))
        }
        ["answer", rest @ ..] => answered(done, rest)?,
        ["told", topic] => done.any(|action| {
            matches!(action, Action::Tell(telling)
                if telling.topic == *topic && telling.severity > Severity::Fine)
        }),
        ["stopped", text @ ..] => {
            let why = state.stopped.as_deref().unwrap_or_default();
            state.phase == Phase::Stopped && plain(why).contains(&text.join(" "))
        }
        ["node", how] => format!("{:?}", stage.own.how)
            .to_lowercase()
            .starts_with(how),
        _ => return braked(stage, mark, words),
    })
}

/// The same for the brakes.
fn braked(stage: &Stage, mark: usize, words: &[&str]) -> Result<bool, String> {
    let state = &stage.agent.state;
    Ok(match words {
        ["guard", "off"] => {
            let record = state.record.as_ref();
            record.and_then(ClusterRecord::pinned_to).is_some()
        }
        ["paused"] => brakes::is_paused(state, stage.clocks()),
        ["recorded", "failovers", count] => {
            let record = state.record.as_ref();
            count.parse() == Ok(record.map_or(0, |record| record.brakes.failovers.len()))
        }
        ["journalled", text @ ..] => {
            let text = text.join(" ");
            stage.journalled_since(mark).any(|entry| {
                matches!(entry, JournalEntry::Remark { text: said } if plain(said).contains(&text))
            })
        }
        _ => return Err(format!("unknown words: {}", words.join(" "))),
    })
}

/// Texts are compared without what separates words in a scenario file.
fn plain(text: &str) -> String {
    let spaced = text.replace([',', ':'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn known_or(known: bool, name: &str) -> Result<bool, String> {
    if known {
        Ok(true)
    } else {
        Err(format!("there is no {name}"))
    }
}

fn planned(stage: &Stage, mark: usize) -> impl Iterator<Item = &Plan> {
    stage
        .journalled_since(mark)
        .filter_map(|entry| match entry {
            JournalEntry::Planned { plan, .. } => Some(plan),
            _ => None,
        })
}

/// How plans of this kind have ended since time zero.
fn ended(stage: &Stage, kind: PlanKind) -> impl Iterator<Item = &PlanEnd> {
    let of_kind = move |id: &PlanId| {
        stage.agent.lines.iter().any(|line| {
            matches!(&line.entry, JournalEntry::Planned { plan, .. }
                if plan.id == *id && plan.kind == kind)
        })
    };
    stage
        .journalled_since(0)
        .filter_map(move |entry| match entry {
            JournalEntry::PlanEnded { plan, end } if of_kind(plan) => Some(end),
            _ => None,
        })
}

fn end_name(end: &PlanEnd) -> &'static str {
    match end {
        PlanEnd::Completed => "completed",
        PlanEnd::Undone { .. } => "undone",
        PlanEnd::Superseded { .. } => "superseded",
        PlanEnd::NeedsHuman { .. } => "needs_human",
    }
}

fn plan_kind(name: &str) -> Result<PlanKind, String> {
    [
        PlanKind::GiveUp,
        PlanKind::TakeOver,
        PlanKind::FinishTakeOver,
        PlanKind::Restart,
        PlanKind::Fence,
        PlanKind::Converge,
    ]
    .into_iter()
    .find(|kind| serde_json::to_value(kind).is_ok_and(|value| value == name))
    .ok_or_else(|| format!("there is no plan {name}"))
}

fn diagnosis(name: &str) -> Result<Diagnosis, String> {
    Diagnosis::ALL
        .into_iter()
        .find(|diagnosis| diagnosis.name() == name)
        .ok_or_else(|| format!("there is no diagnosis {name}"))
}

fn ran<'a>(
    mut done: impl Iterator<Item = &'a Action>,
    name: &str,
    undo: bool,
) -> Result<bool, String> {
    let kind = step_kind(name)?;
    Ok(done.any(|action| {
        matches!(action, Action::Run(order) if order.what.kind() == kind && order.undo == undo)
    }))
}

fn kept<'a>(mut done: impl Iterator<Item = &'a Action>, site: &str, promoting: bool) -> bool {
    done.any(|action| {
        matches!(action, Action::Lease(LeaseCommand::Keep(record))
            if record.primary.as_str() == site && record.promoting == promoting)
    })
}

fn answered<'a>(
    mut done: impl Iterator<Item = &'a Action>,
    words: &[&str],
) -> Result<bool, String> {
    let Some(answer) = done.find_map(|action| match action {
        Action::Answer { answer, .. } => Some(answer),
        _ => None,
    }) else {
        return Ok(false);
    };
    Ok(match (words, answer) {
        (["started"], Answer::Started { .. })
        | (["asking"], Answer::AskingForLease)
        | (["noted"], Answer::Noted)
        | (["passed", "on"], Answer::PassedOn { .. }) => true,
        (["files", "of", site, "epoch", number], Answer::FilesMayChange { primary, epoch }) => {
            primary.as_str() == *site && epoch.to_string() == *number
        }
        (["refused", text @ ..], Answer::Refused { reasons }) => {
            plain(&reasons.join("; ")).contains(&text.join(" "))
        }
        (["braked", text @ ..], Answer::Braked(braked)) => {
            !braked.dry_run && plain(&braked.text).contains(&text.join(" "))
        }
        (["would", "brake", text @ ..], Answer::Braked(braked)) => {
            braked.dry_run && plain(&braked.text).contains(&text.join(" "))
        }
        (["would", "do", sites @ ..], Answer::WouldDo { plans }) => plans
            .iter()
            .map(|(site, _)| site.as_str())
            .eq(sites.iter().copied()),
        (
            [
                "started" | "asking" | "noted" | "files" | "passed" | "refused" | "would"
                | "braked",
                ..,
            ],
            _,
        ) => false,
        _ => return Err(format!("unknown answer: {}", words.join(" "))),
    })
}
