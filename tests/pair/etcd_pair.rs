//! A whole pair that keeps its lease in a real etcd, without a witness, over real PostgreSQL.
#![expect(
    clippy::disallowed_methods,
    reason = "helpers of tests measure and wait, within bounds"
)]

use std::time::{Duration, Instant};

use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::etcd::TestEtcd;
use crate::support::wait_until;
use crate::support::writer::{App, Session, overlap};

const SOON: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(3);

async fn pair_on(etcd: &TestEtcd) -> TestCluster {
    TestCluster::start(ClusterOptions {
        witness: false,
        lease: etcd.toml(),
        ..ClusterOptions::default()
    })
    .await
}

async fn commits(app: &App, count: usize) {
    let so_far = app.commits().len();
    wait_until("the app commits", SOON, || async {
        app.commits().len() > so_far + count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s6_killed_postmaster_is_handed_over_through_etcd() {
    let etcd = TestEtcd::start(1).await;
    let cluster = pair_on(&etcd).await;
    let old = Session::open(cluster.node(0)).await;
    let new = Session::open(cluster.node(1)).await;
    let began = Instant::now();
    let postmaster = cluster.node(0).postmaster_pid();
    cluster.node(0).signal("KILL", &[postmaster]);
    cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    wait_until("ams takes commits", SOON, || async {
        !new.commits().is_empty()
    })
    .await;
    println!("timing handover through etcd: {:?}", began.elapsed());
    assert!(cluster.node(0).processes().is_empty(), "fra is fenced");
    assert_eq!(overlap(&old.commits(), &new.commits()), Duration::ZERO);
    let record = cluster.status(1).record.clone().expect("a record");
    assert_eq!(record.primary.as_str(), "ams");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s5_lost_site_is_taken_over_without_a_witness() {
    let etcd = TestEtcd::start(1).await;
    let mut cluster = pair_on(&etcd).await;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    commits(&app, 20).await;
    let began = Instant::now();
    cluster.lose_site(0).await;
    cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    println!(
        "timing site lost, lease in etcd: ams active +{:?} (ttl {TTL:?})",
        began.elapsed()
    );
    commits(&app, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i12_etcd_away_while_the_peer_agrees_fails_no_commit() {
    let etcd = TestEtcd::start(1).await;
    let cluster = pair_on(&etcd).await;
    let epoch = cluster.status(0).lease.epoch;
    let session = Session::open(cluster.node(0)).await;
    let app = App::start([cluster.node(0), cluster.node(0)]);
    commits(&app, 20).await;
    // Not killed: it goes on taking connections and never answers.
    etcd.signal("STOP");
    let began = Instant::now();
    let away = away();
    // Looked at all the time: several ttls without a store.
    while began.elapsed() < away {
        assert!(cluster.status(0).active, "fra goes on");
        assert!(!cluster.status(1).active, "ams does not take over");
        assert_eq!(session.ended(), None, "the session goes on");
        // bounded: by `away`
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    etcd.signal("CONT");
    etcd.wait_serving().await;
    commits(&app, 100).await;
    assert_eq!(app.failures(), 0, "no commit failed");
    assert_eq!(session.ended(), None);
    assert_eq!(cluster.status(0).lease.epoch, epoch, "nobody took a lease");
    println!(
        "etcd away: {} s, {} commits, 0 failed",
        away.as_secs(),
        app.commits().len()
    );
}

/// How long etcd is away: three ttls and more, or what `make lab` says.
fn away() -> Duration {
    let seconds = |name| std::env::var(name).ok()?.parse().ok();
    let full = std::env::var_os("LAB_FULL").map(|_| 180);
    Duration::from_secs(seconds("LAB_AWAY").or(full).unwrap_or(10))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_etcd_and_peer_away_is_fenced_in_time() {
    let mut etcd = TestEtcd::start(1).await;
    let mut cluster = pair_on(&etcd).await;
    let old = Session::open(cluster.node(0)).await;
    wait_until("fra takes commits", SOON, || async {
        old.commits().len() > 20
    })
    .await;
    let began = Instant::now();
    etcd.kill(0);
    cluster.stop_agent(1).await;
    wait_until("fra is fenced", SOON, || async {
        cluster.node(0).processes().is_empty()
    })
    .await;
    wait_until("the session is gone", SOON, || async {
        old.ended().is_some()
    })
    .await;
    let last = old.commits().last().expect("commits").at;
    let last = last.saturating_duration_since(began);
    println!("timing etcd and peer away: last commit +{last:?}");
    // What the peer still agreed to before it was stopped counts from then on.
    assert!(last < TTL * 2, "the last commit came {last:?} after (S2)");
    let new = Session::open(cluster.node(1)).await;
    // etcd comes back with what it had: the other site may start, and nobody overlaps.
    etcd.restart(0);
    etcd.wait_serving().await;
    cluster.start_agent(1).await;
    cluster
        .wait_status(0, "fra looks again", SOON, |status| {
            status.lease.view != "unknown"
        })
        .await;
    wait_until("somebody takes commits again", SOON, || async {
        cluster.status(0).active || !new.commits().is_empty()
    })
    .await;
    assert_eq!(overlap(&old.commits(), &new.commits()), Duration::ZERO);
}
