//! `agent run`: the agent of one site.

use std::path::Path;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::{Context, service, settings};
use crate::config::MemberRole;
use crate::runtime::tasks::spawn_named;
use crate::runtime::{agent, recovery, service as service_link};
use crate::surfaces::api::local::LocalSocket;
use crate::surfaces::api::{operator, routing, tcp};

/// Run the agent of one site until it is told to stop. The database goes on without it.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) async fn run(context: &Context<'_>, _: &Arguments) -> Result<Exit, Failure> {
    let config = settings::load(context, MemberRole::Agent)?;
    let socket = config.socket.clone();
    let rhythm = config.lease.renew_every;
    let (objectives, last) = (config.objectives, recovery::kept(&config.state_dir));
    let (routing, ttl) = (
        config.own_site().and_then(|own| own.routing),
        config.lease.ttl,
    );
    let stop = CancellationToken::new();
    service::stop_at_signal(&stop)?;
    // As it is now: an upgrade replaces the file under a running agent.
    let program = Path::new("/proc/self/exe");
    let started = agent::start(config, program, stop.clone()).await;
    let (handle, running) = started.map_err(|error| Failure::new(Exit::Failed, error))?;
    let (status, desk) = (handle.status.clone(), handle.clone());
    // Nobody can ask an agent without a socket, but it fails over all the same (S16).
    match LocalSocket::bind(&socket) {
        Ok(socket) => {
            let (pictures, stop) = (handle.status.clone(), stop.clone());
            let recovered = recovery::watch(pictures, objectives, last, None, stop.clone());
            let serving = socket.serve(operator::router(handle, recovered), stop);
            spawn_named("operator socket", serving);
        }
        Err(error) => tracing::error!(%error, "no operator socket: going on without"),
    }
    if let Some(address) = routing {
        let router = routing::router(desk, ttl);
        spawn_named("routing", tcp::serve(address, router, stop.clone()));
    }
    service_link::accompany_agent(status, rhythm, stop.clone());
    service::wait("agent", running, &stop).await
}
