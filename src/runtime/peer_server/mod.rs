//! The receiving side of the members' link: HTTP in, calls of [`PeerService`] out.
//!
//! It lives here and not in `surfaces`, because members are no people: the runtime answers them
//! itself, also when every surface is dead (S16). `admission` decides who may speak; the handlers
//! below only translate. Start reading at [`router`].

mod admission;
mod door;

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use admission::{Admission, AdmissionSettings, RefusalCounts};
pub use door::serve;

use crate::effects::peer::wire::{
    BODY_BYTES_MAX, CommandAnswer, LeaseCall, PATH_CELL, PATH_COMMAND, PATH_HEALTH, PATH_LEASE,
    PATH_REPORT, PeerCommand, Refusal,
};
use crate::model::cell::{PeerAsk, PeerWord};
use crate::model::lease::{ClusterIdentity, LeaseReply, LeaseRequest, Verdict};
use crate::model::peer::PeerReport;
use crate::model::{Epoch, Member};

/// What members ask of each other. A call may be dropped when its time is over: whatever must not
/// be left half-done has to be done by a task of its own.
#[async_trait]
pub trait PeerService: Send + Sync + 'static {
    /// Asks this member's voter.
    async fn lease(
        &self,
        from: Member,
        identity: ClusterIdentity,
        request: LeaseRequest,
    ) -> LeaseReply;

    /// Asks this agent about a lease that is kept in a store. Who keeps none accepts nothing.
    async fn cell(&self, _ask: PeerAsk) -> PeerWord {
        PeerWord {
            accepted: false,
            epoch: Epoch::NONE,
        }
    }

    /// Takes a member's report (its `from` is proven) and gives the own one.
    async fn report(&self, report: PeerReport) -> PeerReport;

    /// Takes an operator's command that `from` passes on.
    async fn command(&self, from: Member, command: PeerCommand) -> CommandAnswer;
}

/// The member who sent the request, proven by its seal.
#[derive(Debug, Clone)]
struct Sender(Member);

#[derive(Clone)]
struct Served {
    service: Arc<dyn PeerService>,
    admission: Arc<Admission>,
}

/// Every path of the members' link.
pub fn router(admission: Arc<Admission>, service: Arc<dyn PeerService>) -> Router {
    let served = Served {
        service,
        admission: Arc::clone(&admission),
    };
    Router::new()
        .route(PATH_LEASE, post(lease))
        .route(PATH_CELL, post(cell))
        .route(PATH_REPORT, post(report))
        .route(PATH_COMMAND, post(command))
        .route_layer(from_fn_with_state(admission, admission::admit))
        .with_state(served)
        .route(PATH_HEALTH, get(|| async { "ok\n" }))
}

async fn lease(
    State(served): State<Served>,
    Extension(Sender(from)): Extension<Sender>,
    body: Bytes,
) -> Response {
    let call: LeaseCall = match understand(&body) {
        Ok(call) => call,
        Err(refused) => return *refused,
    };
    if !speaks_for_itself(&from, &call.request) {
        return served.admission.refuse_name(&from);
    }
    let reply = served
        .service
        .lease(from, call.identity, call.request)
        .await;
    if reply.verdict == Verdict::WrongCluster {
        served.admission.count_wrong_cluster();
    }
    answer(&reply)
}

async fn cell(
    State(served): State<Served>,
    Extension(Sender(from)): Extension<Sender>,
    body: Bytes,
) -> Response {
    let ask: PeerAsk = match understand(&body) {
        Ok(ask) => ask,
        Err(refused) => return *refused,
    };
    if from.site() != Some(&ask.holder) {
        return served.admission.refuse_name(&from);
    }
    answer(&served.service.cell(ask).await)
}

async fn report(
    State(served): State<Served>,
    Extension(Sender(from)): Extension<Sender>,
    body: Bytes,
) -> Response {
    let report: PeerReport = match understand(&body) {
        Ok(report) => report,
        Err(refused) => return *refused,
    };
    if report.from != from {
        return served.admission.refuse_name(&from);
    }
    answer(&served.service.report(report).await)
}

async fn command(
    State(served): State<Served>,
    Extension(Sender(from)): Extension<Sender>,
    body: Bytes,
) -> Response {
    match understand(&body) {
        Ok(command) => answer(&served.service.command(from, command).await),
        Err(refused) => *refused,
    }
}

/// A member asks for itself alone: nobody can release another one's lease.
fn speaks_for_itself(from: &Member, request: &LeaseRequest) -> bool {
    match request {
        LeaseRequest::Read => true,
        LeaseRequest::PreVote { candidate, .. } | LeaseRequest::Acquire { candidate, .. } => {
            from.site() == Some(candidate)
        }
        LeaseRequest::Renew { holder, .. } | LeaseRequest::Release { holder, .. } => {
            from.site() == Some(holder)
        }
    }
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        let text = format!("the request is not understood: {error}");
        Box::new((StatusCode::BAD_REQUEST, text).into_response())
    })
}

fn answer<T: Serialize>(answer: &T) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) if body.len() <= BODY_BYTES_MAX => body.into_response(),
        Ok(body) => {
            let text = format!("the answer has {} bytes, which is too long", body.len());
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Err(error) => {
            let text = format!("the answer has no JSON form: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

fn refused(status: StatusCode, refusal: Refusal) -> Response {
    (status, Json(refusal)).into_response()
}
