//! Where load balancers ask which node is primary: the paths and status codes of Patroni's health
//! checks, so that an HAProxy file written for it works unchanged.
//!
//! Everything is answered from the newest picture and the clock: no query, no lock, nothing that a
//! flood of questions could slow down (S16). Whoever asks learns who is primary and nothing else,
//! and changes nothing. Start reading at [`verdict`].
//!
//! Source: Patroni documentation, "Patroni REST API", health check endpoints (OPTIONS as GET,
//! without a body; 200 or 503; `lag`; `replication_state`).

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::model::Role;
use crate::model::brakes::Conduct;
use crate::model::situation::NodeState;
use crate::runtime::evidence::Look;
use crate::runtime::handle::AgentHandle;
use crate::runtime::status::Snapshot;

/// From so long before the deadline of the lease on, nobody is sent to this node any more: it is
/// fenced at the deadline, and a question that is answered now is acted upon later.
const LEAD: Duration = Duration::from_millis(200);

/// A standby that has heard nothing for longer does not stream, whatever its receiver says. The
/// primary's canary writes several times in this span.
const HEARD_MAX: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Does this node take writes, under the lease?
    Primary,
    /// Is it a standby that may be read from?
    Replica,
    /// Either of both?
    ReadOnly,
    /// Is PostgreSQL up?
    Health,
    /// Does the agent's loop go round?
    Liveness,
    /// Is this node ready for what it is for?
    Readiness,
}

/// Every path and what it asks.
const PATHS: &[(&str, Question)] = &[
    ("/", Question::Primary),
    ("/primary", Question::Primary),
    ("/read-write", Question::Primary),
    ("/leader", Question::Primary),
    ("/replica", Question::Replica),
    // Replication is asynchronous here.
    ("/asynchronous", Question::Replica),
    ("/async", Question::Replica),
    ("/read-only", Question::ReadOnly),
    ("/health", Question::Health),
    ("/liveness", Question::Liveness),
    ("/readiness", Question::Readiness),
];

/// What may be asked more precisely. Other words are refused: a condition that is not looked at
/// must not seem to hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// How much WAL a standby may lack: bytes, or with a unit (`kB`, `MB`, `GB`, `TB`; 1024 each).
    lag: Option<String>,
    /// `streaming`: a standby must receive WAL right now.
    replication_state: Option<String>,
}

/// A condition that was understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Most bytes that a standby may lack.
    pub lag_max: Option<u64>,
    /// It must receive WAL right now.
    pub streaming: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether traffic may come.
    #[serde(skip)]
    pub yes: bool,
    /// `running`, `starting`, `stopped` or `unknown`.
    pub state: &'static str,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
    /// The node's timeline, once it was seen.
    pub timeline: Option<u32>,
    /// Bytes that the standby lacks, as far as is known.
    pub lag: Option<u64>,
    /// The site.
    pub site: String,
    /// Why not; empty for yes.
    pub why: &'static str,
}

#[derive(Debug, Clone)]
struct Desk {
    agent: AgentHandle,
    /// A picture, or a look in it, that is older is nobody's word any more.
    age_max: Duration,
}

/// The endpoints. `age_max` is the lease's ttl: the loop goes round several times in it.
pub fn router(agent: AgentHandle, age_max: Duration) -> Router {
    let methods = MethodFilter::GET.or(MethodFilter::OPTIONS);
    let mut router = Router::new();
    for (path, question) in PATHS {
        let answered =
            move |desk: State<Desk>, asked: Result<Query<Conditions>, QueryRejection>| {
                std::future::ready(answer(&desk, *question, asked))
            };
        router = router.route(path, on(methods, answered));
    }
    router.with_state(Desk { agent, age_max })
}

fn answer(
    desk: &Desk,
    question: Question,
    asked: Result<Query<Conditions>, QueryRejection>,
) -> Response {
    let wanted = match asked {
        Ok(Query(conditions)) => conditions.read(),
        Err(rejection) => Err(rejection.body_text()),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return (StatusCode::BAD_REQUEST, why + "\n").into_response(),
    };
    let picture = desk.agent.status.borrow().clone();
    let at = Instant {
        age: picture.age(),
        age_max: desk.age_max,
        lease_left: desk.agent.lease_left(picture.lease.epoch),
    };
    let verdict = verdict(&picture, question, wanted, at);
    let status = match verdict.yes {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(verdict)).into_response()
}

impl Conditions {
    /// # Errors
    /// In words, for whoever wrote the load balancer's file.
    fn read(&self) -> Result<Wanted, String> {
        let lag_max = self.lag.as_deref().map(bytes).transpose()?;
        let streaming = match self.replication_state.as_deref() {
            None => false,
            Some("streaming") => true,
            Some(_) => return Err("replication_state: only `streaming` is known here".to_owned()),
        };
        Ok(Wanted { lag_max, streaming })
    }
}

/// Source: PostgreSQL manual 20.1.1, memory units.
fn bytes(text: &str) -> Result<u64, String> {
    let refuse = || format!("lag: not a size: {text:?} (bytes, or with kB, MB, GB or TB)");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return Err(refuse()),
    };
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    number.checked_mul(factor).ok_or_else(refuse)
}

