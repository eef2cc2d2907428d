//! New versions of the cluster record. Only the holder of the lease makes them.

use crate::decision::brakes;
use crate::decision::own_view;
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::State;
use crate::model::brakes::Brakes;
use crate::model::lease::ClusterRecord;
use crate::model::observation::NodeReport;
use crate::model::{Epoch, SiteName, Timestamp};

/// The first record of a cluster, from what the own node says of itself.
#[must_use]
pub fn first(policy: &Policy, state: &State, epoch: Epoch) -> Option<ClusterRecord> {
    let report = own_view::own_report(state)?;
    Some(ClusterRecord {
        epoch,
        revision: 1,
        primary: policy.me.clone(),
        promoting: false,
        system_id: report.system_id,
        timeline: report.timeline,
        last_lsn: report.lsn,
        last_failover: None,
        brakes: Box::default(),
    })
}

/// The next version of a record under the held epoch.
#[must_use]
pub fn next(record: &ClusterRecord, epoch: Epoch) -> ClusterRecord {
    let mut next = record.clone();
    next.succeed(epoch);
    next
}

/// This site is about to promote.
#[must_use]
pub fn claiming(
    policy: &Policy,
    state: &State,
    record: &ClusterRecord,
    epoch: Epoch,
    site: &SiteName,
    failover_at: Option<Timestamp>,
) -> ClusterRecord {
    let mut record = record.clone();
    if record.primary != *site {
        record.unpin();
    }
    let record = &record;
    ClusterRecord {
        primary: site.clone(),
        promoting: true,
        last_lsn: situate::newest_lsn(policy, state),
        last_failover: failover_at.or(record.last_failover),
        brakes: Box::new(Brakes {
            planned: false,
            ..failover_at.map_or_else(
                || Brakes::clone(&record.brakes),
                |at| record.brakes.with_failover(at),
            )
        }),
        ..next(record, epoch)
    }
}

/// The record as it was before a claim that came to nothing.
#[must_use]
pub fn restored(now: &ClusterRecord, before: &ClusterRecord, epoch: Epoch) -> ClusterRecord {
    ClusterRecord {
        primary: before.primary.clone(),
        promoting: before.promoting,
        system_id: before.system_id,
        timeline: before.timeline,
        last_lsn: before.last_lsn,
        last_failover: before.last_failover,
        brakes: Box::new(brakes::restored(&now.brakes, &before.brakes)),
        ..next(now, epoch)
    }
}

/// This site has the primary, and says so under the held epoch before it starts it: should it be
/// lost right afterwards, a majority knows who wrote last.
#[must_use]
pub fn reaffirmed(policy: &Policy, record: &ClusterRecord, epoch: Epoch) -> ClusterRecord {
    let mut record = next(record, epoch);
    if record.primary != policy.me {
        record.unpin();
        record.primary = policy.me.clone();
    }
    record
}

/// The own node was seen to take writes.
#[must_use]
pub fn proved(
    policy: &Policy,
    record: &ClusterRecord,
    epoch: Epoch,
    report: Option<&NodeReport>,
) -> ClusterRecord {
    let mut proved = reaffirmed(policy, record, epoch);
    proved.promoting = false;
    if let Some(report) = report {
        proved.timeline = report.timeline;
        proved.last_lsn = report.lsn;
    }
    proved
}
