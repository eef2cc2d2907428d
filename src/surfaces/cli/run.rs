//! `agent run`: the agent of one site.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::service::{self, Ending};
use super::{Context, settings};
use crate::config::MemberRole;
use crate::runtime::agent;
use crate::runtime::tasks::spawn_named;
use crate::surfaces::api::local::LocalSocket;
use crate::surfaces::api::operator;

/// Run the agent of one site, until it is told to stop. The database goes on without it.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) async fn run(context: &Context<'_>, _arguments: &Arguments) -> Result<Exit, Failure> {
    let config = settings::load(context, MemberRole::Agent)?;
    let socket_path = config.socket.clone();
    let stop = CancellationToken::new();
    let _signals = service::stop_at_signal(&stop)?;
    let (handle, running) = agent::start(config, stop.clone())
        .await
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    // The operator's socket may be missing, the agent may not (S16): it fails over all the same.
    match LocalSocket::bind(&socket_path) {
        Ok(socket) => {
            let router = operator::router(handle);
            spawn_named("operator socket", socket.serve(router, stop.clone()));
        }
        Err(error) => tracing::error!(%error, "no operator socket: the agent runs without"),
    }
    service::run(running, &stop, Ending::Agent).await
}
