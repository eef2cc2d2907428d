//! The members of a test cluster as processes of the built program: they can be killed as an
//! operator, a crash or the kernel kills them, and are asked over their sockets only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use failover_agent::model::journal::JournalLine;
use failover_agent::runtime::journal;
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::api::operator::STATUS;
use failover_agent::surfaces::cli::socket::OperatorSocket;
use rustix::process::{Pid, Signal, kill_process};

use super::cluster::{SITES, TestCluster};
use super::{guards, wait_until, wait_until_blocking};

/// The third member's name.
pub const WITNESS: &str = "witness";

/// An agent that lives answers from memory.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How much of a member's log a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

/// The processes of a cluster, and the cluster without any agent of its own.
pub struct Members {
    /// Nodes, files and directories.
    pub cluster: TestCluster,
    /// The environment of a member beside that of this test, from its next start on.
    pub environment: BTreeMap<&'static str, Vec<(String, String)>>,
    running: BTreeMap<&'static str, Child>,
}

impl Members {
    /// For a prepared cluster of which no member has been started.
    pub fn of(cluster: TestCluster) -> Self {
        Self {
            cluster,
            environment: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Starts every member.
    pub fn start_all(&mut self) {
        for member in [WITNESS, SITES[0], SITES[1]] {
            self.start(member);
        }
    }

    /// Starts a member that does not run; returns before it has done anything.
    pub fn start(&mut self, member: &'static str) {
        let settings = self.cluster.dir().join(format!("{member}.toml"));
        fs::write(&settings, self.cluster.toml(member)).expect("agent.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        match member {
            WITNESS => command.arg("witness"),
            site => command.args(["run", "--site", site]),
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(member))
            .expect("a log");
        command
            .arg("--config")
            .arg(settings)
            .envs(self.environment.get(member).into_iter().flatten().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("the built program runs");
        let before = self.running.insert(member, child);
        assert!(before.is_none(), "{member} runs already");
    }

    /// The process id of a running member.
    pub fn pid(&self, member: &str) -> u32 {
        self.running.get(member).expect("the member runs").id()
    }

    /// Kills a member with SIGKILL, unless somebody else has, and waits until it is gone.
    pub fn kill(&mut self, member: &str) {
        let mut child = self.running.remove(member).expect("the member runs");
        drop(child.kill());
        let ended = child.wait().expect("a child can be waited for");
        assert_eq!(ended.code(), None, "{member} ended by itself, {ended}");
    }

    /// Stops a member in order and waits until it has ended.
    pub fn stop(&mut self, member: &str) {
        let mut child = self.running.remove(member).expect("the member runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("it can be stopped");
        let ended = child.wait().expect("a child can be waited for");
        assert!(ended.success(), "{member} did not end in order, {ended}");
    }

    /// Makes a site's node a standby of the other one, as an operator does with an old primary. Its
    /// guard may have a fence before it, which writes `standby.signal` into the directory that is
    /// being filled; so it is ended, too: no server runs that it could be needed for.
    pub fn rebuild(&mut self, index: usize) {
        self.stop(SITES[index]);
        let state_dir = self.cluster.state_dir(SITES[index]);
        guards::kill(&state_dir);
        wait_until_blocking("the guard is gone", ANSWER_MAX, || {
            guards::of(&state_dir).is_empty()
        });
        self.cluster
            .node(index)
            .follow(self.cluster.node(1 - index));
        self.start(SITES[index]);
    }

    /// What the agent of a site shows; nothing while it does not answer.
    pub async fn status(&self, index: usize) -> Option<Snapshot> {
        let socket = self.cluster.dir().join(SITES[index]).join("agent.sock");
        let asked = OperatorSocket::new(&socket, ANSWER_MAX);
        asked.get_json(STATUS).await.ok()
    }

    /// Waits until both agents show something; fails with what they show and all they wrote.
    pub async fn wait_both(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn([&Snapshot; 2]) -> bool,
    ) {
        // Twice as long, so that the one who tells what is known is the one who gives up.
        let waiting = wait_until(what, within * 2, async || {
            let shown = tokio::join!(self.status(0), self.status(1));
            matches!(&shown, (Some(fra), Some(ams)) if holds([fra, ams]))
        });
        self.or_tell(what, within, waiting).await;
    }

    /// Waits for something; when it does not come, everything that is known is told.
    pub async fn or_tell(&self, what: &str, within: Duration, waiting: impl Future<Output = ()>) {
        if tokio::time::timeout(within, waiting).await.is_err() {
            self.tell_all().await;
            panic!("waited {within:?} for: {what}");
        }
    }

    /// Waits until `active` is the active site, its node healthy and the other one ready.
    pub async fn wait_settled(&self, active: usize, within: Duration) {
        let what = format!("{} is active and protected", SITES[active]);
        self.wait_both(&what, within, |both| {
            let (own, other) = (both[active], both[1 - active]);
            own.active
                && own.diagnoses.first().map(|first| first.name.name()) == Some("healthy")
                && own.run.is_none()
                && other.lease.view == "other"
                && other.run.is_none()
        })
        .await;
    }

    /// Everything in a site's journal, oldest first.
    pub fn journal(&self, index: usize) -> Vec<JournalLine> {
        let lines = journal::read_all(&self.cluster.state_dir(SITES[index]));
        lines.expect("the journal can be read")
    }

    /// Prints what the agents show and what all members logged last.
    pub async fn tell_all(&self) {
        for (index, site) in SITES.into_iter().enumerate() {
            println!("{site} shows: {:#?}", self.status(index).await);
        }
        for member in [WITNESS, SITES[0], SITES[1]] {
            let log = fs::read_to_string(self.log(member)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
            println!("{member} logged:\n{}", lines[first..].join("\n"));
        }
    }

    fn log(&self, member: &str) -> PathBuf {
        self.cluster.dir().join(format!("{member}.log"))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
