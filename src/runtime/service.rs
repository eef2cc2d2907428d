//! Tells systemd how this process is, from what it can see of it.
//!
//! An agent is alive as long as its decision loop publishes pictures, which it does at least once
//! in its rhythm: a picture that stays the same for half a watchdog interval is one of a loop that
//! hangs. The witness has no loop; its timer is its sign of life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::effects::systemd::Systemd;
use crate::runtime::status::Snapshot;
use crate::runtime::tasks::spawn_named;

/// How often the one line for people is looked at when there is no watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Says that an agent is ready, then how it is, until it is told to stop. `rhythm` is how often
/// its loop wakes at least.
pub fn accompany_agent(
    status: watch::Receiver<Arc<Snapshot>>,
    rhythm: Duration,
    stop: CancellationToken,
) {
    spawn_named(
        "service link",
        agent(Systemd::detect(), status, rhythm, stop),
    );
}

/// Says that a witness is ready, then that it lives, until it is told to stop.
pub fn accompany_witness(stop: CancellationToken) {
    spawn_named("service link", witness(Systemd::detect(), stop));
}

async fn agent(
    link: Systemd,
    mut status: watch::Receiver<Arc<Snapshot>>,
    rhythm: Duration,
    stop: CancellationToken,
) {
    let every = link.watchdog_interval().unwrap_or(LOOK_EVERY);
    let mut words = words(&status.borrow());
    link.ready(&words);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
        let lives = match status.has_changed() {
            Ok(changed) => changed || rhythm * 2 > every,
            // The loop has ended.
            Err(_) => false,
        };
        if lives {
            link.alive();
        }
        let now = self::words(&status.borrow_and_update());
        if now != words {
            link.status(&now);
            words = now;
        }
    }
    link.stopping("stopping; the node goes on under its lease");
}

async fn witness(link: Systemd, stop: CancellationToken) {
    let every = link.watchdog_interval().unwrap_or(LOOK_EVERY);
    link.ready("voting");
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(every) => link.alive(),
        }
    }
    link.stopping("stopping");
}

fn words(picture: &Snapshot) -> String {
    let diagnosis = picture.diagnoses.first();
    let diagnosis = diagnosis.map_or("nothing seen yet", |first| first.name.name());
    format!(
        "{}, epoch {}: {diagnosis}",
        picture.phase, picture.lease.epoch
    )
}
