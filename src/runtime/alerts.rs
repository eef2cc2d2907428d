//! What the decision loop wants told → alerts for the outbox.

use crate::decision::decide::Telling;
use crate::model::alert::{Alert, AlertLevel};
use crate::model::diagnosis::Severity;
use crate::model::{ClusterName, Epoch, PlanId, SiteName, Timestamp};

/// News of the decision loop.
#[must_use]
pub fn from_telling(
    cluster: &ClusterName,
    site: &SiteName,
    epoch: Epoch,
    telling: &Telling,
    at: Timestamp,
) -> Alert {
    let level = match telling.severity {
        Severity::Fine | Severity::Unclear => AlertLevel::Info,
        Severity::Degraded => AlertLevel::Warn,
        Severity::Outage | Severity::Danger => AlertLevel::Page,
    };
    Alert {
        cluster: cluster.clone(),
        site: Some(site.clone()),
        event: telling.topic.clone(),
        level,
        summary: telling.summary.clone(),
        details: Vec::new(),
        epoch: Some(epoch),
        plan: telling.plan.clone(),
        at,
    }
}

/// The `Notify` step of a plan: the site moved.
#[must_use]
pub fn from_step(
    cluster: &ClusterName,
    site: &SiteName,
    epoch: Epoch,
    plan: &PlanId,
    summary: &str,
    at: Timestamp,
) -> Alert {
    Alert {
        cluster: cluster.clone(),
        site: Some(site.clone()),
        event: "failover_done".to_owned(),
        level: AlertLevel::Page,
        summary: summary.to_owned(),
        details: Vec::new(),
        epoch: Some(epoch),
        plan: Some(plan.clone()),
        at,
    }
}
