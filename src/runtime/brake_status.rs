//! The brakes as every surface shows them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::brakes;
use crate::decision::policy::Policy;
use crate::decision::state::State;
use crate::model::brakes::{Acknowledged, Conduct};
use crate::model::lease::ClusterRecord;
use crate::model::time::Now;
use crate::model::{SiteName, Timestamp};

/// What keeps the agents from acting by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BrakeStatus {
    /// Whether this agent acts at all.
    pub mode: Conduct,
    /// The pause that holds now.
    pub paused: Option<PauseStatus>,
    /// The site whose guard a pause has switched off; also once that pause has run out, until its
    /// agent says that the guard is on again.
    #[serde(default)]
    pub guard_off: Option<SiteName>,
    /// Milliseconds until the block after the last automatic failover is over.
    pub blocked_ms: Option<u64>,
    /// Automatic failovers within the window that nobody acknowledged.
    pub failovers: usize,
    /// As many as may be.
    pub failovers_max: usize,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// When the last automatic failover was.
    pub last_failover: Option<Timestamp>,
    /// Who acknowledged it.
    pub acknowledged: Option<Acknowledged>,
}

/// A pause as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// Who asked for it, and where.
    pub by: String,
    /// When.
    pub since: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// Milliseconds until it ends by itself.
    pub left_ms: Option<u64>,
}

/// The brakes as of `now`.
#[must_use]
pub fn brake_status(policy: &Policy, state: &State, now: Now) -> BrakeStatus {
    let record = state.record.as_ref();
    BrakeStatus {
        mode: policy.conduct,
        paused: brakes::pause(state, now).map(|(paused, left)| PauseStatus {
            by: paused.by.clone(),
            since: paused.since,
            reason: paused.reason.clone(),
            left_ms: left.map(millis),
        }),
        guard_off: record.and_then(ClusterRecord::pinned_to).cloned(),
        blocked_ms: brakes::block_left(policy, state, now).map(millis),
        failovers: brakes::recent_failovers(policy, state, now).len(),
        failovers_max: policy.max_automatic,
        window_ms: millis(policy.window),
        last_failover: record.and_then(|record| record.last_failover),
        acknowledged: record.and_then(|record| record.brakes.acknowledged.clone()),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
