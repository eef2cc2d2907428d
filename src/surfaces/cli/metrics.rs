//! `agent metrics`: the newest picture for a monitoring system.

use clap::Args;

use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::surfaces::metrics;

/// Print what the local agent sees as metrics, in the text format of Prometheus.
///
/// For node_exporter's textfile collector:
///   agent metrics > agent.prom.new && mv agent.prom.new agent.prom
/// Let somebody be called when agent_guard_at_work or agent_watchdog_usable is 0, and when
/// agent_picture_timestamp_seconds is old: of a dead agent the last file stays.
/// The same is answered to GET /metrics on the agent's socket.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let picture = LocalAgent::of(context, &arguments.socket)?.status().await?;
    if context.global.json {
        output::json_pretty(&metrics::samples(&picture))?;
    } else {
        output::print(metrics::exposition(&picture))?;
    }
    Ok(Exit::Fine)
}
