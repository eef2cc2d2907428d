//! `agent witness`: the third vote.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::{Context, service, settings};
use crate::config::MemberRole;
use crate::runtime::{service as service_link, witness};

/// Run the witness: it votes and looks from a third place, and runs no step.
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) async fn run(context: &Context<'_>, _: &Arguments) -> Result<Exit, Failure> {
    let config = settings::load(context, MemberRole::Witness)?;
    let stop = CancellationToken::new();
    service::stop_at_signal(&stop)?;
    let started = witness::start(config, stop.clone()).await;
    let running = started.map_err(|error| Failure::new(Exit::Failed, error))?;
    service_link::accompany_witness(stop.clone());
    service::wait("witness", running, &stop).await
}
