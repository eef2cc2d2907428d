//! A member whose wall clock is an hour off: clocks are shown, and decide nothing.
//!
//! The clock is that of one process only: libfaketime answers for the C library. What must stay
//! true for this to prove anything is checked, too: the wrong clock is really used, and the clock
//! that deadlines are counted on is the right one.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use failover_agent::effects::clock;
use failover_agent::model::{Member, Moment};
use failover_agent::runtime::status::Snapshot;
use serde_json::Value;
use support::cluster::{ClusterOptions, SITES, TestCluster};
use support::members::{Members, WITNESS};
use support::wait_until;
use support::writer::{Session, missing, overlap};

/// Long against everything that is waited for.
const SOON: Duration = Duration::from_secs(30);
/// The anti-flap block of these clusters: short against the hour, long against a failover.
const BLOCK: Duration = Duration::from_secs(15);
const HOUR_MS: i64 = 3_600_000;
/// How exactly two clocks are compared across a report.
const EXACT_MS: i64 = 60_000;

/// Starts a cluster in which one member's wall clock is off.
async fn start(odd: &'static str, ahead: bool) -> Members {
    let options = ClusterOptions {
        // Voters get twice the usual time here: a handover that is too slow for them on a busy host
        // ends where it began, and this is not about that.
        ttl: "6s",
        failover: format!("block = \"{}s\"", BLOCK.as_secs()),
        ..ClusterOptions::default()
    };
    let mut members = Members::of(TestCluster::prepare(options).await);
    let offset = if ahead { "+1h" } else { "-1h" };
    let library = library();
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", offset),
        // The monotonic clock is that of the host: a wrong wall clock is set wrong, not fast.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    members.environment.insert(odd, environment.to_vec());
    members.start_all();
    members.wait_settled(0, SOON).await;
    members
}

/// The library that gives a process another wall clock; `make setup` installs it.
fn library() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let mut found = found.filter(|path| path.exists());
    found
        .next()
        .expect("the Debian package faketime is installed")
}

/// How far a member's clock is ahead of this host's.
fn offset(member: &str, odd: &str, ahead: bool) -> i64 {
    match (member == odd, ahead) {
        (false, _) => 0,
        (true, true) => HOUR_MS,
        (true, false) => -HOUR_MS,
    }
}

/// Both agents show whose clock is off, and by how much.
async fn wait_skew_shown(members: &Members, odd: &str, ahead: bool) {
    let right = |index: usize, shown: &Snapshot| {
        let own = offset(SITES[index], odd, ahead);
        let wall = (shown.at.0 - clock::wall().0 - own).abs() < EXACT_MS;
        let others = shown.members.iter().all(|other| {
            let name = match &other.member {
                Member::Site(site) => site.as_str(),
                Member::Witness => WITNESS,
            };
            let expected = own - offset(name, odd, ahead);
            let shown = other.clock_ahead_ms;
            shown.is_some_and(|shown| (shown - expected).abs() < EXACT_MS)
        });
        wall && others
    };
    members
        .wait_both("the clocks are shown as they are", SOON, |both| {
            right(0, both[0]) && right(1, both[1])
        })
        .await;
}

/// The deadline that a site's agent has left for its next life is near, on this host's clock: the
/// agent counts on the clock that nobody can set.
fn deadline_is_near(members: &Members, site: &str) {
    let file = members.cluster.state_dir(site).join("fence-deadline.json");
    let left: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let at = Duration::from_nanos(left["fence_at_nanos"].as_u64().unwrap());
    let now = clock::boottime().since_boot();
    assert!(
        at.abs_diff(now) < Duration::from_secs(60),
        "{at:?}, {now:?}"
    );
}

/// Not one request between the members was refused; only what is not zero is counted.
fn nothing_was_refused(shown: &Snapshot) {
    let mut refused = shown.counters.iter();
    let refused = refused.find(|counter| counter.name.starts_with("refused_requests"));
    assert_eq!(refused, None);
}

