//! `agent failover`: asks the agent to move the primary, and shows every step of it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::follow::{Follow, Outcome, StepNews};
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use super::socket::SocketError;
use super::status::{state_words, step_note, step_time};
use crate::model::peer::StepState;
use crate::model::{Member, SiteName};
use crate::runtime::status::Snapshot;
use crate::surfaces::api::operator::{FailoverAnswer, SitePlan};

/// Nothing was shown for this long: say what is being waited for.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// An agent that does not answer any more is asked again for this long.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Move the primary to the other site, with the same safety rules as the agent's own decisions.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to; the site that is not the recorded primary if left out.
    #[arg(long, value_name = "SITE")]
    to: Option<String>,
    /// Only print the exact plan; nothing changes.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; needed where there is no terminal.
    #[arg(long)]
    yes: bool,
    /// How many seconds to follow it at most; the agents go on without us.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
    #[command(flatten)]
    socket: SocketArgument,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    result: &'static str,
    to: &'a SiteName,
    /// When the record named the new primary, in milliseconds since the wish.
    moved_ms: Option<i64>,
    why: Option<&'a str>,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let agent = LocalAgent::of(context, &arguments.socket)?;
    let json = context.global.json;
    let before = agent.status().await?;
    let to = match &arguments.to {
        Some(to) => SiteName::new(to),
        None => other_site(&before)?,
    };
    let preview = agent.failover(&to, true).await?;
    if let FailoverAnswer::Refused { reasons } = &preview {
        return refused(json, &preview, &to, reasons);
    }
    if arguments.dry_run {
        match json {
            true => output::json_pretty(&preview)?,
            false => show_preview(&preview, &to)?,
        }
        return Ok(Exit::Fine);
    }
    if !json {
        show_preview(&preview, &to)?;
    }
    if !arguments.yes && !confirmed(&to)? {
        return Err(Failure::text(
            Exit::Failed,
            "not confirmed; nothing changed",
        ));
    }
    let before = agent.status().await?;
    let asked = agent.failover(&to, false).await;
    let answer = asked.map_err(|error| unanswered(error, &to))?;
    match &answer {
        FailoverAnswer::Refused { reasons } => return refused(json, &answer, &to, reasons),
        FailoverAnswer::MayHaveBegun { at, why } => return unknown(json, &answer, &to, at, why),
        FailoverAnswer::Started { .. }
        | FailoverAnswer::AskingForLease
        | FailoverAnswer::PassedOn { .. }
        | FailoverAnswer::WouldDo { .. } => {}
    }
    if json {
        output::json(&answer)?;
    }
    let follow = Follow::new(to.clone(), &before);
    let watch = Watch {
        agent,
        follow,
        json,
    };
    watch
        .run(Duration::from_secs(arguments.wait), before, &to)
        .await
}

/// The site that is not the recorded primary.
fn other_site(picture: &Snapshot) -> Result<SiteName, Failure> {
    let Some(record) = &picture.record else {
        let text = "no primary is recorded yet: say where to with --to";
        return Err(Failure::text(Exit::Usage, text));
    };
    if record.primary != picture.site {
        return Ok(picture.site.clone());
    }
    let peer = picture
        .members
        .iter()
        .find_map(|member| match &member.member {
            Member::Site(site) => Some(site.clone()),
            Member::Witness => None,
        });
    peer.ok_or_else(|| {
        Failure::text(
            Exit::Usage,
            "there is no other site: say where to with --to",
        )
    })
}

fn refused(
    json: bool,
    answer: &FailoverAnswer,
    to: &SiteName,
    reasons: &[String],
) -> Result<Exit, Failure> {
    if json {
        output::json(answer)?;
        return Ok(Exit::Refused);
    }
    let text = format!("failover to {to} is refused: {}", reasons.join("; "));
    Err(Failure::text(Exit::Refused, text))
}

/// It was passed on, and what became of it is not known.
fn unknown(
    json: bool,
    answer: &FailoverAnswer,
    to: &SiteName,
    at: &SiteName,
    why: &str,
) -> Result<Exit, Failure> {
    if json {
        output::json(answer)?;
        return Ok(Exit::Unknown);
    }
    let text = format!("site {at}'s agent did not say whether it took the command: {why}");
    Err(may_have_begun(to, &text))
}

/// The own agent did not answer: it may have taken the wish all the same.
fn unanswered(error: SocketError, to: &SiteName) -> Failure {
    match error {
        SocketError::TimedOut { .. }
        | SocketError::Broken { .. }
        | SocketError::NotUnderstood { .. } => may_have_begun(to, &error.to_string()),
        SocketError::Missing { .. }
        | SocketError::NobodyListens { .. }
        | SocketError::Denied { .. }
        | SocketError::Refused { .. } => error.into(),
    }
}

fn may_have_begun(to: &SiteName, why: &str) -> Failure {
    let text = format!("failover to {to} may have begun; see agent status ({why})");
    Failure::text(Exit::Unknown, text)
}

