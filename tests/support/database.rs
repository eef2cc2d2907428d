//! Database probes for tests: one bounded look, and what it should have seen.

use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::effects::probes::Probe;
use failover_agent::effects::probes::postgres::{CanaryWriter, FreshProbe, PersistentProbe};
use failover_agent::model::observation::{Channel, DatabaseSeen, NodeReport, Seen, Target};
use failover_agent::model::{Epoch, SiteName};
use tokio::sync::watch;

use super::agent_role::{Access, install, table};
use super::postgres::{NodeOptions, SUPERUSER, TestNode};

pub const PATIENT: Duration = Duration::from_secs(30);
/// For what is meant to hang.
pub const SHORT: Duration = Duration::from_millis(500);

pub fn writer(epoch: u64) -> CanaryWriter {
    CanaryWriter {
        table: table(),
        site: SiteName::new("fra"),
        // A receiver goes on showing the last value when its sender is gone.
        epoch: watch::channel(Epoch(epoch)).1,
    }
}

/// The own node's persistent probe.
pub fn own(access: &Access) -> PersistentProbe {
    let target = Target::OwnDatabase(Channel::Persistent);
    PersistentProbe::new(target, access.login(), Some(writer(1)))
}

pub fn fresh(access: &Access) -> FreshProbe {
    FreshProbe::new(Target::PeerDatabase(Channel::Fresh), access.login())
}

pub async fn look_for(probe: &mut impl Probe, timeout: Duration) -> DatabaseSeen {
    let bound = timeout + PATIENT;
    let seen = tokio::time::timeout(bound, probe.look(boottime() + timeout)).await;
    let Seen::Database(seen) = seen.expect("a look ends by its deadline") else {
        panic!("a database probe sees databases");
    };
    seen
}

pub async fn look(probe: &mut impl Probe) -> DatabaseSeen {
    look_for(probe, PATIENT).await
}

pub fn answered(seen: DatabaseSeen) -> NodeReport {
    let DatabaseSeen::Answered(report) = seen else {
        panic!("expected an answer: {seen:?}");
    };
    report
}

pub fn timed_out(phase: &str) -> DatabaseSeen {
    DatabaseSeen::TimedOut {
        phase: phase.to_owned(),
    }
}

pub fn refusal(seen: DatabaseSeen) -> String {
    let DatabaseSeen::RefusesUs { why } = seen else {
        panic!("expected a refusal: {seen:?}");
    };
    why
}

pub async fn primary(options: NodeOptions) -> TestNode {
    let node = TestNode::primary(options);
    install(&node).await;
    node
}

pub async fn execute(node: &TestNode, sql: &str) {
    let client = node.connect(SUPERUSER).await;
    client.batch_execute(sql).await.expect("a superuser may");
}

pub async fn fetch(node: &TestNode, sql: &str) -> String {
    let client = node.connect(SUPERUSER).await;
    client
        .query_one(sql, &[])
        .await
        .expect("a superuser may")
        .get(0)
}
