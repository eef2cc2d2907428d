//! What load balancers ask, and what they do with the answers: a real HAProxy, with the file that
//! Patroni's documentation gives, in front of a real pair.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail loudly"
)]

mod moved;
mod pgbench;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgbench::Pgbench;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::support::cluster::{ClusterOptions, SITES, TestCluster};
use crate::support::members::Members;
use crate::support::ports::free_port;
use crate::support::wait_until;

const SOON: Duration = Duration::from_secs(30);

/// A pair whose agents answer load balancers.
struct Pair {
    members: Members,
    ports: [u16; 2],
}

impl Pair {
    async fn start() -> Self {
        let ports = [free_port(), free_port()];
        let options = ClusterOptions {
            routing: Some(ports),
            ..ClusterOptions::default()
        };
        let mut members = Members::of(TestCluster::prepare(options).await);
        members.start_all();
        members.wait_settled(0, SOON).await;
        Self { members, ports }
    }

    async fn ask(&self, index: usize, path: &str) -> (u16, String) {
        let answer = ask(self.ports[index], "GET", path).await;
        answer.unwrap_or_else(|| panic!("{} does not answer {path}", SITES[index]))
    }

    async fn code(&self, index: usize, path: &str) -> u16 {
        self.ask(index, path).await.0
    }
}