fn show_preview(preview: &FailoverAnswer, to: &SiteName) -> Result<(), Failure> {
    match preview {
        FailoverAnswer::WouldDo { plans } => show_plans(plans),
        FailoverAnswer::PassedOn { to: other } => output::line(format_args!(
            "the agent of {other} would move the primary to {to}"
        )),
        FailoverAnswer::Started { .. }
        | FailoverAnswer::AskingForLease
        | FailoverAnswer::MayHaveBegun { .. }
        | FailoverAnswer::Refused { .. } => Ok(()),
    }
}

pub(super) fn show_plans(plans: &[SitePlan]) -> Result<(), Failure> {
    for SitePlan { site, plan } in plans {
        let title = format!("at {site}: {}", plan.kind);
        output::line(format_args!(
            "{} (epoch {}, because {})",
            styled(BOLD, title),
            plan.epoch,
            plan.cause
        ))?;
        for (number, step) in (1..).zip(&plan.steps) {
            output::line(format_args!("  {number:>2}. {step}"))?;
        }
    }
    Ok(())
}

/// Asks on the terminal; without one there is nobody to ask.
fn confirmed(to: &SiteName) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let text = "there is no terminal to ask for confirmation on: say --yes";
        return Err(Failure::text(Exit::Usage, text));
    }
    let mut err = anstream::stderr();
    write!(err, "Move the primary to {to}? [y/N] ").ok();
    err.flush().ok();
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    Ok(read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Follows it until it is over.
struct Watch {
    agent: LocalAgent,
    follow: Follow,
    json: bool,
}

impl Watch {
    async fn run(
        mut self,
        wait: Duration,
        before: Snapshot,
        to: &SiteName,
    ) -> Result<Exit, Failure> {
        let mut picture = before;
        let watching = async {
            loop {
                let newer = tokio::time::timeout(SILENCE_MAX, self.next(&picture)).await;
                let Ok(newer) = newer else {
                    self.tell_waiting(&picture);
                    continue;
                };
                picture = newer;
                let (news, outcome) = self.follow.observe(&picture);
                for step in &news {
                    self.tell(step)?;
                }
                if let Some(outcome) = outcome {
                    return Ok::<_, Failure>(outcome);
                }
            }
        };
        let outcome = tokio::time::timeout(wait, watching).await;
        let moved_ms = self.follow.moved_after_ms();
        let (result, why, exit) = match outcome {
            Ok(outcome) => match outcome? {
                Outcome::Converged => ("moved", None, Exit::Fine),
                Outcome::Failed { why } => ("failed", Some(why), Exit::Failed),
            },
            Err(_) => {
                let why = format!(
                    "still waiting for {}; the agents go on by themselves, see agent status",
                    self.follow.waits_for(&picture)
                );
                match moved_ms {
                    Some(_) => ("moved", Some(why), Exit::Degraded),
                    None => ("unfinished", Some(why), Exit::Failed),
                }
            }
        };
        self.tell_end(
            &Ended {
                result,
                to,
                moved_ms,
                why: why.as_deref(),
            },
            exit,
        )
    }

    /// The next picture; an agent that does not answer is asked until it does.
    async fn next(&self, known: &Snapshot) -> Snapshot {
        loop {
            match self.agent.newer_than(known).await {
                Ok(newer) if newer.at > known.at => return newer,
                Ok(_) => {}
                Err(error) => {
                    output::note(styled(WARN, error));
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn tell(&self, step: &StepNews) -> Result<(), Failure> {
        if self.json {
            return output::json(step);
        }
        // What takes long is told as what is being waited for.
        if step.state == StepState::Running {
            return Ok(());
        }
        let (style, word) = state_words(step.state);
        let word = styled(style, format!("{word:<9}"));
        output::line(format_args!(
            "+{:>7}  {:<8} {word}{:>8}  {}",
            seconds(step.at_ms),
            step.site.as_str(),
            step_time(step.state, step.attempt, step.took_ms),
            step.kind
        ))?;
        match step_note(&step.note, step.retry_in_ms).as_str() {
            "" => Ok(()),
            note => output::line(styled(DIM, format_args!("{:37}{note}", ""))),
        }
    }

    fn tell_waiting(&self, picture: &Snapshot) {
        let waits = self.follow.waits_for(picture);
        output::note(styled(DIM, format_args!("waiting for {waits}")));
    }

    fn tell_end(&self, ended: &Ended<'_>, exit: Exit) -> Result<Exit, Failure> {
        if self.json {
            output::json(ended)?;
            return Ok(exit);
        }
        let (style, text) = match (ended.moved_ms, ended.why) {
            (Some(ms), None) => (
                GOOD,
                format!("the primary is at {} after {} s", ended.to, seconds(ms)),
            ),
            (Some(ms), Some(why)) => (
                WARN,
                format!(
                    "the primary is at {} after {} s; {why}",
                    ended.to,
                    seconds(ms)
                ),
            ),
            (None, why) => (BAD, why.unwrap_or("it did not move").to_owned()),
        };
        output::line(styled(style, text))?;
        Ok(exit)
    }
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
