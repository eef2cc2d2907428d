//! The disk of the active site's data breaks: each way has its name, and the site is handed over.

use std::fs;
use std::time::{Duration, Instant};

use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::plan::{Cause, PlanKind};

use super::{SOON, keep_rows, rows_up_to, wait_moved};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::disk::DataDisk;
use crate::support::postgres::NodeOptions;
use crate::support::writer::{Session, overlap};
use crate::support::{timeline, wait_until};

/// A cluster whose primary has a disk of its own; `None`, said loudly, where that is not permitted.
async fn cluster_on_a_disk() -> Option<TestCluster> {
    let cluster = TestCluster::start(ClusterOptions {
        primary: NodeOptions::default().own_disk(),
        ..ClusterOptions::default()
    })
    .await;
    cluster.node(0).disk()?;
    Some(cluster)
}

/// What fra gave up its role for.
fn given_up_for(cluster: &TestCluster) -> Vec<Cause> {
    let entries = cluster.journal(0).into_iter();
    let cause = |entry: JournalEntry| match entry {
        JournalEntry::Planned { plan, .. } if plan.kind == PlanKind::GiveUp => Some(plan.cause),
        _ => None,
    };
    entries.filter_map(cause).collect()
}

/// Breaks fra's disk while clients write, and checks that the site is handed over, for a reason
/// with this name, and that nobody ever had two writers.
async fn is_handed_over(cluster: &TestCluster, name: Diagnosis, breaks: impl AsyncFn(&DataDisk)) {
    keep_rows(cluster, 100).await;
    let old = Session::persistent(cluster.node(0));
    let new = Session::open(cluster.node(1)).await;
    wait_until("it commits", SOON, || async { !old.commits().is_empty() }).await;
    let disk = cluster.node(0).disk().unwrap();
    let (fault, began) = (timeline::now(), Instant::now());
    breaks(disk).await;
    wait_moved(cluster).await;
    println!("timing {name}: ams active +{:?}", began.elapsed());
    assert_eq!(disk.processes(), [0_u32; 0], "fra is fenced");
    let cause = Cause::Diagnosed { diagnosis: name };
    assert_eq!(given_up_for(cluster), [cause]);
    wait_until("the session of before commits at ams", SOON, || async {
        new.commits().len() > 20
    })
    .await;
    assert_eq!(disk.processes(), [0_u32; 0], "fra stays fenced");
    let overlap = overlap(&old.commits(), &new.commits());
    assert_eq!(overlap, Duration::ZERO, "two writers");
    assert_eq!(rows_up_to(cluster, 1, 100).await, 100);
    cluster.print_timeline(name.name(), fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s6_read_only_file_system_is_named_and_handed_over() {
    let Some(cluster) = cluster_on_a_disk().await else {
        return;
    };
    let breaks = async |disk: &DataDisk| disk.turn_read_only();
    is_handed_over(&cluster, Diagnosis::DiskReadOnly, breaks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s6_full_disk_is_named_and_handed_over() {
    let Some(cluster) = cluster_on_a_disk().await else {
        return;
    };
    let client = cluster.node(0).connect("postgres").await;
    let breaks = async |disk: &DataDisk| {
        disk.fill();
        // As soon as WAL needs another file, the server ends; nothing says when it will.
        while client.batch_execute("SELECT pg_switch_wal()").await.is_ok() {
            let row = client.batch_execute("INSERT INTO kept VALUES (0)").await;
            println!("one more file of WAL: {row:?}");
        }
    };
    is_handed_over(&cluster, Diagnosis::DiskFull, breaks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_s3_unmounted_data_directory_is_named_and_its_server_fenced() {
    let Some(cluster) = cluster_on_a_disk().await else {
        return;
    };
    let breaks = async |disk: &DataDisk| disk.unmount_lazily();
    is_handed_over(&cluster, Diagnosis::DataDirectoryGone, breaks).await;
    // Nothing was begun in the empty mount point, and once the disk is back its server does not
    // start as a primary by itself (S10).
    let (node, disk) = (cluster.node(0), cluster.node(0).disk().unwrap());
    assert_eq!(fs::read_dir(&node.data_dir).unwrap().count(), 0);
    disk.mount_again();
    assert!(node.data_dir.join("standby.signal").exists());
    cluster
        .wait_status(0, "fra sees its directory again", SOON, |status| {
            let seen = |target: &str| {
                let found = status.targets.iter().find(|shown| shown.target == target);
                found.map(|shown| shown.seen.clone())
            };
            seen("own data directory").is_some_and(|seen| seen.contains("in its place"))
        })
        .await;
    assert!(cluster.status(1).active);
    assert_eq!(disk.processes(), [0_u32; 0], "fra stays fenced");
}
