//! A whole cluster for tests: a real PostgreSQL pair, two agents and a witness in this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::{self, Config, MemberRole};
use failover_agent::model::event::{Answer, Wish};
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::{SiteName, Timestamp};
use failover_agent::runtime::agent::StartError;
use failover_agent::runtime::handle::AgentHandle;
use failover_agent::runtime::status::Snapshot;
use failover_agent::runtime::{agent, journal, witness};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::guards;
use super::ports::free_port;
use super::postgres::{NodeOptions, Pair, TestNode};
use super::relay::Network;
use super::{timeline, wait_until};

/// Secret of every test cluster.
pub const SECRET: &str = "a test secret of enough length";

/// The secret of a member that does not belong.
pub const ODD_SECRET: &str = "some other secret of enough length";

/// The two sites, in the order of [`TestCluster::agents`].
pub const SITES: [&str; 2] = ["fra", "ams"];

/// Bound on what a stopped member needs to let go of its port.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// What differs between test clusters.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// With a witness.
    pub witness: bool,
    /// Lease ttl.
    pub ttl: &'static str,
    /// Extra TOML, appended; `{dir}` is the cluster's directory.
    pub extra: String,
    /// Extra keys of `[failover]`.
    pub failover: String,
    /// Extra keys of `[lease]`, and what belongs below it.
    pub lease: String,
    /// Settings of fra's node, the primary.
    pub primary: NodeOptions,
    /// Settings of ams's node, the standby.
    pub standby: NodeOptions,
    /// Lays every path between the places through a relay, see [`TestCluster::network`].
    pub relayed: bool,
    /// Where the agents of fra and ams answer load balancers.
    pub routing: Option<[u16; 2]>,
    /// The member whose peer secret is another one from its next start on.
    pub odd_secret: Option<&'static str>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            witness: true,
            ttl: "3s",
            extra: String::new(),
            failover: String::new(),
            lease: String::new(),
            primary: NodeOptions::default(),
            standby: NodeOptions::default(),
            relayed: false,
            routing: None,
            odd_secret: None,
        }
    }
}

/// A running agent.
pub struct RunningAgent {
    /// Its picture, and a way to ask.
    pub handle: AgentHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The cluster.
pub struct TestCluster {
    /// The nodes: `pair.primary` is fra's, `pair.standby` is ams's.
    pub pair: Pair,
    /// The agents, by index of [`SITES`]; `None` while stopped.
    pub agents: [Option<RunningAgent>; 2],
    /// What lies between the places: cut and heal it.
    pub network: Network,
    witness: Option<(CancellationToken, JoinHandle<()>)>,
    dir: tempfile::TempDir,
    ports: [u16; 3],
    /// What its members are started with; a change counts from the next start of each.
    pub options: ClusterOptions,
}

impl TestCluster {
    /// Starts everything and waits until fra is active and ams follows.
    pub async fn start(options: ClusterOptions) -> Self {
        let mut cluster = Self::prepare(options).await;
        cluster.start_all().await;
        cluster
    }

    /// Starts all members and waits until fra is active and ams follows.
    pub async fn start_all(&mut self) {
        self.start_witness().await;
        self.start_agent(0).await;
        self.start_agent(1).await;
        self.wait_settled(0).await;
    }

    /// Prepares nodes and files, starts no member.
    pub async fn prepare(options: ClusterOptions) -> Self {
        install_tls_provider();
        let pair = Pair::start_with(options.primary.clone(), options.standby.clone());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = [free_port(), free_port(), free_port()];
        let mut cluster = Self {
            pair,
            agents: [None, None],
            network: Network::default(),
            witness: None,
            dir,
            ports,
            options,
        };
        if cluster.options.relayed {
            cluster.lay_paths().await;
        }
        let node = &cluster.pair.primary;
        for site in SITES {
            let env = cluster.env_file(site);
            fs::create_dir_all(env.parent().expect("a parent")).expect("site directory");
            let text = format!(
                "# the app's settings\nDATABASE_HOST=127.0.0.1\nDATABASE_PORT={port}\n\
                 DATABASE_URL=postgres://shop:p%40ss@127.0.0.1:{port}/shop?sslmode=disable\n",
                port = node.port
            );
            fs::write(env, text).expect("app settings");
        }
        let sql = config::grants::sql(&cluster.config(0));
        let client = node.connect("postgres").await;
        client.batch_execute(&sql).await.expect("grants");
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS kept (n bigint)")
            .await
            .expect("table");
        cluster.pair.wait_caught_up().await;
        cluster
    }