/// What the clock says beside the picture.
#[derive(Debug, Clone, Copy)]
pub struct Instant {
    /// How old the picture is.
    pub age: Duration,
    /// How old it may be, and the looks in it.
    pub age_max: Duration,
    /// For how long the keeper holds the lease of the picture's epoch; `None`: it does not.
    pub lease_left: Option<Duration>,
}

/// Answers a question from a picture.
#[must_use]
pub fn verdict(picture: &Snapshot, question: Question, wanted: Wanted, at: Instant) -> Verdict {
    let own = picture.facts.map(|facts| facts.own);
    let current = match at.age <= at.age_max {
        true => Ok(()),
        false => Err("the agent's loop does not go round"),
    };
    let lag = lag(picture, at);
    // The keeper's word does not age: a loop that hangs takes no lease away.
    let primary = || primary(picture, at.lease_left);
    let replica = || current.and_then(|()| replica(picture, wanted, lag, at));
    let held = match question {
        Question::Liveness => current,
        Question::Health => current.and_then(|()| up(own)),
        Question::Primary => primary(),
        Question::Replica => replica(),
        Question::ReadOnly | Question::Readiness => primary().or_else(|_| replica()),
    };
    let look = picture.evidence.own.as_ref();
    Verdict {
        yes: held.is_ok(),
        state: state(own),
        role: match look.map(|look| look.role) {
            Some(Role::Primary) => "primary",
            Some(Role::Standby) => "replica",
            None => "unknown",
        },
        timeline: look.map(|look| look.timeline.0),
        lag: look.filter(|look| look.role == Role::Standby).and(lag),
        site: picture.site.to_string(),
        why: held.err().unwrap_or_default(),
    }
}

/// The lease decides, not the role: a former primary that nobody has stopped yet is none. A primary
/// that its agent cannot look at (no free slot, a lock, no answer) keeps its traffic as long as it
/// is not given up: there is no other.
fn primary(picture: &Snapshot, lease_left: Option<Duration>) -> Result<(), &'static str> {
    if picture.brakes.mode == Conduct::Observe {
        return Err("this agent only observes, and holds no lease: mode = \"observe\"");
    }
    if !picture.active {
        return Err("this site is not active");
    }
    if lease_left.is_none_or(|left| left <= LEAD) {
        return Err("its lease is over, or nearly so");
    }
    match picture.facts.map(|facts| facts.own) {
        Some(
            NodeState::Primary
            | NodeState::Busy
            | NodeState::RefusesUs
            | NodeState::CannotWrite
            | NodeState::Disputed
            | NodeState::Unknown
            | NodeState::Hung,
        ) => Ok(()),
        Some(NodeState::Standby | NodeState::Starting | NodeState::Dead) | None => {
            Err("its node does not serve as primary")
        }
    }
}

fn replica(
    picture: &Snapshot,
    wanted: Wanted,
    lag: Option<u64>,
    at: Instant,
) -> Result<(), &'static str> {
    if picture.facts.map(|facts| facts.own) != Some(NodeState::Standby) {
        return Err("its node is not a standby that answers");
    }
    let receives = fresh(picture, picture.evidence.own, at)
        .and_then(|look| look.heard)
        .is_some_and(|heard| heard <= at.age_max.max(HEARD_MAX));
    if wanted.streaming && !receives {
        return Err("it receives no WAL");
    }
    match (wanted.lag_max, lag) {
        (None, _) => Ok(()),
        (Some(max), Some(lag)) if lag <= max => Ok(()),
        (Some(_), Some(_)) => Err("it lags more than was asked for"),
        (Some(_), None) => Err("how much it lags is not known"),
    }
}

/// What the standby lacks of what the other site has written, in bytes; `None` where nobody has
/// seen that lately.
fn lag(picture: &Snapshot, at: Instant) -> Option<u64> {
    let own = fresh(picture, picture.evidence.own, at)?;
    let seen = [picture.evidence.peer, picture.evidence.reported];
    let primaries = seen
        .into_iter()
        .filter_map(|look| fresh(picture, look, at))
        .filter(|look| look.role == Role::Primary);
    let newest = primaries.map(|look| look.lsn).max()?;
    Some(newest.0.saturating_sub(own.lsn.0))
}

fn fresh(picture: &Snapshot, look: Option<Look>, at: Instant) -> Option<Look> {
    look.filter(|look| picture.evidence.now.since(look.at) <= at.age_max)
}

fn up(own: Option<NodeState>) -> Result<(), &'static str> {
    match state(own) {
        "running" => Ok(()),
        "starting" => Err("PostgreSQL is starting"),
        "stopped" => Err("PostgreSQL is down"),
        _ => Err("whether PostgreSQL is up is not known"),
    }
}

fn state(own: Option<NodeState>) -> &'static str {
    match own {
        Some(
            NodeState::Primary
            | NodeState::Standby
            | NodeState::Busy
            | NodeState::RefusesUs
            | NodeState::CannotWrite,
        ) => "running",
        Some(NodeState::Starting) => "starting",
        Some(NodeState::Hung | NodeState::Dead) => "stopped",
        Some(NodeState::Unknown | NodeState::Disputed) | None => "unknown",
    }
}

#[cfg(test)]
mod tests;
