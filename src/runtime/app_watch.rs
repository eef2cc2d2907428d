//! Looks now and then whether the files of this site's apps still say what they should. Somebody
//! may edit them, or a tool for configuration may bring its own version back. Tells; puts nothing
//! right: that is left to the next converge, or to a person (`agent config apply`).
//!
//! Runs beside the decision loop, and never while a plan does its work on the same files.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::effects::clock;
use crate::model::alert::{Alert, AlertLevel};
use crate::model::brakes::Conduct;
use crate::runtime::app_files::{self, AppFiles};
use crate::runtime::app_templates;
use crate::runtime::handle::AgentHandle;
use crate::runtime::outbox::Outbox;
use crate::runtime::status::Snapshot;
use crate::runtime::tasks::spawn_named;
use crate::runtime::upstreams::UpstreamStatus;

/// Rarely: it reads some small files.
pub(super) const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Bound on the look at one app's files.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The files of one app as they were last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFilesStatus {
    /// The app config's name.
    pub name: String,
    /// They do not say what they should, or nobody can tell.
    pub drifted: bool,
    /// In words.
    pub words: String,
}

/// What the watch sees; empty until it has looked.
pub type AppFilesSeen = watch::Receiver<Vec<AppFilesStatus>>;

/// Starts the watch, and what follows the upstreams. An agent that only observes does not write the
/// files, and watches none.
#[must_use]
pub fn start(
    config: &Config,
    agent: &AgentHandle,
    outbox: &Outbox,
    upstreams: &[watch::Receiver<UpstreamStatus>],
    stop: &CancellationToken,
) -> AppFilesSeen {
    let (seen, shown) = watch::channel(Vec::new());
    let none = app_files::targets(config, None).is_ok_and(|targets| targets.is_empty());
    if none || config.mode == Conduct::Observe {
        return shown;
    }
    let (config, pictures) = (Arc::new(config.clone()), agent.status.clone());
    let (outbox, stop) = (outbox.clone(), stop.clone());
    app_templates::start_followers(&config, &pictures, upstreams, &stop);
    spawn_named("app files", async move {
        app_templates::tell_broken(&config).await;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        // Otherwise the first one is due at once.
        looks.reset();
        let mut told: Vec<AppFilesStatus> = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let picture = pictures.borrow().clone();
            if is_at_work(&picture) {
                continue;
            }
            let Some(new) = look(&config, &picture).await else {
                continue;
            };
            // What a plan did meanwhile was seen half done.
            if is_at_work(&pictures.borrow()) {
                continue;
            }
            let sure = seen_twice(&seen.borrow(), &new);
            for (level, summary) in news(&told, &sure) {
                outbox.push(alert(&picture, level, summary));
            }
            told = sure;
            seen.send_replace(new);
        }
    });
    shown
}

/// A plan is under way that may be changing the files.
pub(super) fn is_at_work(picture: &Snapshot) -> bool {
    let running = picture.run.as_ref().is_some_and(|run| run.ended.is_none());
    let promoting = picture
        .record
        .as_ref()
        .is_some_and(|record| record.promoting);
    running || promoting
}

/// Looks at all files; `None` while nobody knows what they should say.
pub async fn look(config: &Config, picture: &Snapshot) -> Option<Vec<AppFilesStatus>> {
    let files = AppFiles::of(config, picture).ok()?;
    let mut all = Vec::new();
    for app in app_files::targets(config, None).ok()? {
        let looked = tokio::time::timeout(LOOK_TIMEOUT, files.difference(app)).await;
        let (drifted, words) = match looked {
            Ok(Ok(difference)) => {
                let edited = match difference.edited {
                    true => "; somebody has changed a file since the agent wrote it",
                    false => "",
                };
                let words = difference.to_do.as_deref().unwrap_or("in line");
                (difference.to_do.is_some(), format!("{words}{edited}"))
            }
            Ok(Err(failure)) => (true, failure.to_string()),
            Err(_) => (
                true,
                format!("no answer of a file system in {LOOK_TIMEOUT:?}"),
            ),
        };
        all.push(AppFilesStatus {
            name: app.name.clone(),
            drifted,
            words,
        });
    }
    Some(all)
}

/// What was seen at two looks running: files that follow upstreams may be late for a moment.
fn seen_twice(before: &[AppFilesStatus], new: &[AppFilesStatus]) -> Vec<AppFilesStatus> {
    let sure = new.iter().cloned().map(|status| {
        let mut before = before.iter();
        let before = before.any(|known| known.name == status.name && known.drifted);
        let drifted = status.drifted && before;
        AppFilesStatus { drifted, ..status }
    });
    sure.collect()
}

/// What is worth telling: each drift once, and its end.
fn news(known: &[AppFilesStatus], new: &[AppFilesStatus]) -> Vec<(AlertLevel, String)> {
    let drifted = |name: &str| {
        let status = known.iter().find(|status| status.name == name);
        status.is_some_and(|status| status.drifted)
    };
    new.iter()
        .filter_map(|status| match (drifted(&status.name), status.drifted) {
            (false, true) => {
                let name = &status.name;
                let summary = format!(
                    "the files of app config {name} are not as they should be: {}; see agent \
                     config diff {name}",
                    status.words
                );
                Some((AlertLevel::Warn, summary))
            }
            (true, false) => {
                let summary = format!("the files of app config {} are in line again", status.name);
                Some((AlertLevel::Info, summary))
            }
            (false, false) | (true, true) => None,
        })
        .collect()
}

fn alert(picture: &Snapshot, level: AlertLevel, summary: String) -> Alert {
    Alert {
        cluster: picture.cluster.clone(),
        site: Some(picture.site.clone()),
        event: "app_config_drift".to_owned(),
        level,
        summary,
        details: Vec::new(),
        epoch: picture.record.as_ref().map(|record| record.epoch),
        plan: None,
        at: clock::wall(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(drifted: bool) -> Vec<AppFilesStatus> {
        vec![AppFilesStatus {
            name: "shop".to_owned(),
            drifted,
            words: "DB_HOST to be changed".to_owned(),
        }]
    }

    #[test]
    fn drift_is_sure_at_the_second_look_and_over_at_the_first_without_it() {
        let sure = |before: &[AppFilesStatus], new: &[AppFilesStatus]| {
            seen_twice(before, new).iter().any(|it| it.drifted)
        };
        assert!(!sure(&[], &status(true)));
        assert!(!sure(&status(false), &status(true)));
        assert!(sure(&status(true), &status(true)));
        assert!(!sure(&status(true), &status(false)));
    }

    #[test]
    fn drift_is_told_once_and_so_is_its_end() {
        let levels = |known: &[AppFilesStatus], new: &[AppFilesStatus]| {
            let news = news(known, new);
            news.into_iter().map(|(level, _)| level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&[], &status(false)), []);
        assert_eq!(levels(&[], &status(true)), [AlertLevel::Warn]);
        assert_eq!(levels(&status(true), &status(true)), []);
        assert_eq!(levels(&status(true), &status(false)), [AlertLevel::Info]);
    }
}
