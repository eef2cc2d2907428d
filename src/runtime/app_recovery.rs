//! Puts right what a change that was killed left behind at running apps: a pause, above all,
//! because the clients of a paused PgBouncer wait. It may have been a former life of this agent, or
//! another process of it, so this never ends looking. Must not: change any file, or come between a
//! change and its end.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::settings::{AppConfig, Config, TargetSettings};
use crate::effects::app_config::{self, Recovered};
use crate::runtime::tasks::spawn_named;

/// Between two looks: each is a look for one file.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two attempts at an app that cannot be asked, at most: each takes its lock for a while.
const AGAIN_MAX: Duration = Duration::from_mins(1);

/// Starts a task for each app of this site that has a ready-made target. Also for an agent that
/// only observes: it undoes an act of its own, of a time when it acted.
pub fn start(config: &Config, stop: &CancellationToken) {
    spawn_named("pauses of nobody", warn_of_pauses(config.clone()));
    let here = |app: &&AppConfig| app.site.is_none() || app.site == config.site;
    let apps = config.app_configs.iter().filter(here);
    for app in apps.filter(|app| app.target.is_some()) {
        let recovering = recover(app.clone(), config.state_dir.clone(), stop.clone());
        spawn_named(format!("recovery of {}", app.name), recovering);
    }
}

/// Tells of pauses that nobody ends any more, because the settings do not name their PgBouncer.
async fn warn_of_pauses(config: Config) {
    let named = config.app_configs.iter().filter(|app| {
        let here = app.site.is_none() || app.site == config.site;
        here && matches!(app.target, Some(TargetSettings::Pgbouncer(_)))
    });
    let named = named.map(|app| app.name.clone()).collect();
    match app_config::pauses_of_nobody(&config.state_dir, named).await {
        Ok(notes) => {
            for note in notes {
                tracing::warn!(
                    note = %note.display(),
                    "a PgBouncer that is not in the settings any more may still be paused: say \
                     RESUME on its console if so, and remove the note"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "cannot look for pauses of former settings"),
    }
}

async fn recover(app: AppConfig, state_dir: PathBuf, stop: CancellationToken) {
    let mut failures = 0_u32;
    loop {
        match app_config::recover(&app, &state_dir).await {
            Ok(Recovered::Nothing) => failures = 0,
            Ok(Recovered::Busy) => {}
            Ok(Recovered::Ended { what }) => {
                failures = 0;
                tracing::info!(app_config = app.name, what, "a former change is ended");
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(app_config = app.name, %error, "cannot end a former change yet");
                }
                failures = failures.saturating_add(1);
            }
        }
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let wait = LOOK_EVERY.saturating_mul(doubled).min(AGAIN_MAX);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
