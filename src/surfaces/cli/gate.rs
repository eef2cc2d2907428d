//! `agent gate`: before the server starts, whether and as what it may.

use clap::Args;

use super::exit::{Exit, Failure};
use super::output::{self, BAD, GOOD, WARN, styled};
use super::{Context, settings};
use crate::config::MemberRole;
use crate::runtime::gate::{self, Verdict};

/// Say whether the own node may start now: as primary only with the lease's word. For
/// `ExecStartPre=` of PostgreSQL's unit.
///
/// Without that word the node gets `standby.signal`, if it knows whom to follow; else it is
/// refused. Works without the agent and without the network.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    // The gate uses no secret, and PostgreSQL's unit should not have the agent's: a variable that
    // is missing there is no mistake of the settings.
    let env = |name: &str| {
        let known = (context.env)(name);
        known.or_else(|| Some("no secret is needed to open a gate".to_owned()))
    };
    let context = Context {
        global: context.global,
        env: &env,
    };
    let config = settings::load(&context, MemberRole::Agent)?;
    let Some(site) = config.own_site() else {
        return Err(Failure::text(Exit::Usage, "the settings name no own site"));
    };
    let verdict = gate::open(&config, site, arguments.dry_run).await;
    if context.global.json {
        output::json_pretty(&verdict)?;
    } else {
        tell(&verdict, arguments.dry_run)?;
    }
    Ok(match verdict {
        Verdict::Primary { .. } | Verdict::Standby | Verdict::MadeStandby { .. } => Exit::Fine,
        Verdict::Refused { .. } => Exit::Refused,
    })
}

fn tell(verdict: &Verdict, dry_run: bool) -> Result<(), Failure> {
    match verdict {
        Verdict::Primary { epoch, left_ms } => output::line(format_args!(
            "{}: this site holds the lease of epoch {epoch} for another {left_ms} ms",
            styled(GOOD, "may start as primary")
        )),
        Verdict::Standby => output::line(format_args!(
            "{}: it has standby.signal",
            styled(GOOD, "may start as a standby")
        )),
        Verdict::MadeStandby { why } => output::line(format_args!(
            "{}: {why}; standby.signal {}",
            styled(WARN, "may start as a standby only"),
            match dry_run {
                true => "would be written",
                false => "is written",
            }
        )),
        Verdict::Refused { why, hint } => {
            output::note(format_args!(
                "{}: {why}\n  {hint}",
                styled(BAD, "must not start")
            ));
            Ok(())
        }
    }
}
