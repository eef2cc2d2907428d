//! Ready-made ways to make a running program take a changed file.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::secret::Secret;

/// The program that reads an app config, and how it takes a change.
#[derive(Debug, Clone)]
pub enum TargetSettings {
    /// nginx.
    Nginx(NginxTarget),
    /// HAProxy.
    Haproxy(HaproxyTarget),
    /// PgBouncer.
    Pgbouncer(PgbouncerTarget),
    /// A unit of systemd.
    Systemd(SystemdTarget),
    /// A service of docker compose.
    Compose(ComposeTarget),
    /// A workload of Kubernetes that reads a ConfigMap.
    Kubectl(KubectlTarget),
}

impl TargetSettings {
    /// Its name in `agent.toml`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nginx(_) => "nginx",
            Self::Haproxy(_) => "haproxy",
            Self::Pgbouncer(_) => "pgbouncer",
            Self::Systemd(_) => "systemd",
            Self::Compose(_) => "compose",
            Self::Kubectl(_) => "kubectl",
        }
    }

    /// How long its settings let a change wait.
    #[must_use]
    pub fn waits(&self) -> Duration {
        match self {
            Self::Pgbouncer(it) => it.pause_timeout + it.close_timeout,
            Self::Systemd(it) => it.settle,
            Self::Nginx(_) | Self::Haproxy(_) | Self::Compose(_) | Self::Kubectl(_) => {
                Duration::ZERO
            }
        }
    }

    /// What it does, in words.
    pub(crate) fn words(&self) -> String {
        let does = match self {
            Self::Nginx(_) => "nginx tests it, reloads, and must show new workers".to_owned(),
            Self::Haproxy(_) => {
                "HAProxy checks it, moves its servers, reloads, and must show them there".to_owned()
            }
            Self::Pgbouncer(it) => format!(
                "PgBouncer pauses {}, reloads, must show the new server, and goes on",
                it.databases.join(", ")
            ),
            Self::Systemd(it) => format!("unit {} is restarted, and must stay up", it.unit),
            Self::Compose(it) => {
                format!(
                    "service {} of docker compose gets new containers",
                    it.service
                )
            }
            Self::Kubectl(it) => {
                let (map, workload) = (&it.config_map, &it.workload);
                format!("ConfigMap {map} gets the new files, and {workload} is rolled out")
            }
        };
        format!("{does}. If not, the previous version comes back.")
    }
}

/// An nginx on this host.
#[derive(Debug, Clone)]
pub struct NginxTarget {
    /// The program.
    pub program: PathBuf,
    /// Its main file, which includes the one that changes or is it.
    pub config: PathBuf,
    /// Where it keeps its number.
    pub pid_file: PathBuf,
    /// Where it complains.
    pub error_log: PathBuf,
    /// What is asked through it after a reload.
    pub verify_url: Option<String>,
    /// What the answer must contain.
    pub verify_text: Option<String>,
}

/// A HAProxy on this host, started with `-W`.
#[derive(Debug, Clone)]
pub struct HaproxyTarget {
    /// The program.
    pub program: PathBuf,
    /// Its files, in its order.
    pub config: Vec<PathBuf>,
    /// Its runtime socket, of level admin.
    pub socket: PathBuf,
    /// Where it keeps its number.
    pub pid_file: PathBuf,
    /// Its `server-state-file`, through which a reload keeps the states of servers.
    pub state_file: Option<PathBuf>,
}

/// A PgBouncer on this host.
#[derive(Debug, Clone)]
pub struct PgbouncerTarget {
    /// Its admin console: host and port on loopback, or the path of its socket.
    pub address: String,
    /// One of its `admin_users`.
    pub user: String,
    /// That user's password.
    pub password: Option<Secret>,
    /// The databases that move, as its file calls them.
    pub databases: Vec<String>,
    /// How long clients may wait, all in all: for open transactions to end, and for the change.
    pub pause_timeout: Duration,
    /// What happens then.
    pub pause_expired: PauseExpired,
    /// How long connections to the old server may outlive a change that was made without a pause.
    pub close_timeout: Duration,
}

/// What happens when PgBouncer cannot be paused in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseExpired {
    /// The change is made all the same, and what still holds an old connection is cut off.
    Kill,
    /// The change is not made.
    Fail,
}

/// A unit of this host's systemd.
#[derive(Debug, Clone)]
pub struct SystemdTarget {
    /// `systemctl`.
    pub program: PathBuf,
    /// The unit.
    pub unit: String,
    /// True when the file is the unit's `EnvironmentFile=`.
    pub environment_file: bool,
    /// How long the unit must stay up to count as up.
    pub settle: Duration,
}

/// A service of a compose file.
#[derive(Debug, Clone)]
pub struct ComposeTarget {
    /// `docker`, or what takes its place.
    pub program: PathBuf,
    /// The compose file.
    pub compose_file: PathBuf,
    /// The service.
    pub service: String,
}

/// A workload that reads a ConfigMap.
#[derive(Debug, Clone)]
pub struct KubectlTarget {
    /// `kubectl`.
    pub program: PathBuf,
    /// The file with the cluster's address and the agent's credentials; `None`: kubectl's own.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of both.
    pub namespace: String,
    /// The ConfigMap; its key is the file's name.
    pub config_map: String,
    /// What is rolled out, e.g. `deployment/shop`.
    pub workload: String,
}
