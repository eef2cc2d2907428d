//! `agent status`: what the agent sees, what it would do, and why it does not.

use std::fmt::Write as _;

use anstyle::Style;
use clap::Args;

use super::Context;
use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use crate::model::diagnosis::Severity;
use crate::model::peer::{Progress, StepState};
use crate::model::situation::Reach;
use crate::runtime::status::{self, MemberStatus, Snapshot};

/// Show what the agent sees, what it would do, and why it does not.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let agent = LocalAgent::of(context, &arguments.socket)?;
    let picture = agent.status().await?;
    if context.global.json {
        output::json_pretty(&picture)?;
    } else {
        output::print(render(&picture))?;
    }
    Ok(verdict(&picture))
}

/// Degraded when anything is wrong by name, or this site neither is active nor knows who is.
fn verdict(picture: &Snapshot) -> Exit {
    let wrong = picture
        .diagnoses
        .iter()
        .any(|diagnosis| diagnosis.severity >= Severity::Degraded);
    match wrong || !status::is_serving(picture) {
        true => Exit::Degraded,
        false => Exit::Fine,
    }
}

/// The whole picture for people.
fn render(picture: &Snapshot) -> String {
    let mut text = String::new();
    head(&mut text, picture);
    mind(&mut text, picture);
    members(&mut text, picture);
    targets(&mut text, picture);
    for (title, run) in [
        ("running plan", &picture.run),
        ("last plan", &picture.last_run),
    ] {
        if let Some(run) = run {
            let age = span(millis_between(run.begun.0, picture.at.0));
            push(&mut text, format_args!("\n{}", styled(BOLD, title)));
            push(&mut text, format_args!(" begun {age} ago\n{}", plan(run)));
        }
    }
    if !picture.counters.is_empty() {
        push(&mut text, format_args!("\n{}\n", styled(BOLD, "counted")));
    }
    for counter in &picture.counters {
        let (count, name) = (counter.count, &counter.name);
        push(&mut text, format_args!("  {count:>6} {name}\n"));
    }
    text
}

fn head(text: &mut String, picture: &Snapshot) {
    let (style, role) = match (picture.active, &picture.stopped) {
        (_, Some(_)) => (BAD, "stopped".to_owned()),
        (true, None) => (GOOD, "active".to_owned()),
        (false, None) => (BOLD, picture.phase.clone()),
    };
    push(
        text,
        format_args!(
            "cluster {}, site {}: {}, epoch {} (agent {}, {})\n",
            styled(BOLD, &picture.cluster),
            styled(BOLD, &picture.site),
            styled(style, role),
            picture.lease.epoch,
            picture.version,
            picture.at,
        ),
    );
    if let Some(why) = &picture.stopped {
        push(text, format_args!("  {}\n", styled(BAD, why)));
    }
    let lease = &picture.lease;
    let holder = match &lease.holder {
        Some(holder) => format!("{}: {holder}", lease.view),
        None => lease.view.clone(),
    };
    let countdown = lease.fence_in_ms.map_or_else(String::new, |left| {
        format!("; the node is fenced in {} unless renewed", span(left))
    });
    let reached: Vec<_> = lease.reached.iter().map(ToString::to_string).collect();
    push(
        text,
        format_args!(
            "lease      {holder}{countdown}; voters reached: {}\n",
            match reached.is_empty() {
                true => "none".to_owned(),
                false => reached.join(", "),
            }
        ),
    );
    push(
        text,
        format_args!("           {}\n", styled(DIM, &lease.words)),
    );
    let record = match &picture.record {
        None => "not recorded yet".to_owned(),
        Some(record) => format!(
            "{}{}, timeline {}, {} (recorded under epoch {})",
            record.primary,
            if record.promoting {
                ", being promoted"
            } else {
                ""
            },
            record.timeline,
            record.last_lsn,
            record.epoch,
        ),
    };
    push(text, format_args!("primary    {record}\n"));
}

/// The three questions: what I see, what I would do, why I do not.
fn mind(text: &mut String, picture: &Snapshot) {
    for (number, diagnosis) in picture.diagnoses.iter().enumerate() {
        let title = if number == 0 { "I see" } else { "" };
        let name = styled(severity_style(diagnosis.severity), diagnosis.name);
        push(
            text,
            format_args!("{title:<11}{name}: {}\n", diagnosis.sentence),
        );
    }
    push(text, format_args!("I would    {}\n", picture.would_do));
    for (number, refusal) in picture.refusals.iter().enumerate() {
        let title = if number == 0 { "I do not" } else { "" };
        push(text, format_args!("{title:<11}{}\n", styled(WARN, refusal)));
    }
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Fine => GOOD,
        Severity::Unclear => DIM,
        Severity::Degraded => WARN,
        Severity::Outage | Severity::Danger => BAD,
    }
}

