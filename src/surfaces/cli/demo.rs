//! `agent demo`: a failover between two real PostgreSQL servers, on this machine, in half a minute.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use clap::{Args, builder::PossibleValue};

use super::Context;
use super::exit::{Exit, Failure};
use super::output;
use crate::surfaces::demo::{self, DemoError, DnsServer, Listener, Options, Scenario};

/// Show a failover between two real PostgreSQL servers on this machine, and measure it.
///
/// Everything is made in a temporary directory and removed again. As root, PostgreSQL runs as
/// another user.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to break.
    #[arg(long, value_name = "NAME", default_value = "postmaster-kill", value_parser = scenarios())]
    scenario: Scenario,
    /// Who serves the name that follows the primary: a stand-in for Cloudflare's API, or a real
    /// BIND, with a client that resolves the name for each connection.
    #[arg(long, value_name = "NAME", default_value = "cloudflare", value_parser = dns_servers())]
    dns: DnsServer,
    /// Where PostgreSQL's programs are; looked for in the usual places if left out.
    #[arg(long, value_name = "DIRECTORY")]
    pg_bin: Option<PathBuf>,
    /// As whom PostgreSQL runs when this runs as root [default: postgres].
    #[arg(long, value_name = "USER")]
    pg_user: Option<String>,
    /// Keep the directory with all settings, journals and logs.
    #[arg(long)]
    keep: bool,
}

/// The scenarios by name, with what each does.
fn scenarios() -> impl clap::builder::TypedValueParser<Value = Scenario> {
    let values = Scenario::ALL.map(|scenario| {
        PossibleValue::new(scenario.name()).help(match scenario {
            Scenario::PostmasterKill => "kill -9 of the primary's postmaster",
            Scenario::SiteLoss => "kill -9 of the agent and of its whole database",
            Scenario::Hang => "freeze the primary (SIGSTOP)",
            Scenario::None => "break nothing; keep it running and say how to poke it",
        })
    });
    PossibleValuesParser::new(values).try_map(|name| {
        let mut all = Scenario::ALL.into_iter();
        all.find(|scenario| scenario.name() == name)
            .ok_or("no such scenario")
    })
}

fn dns_servers() -> impl clap::builder::TypedValueParser<Value = DnsServer> {
    PossibleValuesParser::new(DnsServer::ALL.map(DnsServer::name)).try_map(|name| {
        let mut all = DnsServer::ALL.into_iter();
        all.find(|server| server.name() == name)
            .ok_or("no such server")
    })
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let json = context.global.json;
    let options = Options {
        scenario: arguments.scenario,
        dns: arguments.dns,
        pg_bin: arguments.pg_bin.clone(),
        pg_user: arguments.pg_user.clone(),
        keep: arguments.keep,
    };
    // Standard output belongs to the one JSON object. That nobody listens stops nothing.
    let listener: Listener = match json {
        true => Arc::new(|text| output::note(text)),
        false => Arc::new(|text| drop(output::line(text))),
    };
    let report = match demo::run(&options, listener).await {
        Ok(report) => report,
        Err(error @ (DemoError::NoPostgres { .. } | DemoError::NoBind { .. })) => {
            return Err(Failure::new(Exit::Usage, error));
        }
        Err(error) => return Err(Failure::new(Exit::Failed, error)),
    };
    let Some(report) = report else {
        return Ok(Exit::Fine);
    };
    if json {
        output::json_pretty(&report)?;
    }
    match report.problems.is_empty() {
        true => Ok(Exit::Fine),
        // The object has them already, and there must be only one.
        false if json => Ok(Exit::Failed),
        false => Err(Failure::text(Exit::Failed, report.problems.join("; "))),
    }
}
