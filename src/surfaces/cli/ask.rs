//! Asks the running agent of this host, over its operator socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exit::{Exit, Failure};
use super::socket::{OperatorSocket, SocketError};
use super::{Context, settings};
use crate::model::SiteName;
use crate::runtime::status::Snapshot;
use crate::surfaces::api::brakes::{self, BrakeAnswer, BrakeQuestion};
use crate::surfaces::api::config::{self, ConfigAnswer, ConfigQuestion};
use crate::surfaces::api::dns::{self, DnsAnswer, DnsQuestion};
use crate::surfaces::api::operator::{
    FAILOVER, FailoverAnswer, FailoverQuestion, NEWER_WAIT_MAX, STATUS, StatusAnswer,
};

/// A wish may be passed on to the other agent, which has its own bound.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Each provider and each name server has its own bound, and all are asked at once.
const DNS_WAIT_MAX: Duration = Duration::from_mins(2);

/// An app after the other; each is checked, told and asked, and maybe told of its old files.
const CONFIG_WAIT_MAX: Duration = Duration::from_mins(30);

/// Which agent to ask.
#[derive(Debug, Args)]
pub(super) struct SocketArgument {
    /// The agent's socket; found through the settings file if left out.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// The running agent.
#[derive(Debug, Clone)]
pub(crate) struct LocalAgent(OperatorSocket);

impl LocalAgent {
    /// The agent behind this socket.
    pub(crate) fn at(path: &std::path::Path) -> Self {
        Self(OperatorSocket::new(path, ANSWER_WAIT_MAX + NEWER_WAIT_MAX))
    }

    /// The agent that the command line means.
    pub(super) fn of(context: &Context<'_>, argument: &SocketArgument) -> Result<Self, Failure> {
        let path = match &argument.socket {
            Some(path) => path.clone(),
            None => settings::places(context)?.socket,
        };
        Ok(Self::at(&path))
    }

    /// The newest picture.
    pub(crate) async fn status(&self) -> Result<Snapshot, SocketError> {
        self.look().await.map(|answer| answer.picture)
    }

    /// The newest picture, with what was measured at the last take-over.
    pub(crate) async fn look(&self) -> Result<StatusAnswer, SocketError> {
        self.0.get_json(STATUS).await
    }

    /// The first picture that is newer than `known`, or an old one after a while.
    pub(crate) async fn newer_than(&self, known: &Snapshot) -> Result<Snapshot, SocketError> {
        let path = format!("{STATUS}?newer_than={}", known.at.0);
        self.0.get_json(&path).await
    }

    /// Asks for a failover.
    pub(super) async fn failover(
        &self,
        to: &SiteName,
        dry_run: bool,
    ) -> Result<FailoverAnswer, SocketError> {
        let question = FailoverQuestion {
            to: to.clone(),
            dry_run,
        };
        self.ask(FAILOVER, &question).await
    }

    /// Asks for a change of the brakes.
    pub(super) async fn brake(&self, question: &BrakeQuestion) -> Result<BrakeAnswer, SocketError> {
        self.ask(brakes::PATH, question).await
    }

    /// Asks about DNS; the agent asks providers and name servers before it answers.
    pub(super) async fn dns(&self, question: &DnsQuestion) -> Result<DnsAnswer, SocketError> {
        let patient = Self(self.0.clone().waiting(DNS_WAIT_MAX));
        patient.ask(dns::PATH, question).await
    }

    /// Has files changed: every app's checks, reload and proof have their own bounds.
    pub(super) async fn config(
        &self,
        question: &ConfigQuestion,
    ) -> Result<ConfigAnswer, SocketError> {
        let patient = Self(self.0.clone().waiting(CONFIG_WAIT_MAX));
        patient.ask(config::PATH, question).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &(impl Serialize + Sync),
    ) -> Result<T, SocketError> {
        let mut lines = self.0.post_stream(path, question).await?;
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, lines.next()).await;
        let nothing = || SocketError::NotUnderstood {
            request: format!("POST {path}"),
            why: "there is none".to_owned(),
        };
        answer.map_err(|_| nothing())??.ok_or_else(nothing)
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let exit = match &error {
            SocketError::Missing { .. }
            | SocketError::NobodyListens { .. }
            | SocketError::Denied { .. }
            | SocketError::TimedOut { .. }
            | SocketError::Broken { .. } => Exit::Unreachable,
            SocketError::Refused { .. } | SocketError::NotUnderstood { .. } => Exit::Failed,
        };
        Self::new(exit, error)
    }
}
