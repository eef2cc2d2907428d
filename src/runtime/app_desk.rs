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

impl AppDesk {
    /// The desk for the app configs of these settings.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Some(Arc::new(config.clone())))
    }

    /// Does what is wanted, app by app, and notes what became of each.
    ///
    /// # Errors
    /// In words, when nothing can be done.
    pub async fn fulfil(
        &self,
        agent: &AgentHandle,
        wish: &FilesWish,
    ) -> Result<Vec<FilesDone>, String> {
        let Some(config) = &self.0 else {
            return Err("this agent has no app configs".to_owned());
        };
        let picture = agent.status.borrow().clone();
        let files = AppFiles::of(config, &picture)?;
        let (name, generation) = match wish {
            FilesWish::Apply { name } => (name.as_deref(), None),
            FilesWish::Restore { name, generation } => (Some(name.as_str()), Some(*generation)),
        };
        let mut all = Vec::new();
        for app in app_files::targets(config, name)? {
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
