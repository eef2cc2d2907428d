//! Step → effect: one file per step. Each observes (already done?), applies, and verifies; those
//! before the commit point can be undone. None of them knows about leases, plans or retries.
//!
//! `HandOver` and `RecordPrimary` have no file here: they are news for the lease machine, which
//! the decision loop tells directly. `Notify` goes to the outbox.

mod check_candidate;
mod fence_own;
mod promote;
mod rewrite_app_config;
mod start_own;
mod start_standby;
mod update_dns;
mod verify_writes;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::settings::AppConfig;
use crate::effects::app_config::Surroundings;
use crate::effects::dns::DnsProvider;
use crate::effects::dns::moved::MovedSender;
use crate::effects::error::EffectError;
use crate::effects::permit::Permit;
use crate::effects::postgres::canary::HeartbeatTable;
use crate::effects::postgres::client::Login;
use crate::effects::postgres::control::NodeControl;
use crate::model::event::Learned;
use crate::model::plan::Step;
use crate::model::{ClusterName, Epoch, Moment, SiteName};

/// What steps work with: one agent's own node, files and records.
#[derive(Debug)]
pub struct Tools {
    /// The cluster.
    pub cluster: ClusterName,
    /// This site.
    pub site: SiteName,
    /// The own node's processes.
    pub node: NodeControl,
    /// The own node by SQL.
    pub login: Login,
    /// The other site's node by SQL.
    pub other: Option<Login>,
    /// The heartbeat table.
    pub table: HeartbeatTable,
    /// App config targets, by name.
    pub app_configs: Vec<AppConfig>,
    /// What templates of app configs see.
    pub surroundings: Arc<Surroundings>,
    /// DNS targets, by name.
    pub dns: Vec<DnsRecordTool>,
    /// Where previous versions of files are kept.
    pub state_dir: PathBuf,
}

/// A DNS record and the provider that keeps it.
#[derive(Debug)]
pub struct DnsRecordTool {
    /// Its name in `agent.toml`.
    pub name: String,
    /// The DNS name.
    pub record: String,
    /// The record's type.
    pub kind: String,
    /// Who keeps it.
    pub provider: Arc<dyn DnsProvider>,
    /// Who is told that it is right.
    pub moved: MovedSender,
}

/// One attempt of one step.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The step with its parameters.
    pub step: &'a Step,
    /// The epoch it acts under (S8).
    pub epoch: Epoch,
    /// Undo it instead.
    pub undo: bool,
    /// By when it must have ended.
    pub deadline: Moment,
    /// Asked right before anything that may let the node take writes, and before a change at a DNS
    /// provider.
    pub permit: &'a dyn Permit,
}

/// Runs one attempt. Repeating it is harmless.
///
/// # Errors
/// What the effect says; a step that has no effect of its own is a `Permanent` error.
pub async fn run(tools: &Tools, attempt: Attempt<'_>) -> Result<Learned, EffectError> {
    match (attempt.step, attempt.undo) {
        (Step::FenceOwn { grace, budget }, false) => {
            fence_own::apply(tools, attempt.epoch, *grace, *budget).await
        }
        (Step::FenceOwn { .. }, true) | (Step::StartOwn { .. }, false) => {
            start_own::apply(tools, attempt).await
        }
        (
            Step::CheckCandidate {
                system_id,
                timeline,
                last_lsn,
                lag_max,
                finishes,
                silent,
            },
            false,
        ) => {
            let demand = check_candidate::Demand {
                system_id: *system_id,
                timeline: *timeline,
                last_lsn: *last_lsn,
                lag_max: *lag_max,
                finishes: *finishes,
                silent: silent.is_some(),
            };
            check_candidate::apply(tools, demand, attempt.deadline).await
        }
        (Step::StartStandby { .. }, false) => start_standby::apply(tools, attempt).await,
        (Step::Promote { .. }, false) => promote::apply(tools, attempt).await,
        (Step::Promote { .. }, true) => promote::undo(tools, attempt.epoch, attempt.deadline).await,
        (Step::VerifyWrites { .. }, false) => {
            verify_writes::apply(tools, attempt.epoch, attempt.deadline).await
        }
        (step @ Step::RewriteAppConfig { .. }, false) => {
            rewrite_app_config::apply(tools, step, attempt.epoch).await
        }
        (
            Step::UpdateDns {
                target, contents, ..
            },
            false,
        ) => update_dns::apply(tools, target, contents, attempt).await,
        (
            Step::HandOver { .. }
            | Step::RecordPrimary { .. }
            | Step::Notify { .. }
            | Step::StartStandby { .. }
            | Step::StartOwn { .. }
            | Step::CheckCandidate { .. }
            | Step::VerifyWrites { .. }
            | Step::RewriteAppConfig { .. }
            | Step::UpdateDns { .. },
            undo,
        ) => Err(EffectError::permanent(format!(
            "step '{}' has no effect to {}",
            attempt.step.kind(),
            if undo { "undo" } else { "apply" }
        ))),
    }
}

/// One line for people, nothing learned of the node.
fn noted(note: impl Into<String>) -> Learned {
    Learned {
        note: note.into(),
        node: None,
    }
}
