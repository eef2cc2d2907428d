//! What `run` and `witness` have in common: stop when told to, in order and in bounded time.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use crate::runtime::tasks::spawn_named;

/// From the signal to the end: below the 90 s after which systemd would kill.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Cancels `stop` at SIGTERM or SIGINT. The database is not told: it goes on.
pub(super) fn stop_at_signal(stop: &CancellationToken) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let stop = stop.clone();
    spawn_named("signals", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Waits for the end of what runs: asked for, or not.
pub(super) async fn wait(
    what: &str,
    mut running: JoinHandle<()>,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = stop.cancelled() => {
            let Ok(ended) = tokio::time::timeout(STOP_WAIT, &mut running).await else {
                let text = format!("the {what} did not stop within {STOP_WAIT:?}");
                return Err(Failure::text(Exit::Failed, text));
            };
            ended
        }
    };
    match ended {
        Ok(()) if stop.is_cancelled() => Ok(Exit::Fine),
        Ok(()) => Err(Failure::text(
            Exit::Failed,
            format!("the {what} ended by itself"),
        )),
        Err(error) => {
            let error = anyhow::Error::new(error).context(format!("the {what} ended by a bug"));
            Err(Failure::new(Exit::Failed, error))
        }
    }
}
