//! The files of this site's apps, for people: what would change, a change by hand, older versions.
//! Under the same locks, the same settings and the agent's own epoch (S8). Looking is done by
//! whoever asks, changing by the agent.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::settings::{AppConfig, Site};
use crate::effects::app_config::{self, Applied, Change, Looked, Observed, Surroundings};
use crate::effects::error::EffectError;
use crate::model::outcome::Failure;
use crate::model::plan::{FileEdits, PrimaryAt};
use crate::model::{Epoch, SiteName, Timestamp};
use crate::runtime::app_templates;
use crate::runtime::policy;
use crate::runtime::status::Snapshot;

/// Who is primary, and under which epoch: what the files have to say.
#[derive(Debug, Clone)]
pub struct AppFiles<'a> {
    config: &'a Config,
    surroundings: Arc<Surroundings>,
    primary: &'a Site,
    epoch: Epoch,
}

/// How the files of one app differ from what they should say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The app config's name.
    pub name: String,
    /// What is left to do, if anything.
    pub to_do: Option<String>,
    /// Somebody has changed a file since the agent wrote it.
    pub edited: bool,
    /// The app did not take the last change; why.
    pub failed: Option<String>,
    /// Milliseconds until it is tried again.
    pub retry_in_ms: Option<u64>,
    /// File by file.
    pub files: Vec<FileDifference>,
}

impl Difference {
    /// Nothing is left to do.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.to_do.is_none()
    }
}

/// How one file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDifference {
    /// The file.
    pub path: String,
    /// The template that makes the whole of it. Then `keys` names lines, and no values are shown:
    /// a template may have secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Its keys with other values. All other lines stay, and are not shown.
    pub keys: Vec<KeyDifference>,
}

/// One value that is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDifference {
    /// The key.
    pub key: String,
    /// What it is, if that is what it would be with another site as the primary. Anything else may
    /// be a secret.
    pub old: Option<String>,
    /// What it becomes.
    pub new: String,
}

/// An older version of an app's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVersion {
    /// Its number.
    pub generation: u64,
    /// When it was replaced.
    pub replaced: Timestamp,
    /// The epoch under which it had been written, as far as is known.
    pub epoch: Epoch,
    /// Its hash.
    pub hash: String,
    /// Its files.
    pub files: Vec<String>,
}

/// The app configs of the own site that are meant: one by its name, or all.
///
/// # Errors
/// In words, when there is none of this name.
pub fn targets<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a AppConfig>, String> {
    let own = config.site.as_ref();
    let here = |app: &&AppConfig| app.site.is_none() || app.site.as_ref() == own;
    let mine: Vec<_> = config.app_configs.iter().filter(here).collect();
    let Some(name) = name else {
        return Ok(mine);
    };
    match mine.iter().find(|app| app.name == name) {
        Some(app) => Ok(vec![app]),
        None => {
            let known: Vec<_> = mine.iter().map(|app| app.name.as_str()).collect();
            Err(format!(
                "there is no app config {name:?} at this site; known: {}",
                known.join(", ")
            ))
        }
    }
}

/// The older versions of an app's files, oldest first.
///
/// # Errors
/// When they cannot be listed.
pub async fn kept(config: &Config, app: &AppConfig) -> Result<Vec<KeptVersion>, Failure> {
    let kept = app_config::generations(app, &config.state_dir).await?;
    let versions = kept.into_iter().map(|known| KeptVersion {
        generation: known.number,
        replaced: known.kept,
        epoch: known.epoch,
        hash: known.hash,
        files: known
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    });
    Ok(versions.collect())
}

impl<'a> AppFiles<'a> {
    /// What the running agent knows.
    ///
    /// # Errors
    /// In words, with what to do, when it is the agent of another site or knows no primary.
    pub fn of(config: &'a Config, picture: &Snapshot) -> Result<Self, String> {
        if config.site.as_ref() != Some(&picture.site) {
            return Err(format!(
                "the agent that answers is that of site {}: say --site {}, or run this on the \
                 other host",
                picture.site, picture.site
            ));
        }
        let record = picture.record.as_ref();
        let record = record.filter(|record| record.epoch > Epoch::NONE);
        let Some(record) = record else {
            return Err(
                "the agent knows of no primary and no epoch yet, so nobody can say what the files \
                 should say: see agent status, and wait until a site is active"
                    .to_owned(),
            );
        };
        Self::under(config, &record.primary, record.epoch)
    }

    /// For this primary, under this epoch.
    ///
    /// # Errors
    /// In words, when the settings do not know it.
    pub fn under(config: &'a Config, primary: &SiteName, epoch: Epoch) -> Result<Self, String> {
        let Some(own) = config.own_site() else {
            return Err("this is no agent's settings file".to_owned());
        };
        let Some(site) = config.site(primary) else {
            return Err(format!(
                "the recorded primary {primary} is not in the settings file"
            ));
        };
        Ok(Self {
            config,
            surroundings: Arc::new(app_templates::surroundings(config, own)),
            primary: site,
            epoch,
        })
    }

