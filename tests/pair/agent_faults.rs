//! Whole agents over real PostgreSQL, with something broken: what must go on, and what must not.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may fail loudly, and measured times are printed"
)]

mod app_servers;
mod data_disk;
mod disk;
mod network;
mod outside;
mod overload;
mod standby;

use std::time::{Duration, Instant};

use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::model::event::Answer;
use failover_agent::runtime::status::{Counter, Snapshot};

use crate::support::cluster::{ClusterOptions, ODD_SECRET, SECRET, TestCluster};
use crate::support::writer::{App, Session, missing, overlap};
use crate::support::{log, timeline, wait_until};

/// Long against everything that is waited for.
const SOON: Duration = Duration::from_secs(30);
/// The ttl of every cluster here.
const TTL: Duration = Duration::from_secs(3);

fn shows(status: &Snapshot, diagnosis: Diagnosis) -> bool {
    status.diagnoses.iter().any(|shown| shown.name == diagnosis)
}

fn counted(status: &Snapshot, name: &str) -> u64 {
    let counter = status.counters.iter().find(|counter| counter.name == name);
    counter.map_or(0, |counter| counter.count)
}

/// The reasons for which a command was refused, as one text.
fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused { reasons } => reasons.join("; "),
        other => panic!("not refused: {other:?}"),
    }
}

/// Rows that the standby has, and that must survive whatever comes.
async fn keep_rows(cluster: &TestCluster, count: i64) {
    let client = cluster.node(0).connect("postgres").await;
    let sql = format!("INSERT INTO kept SELECT generate_series(1, {count})");
    client.batch_execute(&sql).await.unwrap();
    cluster.pair.wait_caught_up().await;
}

async fn rows_up_to(cluster: &TestCluster, index: usize, count: i64) -> i64 {
    let client = cluster.node(index).connect("postgres").await;
    let sql = "SELECT count(*) FROM kept WHERE n <= $1";
    client.query_one(sql, &[&count]).await.unwrap().get(0)
}

fn kill_postmaster(cluster: &TestCluster, index: usize) {
    let node = cluster.node(index);
    node.signal("KILL", &[node.postmaster_pid()]);
}

async fn wait_moved(cluster: &TestCluster) {
    let within = SOON;
    cluster
        .wait_status(1, "ams is active", within, |status| status.active)
        .await;
}