fn kill_postmaster(members: &Members, index: usize) {
    let node = members.cluster.node(index);
    node.signal("KILL", &[node.postmaster_pid()]);
}

/// The postmaster of the active site is killed, and the other site takes over.
async fn fail_over(members: &Members, from: usize) -> Moment {
    let to = 1 - from;
    let sessions = [from, to].map(|index| Session::persistent(members.cluster.node(index)));
    wait_until("the client commits", SOON, async || {
        sessions[0].commits().len() > 20
    })
    .await;
    let kept = sessions[0].commits();
    wait_until("they have arrived", SOON, async || {
        missing(members.cluster.node(to), &kept).await.is_empty()
    })
    .await;
    kill_postmaster(members, from);
    let what = format!("{} is active, and everybody says so", SITES[to]);
    members
        .wait_both(&what, SOON, |both| {
            let recorded = |shown: &&Snapshot| {
                let record = shown.record.as_ref();
                record.is_some_and(|record| record.primary.as_str() == SITES[to])
            };
            both[to].active && both.iter().all(recorded)
        })
        .await;
    let moved = clock::boottime();
    wait_until("the other client commits", SOON, async || {
        sessions[1].commits().len() > 20
    })
    .await;
    for site in SITES {
        members.cluster.wait_env_names(site, to, SOON).await;
    }
    assert_eq!(missing(members.cluster.node(to), &kept).await, [0_i64; 0]);
    let [old, new] = sessions.each_ref().map(Session::commits);
    assert_eq!(overlap(&old, &new), Duration::ZERO, "two writers");
    moved
}

/// The postmaster of the active site is killed within the block: it is started where it was.
async fn stay(members: &Members, active: usize) {
    let epoch = members.status(active).await.unwrap().lease.epoch;
    let before = members.cluster.node(active).postmaster_pid();
    kill_postmaster(members, active);
    let what = format!("{} has started its node again", SITES[active]);
    members
        .wait_both(&what, SOON, |both| {
            let file = members.cluster.node(active).data_dir.join("postmaster.pid");
            let pid = std::fs::read_to_string(file).unwrap_or_default();
            let again = !pid.is_empty() && !pid.starts_with(&format!("{before}\n"));
            again && both[active].active && both[active].run.is_none()
        })
        .await;
    members.wait_settled(active, SOON).await;
    let shown = members.status(active).await.unwrap();
    assert_eq!(shown.lease.epoch, epoch, "nothing was handed over");
}

/// A failover, none within the block, and one back when the block is over.
async fn clock_is_an_hour_off(odd: &'static str, ahead: bool) {
    let mut members = start(odd, ahead).await;
    wait_skew_shown(&members, odd, ahead).await;
    deadline_is_near(&members, SITES[0]);
    let moved = fail_over(&members, 0).await;
    deadline_is_near(&members, SITES[1]);

    members.rebuild(0);
    members.wait_settled(1, SOON).await;
    assert!(
        clock::boottime().since(moved) < BLOCK,
        "too slow to see anything of the block"
    );
    stay(&members, 1).await;

    wait_until("the block is over", SOON, async || {
        clock::boottime().since(moved) > BLOCK
    })
    .await;
    members.wait_settled(1, SOON).await;
    fail_over(&members, 1).await;
    wait_skew_shown(&members, odd, ahead).await;
    for index in [0, 1] {
        let shown = members.status(index).await.unwrap();
        nothing_was_refused(&shown);
        assert_eq!(shown.stopped, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_agent_of_the_standby_an_hour_ahead() {
    clock_is_an_hour_off("ams", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_agent_of_the_standby_an_hour_behind() {
    clock_is_an_hour_off("ams", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_agent_of_the_primary_an_hour_ahead() {
    clock_is_an_hour_off("fra", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_witness_an_hour_behind() {
    clock_is_an_hour_off(WITNESS, false).await;
}
