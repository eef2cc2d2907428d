//! `agent status` and `agent failover` as an operator runs them: the built program, the operator
//! socket, and real agents over real PostgreSQL behind it.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "runs the built program, as a shell would"
)]

mod brakes;
mod guard_off;
mod metrics;
mod records;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::settings::Objectives;
use failover_agent::effects::clock;
use failover_agent::model::SiteName;
use failover_agent::model::event::{Answer, Wish};
use failover_agent::runtime::app_desk::AppDesk;
use failover_agent::runtime::dns_desk::DnsDesk;
use failover_agent::runtime::handle::{AgentHandle, Request};
use failover_agent::runtime::recovery;
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::api::local::LocalSocket;
use failover_agent::surfaces::api::operator;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::cluster::{ClusterOptions, SITES, TestCluster};

const SOON: Duration = Duration::from_secs(20);

/// A cluster whose agents answer at operator sockets.
struct Desk {
    cluster: TestCluster,
    stop: CancellationToken,
}

impl Desk {
    async fn open(options: ClusterOptions) -> Self {
        let cluster = TestCluster::start(options).await;
        let stop = CancellationToken::new();
        let desk = Self { cluster, stop };
        for index in 0..2 {
            let handle = desk.cluster.agents[index].as_ref().unwrap().handle.clone();
            let socket = LocalSocket::bind(&desk.socket(index)).unwrap();
            let objectives = Objectives {
                rto: Some(Duration::from_secs(60)),
                rpo: Some(Duration::from_secs(30)),
            };
            let (pictures, stop) = (handle.status.clone(), desk.stop.clone());
            let recovered = recovery::watch(pictures, objectives, None, None, stop.clone());
            tokio::spawn(socket.serve(operator::router(handle, recovered), stop));
        }
        desk.wait_evidence().await;
        desk
    }

    /// Until fra's node is proved to have committed since ams began to look at it from this desk.
    async fn wait_evidence(&self) {
        let newest = || self.cluster.status(1).evidence.peer;
        for _ in 0..3 {
            let known = newest().map(|look| look.at);
            self.cluster
                .wait_status(1, "another look at fra's node", SOON, |status| {
                    status.evidence.peer.map(|look| look.at) > known
                })
                .await;
        }
        let read = newest().map(|look| look.lsn);
        self.cluster
            .wait_status(1, "a younger canary", SOON, |status| {
                let canary = status.evidence.reported.filter(|look| look.committed);
                canary.map(|look| look.lsn) > read
            })
            .await;
    }

    fn socket(&self, index: usize) -> PathBuf {
        let site = SITES[index];
        self.cluster.dir().join(site).join("agent.sock")
    }

    async fn agent(&self, index: usize, arguments: &[&str]) -> Ended {
        agent(&self.socket(index), arguments).await
    }

