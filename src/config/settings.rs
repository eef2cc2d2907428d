//! The settings as the rest of the program sees them: checked, complete, with units in the types.

mod app_config;
mod dns;
mod targets;
mod upstream;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::app_config::{
    AppConfig, AppConfigEdit, AppConfigFile, AppConfigTemplate, AppConfigValue,
};
pub use self::dns::{
    AwsLogin, AwsRole, DnsAccess, DnsCheck, DnsRecord, EdgeCheck, Proxy, Route53, TsigAlgorithm,
};
pub use self::targets::{
    ComposeTarget, HaproxyTarget, KubectlTarget, NginxTarget, PauseExpired, PgbouncerTarget,
    SystemdTarget, TargetSettings,
};
pub use self::upstream::{ProxyFormat, Upstream, UpstreamFile, UpstreamMember, UpstreamTrip};
use super::secret::Secret;
use crate::model::brakes::Conduct;
use crate::model::lease::LeaseStore;
use crate::model::{ClusterName, LagBytes, Member, ProbeName, SiteName};

/// Everything `agent.toml` says, checked and with defaults filled in. The same file serves every
/// member; `--site` (or the key `site`) says which member reads it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Which site this process belongs to; `None` when the witness reads the file.
    pub site: Option<SiteName>,
    /// Whether the agents act on what they see.
    pub mode: Conduct,
    /// Where votes, the journal and the outbox are kept.
    pub state_dir: PathBuf,
    /// The operator's unix socket.
    pub socket: PathBuf,
    /// Exactly two, sorted by name.
    pub sites: [Site; 2],
    /// The witness's address as `host:port`; `None` means `pair`: handover only (S7).
    pub witness: Option<String>,
    /// How members talk to each other.
    pub peer: Peer,
    /// The lease's times.
    pub lease: Lease,
    /// Where the lease is kept.
    pub lease_store: LeaseStore,
    /// The etcd cluster; always there when the lease is kept in it.
    pub etcd: Option<Etcd>,
    /// How the databases are probed.
    pub database: Database,
    /// How failovers are done.
    pub failover: Failover,
    /// How an agent knows whether it may judge others.
    pub self_check: SelfCheck,
    /// Endpoint probes.
    pub probes: Vec<Probe>,
    /// Which probes may fail a whole site over.
    pub trips: Vec<Trip>,
    /// Groups of app servers whose healthy members a proxy's file names.
    pub upstreams: Vec<Upstream>,
    /// Files to rewrite.
    pub app_configs: Vec<AppConfig>,
    /// Records to move.
    pub dns: Vec<DnsRecord>,
    /// How it is seen whether the world has them.
    pub dns_check: DnsCheck,
    /// Whom to tell.
    pub notifiers: Vec<NotifierSettings>,
    /// What was promised to the business.
    pub objectives: Objectives,
    /// What the guard uses beside signals.
    pub guard: Guard,
}

/// One place.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// The agent's address as `host:port`: where it listens (unless `listen` says otherwise) and
    /// where the others reach it.
    pub address: String,
    /// Where the agent binds, when that differs from `address`.
    pub listen: Option<SocketAddr>,
    /// Where load balancers may ask which node is primary; `None`: nowhere.
    pub routing: Option<SocketAddr>,
    /// Its node.
    pub node: Node,
}

/// A site's PostgreSQL instance.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where agents and apps reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `PGDATA`, on the site's own host.
    pub data_dir: PathBuf,
    /// Where `pg_ctl` is; `None`: looked up in the usual places by the version in `data_dir`.
    pub bin_dir: Option<PathBuf>,
    /// The operating-system user that owns `data_dir`; `None`: the directory's owner.
    pub os_user: Option<String>,
    /// How it is started, stopped and promoted.
    pub control: Control,
}

/// How a node is controlled.
#[derive(Debug, Clone)]
pub enum Control {
    /// By `pg_ctl` and signals, from the agent itself.
    Local,
    /// By a systemd unit; fencing still goes by signals and `/proc`.
    Systemd {
        /// The unit, e.g. `postgresql@15-main.service`.
        unit: String,
    },
    /// By commands (ssh, docker compose, kubectl).
    Commands(Box<ControlCommands>),
}

