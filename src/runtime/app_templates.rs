//! Templates of app configs: what they see, whether they can be rendered, and the files that follow
//! the health of upstreams.
//!
//! A broken template stops nobody: it is told at the start, refused by `agent check`, and keeps the
//! file that it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::settings::{AppConfig, AppConfigTemplate, Site, Upstream};
use crate::effects::app_config::{self, Applied, Surroundings};
use crate::model::diagnosis::Diagnosis;
use crate::model::outcome::Failure;
use crate::model::template::TemplateNode;
use crate::runtime::app_files::{self, AppFiles};
use crate::runtime::app_watch::{LOOK_EVERY, LOOK_TIMEOUT};
use crate::runtime::status::Snapshot;
use crate::runtime::tasks::spawn_named;
use crate::runtime::upstreams::UpstreamStatus;

/// Until a follower looks again where it must keep off.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two renderings of one app at least, so that members that come and go reload it seldom.
const RENDER_EVERY: Duration = Duration::from_secs(10);

/// What templates at this site see.
#[must_use]
pub fn surroundings(config: &Config, site: &Site) -> Surroundings {
    let nodes = config.sites.iter().map(|site| TemplateNode {
        site: site.name.clone(),
        host: site.node.host.clone(),
        port: site.node.port,
    });
    let groups = config.upstreams.iter();
    Surroundings {
        cluster: config.cluster.clone(),
        site: site.name.clone(),
        nodes: nodes.collect(),
        upstreams: groups
            .filter(|group| group.is_at(&site.name))
            .cloned()
            .collect(),
    }
}

/// A template that cannot be rendered.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Which.
    pub template: AppConfigTemplate,
    /// Why.
    pub why: Failure,
}

/// Tries all templates of this site's apps: with each node as the primary, and as if all upstreams
/// were healthy. Writes nothing.
pub async fn broken(config: &Config) -> Vec<Broken> {
    let mut broken = Vec::new();
    let Some(own) = config.own_site() else {
        return broken;
    };
    let surroundings = surroundings(config, own);
    for app in app_files::targets(config, None).unwrap_or_default() {
        if app.files.iter().all(|file| file.template.is_none()) {
            continue;
        }
        match app_config::try_templates(app, &surroundings).await {
            Ok(found) => broken.extend(found.into_iter().map(|(template, error)| Broken {
                template,
                why: Failure::from(error),
            })),
            Err(error) => tracing::error!(app_config = app.name, %error, "templates not tried"),
        }
    }
    broken
}

/// Tells of every template that cannot be rendered.
pub(super) async fn tell_broken(config: &Config) {
    for Broken { template, why } in broken(config).await {
        let path = template.path.display();
        tracing::error!(template = %path, error = %why, "its file will not follow the primary");
    }
}

/// Starts a task for each app of this site that has templates: it renders the files that follow the
/// upstreams, whenever they differ for no other reason.
///
/// None waits for another, so an app that is slow to take its files holds up itself only.
pub(super) fn start_followers(
    config: &Arc<Config>,
    pictures: &watch::Receiver<Arc<Snapshot>>,
    groups: &[watch::Receiver<UpstreamStatus>],
    stop: &CancellationToken,
) {
    if groups.is_empty() {
        return;
    }
    let bell = bell(groups);
    let least = pause_between(config);
    for app in app_files::targets(config, None).unwrap_or_default() {
        if app.files.iter().all(|file| file.template.is_none()) {
            continue;
        }
        let follower = Follower {
            config: Arc::clone(config),
            app: app.clone(),
            pictures: pictures.clone(),
            least,
            told: None,
        };
        let task = format!("follower {}", app.name);
        spawn_named(task, follower.run(bell.clone(), stop.clone()));
    }
}

/// Rings after each rendering of a group.
fn bell(groups: &[watch::Receiver<UpstreamStatus>]) -> watch::Receiver<()> {
    let (ring, bell) = watch::channel(());
    for group in groups {
        let (mut group, ring) = (group.clone(), ring.clone());
        let name = group.borrow().name.clone();
        spawn_named(format!("renderings of {name}"), async move {
            let mut known = 0;
            // Ends with the group's task.
            while let Ok(status) = group.wait_for(|status| status.renderings != known).await {
                known = status.renderings;
                drop(status);
                ring.send_replace(());
            }
        });
    }
    bell
}

/// Between two renderings of one app: no reload is worth more, and none than its slowest group.
fn pause_between(config: &Config) -> Duration {
    let here = |group: &&Upstream| config.site.as_ref().is_some_and(|site| group.is_at(site));
    let groups = config.upstreams.iter().filter(here);
    let intervals = groups.map(|group| group.timing.interval);
    intervals.fold(RENDER_EVERY, Duration::max)
}

