//! The operator's API: what `agent status` and `agent failover` say over the unix socket.
//!
//! Owns the paths and the shape of questions and answers. Must not: act by itself; whoever may
//! open the socket may ask, and the decision loop answers (S15). Start reading at [`router`].

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::brakes::{self, BrakeAnswer, BrakeQuestion};
use super::config::{self, ConfigQuestion};
use super::dns::{self, DnsQuestion};
use crate::model::event::{Answer, Wish};
use crate::model::plan::Plan;
use crate::model::{PlanId, SiteName};
use crate::runtime::handle::{AgentHandle, Stopping};
use crate::runtime::http_server::Visitor;
use crate::runtime::recovery::Recovery;
use crate::runtime::status::Snapshot;
use crate::surfaces::metrics;

/// Where the newest picture is.
pub const STATUS: &str = "/v1/status";
/// Where the newest picture is, as metrics.
pub const METRICS: &str = "/metrics";
/// Where a failover is asked for.
pub const FAILOVER: &str = "/v1/failover";

/// How long `newer_than` waits for a newer picture before it answers with the old one.
pub const NEWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The format's name and version. Source: Prometheus, "Exposition formats".
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Longest question, in bytes.
const QUESTION_BYTES_MAX: usize = 16 * 1024;

/// How [`STATUS`] may be asked.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusQuestion {
    /// Wait until the picture is newer than this one (its `at`), at most [`NEWER_WAIT_MAX`].
    pub newer_than: Option<i64>,
}

/// A wish for a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverQuestion {
    /// Where the primary should be.
    pub to: SiteName,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum FailoverAnswer {
    /// A plan was begun.
    Started {
        /// Which.
        plan: PlanId,
    },
    /// The lease was asked for; a plan follows when it is won.
    AskingForLease,
    /// The other site's agent does it.
    PassedOn {
        /// Whose.
        to: SiteName,
    },
    /// A dry run: what would be done, in order.
    WouldDo {
        /// Each with the site whose agent runs it.
        plans: Vec<SitePlan>,
    },
    /// It was passed on, and no answer came back: it may be under way.
    MayHaveBegun {
        /// The site whose agent should do it.
        at: SiteName,
        /// What became of the answer.
        why: String,
    },
    /// Refused.
    Refused {
        /// Each a sentence.
        reasons: Vec<String>,
    },
}

/// A plan and who would run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePlan {
    /// The site whose agent runs it.
    pub site: SiteName,
    /// The plan.
    pub plan: Plan,
}

impl From<Answer> for FailoverAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Started { plan } => Self::Started { plan },
            Answer::AskingForLease => Self::AskingForLease,
            Answer::PassedOn { to } => Self::PassedOn { to },
            Answer::WouldDo { plans } => Self::WouldDo {
                plans: plans
                    .into_iter()
                    .map(|(site, plan)| SitePlan { site, plan })
                    .collect(),
            },
            Answer::MayHaveBegun { at, why } => Self::MayHaveBegun { at, why },
            Answer::Refused { reasons } => Self::Refused { reasons },
            Answer::Noted | Answer::FilesMayChange { .. } => Self::Refused {
                reasons: vec!["that was not asked for: a note".to_owned()],
            },
            Answer::Braked(braked) => Self::Refused {
                reasons: vec![format!("that was not asked for: {}", braked.text)],
            },
        }
    }
}

/// The answer to [`STATUS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The newest picture.
    #[serde(flatten)]
    pub picture: Snapshot,
    /// What this agent measured when it last made its node the primary.
    pub last_recovery: Option<Recovery>,
}

/// What the agent shows here.
#[derive(Debug, Clone)]
struct Desk {
    agent: AgentHandle,
    recovered: watch::Receiver<Option<Recovery>>,
}

/// The whole API of one agent.
pub fn router(agent: AgentHandle, recovered: watch::Receiver<Option<Recovery>>) -> Router {
    Router::new()
        .route(STATUS, get(status))
        .route(METRICS, get(exposition))
        .route(FAILOVER, post(failover))
        .route(brakes::PATH, post(brake))
        .route(dns::PATH, post(ask_dns))
        .route(config::PATH, post(change_files))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
        .with_state(Desk { agent, recovered })
}

async fn status(State(desk): State<Desk>, Query(question): Query<StatusQuestion>) -> Response {
    let mut agent = desk.agent;
    if let Some(known) = question.newer_than {
        let newer = agent.status.wait_for(|picture| picture.at.0 > known);
        // Too late or stopping: the newest there is answers, too.
        drop(tokio::time::timeout(NEWER_WAIT_MAX, newer).await);
    }
    let answer = StatusAnswer {
        picture: agent.status.borrow().as_ref().clone(),
        last_recovery: desk.recovered.borrow().clone(),
    };
    Json(answer).into_response()
}

async fn exposition(State(desk): State<Desk>) -> Response {
    let picture = desk.agent.status.borrow().clone();
    // Off the threads that renew the lease: at its first use the library measures its clock.
    let made = tokio::task::spawn_blocking(move || metrics::exposition(&picture)).await;
    match made {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn failover(State(desk): State<Desk>, Json(question): Json<FailoverQuestion>) -> Response {
    let wish = Wish::Failover {
        to: question.to,
        dry_run: question.dry_run,
    };
    match desk.agent.ask(wish).await {
        Ok(answer) => one_line(&FailoverAnswer::from(answer)),
        Err(stopping @ Stopping) => {
            (StatusCode::SERVICE_UNAVAILABLE, stopping.to_string()).into_response()
        }
    }
}

async fn brake(
    State(desk): State<Desk>,
    visitor: Option<Extension<Visitor>>,
    Json(question): Json<BrakeQuestion>,
) -> Response {
    let site = desk.agent.status.borrow().site.clone();
    let caller = visitor.map(|Extension(visitor)| visitor.caller);
    match desk.agent.ask(question.into_wish(caller, &site)).await {
        Ok(answer) => one_line(&BrakeAnswer::from(answer)),
        Err(stopping @ Stopping) => {
            (StatusCode::SERVICE_UNAVAILABLE, stopping.to_string()).into_response()
        }
    }
}

async fn ask_dns(State(desk): State<Desk>, Json(question): Json<DnsQuestion>) -> Response {
    match dns::answer(&desk.agent, question).await {
        Ok(answer) => one_line(&answer),
        Err((status, why)) => (status, why).into_response(),
    }
}

async fn change_files(
    State(desk): State<Desk>,
    visitor: Option<Extension<Visitor>>,
    Json(question): Json<ConfigQuestion>,
) -> Response {
    let caller = visitor.map(|Extension(visitor)| visitor.caller);
    match config::answer(desk.agent, question, caller).await {
        Ok(answer) => one_line(&answer),
        Err((status, why)) => (status, why).into_response(),
    }
}

/// The client reads lines, so that an answer may become several one day.
fn one_line(answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
