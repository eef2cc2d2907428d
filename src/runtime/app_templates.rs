//! Templates of app configs: what they see, whether they can be rendered, and the files that follow
//! the health of upstreams.
//!
//! A broken template stops nobody: it is told at the start, refused by `agent check`, and keeps the
//! file that it has.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::config::settings::{AppConfig, AppConfigTemplate, Site};
use crate::effects::app_config::{self, Surroundings};
use crate::model::outcome::Failure;
use crate::model::template::TemplateNode;
use crate::runtime::app_files::{self, AppFiles};
use crate::runtime::tasks::spawn_named;
use crate::runtime::upstreams::UpstreamStatus;

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

/// Rings after each rendering of a group.
pub(super) fn bell(groups: &[watch::Receiver<UpstreamStatus>]) -> Arc<Notify> {
    let bell = Arc::new(Notify::new());
    for group in groups {
        let (mut group, bell) = (group.clone(), Arc::clone(&bell));
        let name = group.borrow().name.clone();
        spawn_named(format!("renderings of {name}"), async move {
            let mut known = 0;
            // Ends with the group's task.
            while let Ok(status) = group.wait_for(|status| status.renderings != known).await {
                known = status.renderings;
                drop(status);
                bell.notify_one();
            }
        });
    }
    bell
}

/// Renders the files whose templates name the upstreams, as far as they are not right; `true` when
/// all are. What somebody else has changed is left to a person.
pub(super) async fn follow_upstreams(config: &Config, files: &AppFiles<'_>) -> bool {
    let mut all = true;
    for app in app_files::targets(config, None).unwrap_or_default() {
        if let Err(error) = follow(files, app).await {
            tracing::warn!(app_config = app.name, %error, "not rendered");
            all = false;
        }
    }
    all
}

async fn follow(files: &AppFiles<'_>, app: &AppConfig) -> Result<(), Failure> {
    if app.files.iter().all(|file| file.template.is_none()) {
        return Ok(());
    }
    if !app_config::follows_upstreams(app).await? {
        return Ok(());
    }
    let difference = files.difference(app).await?;
    if difference.is_none() || difference.edited {
        return Ok(());
    }
    let note = files.apply(app).await?;
    tracing::info!(
        app_config = app.name,
        note,
        "upstreams changed, files rendered"
    );
    Ok(())
}
