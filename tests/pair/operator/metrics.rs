//! `agent metrics`, as a monitoring system reads it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Desk, agent};
use crate::support::cluster::ClusterOptions;

/// Every sample of the text format: its name with labels, and its value.
fn read(text: &str) -> BTreeMap<String, String> {
    let samples = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn metrics_say_who_is_active_and_what_is_wrong() {
    let mut desk = Desk::open(ClusterOptions::default()).await;
    let said = agent(&desk.socket(0), &["metrics"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let fra = read(&said.stdout);
    assert_eq!(fra["agent_active"], "1");
    assert_eq!(fra["agent_member_answers{member=\"witness\"}"], "1");
    let left: f64 = fra["agent_lease_fence_in_seconds"].parse().unwrap();
    assert!(left > 0.0, "{fra:?}");
    let explained = |name: &&String| {
        let name = name.split('{').next().unwrap();
        said.stdout.contains(&format!("# HELP {name} "))
    };
    assert!(fra.keys().all(|name| explained(&name)), "{}", said.stdout);

    let ams = read(&agent(&desk.socket(1), &["metrics"]).await.stdout);
    assert_eq!(ams["agent_active"], "0");
    assert_eq!(ams["agent_lease_epoch"], fra["agent_lease_epoch"]);
    assert!(!ams.contains_key("agent_lease_fence_in_seconds"), "{ams:?}");

    // As a monitoring system on this host would ask.
    let mut socket = UnixStream::connect(desk.socket(0)).await.unwrap();
    let request = b"GET /metrics HTTP/1.0\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.0 200") && head.contains("version=0.0.4"),
        "{head}"
    );
    let names = |samples: &BTreeMap<String, String>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&read(body)), names(&fra));
    let at: f64 = fra["agent_picture_timestamp_seconds"].parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!((now.as_secs_f64() - at).abs() < 60.0, "{at}");

    desk.cluster.stop_witness().await;
    desk.cluster
        .wait_status(0, "the witness is missed", super::SOON, |status| {
            status
                .diagnoses
                .iter()
                .any(|it| it.name.to_string() == "witness_silent")
        })
        .await;
    let said = agent(&desk.socket(0), &["metrics", "--json"]).await.json();
    let named = |sample: &&serde_json::Value| {
        sample["name"] == "agent_diagnosis" && sample["labels"]["name"] == "witness_silent"
    };
    assert_eq!(
        said.as_array().unwrap().iter().filter(named).count(),
        1,
        "{said:#}"
    );
}