/// Status and body, over a connection of its own as health checks do it.
async fn ask(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("{method} {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    };
    tokio::time::timeout(SOON, asking)
        .await
        .expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn paths_say_who_is_primary_and_who_may_be_read() {
    let pair = Pair::start().await;
    for path in ["/", "/primary", "/read-write", "/leader"] {
        assert_eq!(pair.code(0, path).await, 200, "{path}");
        assert_eq!(pair.code(1, path).await, 503, "{path}");
    }
    let replica = "/replica?lag=1MB&replication_state=streaming";
    wait_until("the standby is known", SOON, async || {
        pair.code(1, replica).await == 200
    })
    .await;
    for path in ["/read-only", "/health", "/liveness", "/readiness"] {
        assert_eq!(
            [pair.code(0, path).await, pair.code(1, path).await],
            [200, 200],
            "{path}"
        );
    }
    assert_eq!(
        [pair.code(0, replica).await, pair.code(1, replica).await],
        [503, 200]
    );
    let (code, body) = pair.ask(0, "/replica").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (code, &body["role"], &body["state"]),
        (503, &"primary".into(), &"running".into())
    );
    assert!(!body["why"].as_str().unwrap().is_empty(), "{body}");

    // HAProxy asks with OPTIONS by default, some with HEAD.
    for method in ["OPTIONS", "HEAD"] {
        let (code, body) = ask(pair.ports[0], method, "/").await.unwrap();
        assert_eq!(code, 200, "{method}");
        assert!(method != "HEAD" || body.is_empty(), "{body}");
    }
    for odd in [
        "/replica?lag=much",
        "/replica?tag_zone=a",
        "/replica?replication_state=no",
    ] {
        assert_eq!(pair.code(1, odd).await, 400, "{odd}");
    }
    assert_eq!(pair.code(0, "/no-such-path").await, 404);
    assert_eq!(ask(pair.ports[0], "POST", "/primary").await.unwrap().0, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn standby_that_lags_is_left_out_by_those_who_ask_for_it() {
    let pair = Pair::start().await;
    let standby = pair.members.cluster.node(1).connect("postgres").await;
    let stop = "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()";
    for statement in stop.split(';') {
        standby.batch_execute(statement).await.unwrap();
    }
    let primary = pair.members.cluster.node(0).connect("postgres").await;
    let write = "INSERT INTO kept SELECT generate_series(1, 100000)";
    primary.batch_execute(write).await.unwrap();
    wait_until("the lag is known", SOON, async || {
        pair.code(1, "/replica?lag=1MB").await == 503
    })
    .await;
    assert_eq!(pair.code(1, "/replica?lag=1TB").await, 200);
    assert_eq!(pair.code(1, "/replica").await, 200);
    wait_until("that it does not stream is known", SOON, async || {
        pair.code(1, "/replica?replication_state=streaming").await == 503
    })
    .await;
}

/// S13: what was seen of the primary an hour ago says nothing about lag now.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s13_standby_whose_primary_is_gone_neither_streams_nor_has_a_lag() {
    let pair = Pair::start().await;
    let socket = pair.members.cluster.dir().join(SITES[0]).join("agent.sock");
    let paused = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["pause", "--socket"])
        .arg(socket)
        .output()
        .unwrap();
    assert!(paused.status.success(), "{paused:?}");
    let postmaster = pair.members.cluster.node(0).postmaster_pid();
    let postmaster = Pid::from_raw(postmaster.cast_signed()).unwrap();
    kill_process(postmaster, Signal::KILL).unwrap();
    for path in ["/replica?replication_state=streaming", "/replica?lag=1TB"] {
        wait_until(path, SOON, async || pair.code(1, path).await == 503).await;
    }
    assert_eq!(pair.code(1, "/replica").await, 200);
    assert_eq!(
        [pair.code(0, "/").await, pair.code(1, "/").await],
        [503, 503]
    );
}

/// S2: an agent that is frozen says nothing, and once thawed after its deadline never "primary".
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_primary_is_no_answer_of_a_site_that_is_fenced() {
    let pair = Pair::start().await;
    let agent = Pid::from_raw(pair.members.pid(SITES[0]).cast_signed()).unwrap();
    kill_process(agent, Signal::STOP).unwrap();
    wait_until("ams is primary", SOON, async || {
        pair.code(1, "/primary").await == 200
    })
    .await;
    // It lies in the socket when the agent thaws: the first thing that it is asked.
    let port = pair.ports[0];
    let waiting = tokio::spawn(async move { ask(port, "OPTIONS", "/").await });
    // bounded: the request is on its way then, or is asked a moment later
    tokio::time::sleep(Duration::from_millis(200)).await;
    kill_process(agent, Signal::CONT).unwrap();
    let (code, body) = waiting.await.unwrap().expect("an answer once it thaws");
    assert_eq!(code, 503, "{body}");
    let thawed = Instant::now();
    while thawed.elapsed() < Duration::from_secs(2) {
        let (code, body) = ask(port, "OPTIONS", "/").await.expect("it lives");
        assert_eq!(code, 503, "{body}");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A HAProxy of the test.
struct HaProxy {
    child: Child,
    port: u16,
}

impl HaProxy {
    /// With the file of Patroni's documentation (`haproxy.cfg`), addresses apart.
    fn start(pair: &Pair, dir: &Path) -> Self {
        let port = free_port();
        let server = |index: usize| {
            let (node, check) = (pair.members.cluster.node(index).port, pair.ports[index]);
            let name = SITES[index];
            format!("    server {name} 127.0.0.1:{node} maxconn 100 check port {check}\n")
        };
        let text = format!(
            "global\n    maxconn 100\n\ndefaults\n    log global\n    mode tcp\n    retries 2\n    \
             timeout client 30m\n    timeout connect 4s\n    timeout server 30m\n    \
             timeout check 5s\n\nlisten batman\n    bind 127.0.0.1:{port}\n    option httpchk\n    \
             http-check expect status 200\n    default-server inter 3s fall 3 rise 2 on-marked-down \
             shutdown-sessions\n{}{}",
            server(0),
            server(1)
        );
        let file = dir.join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let program = ["/usr/sbin/haproxy", "/usr/bin/haproxy"];
        let program = program.iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.expect("haproxy is installed: make setup"))
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("haproxy.log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// HAProxy takes every server for up until its first check: waits until it has seen that one
    /// of them is not primary.
    async fn wait_checked(&self) {
        wait_until("HAProxy knows the primary", SOON, async || {
            for _ in 0..4 {
                let Ok(client) = self.connect().await else {
                    return false;
                };
                let asked = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
                if asked.map_or(true, |row| row.get(0)) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let text = format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=5",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An app that knows HAProxy's address only, and connects anew when its connection breaks.
struct App<'a> {
    haproxy: &'a HaProxy,
    client: Option<Client>,
    next: i64,
    kept: Vec<i64>,
}

impl App<'_> {
    /// Tries to commit one more row; never on a node that refuses to write.
    async fn write(&mut self) -> bool {
        let committing = async {
            if self.client.is_none() {
                self.client = self.haproxy.connect().await.ok();
            }
            let client = self.client.as_ref()?;
            Some(
                client
                    .execute("INSERT INTO kept VALUES ($1)", &[&self.next])
                    .await,
            )
        };
        let done = tokio::time::timeout(SOON, committing).await;
        self.next += 1;
        match done {
            Ok(Some(Ok(_))) => self.kept.push(self.next - 1),
            Ok(Some(Err(error))) => {
                let read_only = error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
                assert!(!read_only, "a writer was sent to a standby");
                self.client = None;
                return false;
            }
            Ok(None) | Err(_) => {
                self.client = None;
                return false;
            }
        }
        true
    }

    async fn write_until(&mut self, what: &str, mut enough: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !enough(self) {
            assert!(
                began.elapsed() < SOON * 2,
                "{what}: {} rows so far",
                self.kept.len()
            );
            if !self.write().await {
                // bounded: by the deadline above
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn haproxy_with_patronis_file_follows_a_failover() {
    let pair = Pair::start().await;
    let dir = tempfile::tempdir().unwrap();
    let haproxy = HaProxy::start(&pair, dir.path());
    let mut app = App {
        haproxy: &haproxy,
        client: None,
        next: 1,
        kept: Vec::new(),
    };
    haproxy.wait_checked().await;
    let load = Pgbench::start(pair.members.cluster.node(0).port, haproxy.port);
    app.write_until("through HAProxy", |app| {
        app.kept.len() >= 20 && load.transactions() > 0
    })
    .await;
    pair.members.cluster.pair.wait_caught_up().await;
    let before = app.kept.clone();
    let postmaster = pair.members.cluster.node(0).postmaster_pid();
    let postmaster = Pid::from_raw(postmaster.cast_signed()).unwrap();
    kill_process(postmaster, Signal::KILL).unwrap();
    let died = Instant::now();
    app.write_until("after the failover", |app| {
        app.kept.len() >= before.len() + 20
    })
    .await;
    println!(
        "timing haproxy: 20 commits behind it {:?} after the kill",
        died.elapsed()
    );
    // A run that began after the failover has to end, too.
    let before_the_last = load.transactions();
    app.write_until("by pgbench too", |_| load.transactions() > before_the_last)
        .await;
    let load = load.end();
    assert!(load.odd.is_empty(), "more than reconnects: {:?}", load.odd);
    println!("pgbench: {} transactions in whole runs", load.transactions);
    let ams = pair.members.cluster.node(1).connect("postgres").await;
    let rows = ams.query("SELECT n FROM kept", &[]).await.unwrap();
    let there: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let lost: Vec<_> = before.iter().filter(|row| !there.contains(row)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(pair.code(1, "/primary").await, 200);
    assert_eq!(pair.code(0, "/primary").await, 503);
}
