//! Puts right what a former life of this agent left behind at running apps: a pause, above all,
//! because the clients of a paused PgBouncer wait. Must not: change any file.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::settings::{AppConfig, Config};
use crate::effects::app_config;
use crate::model::brakes::Conduct;
use crate::runtime::tasks::spawn_named;

/// Between two attempts at an app that cannot be asked.
const AGAIN: Duration = Duration::from_secs(5);

/// An app that cannot be asked for an hour does not run, and holds nobody up.
const ATTEMPTS_MAX: u32 = 720;

/// Starts a task for each app of this site that has a ready-made target.
pub(super) fn start(config: &Config, stop: &CancellationToken) {
    if config.mode == Conduct::Observe {
        return;
    }
    let here = |app: &&AppConfig| app.site.is_none() || app.site == config.site;
    let apps = config.app_configs.iter().filter(here);
    for app in apps.filter(|app| app.target.is_some()) {
        let recovering = recover(app.clone(), config.state_dir.clone(), stop.clone());
        spawn_named(format!("recovery of {}", app.name), recovering);
    }
}

async fn recover(app: AppConfig, state_dir: PathBuf, stop: CancellationToken) {
    for attempt in 1..=ATTEMPTS_MAX {
        match app_config::recover(&app, &state_dir).await {
            Ok(None) => return,
            Ok(Some(what)) => {
                tracing::info!(app_config = app.name, what, "a former change is ended");
                return;
            }
            Err(error) if attempt == 1 => {
                tracing::warn!(app_config = app.name, %error, "cannot end a former change yet");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
