//! What a person wants of the files of this site's apps, done by the agent itself: under the same
//! locks, in its journal (S11), and put right by its recovery if it is killed.
//!
//! Must not: decide whether it may be; the loop has answered that.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::settings::AppConfig;
use crate::model::event::{Answer, Wish};
use crate::model::outcome::Failure;
use crate::runtime::app_files::{self, AppFiles};
use crate::runtime::handle::AgentHandle;

/// The files of this site's apps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AppDesk(Option<Arc<Config>>);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum FilesWish {
    /// Bring files in line.
    Apply {
        /// Whose; all of this site if left out.
        name: Option<String>,
    },
    /// Bring an older version back.
    Restore {
        /// Whose.
        name: String,
        /// Its number.
        generation: u64,
    },
}

impl fmt::Display for FilesWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply { name: None } => f.write_str("all app configs are brought in line"),
            Self::Apply { name: Some(name) } => {
                write!(f, "app config {name:?} is brought in line")
            }
            Self::Restore { name, generation } => {
                write!(f, "version {generation} of app config {name:?} comes back")
            }
        }
    }
}

/// What became of one app's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesDone {
    /// The app config's name.
    pub name: String,
    /// It succeeded.
    pub ok: bool,
    /// What was done, or why it failed.
    pub note: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// It must not be; each a sentence.
    Refused(Vec<String>),
    /// The agent is stopping.
    Stopping(String),
}

impl NotDone {
    fn one(reason: impl Into<String>) -> Self {
        Self::Refused(vec![reason.into()])
    }
}

impl FilesWish {
    /// The part of it that concerns this app.
    fn of(&self, app: &AppConfig) -> Self {
        let name = app.name.clone();
        match self {
            Self::Apply { .. } => Self::Apply { name: Some(name) },
            Self::Restore { generation, .. } => Self::Restore {
                name,
                generation: *generation,
            },
        }
    }
}

impl AppDesk {
    /// The desk for the app configs of these settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Some(Arc::new(config.clone())))
    }

    /// Does what is wanted, app by app, each as the loop allows it then, and notes what became of
    /// it. The first refusal is the last: what comes after it is not done either.
    ///
    /// # Errors
    /// When nothing was done.
    pub async fn fulfil(
        &self,
        agent: &AgentHandle,
        (wish, by): (&FilesWish, &str),
    ) -> Result<Vec<FilesDone>, NotDone> {
        let Some(config) = &self.0 else {
            return Err(NotDone::one("this agent has no app configs"));
        };
        // A wish that cannot be fulfilled does not come into the journal.
        let picture = agent.status.borrow().clone();
        AppFiles::of(config, &picture).map_err(NotDone::one)?;
        let (name, generation) = match wish {
            FilesWish::Apply { name } => (name.as_deref(), None),
            FilesWish::Restore { name, generation } => (Some(name.as_str()), Some(*generation)),
        };
        let mut all = Vec::new();
        let mut refused = None;
        for app in app_files::targets(config, name).map_err(NotDone::one)? {
            if let Some(why) = &refused {
                all.push(not_changed(app, why));
                continue;
            }
            let files = match allowed(agent, config, format!("{}{by}", wish.of(app))).await {
                Ok(files) => files,
                Err(why) if all.is_empty() => return Err(why),
                Err(why) => {
                    all.push(not_changed(app, &why));
                    refused = Some(why);
                    continue;
                }
            };
            let done = match generation {
                None => files.apply(app).await,
                Some(generation) => files.restore(app, generation).await,
            };
            let done = done_with(app, done);
            let how = if done.ok { "" } else { "failed: " };
            let text = format!("app config {:?}, by hand: {how}{}", done.name, done.note);
            let noted = agent.ask(Wish::Note { text: text.clone() }).await;
            if !matches!(noted, Ok(Answer::Noted)) {
                tracing::warn!(reason = text, "done, but not in the journal");
            }
            all.push(done);
        }
        Ok(all)
    }
}

/// Asks the loop whether files may be changed now, and what they have to say then: a picture of it
/// may be older than its last decision.
async fn allowed<'a>(
    agent: &AgentHandle,
    config: &'a Config,
    what: String,
) -> Result<AppFiles<'a>, NotDone> {
    match agent.ask(Wish::Files { what }).await {
        Ok(Answer::FilesMayChange { primary, epoch }) => {
            AppFiles::under(config, &primary, epoch).map_err(NotDone::one)
        }
        Ok(Answer::Refused { reasons }) => Err(NotDone::Refused(reasons)),
        Ok(
            Answer::Started { .. }
            | Answer::AskingForLease
            | Answer::PassedOn { .. }
            | Answer::WouldDo { .. }
            | Answer::Noted
            | Answer::Braked(_)
            | Answer::MayHaveBegun { .. },
        ) => Err(NotDone::one("the agent did something else")),
        Err(stopping) => Err(NotDone::Stopping(stopping.to_string())),
    }
}

fn not_changed(app: &AppConfig, why: &NotDone) -> FilesDone {
    let why = match why {
        NotDone::Refused(reasons) => reasons.join("; "),
        NotDone::Stopping(why) => why.clone(),
    };
    FilesDone {
        name: app.name.clone(),
        ok: false,
        note: format!("not changed: {why}"),
        hint: None,
    }
}

fn done_with(app: &AppConfig, result: Result<String, Failure>) -> FilesDone {
    let (ok, note, hint) = match result {
        Ok(note) => (true, note, None),
        Err(failure) => (false, failure.what, failure.hint),
    };
    FilesDone {
        name: app.name.clone(),
        ok,
        note,
        hint,
    }
}