/// The commands of [`Control::Commands`]; each is program and arguments, with `{host}`, `{port}`,
/// `{data_dir}`, `{site}` and `{epoch}` replaced. Exit code 0 means done.
#[derive(Debug, Clone)]
pub struct ControlCommands {
    /// Starts the node.
    pub start: Vec<String>,
    /// Stops it cleanly.
    pub stop: Vec<String>,
    /// Promotes it; `None`: by SQL, `pg_promote`.
    pub promote: Option<Vec<String>>,
    /// Exit 0: running; 3: not running (LSB); else unknown.
    pub status: Vec<String>,
    /// Makes sure that it cannot commit. Without it the site is never failed over automatically
    /// (S3).
    pub fence: Option<Vec<String>>,
    /// Exit 0: it cannot commit. The proof of `fence`.
    pub fenced: Option<Vec<String>>,
    /// Bound on each command.
    pub timeout: Duration,
}

/// How members talk to each other.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The shared secret that authenticates every request.
    pub secret: Secret,
    /// TLS; `None` only on loopback or with `insecure = true`.
    pub tls: Option<PeerTls>,
    /// Plain HTTP between hosts was allowed on purpose.
    pub insecure: bool,
}

/// Certificates of the peer link: both sides show one, both check it against `ca`.
#[derive(Debug, Clone)]
pub struct PeerTls {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM authorities that may sign members' certificates.
    pub ca: PathBuf,
}

/// The lease's times. Rule: `ttl · (1 − ρ) − fence_budget > 2 · renew_every + request_timeout`, so
/// that two lost renewals in a row do not end the lease (S2).
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// How long a grant runs.
    pub ttl: Duration,
    /// How often the holder renews, and the others look.
    pub renew_every: Duration,
    /// Bound on one request to a voter.
    pub request_timeout: Duration,
    /// Time reserved for the fence at the end of the lease (F in S2).
    pub fence_budget: Duration,
}

/// An etcd cluster that keeps the lease.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// Its members' client URLs, without a path. Each of them is enough.
    pub endpoints: Vec<String>,
    /// What its keys begin with; the cluster's name follows.
    pub prefix: String,
    /// PEM authorities that sign the members' certificates; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// PEM certificate chain and private key that are shown to the members.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User and password, where etcd asks for them.
    pub login: Option<(String, Secret)>,
}

/// The largest relative error of any member's clock rate (ρ in S2). Crystal oscillators are within
/// 0.01 %; NTP slews at most 0.05 %; ten times that is the margin.
pub const CLOCK_ERROR_MAX: f64 = 0.005;

/// How the databases are probed, and as whom.
#[derive(Debug, Clone)]
pub struct Database {
    /// The agent's role in PostgreSQL.
    pub user: String,
    /// Its password, if one is needed.
    pub password: Option<Secret>,
    /// The database it connects to.
    pub dbname: String,
    /// Transport security of these connections.
    pub tls: DatabaseTls,
    /// Rhythm of the persistent probe (with the write canary).
    pub timing: ProbeTiming,
    /// How often a fresh connection is tried.
    pub fresh_interval: Duration,
    /// The heartbeat table, as `schema.table`.
    pub heartbeat_table: String,
}

/// Transport security of database connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseTls {
    /// Plain text.
    Off,
    /// Encrypted and verified against these authorities, or the system's.
    Verify {
        /// PEM authorities; `None`: the system's.
        ca: Option<PathBuf>,
    },
}

/// The rhythm and thresholds of a probe, with HAProxy's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTiming {
    /// Between two starts while the state is settled.
    pub interval: Duration,
    /// Between two starts while it is not (a first failure, or on the way up).
    pub fast_interval: Duration,
    /// Bound on one probe, all phases together.
    pub timeout: Duration,
    /// Consecutive failures to be down.
    pub fall: u32,
    /// Consecutive successes to be up.
    pub rise: u32,
}

/// How failovers are done.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Most WAL that a promotion may lose.
    pub lag_max: LagBytes,
    /// No second automatic failover for this long (S14).
    pub block: Duration,
    /// At most so many automatic failovers within `window`.
    pub max_automatic: u32,
    /// See `max_automatic`.
    pub window: Duration,
    /// How long an operator's failover waits for a clean stop before it fences by force.
    pub stop_grace: Duration,
    /// Bound on promotion.
    pub promote_timeout: Duration,
    /// Bound on starting a node.
    pub start_timeout: Duration,
    /// A restart in place is tried first if it can finish within this; zero: never.
    pub restart_budget: Duration,
}

