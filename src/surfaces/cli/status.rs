//! `agent status`: what the agent sees, what it would do, and why it does not.

mod upstreams;

use std::fmt::Write as _;

use anstyle::Style;
use clap::Args;

use super::Context;
use super::ask::{LocalAgent, SocketArgument};
use super::brakes;
use super::exit::{Exit, Failure};
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use crate::model::Timestamp;
use crate::model::brakes::Conduct;
use crate::model::diagnosis::Severity;
use crate::model::peer::{Progress, StepState};
use crate::model::situation::Reach;
use crate::runtime::recovery::Recovery;
use crate::runtime::status::{self, CounterKind, MemberStatus, Snapshot};
use crate::surfaces::api::operator::StatusAnswer;

/// Show what the agent sees, what it would do, and why it does not.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let agent = LocalAgent::of(context, &arguments.socket)?;
    let answer = agent.look().await?;
    match context.global.json {
        true => output::json_pretty(&answer)?,
        false => output::print(render(&answer))?,
    }
    Ok(verdict(&answer.picture))
}

/// Degraded when anything is wrong by name, or this site neither is active nor knows who is.
fn verdict(picture: &Snapshot) -> Exit {
    let wrong = picture
        .diagnoses
        .iter()
        .any(|diagnosis| diagnosis.severity >= Severity::Degraded);
    let drifted = picture.dns.iter().any(|record| record.drift.is_some());
    let mut providers = picture.dns_providers.iter();
    let refused = providers.any(|it| it.trouble.as_ref().is_some_and(|it| it.refused));
    // A pause is asked for, but a forgotten one is an outage that waits.
    match wrong
        || drifted
        || refused
        || picture.brakes.paused.is_some()
        || !status::is_serving(picture)
    {
        true => Exit::Degraded,
        false => Exit::Fine,
    }
}

/// The whole picture for people.
fn render(answer: &StatusAnswer) -> String {
    let picture = &answer.picture;
    let mut text = String::new();
    head(&mut text, picture);
    mind(&mut text, picture);
    members(&mut text, picture);
    targets(&mut text, picture);
    upstreams::lines(&mut text, &picture.upstreams);
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
    if let Some(recovery) = &answer.last_recovery {
        recovered(&mut text, recovery, picture.at);
    }
    if !picture.counters.is_empty() {
        push(&mut text, format_args!("\n{}\n", styled(BOLD, "counted")));
    }
    for counter in &picture.counters {
        let (count, name) = (counter.count, &counter.name);
        let what = match counter.kind {
            CounterKind::Event | CounterKind::Silence => "",
            CounterKind::LateLook => "late looks at ",
        };
        push(&mut text, format_args!("  {count:>6} {what}{name}\n"));
    }
    text
}

/// Files of apps that are not as they should be.
fn app_files(text: &mut String, picture: &Snapshot) {
    for app in picture.app_files.iter().filter(|app| app.drifted) {
        let words = styled(WARN, &app.words);
        push(text, format_args!("app files  {}: {words}\n", app.name));
    }
}

/// Who would fence, and in what time.
fn fences(text: &mut String, picture: &Snapshot) {
    if let Some(guard) = &picture.guard {
        let style = match guard.starts_with("at work") && !guard.contains("NO WATCHDOG") {
            true => DIM,
            false => WARN,
        };
        push(text, format_args!("guard      {}\n", styled(style, guard)));
    }
    if let Some(fence) = &picture.fence {
        let style = if fence.contains("MORE") { WARN } else { DIM };
        push(text, format_args!("fence      {}\n", styled(style, fence)));
    }
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
    fences(text, picture);
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
    app_files(text, picture);
    records(text, picture);
    text.push_str(&brakes::lines(&picture.brakes));
}

/// The DNS records that this agent keeps, and whether each could be moved from here.
fn records(text: &mut String, picture: &Snapshot) {
    for (number, dns) in picture.dns.iter().enumerate() {
        let title = if number == 0 { "dns" } else { "" };
        let style = match dns.drift.is_some() || dns.unlooked.is_some() {
            true => WARN,
            false => DIM,
        };
        let words = styled(style, dns.words());
        push(text, format_args!("{title:<10} {}: {words}\n", dns.name));
    }
    for (number, it) in picture.dns_providers.iter().enumerate() {
        let title = if number == 0 { "dns access" } else { "" };
        let style = match &it.trouble {
            Some(trouble) if trouble.refused => BAD,
            Some(_) => WARN,
            None => DIM,
        };
        let words = styled(style, it.words());
        push(text, format_args!("{title:<10} {}: {words}\n", it.name));
    }
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
    let would = match picture.brakes.mode {
        Conduct::Act => "I would    ",
        Conduct::Observe => "observe: I would ",
    };
    push(text, format_args!("{would}{}\n", picture.would_do));
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

/// What was measured when this site last got a working primary, and whether promises were kept.
fn recovered(text: &mut String, recovery: &Recovery, now: Timestamp) {
    let age = span(millis_between(recovery.at.0, now.0));
    let title = styled(BOLD, "last recovery");
    push(
        text,
        format_args!("\n{title} by {}, {age} ago\n", recovery.plan),
    );
    let style = match recovery.broke_a_promise() {
        true => WARN,
        false => Style::new(),
    };
    for line in &recovery.words {
        push(text, format_args!("  {}\n", styled(style, line)));
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
            Some(_) => step_time(step.state, step.attempt, step.took_ms),
            None => String::new(),
        };
        let word = format!("{word:<9}");
        push(
            &mut text,
            format_args!("    {}{took:>8}  {}\n", styled(style, word), step.step),
        );
        let note = step_note(&step.note, step.retry_in_ms);
        if !note.is_empty() {
            push(
                &mut text,
                format_args!("    {:<19}{}\n", "", styled(DIM, note)),
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

/// How long a step took. Of one that is tried again, which attempt it is: the time since the first
/// says nothing of it.
pub(super) fn step_time(state: StepState, attempt: u32, took_ms: u64) -> String {
    let again = match state {
        StepState::Retrying => attempt > 0,
        StepState::Running => attempt > 1,
        StepState::Waiting | StepState::Done | StepState::Failed | StepState::Undone => false,
    };
    match again {
        true => format!("try {attempt}"),
        false => span(took_ms),
    }
}

/// What a step learned or why it failed, and when it is tried again.
pub(super) fn step_note(note: &str, retry_in_ms: Option<u64>) -> String {
    let next = retry_in_ms.map(|left| match left {
        0 => "the next try is due".to_owned(),
        left => format!("next try in {}", span(left)),
    });
    match (note, next) {
        (note, None) => note.to_owned(),
        ("", Some(next)) => next,
        (note, Some(next)) => format!("{note}; {next}"),
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

#[cfg(test)]
mod tests;
