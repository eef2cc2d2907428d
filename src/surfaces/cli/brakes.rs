//! `agent ack`, `agent pause`, `agent resume`: what keeps the agents of both sites from acting by
//! themselves.

use std::time::Duration;

use anstyle::Style;
use clap::Args;

use super::Context;
use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::output::{self, GOOD, WARN, styled};
use crate::config;
use crate::model::brakes::{Brake, Braked, Conduct, span_words};
use crate::runtime::brake_status::BrakeStatus;
use crate::surfaces::api::brakes::{BrakeAnswer, BrakeQuestion};

/// What all three take.
#[derive(Debug, Args)]
struct Common {
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// Acknowledge the last automatic failovers: the next one is not held back by them any more.
#[derive(Debug, Args)]
pub(super) struct AckArguments {
    #[command(flatten)]
    common: Common,
}

/// Pause what the agents of both sites do by themselves: no failover, restart or take-over.
///
/// The lease is still renewed, commands by hand still work, and safety still holds: a site that
/// loses its lease still fences its node, and so does its guard.
///
/// To work on the agents, the network or the lease itself for longer than a lease lasts, add
/// --guard-off: the active site's lease does not run out then, and its node goes on although its
/// agent is stopped or cut off. The price: no other site can be made active, not even by hand,
/// before `agent resume`, which only that site's agent can carry out.
#[derive(Debug, Args)]
pub(super) struct PauseArguments {
    /// Resume by itself after this, e.g. 30m or 1h; without it somebody must resume.
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    length: Option<Duration>,
    /// Why, for everybody who looks at the status.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Let nothing fence the primary at the end of its lease either, which then has none.
    #[arg(long)]
    guard_off: bool,
    #[command(flatten)]
    common: Common,
}

/// Resume what was paused.
#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    #[command(flatten)]
    common: Common,
}

/// A longer pause is one without an end.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 86_400);

fn span(text: &str) -> Result<Duration, String> {
    let span = config::duration(text)?;
    match span {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        span if span > PAUSE_MAX => Err("at most 30d; without --for it has no end".to_owned()),
        span => Ok(span),
    }
}

pub(super) async fn ack(context: &Context<'_>, arguments: &AckArguments) -> Result<Exit, Failure> {
    ask(context, &arguments.common, Brake::Ack).await
}

pub(super) async fn pause(
    context: &Context<'_>,
    arguments: &PauseArguments,
) -> Result<Exit, Failure> {
    let change = Brake::Pause {
        length: arguments.length,
        reason: arguments.reason.clone(),
        guard_off: arguments.guard_off,
    };
    ask(context, &arguments.common, change).await
}

pub(super) async fn resume(
    context: &Context<'_>,
    arguments: &ResumeArguments,
) -> Result<Exit, Failure> {
    ask(context, &arguments.common, Brake::Resume).await
}

async fn ask(context: &Context<'_>, common: &Common, change: Brake) -> Result<Exit, Failure> {
    let agent = LocalAgent::of(context, &common.socket)?;
    let what = change.to_string();
    let by = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(context.env);
    let question = BrakeQuestion {
        change,
        by,
        dry_run: common.dry_run,
    };
    let answer = agent.brake(&question).await?;
    let json = context.global.json;
    if json {
        output::json_pretty(&answer)?;
    }
    match &answer {
        BrakeAnswer::Refused { .. } if json => Ok(Exit::Refused),
        BrakeAnswer::Refused { reasons } => {
            let text = format!("{what} is refused: {}", reasons.join("; "));
            Err(Failure::text(Exit::Refused, text))
        }
        BrakeAnswer::Done(_) | BrakeAnswer::WouldDo(_) if json => Ok(Exit::Fine),
        BrakeAnswer::Done(braked) => told(braked, ""),
        BrakeAnswer::WouldDo(braked) => told(braked, "nothing changed; it would be: "),
    }
}

fn told(braked: &Braked, before: &str) -> Result<Exit, Failure> {
    output::line(styled(GOOD, format_args!("{before}{}", braked.text)))?;
    Ok(Exit::Fine)
}

/// The brakes in the picture of `agent status`; nothing while none is on.
pub(super) fn lines(brakes: &BrakeStatus) -> String {
    let mut lines = String::new();
    let mut line = |title: &str, style: Style, words: &str| {
        lines.push_str(&format!("{title:<11}{}\n", styled(style, words)));
    };
    if brakes.mode == Conduct::Observe {
        let words = "observe: this agent looks and tells; it holds no lease and does nothing";
        line("mode", WARN, words);
    }
    if let Some(paused) = &brakes.paused {
        let reason = paused
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        let end = match paused.left_ms {
            Some(left) => format!("for another {}", span_words(Duration::from_millis(left))),
            None => "until agent resume".to_owned(),
        };
        let words = format!("by {} since {}{reason}, {end}", paused.by, paused.since);
        line("paused", WARN, &words);
    }
    if let Some(site) = &brakes.guard_off {
        let words = format!(
            "off at {site}: its lease does not run out, nothing fences its node, and no other site \
             can be made active; agent resume ends this"
        );
        line("guard", WARN, &words);
    }
    let Some(last) = brakes.last_failover else {
        return lines;
    };
    let window = span_words(Duration::from_millis(brakes.window_ms));
    let mut words = format!(
        "automatic: last {last}, {} of {} within {window}",
        brakes.failovers, brakes.failovers_max
    );
    if let Some(known) = &brakes.acknowledged {
        words.push_str(&format!("; acknowledged by {} at {}", known.by, known.at));
    }
    if let Some(left) = brakes.blocked_ms {
        let left = span_words(Duration::from_millis(left));
        words.push_str(&format!("; no other for {left} (agent ack)"));
    }
    line("failovers", Style::new(), &words);
    lines
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::model::brakes::Acknowledged;
    use crate::model::{SiteName, Timestamp};
    use crate::runtime::brake_status::PauseStatus;

    #[test]
    fn brakes_that_are_off_are_not_shown_and_those_that_are_on_say_who_and_how_long() {
        assert_eq!(lines(&BrakeStatus::default()), "");
        let brakes = BrakeStatus {
            mode: Conduct::Observe,
            paused: Some(PauseStatus {
                by: "ada (uid 7) at fra".to_owned(),
                since: Timestamp(0),
                reason: Some("upgrade".to_owned()),
                left_ms: Some(61_000),
            }),
            guard_off: Some(SiteName::new("fra")),
            blocked_ms: Some(3_600_000),
            failovers: 1,
            failovers_max: 3,
            window_ms: 86_400_000,
            last_failover: Some(Timestamp(0)),
            acknowledged: Some(Acknowledged {
                by: "bob at ams".to_owned(),
                at: Timestamp(1000),
            }),
        };
        let expected = "\
mode       observe: this agent looks and tells; it holds no lease and does nothing
paused     by ada (uid 7) at fra since 1970-01-01T00:00:00.000Z (upgrade), for another 1 min 1 s
guard      off at fra: its lease does not run out, nothing fences its node, and no other site can be \
made active; agent resume ends this
failovers  automatic: last 1970-01-01T00:00:00.000Z, 1 of 3 within 24 h 0 min; acknowledged by \
bob at ams at 1970-01-01T00:00:01.000Z; no other for 1 h 0 min (agent ack)
";
        assert_eq!(strip_str(&lines(&brakes)).to_string(), expected);
    }

    #[test]
    fn a_pause_has_a_length_or_no_end() {
        assert_eq!(span("90m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "0s", "90", "31d", "-1h", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