/// Watches for a while that a site stays active and its node is never restarted.
async fn stays_active(cluster: &TestCluster, index: usize, span: Duration) {
    let postmaster = cluster.node(index).postmaster_pid();
    let until = Instant::now() + span;
    while Instant::now() < until {
        assert!(cluster.status(index).active, "{:#?}", cluster.status(index));
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.node(index).postmaster_pid(), postmaster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peer_with_a_wrong_secret_is_refused_counted_and_logged_once() {
    log::keep();
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    cluster.stop_agent(1).await;
    cluster.options.odd_secret = Some("ams");
    cluster.start_agent(1).await;
    let name = "refused_requests_wrong_secret";
    for index in [0, 1] {
        cluster
            .wait_status(index, "refusals are counted", SOON, |status| {
                counted(status, name) >= 5
            })
            .await;
    }
    cluster
        .wait_status(0, "fra misses ams", SOON, |status| {
            shows(status, Diagnosis::AgentSilent)
        })
        .await;
    // The one whose secret is wrong says so, too: otherwise the others just look dead to it.
    cluster
        .wait_status(1, "ams knows why nobody answers", SOON, |status| {
            let why = |counter: &Counter| {
                counter.name.starts_with("reports unanswered by fra")
                    && counter.name.contains("secrets differ")
            };
            status.counters.iter().any(why)
        })
        .await;
    let told = log::lines_with("does not answer");
    assert!(
        told.iter().any(|line| line.contains("secrets differ")),
        "{told:#?}"
    );
    stays_active(&cluster, 0, Duration::from_secs(1)).await;
    assert_eq!(cluster.status(1).lease.view, "unknown");
    assert!(!cluster.status(1).active);
    // One line from each of the three members that were knocked at, however often.
    let lines = log::lines_with("peer request refused");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for secret in [SECRET, ODD_SECRET] {
        assert!(log::lines_with(secret).is_empty());
    }
    let answer = cluster.failover(0, "ams", false).await;
    assert!(refused(answer).contains("does not answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s7_witness_down_and_the_site_is_still_handed_over() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    cluster.stop_witness().await;
    cluster
        .wait_status(0, "the witness is missed", SOON, |status| {
            shows(status, Diagnosis::WitnessSilent)
        })
        .await;
    stays_active(&cluster, 0, TTL).await;
    keep_rows(&cluster, 100).await;
    let fault = timeline::now();
    kill_postmaster(&cluster, 0);
    wait_moved(&cluster).await;
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.wait_env_names("ams", 1, SOON).await;
    cluster.print_timeline("handover without a witness", fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s7_silent_site_is_taken_over_only_once_the_witness_is_back() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    keep_rows(&cluster, 100).await;
    cluster.stop_witness().await;
    cluster.lose_site(0).await;
    cluster
        .wait_status(1, "why nothing is done", SOON, |status| {
            shows(status, Diagnosis::WitnessSilent)
                && status
                    .refusals
                    .iter()
                    .any(|why| why.contains("majority of voters"))
        })
        .await;
    let answer = cluster.failover(1, "ams", false).await;
    assert!(refused(answer).contains("majority of voters"));
    let until = Instant::now() + TTL;
    while Instant::now() < until {
        assert!(!cluster.status(1).active, "no third vote, no take-over");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.start_witness().await;
    wait_moved(&cluster).await;
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s7_pair_without_a_witness_hands_over() {
    let cluster = TestCluster::start(ClusterOptions {
        witness: false,
        ..ClusterOptions::default()
    })
    .await;
    keep_rows(&cluster, 100).await;
    let fault = timeline::now();
    kill_postmaster(&cluster, 0);
    wait_moved(&cluster).await;
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.wait_env_names("fra", 1, SOON).await;
    cluster.print_timeline("handover of a pair", fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s7_pair_does_not_take_a_silent_site_over_and_says_why() {
    let mut cluster = TestCluster::start(ClusterOptions {
        witness: false,
        ..ClusterOptions::default()
    })
    .await;
    cluster.lose_site(0).await;
    cluster
        .wait_status(1, "the silent site and the reason", SOON, |status| {
            shows(status, Diagnosis::SiteSilent)
                && status.refusals.iter().any(|why| why.contains("no witness"))
        })
        .await;
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until {
        assert_eq!(cluster.status(1).phase, "watching");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = cluster.failover(1, "ams", false).await;
    assert!(refused(answer).contains("no witness"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_agent_restarted_within_the_ttl_is_invisible_to_writers() {
    let mut cluster = TestCluster::start(ClusterOptions::default()).await;
    let postmaster = cluster.node(0).postmaster_pid();
    let epoch = cluster.status(0).lease.epoch;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    let enough = |count: usize| {
        let app = &app;
        move || async move { app.commits().len() >= count }
    };
    wait_until("the app commits", SOON, enough(50)).await;
    cluster.stop_agent(0).await;
    wait_until("the app commits", SOON, enough(app.commits().len() + 50)).await;
    cluster.start_agent(0).await;
    cluster.wait_settled(0).await;
    wait_until("the app commits", SOON, enough(app.commits().len() + 50)).await;
    assert_eq!(app.failures(), 0, "not one commit failed");
    assert_eq!(cluster.node(0).postmaster_pid(), postmaster, "no fence");
    assert_eq!(cluster.status(0).lease.epoch, epoch.next());
    println!(
        "timing agent restart: {} commits, longest pause {:?}",
        app.commits().len(),
        app.longest_pause()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_frozen_database_is_failed_over_and_never_thaws() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    keep_rows(&cluster, 100).await;
    let old = Session::open(cluster.node(0)).await;
    wait_until("it commits", SOON, || async { old.commits().len() > 5 }).await;
    let frozen = cluster.node(0).processes();
    let fault = timeline::now();
    cluster.node(0).signal("STOP", &frozen);
    let app = App::start([cluster.node(0), cluster.node(1)]);
    wait_moved(&cluster).await;
    wait_until("the app goes on", SOON, || async {
        app.commits().len() > 20
    })
    .await;
    // Whoever wakes them up now finds nobody.
    cluster.node(0).signal("CONT", &frozen);
    assert!(cluster.node(0).processes().is_empty());
    wait_until("the frozen session is gone", SOON, || async {
        old.ended().is_some()
    })
    .await;
    assert_eq!(overlap(&old.commits(), &app.commits()), Duration::ZERO);
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.print_timeline("frozen database", fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s10_old_primary_started_by_hand_is_fenced_again() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    keep_rows(&cluster, 100).await;
    kill_postmaster(&cluster, 0);
    wait_moved(&cluster).await;
    cluster
        .wait_status(0, "fra watches", SOON, |status| {
            status.phase == "watching" && status.lease.view == "other" && status.run.is_none()
        })
        .await;
    std::fs::remove_file(cluster.node(0).data_dir.join("standby.signal")).unwrap();
    let (fault, began) = (timeline::now(), Instant::now());
    // It may be killed before it is up.
    drop(cluster.node(0).try_start());
    wait_until("the second primary is gone", SOON, || async {
        cluster.node(0).processes().is_empty()
    })
    .await;
    println!("timing second primary: gone +{:?}", began.elapsed());
    cluster.print_timeline("second primary", fault);
    assert!(cluster.node(0).data_dir.join("standby.signal").exists());
    assert!(cluster.status(1).active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s15_failover_by_hand_under_load_loses_no_commit() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let old = Session::open(cluster.node(0)).await;
    let app = App::start([cluster.node(0), cluster.node(1)]);
    wait_until("they commit", SOON, || async {
        old.commits().len() > 50 && app.commits().len() > 50
    })
    .await;
    let fault = timeline::now();
    let answer = cluster.failover(0, "ams", false).await;
    assert!(matches!(answer, Answer::Started { .. }), "{answer:?}");
    wait_moved(&cluster).await;
    let so_far = app.commits().len();
    wait_until("the app goes on", SOON, || async {
        app.commits().len() > so_far + 20
    })
    .await;
    assert_eq!(missing(cluster.node(1), &old.commits()).await, [0_i64; 0]);
    assert_eq!(missing(cluster.node(1), &app.commits()).await, [0_i64; 0]);
    println!("timing by hand: unavailable {:?}", app.longest_pause());
    cluster.print_timeline("by hand", fault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s14_two_operators_at_once_move_the_primary_once() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    keep_rows(&cluster, 100).await;
    let epoch = cluster.status(0).lease.epoch;
    let (here, there, back) = tokio::join!(
        cluster.failover(0, "ams", false),
        cluster.failover(1, "ams", false),
        cluster.failover(1, "fra", false),
    );
    println!("answers: {here:?}, {there:?}, {back:?}");
    assert!(matches!(here, Answer::Started { .. }), "{here:?}");
    assert!(matches!(back, Answer::Refused { .. }), "{back:?}");
    wait_moved(&cluster).await;
    cluster.wait_env_names("fra", 1, SOON).await;
    stays_active(&cluster, 1, Duration::from_secs(1)).await;
    assert!(!cluster.status(0).active);
    assert_eq!(cluster.status(1).lease.epoch, epoch.next());
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
}