fn members(text: &mut String, picture: &Snapshot) {
    push(text, format_args!("\n{}\n", styled(BOLD, "members")));
    for member in &picture.members {
        let (style, reach) = match member.reach {
            Reach::Answers => (GOOD, "answers"),
            Reach::Silent => (BAD, "silent"),
            Reach::Unknown => (DIM, "not known yet"),
            Reach::Absent => (DIM, "absent"),
        };
        let name = member.member.to_string();
        push(
            text,
            format_args!("  {name:<9}{}{}\n", styled(style, reach), details(member)),
        );
        if let Some(doing) = member.doing.as_ref().filter(|doing| doing.ended.is_none()) {
            push(text, format_args!("{}", plan(doing)));
        }
    }
}

/// Clocks that differ by less are not worth a word.
const CLOCK_WORTH_TELLING_MS: u64 = 1000;

fn details(member: &MemberStatus) -> String {
    let mut details = String::new();
    if member.active {
        details.push_str(", active");
    }
    if let Some(heard) = member.heard_ms_ago {
        push(&mut details, format_args!(", heard {} ago", span(heard)));
    }
    if let Some(version) = &member.version {
        push(&mut details, format_args!(", agent {version}"));
    }
    let ahead = member.clock_ahead_ms.unwrap_or(0);
    if ahead.unsigned_abs() >= CLOCK_WORTH_TELLING_MS {
        let off = span(ahead.unsigned_abs());
        let side = if ahead > 0 { "behind" } else { "ahead of" };
        let words = format!(", its clock is {off} {side} ours");
        details.push_str(&styled(WARN, words));
    }
    details
}

fn targets(text: &mut String, picture: &Snapshot) {
    push(text, format_args!("\n{}\n", styled(BOLD, "targets")));
    let name_width = picture
        .targets
        .iter()
        .map(|target| target.target.chars().count())
        .max()
        .unwrap_or(0);
    for target in &picture.targets {
        let style = match target.condition.as_str() {
            "up" => GOOD,
            "down" => BAD,
            _ => DIM,
        };
        let condition = format!("{:<8}", target.condition);
        push(
            text,
            format_args!(
                "  {}{:<name_width$}  {} ({} ago)\n",
                styled(style, condition),
                target.target,
                target.seen,
                span(target.seen_ms_ago),
            ),
        );
    }
}

/// A plan with the state of each step.
fn plan(run: &Progress) -> String {
    let mut text = format!(
        "  {} {}, epoch {}, because {}",
        run.plan,
        kind_words(run),
        run.epoch,
        run.cause
    );
    match &run.ended {
        Some(end) => push(&mut text, format_args!(": {end}\n")),
        None => text.push('\n'),
    }
    for step in &run.steps {
        let (style, word) = state_words(step.state);
        let took = match step.started {
            Some(_) => span(step.took_ms),
            None => String::new(),
        };
        let word = format!("{word:<9}");
        push(
            &mut text,
            format_args!("    {}{took:>8}  {}\n", styled(style, word), step.step),
        );
        if !step.note.is_empty() {
            push(
                &mut text,
                format_args!("    {:<19}{}\n", "", styled(DIM, &step.note)),
            );
        }
    }
    text
}

fn kind_words(run: &Progress) -> String {
    run.kind.to_string()
}

/// A step's state in one word.
pub(super) fn state_words(state: StepState) -> (Style, &'static str) {
    match state {
        StepState::Waiting => (DIM, "waiting"),
        StepState::Running => (BOLD, "running"),
        StepState::Done => (GOOD, "done"),
        StepState::Retrying => (WARN, "retrying"),
        StepState::Failed => (BAD, "failed"),
        StepState::Undone => (WARN, "undone"),
    }
}

/// A span in the unit that people would choose.
pub(super) fn span(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
        _ => format!(
            "{} h {} min",
            millis / 3_600_000,
            millis % 3_600_000 / 60_000
        ),
    }
}

fn millis_between(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(0)
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}
