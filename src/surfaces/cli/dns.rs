//! `agent dns`: how records are at their providers, what the world sees of them, and putting them
//! right.

use clap::{Args, Subcommand};

use super::Context;
use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::failover::show_plans;
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use crate::model::dns::{DnsKept, DnsPlanned, DnsVerified, Drift, Heard, ServerAnswer, ServerKind};
use crate::model::edge::EdgeHeard;
use crate::surfaces::api::dns::{DnsAnswer, DnsQuestion};

/// See how DNS records are at their providers and in the world, or put them right.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show each record as its provider has it, as it should be, and what would change.
    ///
    /// Ends with 5 when one differs, or its provider does not answer.
    Plan {
        #[command(flatten)]
        which: Which,
    },
    /// Put records right that somebody else changed, and files with them.
    ///
    /// The active agent does it, by the same plan as after a move and under its epoch; it tries
    /// until it is done. A record that a newer epoch has moved is left alone.
    Apply {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Ask the provider, every authoritative server of the zone, and resolvers; what is proxied,
    /// through the provider's edge.
    ///
    /// Ends with 0 when all of them have it, with 5 when one has not or does not answer.
    Verify {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// The record's name in the settings; all of them if left out.
    name: Option<String>,
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (question, socket) = match &arguments.what {
        What::Plan { which } => {
            let name = which.name.clone();
            (DnsQuestion::Plan { name }, &which.socket)
        }
        What::Verify { which } => {
            let name = which.name.clone();
            (DnsQuestion::Verify { name }, &which.socket)
        }
        What::Apply { dry_run, socket } => (DnsQuestion::Apply { dry_run: *dry_run }, socket),
    };
    let agent = LocalAgent::of(context, socket)?;
    let answer = agent.dns(&question).await?;
    let json = context.global.json;
    if json {
        output::json_pretty(&answer)?;
    }
    match &answer {
        DnsAnswer::Refused { .. } if json => Ok(Exit::Refused),
        DnsAnswer::Refused { reasons } => {
            let text = format!("dns apply is refused: {}", reasons.join("; "));
            Err(Failure::text(Exit::Refused, text))
        }
        DnsAnswer::Planned { records } => {
            if !json {
                tell(records, planned)?;
            }
            let right = |it: &DnsPlanned| matches!(&it.provider, Ok(kept) if kept.drift.is_none());
            Ok(verdict(records.iter().all(right)))
        }
        DnsAnswer::Verified { records } => {
            if !json {
                tell(records, verified)?;
            }
            Ok(verdict(records.iter().all(DnsVerified::is_everywhere)))
        }
        DnsAnswer::Started { plan } => {
            if !json {
                output::line(format_args!("plan {plan} begins; `agent status` shows it"))?;
            }
            Ok(Exit::Fine)
        }
        DnsAnswer::WouldDo { plans } => {
            if !json {
                show_plans(plans)?;
            }
            Ok(Exit::Fine)
        }
    }
}

fn verdict(all_right: bool) -> Exit {
    match all_right {
        true => Exit::Fine,
        false => Exit::Degraded,
    }
}

fn tell<T>(records: &[T], lines: fn(&T) -> Vec<String>) -> Result<(), Failure> {
    if records.is_empty() {
        return output::line("there is no [[dns]] record in the settings");
    }
    for line in records.iter().flat_map(lines) {
        output::line(line)?;
    }
    Ok(())
}

/// What the provider has, and what would change.
fn planned(it: &DnsPlanned) -> Vec<String> {
    let wanted = it.wanted.join(", ");
    let mut lines = vec![format!(
        "{}: {} {} should be {wanted} under epoch {}",
        styled(BOLD, &it.name),
        it.record,
        it.kind,
        it.epoch
    )];
    lines.push(match &it.provider {
        Err(why) => format!("  provider   {}", styled(BAD, why)),
        Ok(kept) => {
            let (style, change) = change(kept, &wanted);
            let values = match kept.values.as_slice() {
                [] => "nothing".to_owned(),
                values => values.join(", "),
            };
            format!(
                "  provider   {values}{}; {}",
                details(kept),
                styled(style, change)
            )
        }
    });
    lines
}

fn details(kept: &DnsKept) -> String {
    match (kept.proxied, kept.ttl_s) {
        (true, _) => " (proxied)".to_owned(),
        (false, Some(ttl_s)) => format!(" ({ttl_s} s)"),
        (false, None) => String::new(),
    }
}

fn change(kept: &DnsKept, wanted: &str) -> (anstyle::Style, String) {
    match &kept.drift {
        None => (GOOD, "nothing would change".to_owned()),
        Some(Drift::Moved { .. }) => (WARN, format!("would be changed to {wanted}")),
        Some(Drift::Unmarked) => (WARN, "its epoch would be written beside it".to_owned()),
        Some(drift @ (Drift::Unclear { .. } | Drift::Newer { .. } | Drift::Proxy { .. })) => {
            (BAD, format!("would be left alone: {drift}"))
        }
    }
}

/// The same, and every server.
fn verified(it: &DnsVerified) -> Vec<String> {
    let mut lines = planned(&it.planned);
    if let Some(edge) = &it.edge {
        let style = match edge.heard {
            EdgeHeard::Wanted { .. } => GOOD,
            EdgeHeard::OtherSite { .. } | EdgeHeard::Remembered { .. } => WARN,
            EdgeHeard::Unmarked { .. }
            | EdgeHeard::PastEdge { .. }
            | EdgeHeard::Status { .. }
            | EdgeHeard::Silent { .. } => BAD,
        };
        let heard = styled(style, &edge.heard);
        lines.push(format!("  edge       {} from here: {heard}", edge.url));
    }
    let Some(view) = &it.view else {
        if it.edge.is_none() {
            let words = "proxied: clients see the provider's own addresses, so DNS shows nothing \
                         of it; edge_check would";
            lines.push(format!("  outside    {}", styled(DIM, words)));
        }
        return lines;
    };
    for answer in &view.servers {
        lines.push(server(answer));
    }
    let whole = view.share(ServerKind::Authoritative).is_whole();
    let old = match it.old_until {
        Some(until) if whole => format!("; old answers may live until {until}"),
        // A server still gives them out.
        Some(until) => format!("; old answers live until {until} at least"),
        None => String::new(),
    };
    let style = match view.is_everywhere() {
        true => GOOD,
        false => WARN,
    };
    lines.push(format!("  has it     {}{old}", styled(style, view.words())));
    lines
}

fn server(answer: &ServerAnswer) -> String {
    let title = match answer.kind {
        ServerKind::Authoritative => "server",
        ServerKind::Resolver => "resolver",
    };
    let style = match &answer.heard {
        Heard::Wanted { .. } => GOOD,
        Heard::Unaskable { .. } => DIM,
        Heard::Other { .. } | Heard::Absent { .. } | Heard::Alias { .. } => WARN,
        Heard::Refused { .. } | Heard::Silent { .. } => BAD,
    };
    let name = answer.name.as_ref();
    let name = name.map_or_else(String::new, |name| format!("{name} "));
    let heard = styled(style, &answer.heard);
    format!("  {title:<10} {name}{}: {heard}", answer.server)
}