    async fn lay_paths(&mut self) {
        let [fra, ams, witness] = self.ports;
        let (primary, standby) = (self.pair.primary.port, self.pair.standby.port);
        let (to_fra, to_ams) = ([fra, primary], [ams, standby]);
        let paths: [(&str, &str, &[u16]); 7] = [
            ("fra", "fra", &[primary]),
            ("fra", "ams", &to_ams),
            ("fra", "witness", &[witness]),
            ("ams", "fra", &to_fra),
            ("ams", "witness", &[witness]),
            ("witness", "fra", &to_fra),
            ("witness", "ams", &to_ams),
        ];
        for (from, to, targets) in paths {
            for target in targets {
                self.network.lay(from, to, *target).await;
            }
        }
        // Replication goes the same way as everything else from ams to fra.
        let sql = format!(
            "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={} user=postgres \
             application_name={}'",
            self.network.port("ams", primary),
            self.pair.standby.name
        );
        let client = self.pair.standby.connect("postgres").await;
        client.batch_execute(&sql).await.expect("primary_conninfo");
        let reload = client.batch_execute("SELECT pg_reload_conf()").await;
        reload.expect("the standby reads its settings again");
    }

    /// An app's settings file of a site.
    pub fn env_file(&self, site: &str) -> PathBuf {
        self.dir.path().join(site).join(".env")
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory of a member.
    pub fn state_dir(&self, member: &str) -> PathBuf {
        self.dir.path().join(member).join("state")
    }

    /// The node of a site.
    pub fn node(&self, index: usize) -> &TestNode {
        if index == 0 {
            &self.pair.primary
        } else {
            &self.pair.standby
        }
    }

    /// `agent.toml` of a member.
    pub fn toml(&self, member: &str) -> String {
        let site = |index: usize| {
            let node = self.node(index);
            let routing = self.options.routing.map_or_else(String::new, |ports| {
                format!("routing = \"127.0.0.1:{}\"\n", ports[index])
            });
            format!(
                "[sites.{name}]\naddress = \"127.0.0.1:{agent}\"\n{routing}\
                 [sites.{name}.database]\nhost = \"127.0.0.1\"\nport = {port}\n\
                 data_dir = \"{data}\"\nbin_dir = \"{bin}\"\n",
                name = SITES[index],
                agent = self.network.port(member, self.ports[index]),
                port = self.network.port(member, node.port),
                data = node.data_dir.display(),
                bin = node.bin_dir().display(),
            )
        };
        let witness = if self.options.witness {
            let port = self.network.port(member, self.ports[2]);
            format!("[witness]\naddress = \"127.0.0.1:{port}\"\n")
        } else {
            String::new()
        };
        format!(
            "cluster = \"test\"\nstate_dir = \"{state}\"\nsocket = \"{dir}/{member}/agent.sock\"\n\
             [peer]\nsecret = \"{secret}\"\n[lease]\nttl = \"{ttl}\"\n{lease}{fra}{ams}{witness}\
             [database]\nuser = \"agent\"\ntls = \"off\"\ninterval = \"500ms\"\ntimeout = \"1s\"\n\
             fast_interval = \"100ms\"\nfall = 2\nfresh_interval = \"2s\"\n[failover]\n{failover}\n\
             [[app_config]]\nname = \"shop\"\npath = \"{dir}/{env}/.env\"\n\
             set = [{{ key = \"DATABASE_HOST\", value = \"{{host}}\" }}, \
             {{ key = \"DATABASE_PORT\", value = \"{{port}}\" }}, \
             {{ key = \"DATABASE_URL\", url = true }}]\n{extra}\n",
            state = self.state_dir(member).display(),
            secret = if self.options.odd_secret == Some(member) {
                ODD_SECRET
            } else {
                SECRET
            },
            dir = self.dir.path().display(),
            ttl = self.options.ttl,
            lease = self.options.lease,
            fra = site(0),
            ams = site(1),
            failover = self.options.failover,
            env = if member == "witness" { "fra" } else { member },
            extra = self
                .options
                .extra
                .replace("{dir}", &self.dir.path().display().to_string()),
        )
    }

    /// The checked configuration of a site's agent.
    pub fn config(&self, index: usize) -> Config {
        self.parse(SITES[index], MemberRole::Agent)
    }

    /// Writes `agent.toml` of a member, for a process of its own.
    pub fn write_settings(&self, member: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{member}.toml"));
        fs::write(&path, self.toml(member)).expect("agent.toml");
        path
    }

    fn parse(&self, member: &str, role: MemberRole) -> Config {
        let text = self.toml(member);
        let path = self.dir.path().join(format!("{member}.toml"));
        fs::write(&path, &text).expect("agent.toml");
        let site = (role == MemberRole::Agent).then_some(member);
        match config::parse(&text, &path, site, role, &|_| None) {
            Ok(loaded) => loaded.config,
            Err(problems) => panic!("{problems}\n{text}"),
        }
    }

    /// Starts the agent of a site.
    pub async fn start_agent(&mut self, index: usize) {
        let began = tokio::time::Instant::now();
        loop {
            let stop = CancellationToken::new();
            let program = Path::new(env!("CARGO_BIN_EXE_agent"));
            match agent::start(self.config(index), program, stop.clone()).await {
                Ok((handle, task)) => {
                    self.agents[index] = Some(RunningAgent { handle, stop, task });
                    return;
                }
                // What is left of a stopped agent ends in its own time; a process would be gone.
                Err(StartError::Listen { .. }) if began.elapsed() < RESTART_MAX => {
                    stop.cancel();
                    // bounded: by RESTART_MAX
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("the agent of {} does not start: {error:?}", SITES[index]),
            }
        }
    }

    /// Stops the agent of a site in order.
    pub async fn stop_agent(&mut self, index: usize) {
        if let Some(running) = self.agents[index].take() {
            running.stop.cancel();
            running.task.await.expect("the agent ends without a panic");
        }
    }

    /// Starts the witness, if the cluster has one.
    pub async fn start_witness(&mut self) {
        if self.options.witness {
            let began = tokio::time::Instant::now();
            while self.witness.is_none() {
                let stop = CancellationToken::new();
                let config = self.parse("witness", MemberRole::Witness);
                match witness::start(config, stop.clone()).await {
                    Ok(task) => self.witness = Some((stop, task)),
                    Err(StartError::Listen { .. }) if began.elapsed() < RESTART_MAX => {
                        stop.cancel();
                        // bounded: by RESTART_MAX
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("the witness does not start: {error:?}"),
                }
            }
        }
    }

    /// Stops the witness.
    pub async fn stop_witness(&mut self) {
        if let Some((stop, task)) = self.witness.take() {
            stop.cancel();
            task.await.expect("the witness ends without a panic");
        }
    }

    /// What the agent of a site shows.
    pub fn status(&self, index: usize) -> Arc<Snapshot> {
        let running = self.agents[index].as_ref().expect("the agent runs");
        running.handle.status.borrow().clone()
    }

    /// Asks the agent of a site for a failover.
    pub async fn failover(&self, index: usize, to: &str, dry_run: bool) -> Answer {
        let running = self.agents[index].as_ref().expect("the agent runs");
        let wish = Wish::Failover {
            to: SiteName::new(to),
            dry_run,
        };
        running.handle.ask(wish).await.expect("the agent answers")
    }

    /// Waits until a site is active, its node healthy and the other one ready.
    pub async fn wait_settled(&self, active: usize) {
        let settled = async || {
            let (own, other) = (self.status(active), self.status(1 - active));
            own.active
                && own
                    .diagnoses
                    .first()
                    .is_some_and(|first| first.name.name() == "healthy")
                && own.run.is_none()
                && other.lease.view == "other"
                && other.run.is_none()
        };
        let deadline = Duration::from_secs(20);
        let waited = tokio::time::timeout(deadline, async {
            while !settled().await {
                // bounded: the timeout around this ends it after 20 s
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "site {} did not settle:\n{:#?}\n{:#?}",
                SITES[active],
                self.status(active),
                self.status(1 - active)
            );
        }
    }

    /// Waits until the agent of a site shows something.
    pub async fn wait_status(
        &self,
        index: usize,
        what: &str,
        within: Duration,
        holds: impl Fn(&Snapshot) -> bool,
    ) {
        let waited = tokio::time::timeout(within, async {
            while !holds(&self.status(index)) {
                // bounded: the timeout around this ends it after `within`
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if waited.await.is_err() {
            panic!("waited {within:?} for: {what}\n{:#?}", self.status(index));
        }
    }

    /// Prints how long each part of a failover took.
    pub fn print_timeline(&self, what: &str, fault: Timestamp) {
        let dirs = SITES.map(|site| self.state_dir(site));
        timeline::print(what, fault, [&dirs[0], &dirs[1]]);
    }

    /// What a site's agent has in its journal, oldest first.
    pub fn journal(&self, index: usize) -> Vec<JournalEntry> {
        let lines = journal::read_all(&self.state_dir(SITES[index]));
        let lines = lines.expect("the journal can be read").into_iter();
        lines.map(|line| line.entry).collect()
    }

    /// Kills every process of a site's node and everything of its agent, as a lost site would.
    pub async fn lose_site(&mut self, index: usize) {
        // In this order, or the agent would see the death and hand over.
        self.stop_agent(index).await;
        self.node(index).kill_all();
    }

    /// Waits until a site's app settings name a node.
    pub async fn wait_env_names(&self, site: &str, node: usize, within: Duration) {
        let port = self.network.port(site, self.node(node).port);
        let wanted = format!("DATABASE_PORT={port}\n");
        let path = self.env_file(site);
        wait_until(&format!("{site}'s .env names node {node}"), within, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let named = text.contains(&wanted);
            async move { named }
        })
        .await;
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        for running in self.agents.iter().flatten() {
            running.stop.cancel();
        }
        if let Some((stop, _)) = &self.witness {
            stop.cancel();
        }
        // A guard outlives its agent on purpose.
        for site in SITES {
            guards::kill(&self.state_dir(site));
        }
    }
}

/// One provider for the whole test process.
pub fn install_tls_provider() {
    // A second test in this process finds it installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
