//! Agents that come back, and guards of another version.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Instant;

use failover_agent::runtime::guard::protocol::{Greeting, Request, line, socket_path};

use super::{Place, SOON};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::wait_until;
use crate::support::writer::App;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_upgraded_agent_finds_its_guard_and_no_commit_fails() {
    let mut place = Place::start(ClusterOptions::default()).await;
    let postmaster = place.cluster.node(0).postmaster_pid();
    let guard = place.guards();
    let epoch = place.cluster.status(1).lease.epoch;
    let app = App::start([place.cluster.node(0), place.cluster.node(1)]);
    wait_until("the app commits", SOON, || async {
        app.commits().len() > 50
    })
    .await;
    let began = Instant::now();
    place.fra.stop().await;
    place.fra = Place::agent(&place.cluster);
    place
        .cluster
        .wait_status(1, "fra holds the next epoch", SOON, |status| {
            status.lease.view == "other" && status.lease.epoch > epoch
        })
        .await;
    println!("timing upgrade: held again +{:?}", began.elapsed());
    let so_far = app.commits().len();
    wait_until("the app goes on", SOON, || async {
        app.commits().len() > so_far + 50
    })
    .await;
    assert_eq!(app.failures(), 0, "not one commit failed");
    assert_eq!(place.cluster.node(0).postmaster_pid(), postmaster);
    assert_eq!(place.guards(), guard, "the same guard");
    // The guard that was found is fed: its next deadline is the new agent's.
    place.fra.signal("KILL");
    place.wait_moved().await;
    assert!(place.cluster.node(0).processes().is_empty());
}

/// A stand-in for the guard of another version, of which no program is at hand: it listens where a
/// guard does, greets with another protocol, and says when it was asked to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_guard_of_another_protocol_is_stopped_once_a_new_one_is_at_work() {
    let mut cluster = TestCluster::prepare(ClusterOptions::default()).await;
    let state_dir = cluster.state_dir("fra");
    std::fs::create_dir_all(&state_dir).unwrap();
    let listener = UnixListener::bind(socket_path(&state_dir)).unwrap();
    let (stopped, was_stopped) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let greeting = Greeting {
            protocol: 999,
            pid: std::process::id(),
            version: "9.9.9".to_owned(),
            settings: String::new(),
        };
        stream.write_all(&line(&greeting).unwrap()).unwrap();
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text).unwrap();
        let request: Request = serde_json::from_str(&text).unwrap();
        stopped.send(request).unwrap();
    });
    cluster.start_all().await;
    assert_eq!(was_stopped.recv_timeout(SOON).unwrap(), Request::Stop);
    let guards = super::guards::of(&state_dir);
    assert_eq!(guards.len(), 1, "{guards:?}");
}
