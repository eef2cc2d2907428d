//! What `agent config apply` and `agent config restore` say over the socket.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::runtime::app_desk::{FilesDone, FilesWish, NotDone};
use crate::runtime::handle::AgentHandle;
use crate::runtime::http_server::Caller;
use crate::runtime::tasks::spawn_named;

/// Where the files of apps are changed.
pub const PATH: &str = "/v1/app-config";

/// A wish to change files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigQuestion {
    /// What is to be done.
    pub wish: FilesWish,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ConfigAnswer {
    /// Each app was tried.
    Done {
        /// In the order of the settings.
        apps: Vec<FilesDone>,
    },
    /// Refused; nothing was changed.
    Refused {
        /// Each a sentence.
        reasons: Vec<String>,
    },
}

/// Has it done, or says why it cannot be.
pub(super) async fn answer(
    agent: AgentHandle,
    question: ConfigQuestion,
    caller: Option<Caller>,
) -> Result<ConfigAnswer, (StatusCode, String)> {
    let by = match caller {
        Some(Caller::Process { uid, .. }) => format!(" (uid {uid})"),
        Some(Caller::Address(_)) | None => String::new(),
    };
    let stopping = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    // A task of its own: whoever asked may go away, and a change is not left half done.
    let work = async move {
        let desk = agent.apps.clone();
        desk.fulfil(&agent, (&question.wish, &by)).await
    };
    match spawn_named("files by hand", work).await {
        Ok(Ok(apps)) => Ok(ConfigAnswer::Done { apps }),
        Ok(Err(NotDone::Refused(reasons))) => Ok(ConfigAnswer::Refused { reasons }),
        Ok(Err(NotDone::Stopping(why))) => Err(stopping(why)),
        Err(cut_off) => Err(stopping(format!("the change was cut off: {cut_off}"))),
    }
}
