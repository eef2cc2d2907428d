//! The network around the active site breaks, or the whole site is lost. S1, S2, S5.

use std::time::{Duration, Instant};

use super::{SOON, TTL, keep_rows, rows_up_to, wait_moved};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::writer::{App, Session, overlap};
use crate::support::{timeline, wait_until};

/// Breaks the network around fra while clients write, and checks that nobody ever had two writers.
async fn cut_off_site_is_fenced(what: &str, cut: fn(&TestCluster)) {
    let cluster = TestCluster::start(ClusterOptions {
        relayed: true,
        ..ClusterOptions::default()
    })
    .await;
    keep_rows(&cluster, 100).await;
    let old = Session::open(cluster.node(0)).await;
    let new = Session::open(cluster.node(1)).await;
    let long = cluster.node(0).connect("postgres").await;
    long.batch_execute("BEGIN; INSERT INTO kept VALUES (101)")
        .await
        .unwrap();
    let (fault, began) = (timeline::now(), Instant::now());
    cut(&cluster);
    wait_moved(&cluster).await;
    let taken = began.elapsed();
    wait_until("the session of before commits at ams", SOON, || async {
        !new.commits().is_empty()
    })
    .await;

    assert!(cluster.node(0).processes().is_empty(), "fra is fenced");
    wait_until("the session of before is gone", SOON, || async {
        old.ended().is_some()
    })
    .await;
    assert!(long.batch_execute("COMMIT").await.is_err());
    let (old, new) = (old.commits(), new.commits());
    assert_eq!(overlap(&old, &new), Duration::ZERO, "two writers");
    let last = old.last().unwrap().at.saturating_duration_since(began);
    assert!(
        last < TTL,
        "the last commit came {last:?} after the cut (S2)"
    );
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.wait_env_names("ams", 1, SOON).await;
    println!("timing {what}: last commit at fra +{last:?}, ams active +{taken:?}");
    cluster.print_timeline(what, fault);

    cluster.network.heal();
    cluster.wait_env_names("fra", 1, SOON).await;
    cluster
        .wait_status(0, "fra watches ams", SOON, |status| {
            status.lease.view == "other" && status.phase == "watching" && status.run.is_none()
        })
        .await;
    assert!(cluster.node(0).processes().is_empty(), "fra stays fenced");
    assert!(cluster.node(0).data_dir.join("standby.signal").exists());
    assert!(cluster.status(1).active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_s2_cut_off_site_is_fenced_before_the_other_one_starts() {
    cut_off_site_is_fenced("cut off", |cluster| cluster.network.cut_off("fra")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_s2_site_that_is_not_heard_is_fenced_before_the_other_one_starts() {
    cut_off_site_is_fenced("not heard", |cluster| cluster.network.mute("fra")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_s2_site_that_hears_nobody_is_fenced_before_the_other_one_starts() {
    cut_off_site_is_fenced("deaf", |cluster| cluster.network.deafen("fra")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s5_lost_site_is_taken_over_after_its_term() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    keep_rows(&cluster, 100).await;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    wait_until("the app commits", SOON, || async {
        app.commits().len() > 20
    })
    .await;
    let (fault, began) = (timeline::now(), Instant::now());
    cluster.lose_site(0).await;
    wait_moved(&cluster).await;
    let taken = began.elapsed();
    let so_far = app.commits().len();
    wait_until("the app goes on", SOON, || async {
        app.commits().len() > so_far + 20
    })
    .await;
    println!(
        "timing site lost: ams active +{taken:?} (ttl {TTL:?}), unavailable {:?}",
        app.longest_pause()
    );
    cluster.print_timeline("site lost", fault);
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
}