/// What may soon end in a plan that changes these files: its lock must be free then. A site that
/// tripped is not among it: that its app servers are down is what their followers are to show.
const HOLDS: [Diagnosis; 18] = [
    Diagnosis::WrongCluster,
    Diagnosis::CutOff,
    Diagnosis::GuardLost,
    Diagnosis::DatabaseStarting,
    Diagnosis::PrimaryWithoutLease,
    Diagnosis::TwoPrimaries,
    Diagnosis::PromotionUnfinished,
    Diagnosis::DataDirectoryGone,
    Diagnosis::DiskReadOnly,
    Diagnosis::DiskFull,
    Diagnosis::DatabaseDead,
    Diagnosis::DatabaseHung,
    Diagnosis::DatabaseCannotWrite,
    Diagnosis::DatabaseDemoted,
    Diagnosis::LeaseFree,
    Diagnosis::SiteSilent,
    Diagnosis::NoPrimary,
    Diagnosis::SiteUnreachable,
];

fn is_calm(picture: &Snapshot) -> bool {
    // Whoever is neither active nor the standby of who is does not know whom to name (S8).
    picture.settled && is_healthy(picture.diagnoses.iter().map(|it| it.name))
}

fn is_healthy(mut wrong: impl Iterator<Item = Diagnosis>) -> bool {
    wrong.all(|name| !HOLDS.contains(&name))
}

/// Renders the files of one app that follow upstreams.
struct Follower {
    config: Arc<Config>,
    app: AppConfig,
    pictures: watch::Receiver<Arc<Snapshot>>,
    least: Duration,
    /// The failure that was logged last.
    told: Option<String>,
}

/// Until the next look.
#[derive(Debug, Clone, Copy)]
enum Pause {
    /// This long, whatever happens.
    Whole(Duration),
    /// This long, or until a group is rendered.
    Bell(Duration),
}

impl Pause {
    async fn over(self, bell: &mut watch::Receiver<()>) {
        match self {
            Self::Whole(pause) => tokio::time::sleep(pause).await,
            Self::Bell(pause) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = bell.changed() => {}
            },
        }
    }
}

impl Follower {
    /// Looks at the files each time, so that a bell that nobody heard is made good. A change that
    /// has begun is not cut off.
    async fn run(mut self, mut bell: watch::Receiver<()>, stop: CancellationToken) {
        loop {
            let pause = self.step().await;
            let over = stop.run_until_cancelled(pause.over(&mut bell));
            if over.await.is_none() {
                return;
            }
        }
    }

    async fn step(&mut self) -> Pause {
        let picture = self.pictures.borrow().clone();
        let config = Arc::clone(&self.config);
        let Ok(files) = AppFiles::of(&config, &picture) else {
            return Pause::Whole(LOOK_AGAIN);
        };
        if !is_calm(&picture) {
            return Pause::Whole(LOOK_AGAIN);
        }
        let look = tokio::time::timeout(LOOK_TIMEOUT, files.only_upstreams(&self.app));
        match look.await {
            Ok(Ok(true)) => {}
            // The watch tells of files that cannot be looked at.
            Ok(Ok(false) | Err(_)) | Err(_) => return Pause::Bell(LOOK_EVERY),
        }
        if !is_calm(&self.pictures.borrow()) {
            return Pause::Whole(LOOK_AGAIN);
        }
        let app_config = &self.app.name;
        match files.follow(&self.app).await {
            Ok(applied) => {
                let Applied { changed, note } = applied;
                match changed {
                    true => tracing::info!(app_config, note, "upstreams changed, files rendered"),
                    false => tracing::debug!(app_config, note, "no text was changed"),
                }
                self.told = None;
                Pause::Whole(self.least)
            }
            Err(error) => {
                let error = error.to_string();
                if self.told.as_ref() != Some(&error) {
                    tracing::warn!(app_config, error, "not rendered");
                }
                self.told = Some(error);
                Pause::Whole(self.least.max(LOOK_EVERY))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_hold_off_before_a_failover_but_not_when_app_servers_are_down() {
        let healthy = |wrong: &[Diagnosis]| is_healthy(wrong.iter().copied());
        assert!(healthy(&[]) && healthy(&[Diagnosis::Healthy]));
        assert!(healthy(&[Diagnosis::SiteTripped, Diagnosis::EndpointDown]));
        assert!(!healthy(&[
            Diagnosis::WitnessSilent,
            Diagnosis::DatabaseDead
        ]));
        assert!(!healthy(&[Diagnosis::SiteSilent]));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the clock that this test has paused is tokio's"
    )]
    #[tokio::test(start_paused = true)]
    async fn no_bell_cuts_the_pause_between_two_renderings_and_none_is_lost() {
        let (ring, mut bell) = watch::channel(());
        let began = tokio::time::Instant::now();
        ring.send_replace(());
        Pause::Whole(RENDER_EVERY).over(&mut bell).await;
        assert_eq!(began.elapsed(), RENDER_EVERY);
        Pause::Bell(LOOK_EVERY).over(&mut bell).await;
        assert_eq!(began.elapsed(), RENDER_EVERY);
        // Without a bell, and without anybody who could ring it.
        drop(ring);
        Pause::Bell(LOOK_EVERY).over(&mut bell).await;
        assert_eq!(began.elapsed(), RENDER_EVERY + LOOK_EVERY);
    }
}