    /// The site that the files have to name.
    #[must_use]
    pub fn primary(&self) -> &SiteName {
        &self.primary.name
    }

    /// The epoch under which they are changed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How the files of an app differ from what they should say; changes nothing.
    ///
    /// # Errors
    /// When a file cannot be read or edited, or when a newer epoch wrote it.
    pub async fn difference(&self, app: &AppConfig) -> Result<Difference, Failure> {
        let looked = app_config::look(&self.change(app, self.primary)).await?;
        let to_do = match looked.observed.clone() {
            Observed::AlreadyDone => None,
            Observed::Needed { what } => Some(what),
        };
        let (failed, retry_in_ms) = match looked.failed.clone() {
            Some((why, left)) => (Some(why), Some(millis(left))),
            None => (None, None),
        };
        let files = self.files(app, &looked).await?;
        Ok(Difference {
            name: app.name.clone(),
            to_do,
            edited: looked.edited,
            failed,
            retry_in_ms,
            files,
        })
    }

    async fn files(
        &self,
        app: &AppConfig,
        looked: &Looked,
    ) -> Result<Vec<FileDifference>, EffectError> {
        let new = policy::file_edits(app, self.primary);
        // What a value is now may be a secret, unless it is what another primary would make it.
        let others = self.config.sites.iter();
        let mut old: Vec<(Vec<FileEdits>, Looked)> = Vec::new();
        for other in others.filter(|site| site.name != self.primary.name) {
            let looked = app_config::look(&self.change(app, other)).await?;
            old.push((policy::file_edits(app, other), looked));
        }
        let mut files = Vec::new();
        for (index, (path, changed)) in looked.files.iter().enumerate() {
            let value = |files: &[FileEdits], key: &str| {
                let edits = &files.get(index)?.edits;
                let edit = edits.iter().find(|edit| edit.key == key)?;
                Some(edit.to.to_string())
            };
            let was = |key: &str| {
                old.iter().find_map(|(edits, looked)| {
                    let (_, differs) = looked.files.get(index)?;
                    match differs.iter().any(|other| other == key) {
                        true => None,
                        false => value(edits, key),
                    }
                })
            };
            let keys = changed.iter().map(|key| KeyDifference {
                key: key.clone(),
                old: was(key),
                new: value(&new, key).unwrap_or_default(),
            });
            let mut settings = app.files.iter();
            let settings = settings.find(|file| file.path == *path);
            let template = settings.and_then(|file| file.template.as_ref());
            files.push(FileDifference {
                path: path.display().to_string(),
                template: template.map(|template| template.path.display().to_string()),
                keys: keys.collect(),
            });
        }
        Ok(files)
    }

    /// Files of an app differ only because upstreams do, and may be rendered by nobody's order.
    ///
    /// # Errors
    /// As [`AppFiles::difference`].
    pub async fn only_upstreams(&self, app: &AppConfig) -> Result<bool, Failure> {
        let following = app_config::following_upstreams(app).await?;
        if following.is_empty() {
            return Ok(false);
        }
        let looked = app_config::look(&self.change(app, self.primary)).await?;
        Ok(looked.only_upstreams(&following))
    }

    /// Does what the agent does when it converges, between its plans: nothing, where another hand
    /// was in the files; not again soon after that failed.
    ///
    /// # Errors
    /// As the agent's own step.
    pub async fn follow(&self, app: &AppConfig) -> Result<Applied, Failure> {
        let change = self.change(app, self.primary);
        Ok(app_config::follow(&change).await?)
    }

    /// Does what the agent does when it converges, also if that failed a moment ago; one line about
    /// it.
    ///
    /// # Errors
    /// As the agent's own step.
    pub async fn apply(&self, app: &AppConfig) -> Result<String, Failure> {
        let applied = app_config::apply_by_hand(&self.change(app, self.primary)).await?;
        Ok(applied.note)
    }

    /// Brings an older version back; one line about it.
    ///
    /// # Errors
    /// As [`AppFiles::apply`], and when that version is not kept.
    pub async fn restore(&self, app: &AppConfig, generation: u64) -> Result<String, Failure> {
        let state_dir = &self.config.state_dir;
        let applied = app_config::restore(app, generation, self.epoch, state_dir).await?;
        Ok(applied.note)
    }

    fn change<'c>(&'c self, app: &'c AppConfig, primary: &Site) -> Change<'c> {
        Change {
            target: app,
            files: policy::file_edits(app, primary),
            primary: Some(PrimaryAt {
                site: primary.name.clone(),
                host: primary.node.host.clone(),
                port: primary.node.port,
            }),
            surroundings: &self.surroundings,
            epoch: self.epoch,
            state_dir: &self.config.state_dir,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
