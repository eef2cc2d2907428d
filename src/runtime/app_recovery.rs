//! Puts right what a change that was killed left behind at running apps: a pause, above all,
//! because the clients of a paused PgBouncer wait. It may have been a former life of this agent, or
//! another process of it, so this never ends looking. Must not: change any file, or come between a
//! change and its end.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::settings::{AppConfig, Config};
use crate::effects::app_config::{self, Recovered};
use crate::model::brakes::Conduct;
use crate::runtime::tasks::spawn_named;

/// Between two looks: each is a look for one file.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two attempts at an app that cannot be asked, at most: each takes its lock for a while.
const AGAIN_MAX: Duration = Duration::from_mins(1);

/// Starts a task for each app of this site that has a ready-made target.
pub fn start(config: &Config, stop: &CancellationToken) {
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
