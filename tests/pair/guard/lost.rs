//! A guard that cannot be had again, and one that takes over what another one left.

use std::fs;
use std::time::{Duration, Instant};

use failover_agent::effects::clock::boottime;
use failover_agent::runtime::guard::protocol::{FenceWord, lock_path, word_path};
use failover_agent::runtime::inherited::{self, LeaseWord};

use super::{Place, SOON};
use crate::support::cluster::ClusterOptions;
use crate::support::writer::{Session, missing, overlap};
use crate::support::{guards, wait_until};

/// A directory where every new guard's lock file should be: none of them can start, also for root.
/// The one at work has its lock open.
fn forbid_guards(place: &Place) {
    let lock = lock_path(&place.cluster.state_dir("fra"));
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_guard_that_cannot_be_started_again_gives_the_site_to_the_other_one() {
    let place = Place::start(ClusterOptions::default()).await;
    let cluster = &place.cluster;
    let epoch = cluster.status(1).lease.epoch;
    let old = Session::open(cluster.node(0)).await;
    let new = Session::open(cluster.node(1)).await;
    wait_until("it commits", SOON, || async { old.commits().len() > 50 }).await;
    forbid_guards(&place);
    let began = Instant::now();
    guards::kill(&cluster.state_dir("fra"));
    place.wait_moved().await;
    let taken = began.elapsed();
    wait_until("it commits at ams", SOON, || async {
        !new.commits().is_empty()
    })
    .await;
    println!("timing guard lost for good: ams active +{taken:?}");
    let commits = old.commits();
    assert_eq!(overlap(&commits, &new.commits()), Duration::ZERO);
    assert_eq!(missing(cluster.node(1), &commits).await, Vec::<i64>::new());
    assert!(cluster.status(1).lease.epoch > epoch, "given up in order");
    // It is told why, and a guard that can be had again is had.
    let why = format!("{:?}", cluster.journal(0));
    assert!(why.contains("kind: GiveUp"), "{why}");
    assert!(why.contains("diagnosis: GuardLost"), "{why}");
    fs::remove_dir(lock_path(&cluster.state_dir("fra"))).unwrap();
    wait_until("fra has a guard again", SOON, || async {
        place.guards().len() == 1
    })
    .await;
}

/// The next life of an agent wants a guard with other settings while it holds no lease: until it
/// has one, only the deadline that the former life left says when to fence. That agent is killed
/// as well, so only the new guard can do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_guard_that_replaces_another_fences_at_the_deadline_left_behind() {
    let options = ClusterOptions {
        ttl: "6s",
        ..ClusterOptions::default()
    };
    let mut place = Place::start(options).await;
    let [first] = place.guards()[..] else {
        panic!("one guard: {:?}", place.guards());
    };
    place.fra.signal("KILL");
    // Nobody is left to give fra's next agent a lease.
    place.cluster.stop_agent(1).await;
    place.cluster.stop_witness().await;
    let state_dir = place.cluster.state_dir("fra");
    let left = inherited::word(&state_dir).unwrap();
    let LeaseWord::Until {
        epoch,
        fence_at,
        held: true,
    } = left
    else {
        panic!("a lease that runs: {left:?}");
    };
    place.cluster.options.lease = "fence_budget = \"1500ms\"\n".to_owned();
    place.fra = Place::agent(&place.cluster);
    wait_until("another guard alone", SOON, || async {
        matches!(place.guards()[..], [second] if second != first)
    })
    .await;
    place.fra.signal("KILL");
    let spare = boottime().until(fence_at);
    assert!(!spare.is_zero(), "too slow a host to tell anything");
    let fenced = || place.cluster.node(0).processes().is_empty();
    while boottime() < fence_at {
        let fenced = fenced();
        assert!(!fenced || boottime() >= fence_at, "fenced too early");
        // bounded: by the deadline
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wait_until("fra is fenced", SOON, || async { fenced() }).await;
    wait_until("the guard has left word", SOON, || async {
        word_path(&state_dir).exists()
    })
    .await;
    let word = fs::read(word_path(&state_dir)).unwrap();
    let word: FenceWord = serde_json::from_slice(&word).unwrap();
    assert_eq!(word.epoch, epoch);
    println!(
        "timing inherited deadline: known {spare:?} before, fenced +{:?}",
        word.after_deadline
    );
}