    /// What must stay as it is when nothing changes: who holds what, and both journals.
    fn state(&self) -> Vec<String> {
        let mut state = Vec::new();
        for (index, site) in SITES.into_iter().enumerate() {
            let picture = self.cluster.status(index);
            state.push(format!(
                "{} {} {}",
                site, picture.phase, picture.lease.epoch
            ));
            let journal = self.cluster.state_dir(site).join("journal");
            state.push(std::fs::read_to_string(journal).unwrap());
        }
        state
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a command against the agent at a socket, without a terminal.
async fn agent(socket: &Path, arguments: &[&str]) -> Ended {
    let running = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON * 2, running)
        .await
        .unwrap()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_shows_its_plan_changes_nothing_until_told_and_then_every_step() {
    let desk = Desk::open(ClusterOptions::default()).await;

    let status = desk.agent(0, &["status"]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    for expected in [
        "site fra: active",
        "held: fra",
        "I see      healthy",
        "I would    nothing",
        "own postmaster process",
    ] {
        assert!(status.stdout.contains(expected), "{expected}: {status:?}");
    }
    let status = desk.agent(1, &["status", "--json"]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    assert_eq!(status.json()["lease"]["holder"], "fra");

    // The exact plan, and nothing of it happens.
    let before = desk.state();
    let dry_run = desk.agent(0, &["failover", "--dry-run"]).await;
    assert_eq!(dry_run.code, Some(0), "{dry_run:?}");
    for expected in [
        "at fra: give up",
        "fence own node",
        "release the lease to site ams",
        "at ams: take over",
        "promote own standby",
        "rewrite app config shop",
    ] {
        assert!(dry_run.stdout.contains(expected), "{expected}: {dry_run:?}");
    }
    let json = desk.agent(0, &["failover", "--dry-run", "--json"]).await;
    assert_eq!(json.json()["answer"], "would_do", "{json:?}");
    // Without a terminal nobody can be asked.
    let unasked = desk.agent(0, &["failover"]).await;
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    // To where the primary is already, or to nowhere.
    for to in ["fra", "atlantis"] {
        let refused = desk.agent(0, &["failover", "--to", to, "--yes"]).await;
        assert_eq!(refused.code, Some(3), "{refused:?}");
    }
    nothing_changed(&before, &desk.state());

    // Asked for at the standby site: passed on, and followed all the same.
    let moved = desk.agent(1, &["failover", "--yes", "--json"]).await;
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let lines: Vec<Value> = moved
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (site, kind) in [
        ("fra", "fence_own"),
        ("ams", "check_candidate"),
        ("ams", "promote"),
        ("ams", "verify_writes"),
        ("ams", "rewrite_app_config"),
    ] {
        let done = lines
            .iter()
            .any(|line| line["site"] == site && line["kind"] == kind && line["state"] == "done");
        assert!(done, "{kind} at {site}: {moved:?}");
    }
    assert_eq!(lines.last().unwrap()["result"], "moved");
    desk.cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;

    recovery_is_shown(&desk).await;
    // The old primary is no standby yet: protection is gone, and the way back is refused.
    let status = desk.agent(1, &["status"]).await;
    assert_eq!(status.code, Some(5), "{status:?}");
    assert!(status.stdout.contains("standby_unusable"), "{status:?}");
    let back = desk.agent(1, &["failover", "--to", "fra", "--yes"]).await;
    assert_eq!(back.code, Some(3), "{back:?}");
    assert!(back.stderr.contains("refused"), "{back:?}");
}

/// The same roles and epochs, and no new plan.
fn nothing_changed(before: &[String], after: &[String]) {
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    let plans = |journal: &str| journal.matches("\"planned\"").count();
    assert_eq!(plans(&before[1]), plans(&after[1]));
}

/// What the new primary's agent measured, held against what was promised.
async fn recovery_is_shown(desk: &Desk) {
    let status = desk.agent(1, &["status", "--json"]).await.json();
    let recovery = &status["last_recovery"];
    assert_eq!(recovery["epoch"], status["record"]["epoch"], "{status}");
    assert_eq!(recovery["rto_kept"], true, "{status}");
    assert_eq!(recovery["rpo_kept"], true, "{recovery}");
    let status = desk.agent(1, &["status"]).await;
    for expected in ["last recovery", "(RTO 60s kept)", "(RPO 30s kept)"] {
        assert!(status.stdout.contains(expected), "{expected}: {status:?}");
    }
}

/// It answers every read, so that only a committed canary can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn time_in_which_the_primary_took_no_writes_counts_as_away() {
    let desk = Desk::open(ClusterOptions::default()).await;
    let client = desk.cluster.node(0).connect("postgres").await;
    for sql in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    desk.cluster
        .wait_status(0, "no canary is committed", SOON, |status| {
            let mut seen = status.targets.iter().map(|target| &target.seen);
            status.stopped.is_none() && seen.any(|seen| seen.starts_with("cannot write"))
        })
        .await;
    let read_only = clock::boottime();
    desk.cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    let active = clock::boottime();
    let status = desk.agent(1, &["status", "--json"]).await.json();
    let recovery = &status["last_recovery"];
    let evidence = &desk.cluster.status(1).evidence;
    let verified = evidence.runs.iter().find_map(|run| run.verified).unwrap();
    assert!(verified <= active);
    let away = recovery["away_ms"].as_u64();
    let away = away.unwrap_or_else(|| panic!("not known: {recovery} {evidence:?}"));
    let away = Duration::from_millis(away);
    assert!(
        away + Duration::from_millis(1) > verified.since(read_only),
        "{recovery}"
    );
}

/// An agent that passes every wish on and hears nothing of it.
fn agent_without_an_answer(socket: &Path, stop: &CancellationToken) {
    let picture = serde_json::json!({
        "cluster": "main", "site": "ams", "version": "1", "at": 1, "phase": "watching",
        "active": false, "stopped": null,
        "lease": {
            "view": "other", "holder": "fra", "epoch": 1, "fence_in_ms": null, "reached": [],
            "words": "",
        },
        "record": null, "facts": null, "diagnoses": [], "would_do": "", "refusals": [],
        "members": [], "targets": [], "run": null, "last_run": null, "counters": [],
    });
    let picture: Snapshot = serde_json::from_value(picture).unwrap();
    let (pictures, status) = watch::channel(Arc::new(picture));
    let (requests, mut asked) = mpsc::channel::<Request>(1);
    tokio::spawn(async move {
        let _pictures = pictures;
        while let Some(Request { wish, answer }) = asked.recv().await {
            let Wish::Failover { dry_run, .. } = wish else {
                panic!("not a failover");
            };
            let fra = SiteName::new("fra");
            let why = "no answer within 1s".to_owned();
            let told = match dry_run {
                true => Answer::WouldDo { plans: Vec::new() },
                false => Answer::MayHaveBegun { at: fra, why },
            };
            answer.send(told).ok();
        }
    });
    let (_, recovered) = watch::channel(None);
    let (_, held) = watch::channel(None);
    let router = operator::router(
        AgentHandle {
            status,
            held,
            requests,
            dns: DnsDesk::default(),
            apps: AppDesk::default(),
        },
        recovered,
    );
    let socket = LocalSocket::bind(socket).unwrap();
    tokio::spawn(socket.serve(router, stop.clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_without_an_answer_is_not_called_refused() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let stop = CancellationToken::new();
    agent_without_an_answer(&socket, &stop);
    let told = agent(&socket, &["failover", "--to", "ams", "--yes"]).await;
    assert_eq!(told.code, Some(6), "{told:?}");
    for expected in ["may have begun; see agent status", "no answer within 1s"] {
        assert!(told.stderr.contains(expected), "{told:?}");
    }
    let told = agent(&socket, &["failover", "--to", "ams", "--yes", "--json"]).await;
    assert_eq!(told.code, Some(6), "{told:?}");
    assert_eq!(told.json()["answer"], "may_have_begun", "{told:?}");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_to_an_unreachable_standby_is_refused_with_the_reason() {
    let desk = Desk::open(ClusterOptions::default()).await;
    desk.cluster.node(1).stop("immediate");
    desk.cluster
        .wait_status(0, "the standby is seen to be down", SOON, |status| {
            status
                .diagnoses
                .iter()
                .any(|found| found.name.name() == "standby_unusable")
        })
        .await;
    for arguments in [&["failover", "--dry-run"][..], &["failover", "--yes"]] {
        let refused = desk.agent(0, arguments).await;
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.contains("node is down"), "{refused:?}");
    }
    assert!(desk.cluster.status(0).active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failover_to_a_lagging_standby_is_refused_with_the_reason() {
    let options = ClusterOptions {
        failover: "lag_max = \"64KiB\"".to_owned(),
        ..ClusterOptions::default()
    };
    let desk = Desk::open(options).await;
    // A walreceiver that is frozen receives nothing, while its server still answers.
    let receiver = walreceiver(&desk.cluster).await;
    desk.cluster.node(1).signal("STOP", &[receiver]);
    let client = desk.cluster.node(0).connect("postgres").await;
    client
        .batch_execute("INSERT INTO kept SELECT generate_series(1, 20000)")
        .await
        .unwrap();
    desk.cluster
        .wait_status(0, "the standby lags", SOON, |status| {
            status
                .diagnoses
                .iter()
                .any(|found| found.name.name() == "standby_lagging")
        })
        .await;
    let refused = desk.agent(0, &["failover", "--dry-run"]).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("lacks"), "{refused:?}");
    desk.cluster.node(1).signal("CONT", &[receiver]);
}

/// The process that receives WAL at the standby.
async fn walreceiver(cluster: &TestCluster) -> u32 {
    let client = cluster.node(1).connect("postgres").await;
    let row = client
        .query_one("SELECT pid FROM pg_stat_wal_receiver", &[])
        .await
        .unwrap();
    u32::try_from(row.get::<_, i32>(0)).unwrap()
}