/// How an agent knows whether it may judge others.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    /// As `host:port`: things that have nothing to do with the cluster.
    pub targets: Vec<String>,
    /// Rhythm and thresholds of their probes.
    pub timing: ProbeTiming,
    /// Later than this, and its timeouts mean nothing.
    pub late_max: Duration,
}

/// A configured endpoint probe.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its name.
    pub name: ProbeName,
    /// The sites whose agents run it; empty: all members including the witness.
    pub sites: Vec<SiteName>,
    /// What it does.
    pub kind: ProbeKindSettings,
    /// Rhythm and thresholds.
    pub timing: ProbeTiming,
}

/// What an endpoint probe does.
#[derive(Debug, Clone)]
pub enum ProbeKindSettings {
    /// Opens a TCP connection.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Sends one HTTP request on a connection of its own.
    Http(Box<HttpProbe>),
}

/// An HTTP probe's request and conditions. `Debug` hides what may carry credentials.
#[derive(Clone)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: String,
    /// `GET`, `HEAD`, `POST` or `OPTIONS`.
    pub method: String,
    /// Extra request headers.
    pub headers: Vec<(String, String)>,
    /// Request body for `POST`.
    pub body: Option<String>,
    /// Accepted status codes, as inclusive ranges.
    pub status: Vec<(u16, u16)>,
    /// Text that the first 64 KiB of the body must contain.
    pub body_contains: Option<String>,
    /// Slower than this is a failure.
    pub latency_max: Option<Duration>,
    /// PEM authorities for `https`; `None`: the system's.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            method,
            headers,
            body,
            status,
            body_contains,
            latency_max,
            ca,
        } = self;
        let headers: Vec<_> = headers.iter().map(|(name, _)| (name, "***")).collect();
        f.debug_struct("HttpProbe")
            .field("url", url)
            .field("method", method)
            .field("headers", &headers)
            .field("body", &body.as_ref().map(|_| "***"))
            .field("status", status)
            .field("body_contains", body_contains)
            .field("latency_max", latency_max)
            .field("ca", ca)
            .finish()
    }
}

/// When broken endpoints fail the whole site over.
#[derive(Debug, Clone)]
pub struct Trip {
    /// Its name.
    pub name: String,
    /// The probes it looks at.
    pub probes: Vec<ProbeName>,
    /// How many of them must be down.
    pub at_least: usize,
    /// For how long without a break.
    pub down_for: Duration,
}

/// Whom to tell, and how.
#[derive(Debug, Clone)]
pub struct NotifierSettings {
    /// Its name.
    pub name: String,
    /// The notifier's kind, e.g. `webhook`.
    pub kind: String,
    /// Where to; secret, because chat webhooks carry their key in the URL.
    pub url: Secret,
    /// Bound on one delivery.
    pub timeout: Duration,
}

/// What was promised to the business; shown against what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Objectives {
    /// Recovery time objective.
    pub rto: Option<Duration>,
    /// Recovery point objective.
    pub rpo: Option<Duration>,
}

/// What the guard uses beside signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Whether the Linux watchdog device resets this host when the guard cannot fence.
    pub watchdog: WatchdogMode,
    /// The device.
    pub watchdog_device: PathBuf,
}

/// How much the watchdog device is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogMode {
    /// It is not used.
    Off,
    /// It is used where it can be; status shows where it cannot.
    Automatic,
    /// A site whose device cannot be used is not active.
    Required,
}

impl Config {
    /// The site of this name.
    #[must_use]
    pub fn site(&self, name: &SiteName) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == *name)
    }

    /// The site this process belongs to; `None` for the witness.
    #[must_use]
    pub fn own_site(&self) -> Option<&Site> {
        self.site.as_ref().and_then(|name| self.site(name))
    }

    /// The other site, seen from this process; `None` for the witness.
    #[must_use]
    pub fn peer_site(&self) -> Option<&Site> {
        let own = self.site.as_ref()?;
        self.sites.iter().find(|site| site.name != *own)
    }

    /// Who this process is in votes.
    #[must_use]
    pub fn member(&self) -> Member {
        self.site.clone().map_or(Member::Witness, Member::Site)
    }

    /// Every member with its address, voters in fixed order: sites by name, then the witness.
    #[must_use]
    pub fn members(&self) -> Vec<(Member, String)> {
        let mut members: Vec<_> = self
            .sites
            .iter()
            .map(|site| (Member::Site(site.name.clone()), site.address.clone()))
            .collect();
        members.extend(
            self.witness
                .iter()
                .map(|address| (Member::Witness, address.clone())),
        );
        members
    }
}
