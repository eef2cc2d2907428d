//! Two sites, a witness and a DNS provider in one temporary directory.
//!
//! Owns everything that has to go again: processes, servers, files. Start reading at
//! [`Playground::build`]; the end is in [`Playground::remove`], and in `Drop` should that not run.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use super::dns::Dns;
use super::error::DemoError;
use super::files::{self, Settings, SiteSettings};
use super::postgres::{Node, Postgres};
use super::process::Process;
use super::session::{DATABASE, Login};
use super::voice::Voice;
use super::{Options, guards, oracle, writer};
use crate::config::secret::Secret;
use crate::config::{self, MemberRole, grants};
use crate::surfaces::cli::LocalAgent;

/// The sites: the primary begins at the first.
pub(super) const SITES: [&str; 2] = ["fra", "ams"];

/// A socket's path has 107 bytes at most; a directory this long leaves room for ours.
const DIRECTORY_BYTES_MAX: usize = 70;

/// One site.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) node: Node,
    pub(super) agent: LocalAgent,
    pub(super) state_dir: PathBuf,
    pub(super) env_file: PathBuf,
    pub(super) settings_file: PathBuf,
    address: String,
    process: Option<Process>,
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Playground {
    pub(super) sites: [Site; 2],
    pub(super) dns: Dns,
    witness: Option<Process>,
    postgres: Postgres,
    app_password: Secret,
    /// Declared last: nothing may run in it any more when it goes.
    root: Option<TempDir>,
    path: PathBuf,
}

impl Playground {
    /// Makes directories, files and the DNS stand-in; starts nothing else yet.
    pub(super) async fn build(options: &Options) -> Result<Self, DemoError> {
        let postgres = Postgres::find(
            options.pg_bin.as_deref(),
            options.pg_user.as_deref(),
            Secret::new(token()),
        )?;
        let root = temporary_directory()?;
        let path = root.path().to_path_buf();
        // PostgreSQL's user must be able to pass through.
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .map_err(|error| DemoError::io("set the mode of", &path, error))?;
        let network = Network::random();
        let sites = [
            Site::prepare(&path, 0, &network)?,
            Site::prepare(&path, 1, &network)?,
        ];
        let hosts = sites.each_ref().map(|site| site.node.host.as_str());
        let dns = Dns::start(options.dns, &path, &token(), hosts).await?;
        let playground = Self {
            sites,
            dns,
            witness: None,
            postgres,
            app_password: Secret::new(token()),
            root: Some(root),
            path,
        };
        for name in ["peer.secret", "database.password"] {
            files::write_secret(&playground.path.join(name), &token())?;
        }
        playground.write_settings(&network)?;
        Ok(playground)
    }

    /// Starts the databases, then everybody else.
    pub(super) async fn start(&mut self, voice: &Voice) -> Result<(), DemoError> {
        let [first, second] = &self.sites;
        voice.step(&format!("making a PostgreSQL primary for {}", first.name));
        self.postgres.init(&first.node).await?;
        self.postgres.start(&first.node).await?;
        self.fill(&first.node).await?;
        voice.step(&format!("making a streaming standby for {}", second.name));
        self.postgres.copy(&second.node, &first.node).await?;
        self.postgres.start(&second.node).await?;
        voice.step("starting two agents and a witness, each a process of its own");
        let witness = self.path.join("witness");
        let settings = self.path.join("witness.toml");
        let arguments = ["witness", "--config", &settings.to_string_lossy()];
        self.witness = Some(Process::start(
            "the witness",
            &arguments,
            &witness.join("log"),
        )?);
        for index in 0..self.sites.len() {
            self.start_agent(index)?;
        }
        Ok(())
    }

    /// Starts the agent of a site (again).
    pub(super) fn start_agent(&mut self, index: usize) -> Result<(), DemoError> {
        let Some(site) = self.sites.get_mut(index) else {
            return Ok(());
        };
        let settings = site.settings_file.to_string_lossy().into_owned();
        let log = site.state_dir.with_file_name("log");
        let name = format!("the agent of {}", site.name);
        let process = Process::start(&name, &["run", "--config", &settings], &log)?;
        site.process = Some(process);
        Ok(())
    }

    /// Kills the agent of a site and its guard with SIGKILL.
    pub(super) async fn kill_agent(&mut self, index: usize) {
        let process = self
            .sites
            .get_mut(index)
            .and_then(|site| site.process.take());
        if let Some(process) = process {
            process.kill().await;
        }
        if let Some(site) = self.sites.get(index) {
            guards::kill(&site.state_dir);
        }
    }

    /// An error as soon as a process ended that should run.
    pub(super) fn all_run(&self) -> Result<(), DemoError> {
        let agents = self.sites.iter().filter_map(|site| site.process.as_ref());
        for process in agents.chain(&self.witness) {
            process.must_run()?;
        }
        self.dns.must_run()
    }

    /// The nodes' addresses.
    pub(super) fn hosts(&self) -> [&str; 2] {
        self.sites.each_ref().map(|site| site.node.host.as_str())
    }

    /// The site's agent has moved the name there, and noted under which epoch.
    pub(super) async fn is_named(&self, index: usize) -> bool {
        let site = self.sites.get(index).map_or("", |site| site.name);
        self.dns.names(index, site, self.hosts()).await
    }

    /// How the app logs in at each node.
    pub(super) fn app_logins(&self) -> [Login; 2] {
        self.sites.each_ref().map(|site| Login {
            host: site.node.host.clone(),
            port: site.node.port,
            user: "app",
            password: self.app_password.clone(),
            database: DATABASE,
        })
    }

    /// A superuser's session at a node.
    pub(super) async fn superuser(&self, node: &Node) -> Result<Client, DemoError> {
        let login = self.postgres.superuser(node, DATABASE);
        login.connect().await.map_err(|source| DemoError::Sql {
            what: "log in as superuser",
            source,
        })
    }

    /// Where everything is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends every process and removes every file, unless they are to be kept.
    pub(super) async fn remove(mut self, keep: bool) {
        for site in &mut self.sites {
            if let Some(process) = site.process.take() {
                process.kill().await;
            }
        }
        if let Some(process) = self.witness.take() {
            process.kill().await;
        }
        self.clear();
        if let Some(root) = self.root.take().filter(|_| keep) {
            // Kept on purpose: the path was told.
            drop(root.keep());
        }
    }

    fn clear(&self) {
        for site in &self.sites {
            guards::kill(&site.state_dir);
            site.node.clear();
        }
    }

    /// Roles, tables, and the agent's own grants, as `agent check --grants` prints them.
    async fn fill(&self, node: &Node) -> Result<(), DemoError> {
        let sql = |what| move |source| DemoError::Sql { what, source };
        let admin = self.postgres.superuser(node, "postgres").connect().await;
        let admin = admin.map_err(sql("log in at the new node"))?;
        let settings_file = &self.sites[0].settings_file;
        let loaded = config::load(settings_file, None, MemberRole::Agent, &|_| None);
        let loaded = loaded.map_err(|problems| DemoError::Settings(problems.to_string()))?;
        admin
            .batch_execute(&grants::sql(&loaded.config))
            .await
            .map_err(sql("give the agents' role its grants"))?;
        // Passwords are our own hexadecimal digits: nothing to quote.
        let agent_password = loaded.config.database.password.unwrap_or(Secret::new(""));
        let roles = [
            format!("ALTER ROLE agent PASSWORD '{}'", agent_password.reveal()),
            format!(
                "CREATE ROLE app LOGIN PASSWORD '{}'",
                self.app_password.reveal()
            ),
            // Not in one statement list: it refuses to run inside a transaction.
            format!("CREATE DATABASE {DATABASE} OWNER app"),
        ];
        for statement in &roles {
            let done = admin.batch_execute(statement).await;
            done.map_err(sql("make the app's role and database"))?;
        }
        let [login, _] = self.app_logins();
        let app = login.connect().await.map_err(sql("log in as the app"))?;
        for tables in [writer::TABLE, oracle::TABLES] {
            let made = app.batch_execute(tables).await;
            made.map_err(sql("make the app's tables"))?;
        }
        Ok(())
    }

    fn write_settings(&self, network: &Network) -> Result<(), DemoError> {
        let witness = network.address(3)?;
        let dns = self.dns.settings(&self.path, SITES, self.hosts());
        let sites = self.sites.each_ref().map(|site| SiteSettings {
            name: site.name,
            address: &site.address,
            host: &site.node.host,
            port: site.node.port,
            data_dir: &site.node.data_dir,
            env_file: &site.env_file,
        });
        for member in [SITES[0], SITES[1], "witness"] {
            let settings = Settings {
                root: &self.path,
                member,
                sites: &sites,
                witness: &witness,
                bin_dir: self.postgres.bin_dir(),
                dns: &dns,
            };
            create(&self.path.join(member))?;
            let path = self.path.join(format!("{member}.toml"));
            fs::write(&path, settings.text())
                .map_err(|error| DemoError::io("write", &path, error))?;
        }
        let [primary, _] = &self.sites;
        for site in &self.sites {
            let text = files::env_text(
                site.name,
                &primary.node.host,
                primary.node.port,
                self.app_password.reveal(),
            );
            let directory = self.path.join(site.name).join("app");
            create(&directory)?;
            files::write_secret(&site.env_file, &text)?;
        }
        Ok(())
    }
}

impl Drop for Playground {
    /// The agents go first: one that lives could start a database again.
    fn drop(&mut self) {
        for site in &mut self.sites {
            drop(site.process.take());
        }
        drop(self.witness.take());
        self.clear();
    }
}

impl Site {
    fn prepare(root: &Path, index: usize, network: &Network) -> Result<Self, DemoError> {
        let name = SITES.get(index).copied().unwrap_or_default();
        let place = root.join(name);
        let member = u8::try_from(index).unwrap_or_default() + 1;
        let host = network.host(member);
        Ok(Self {
            name,
            node: Node::new(name, host, network.port(member)?, place.join("data")),
            agent: LocalAgent::at(&place.join("agent.sock")),
            state_dir: place.join("state"),
            env_file: place.join("app").join(".env"),
            settings_file: root.join(format!("{name}.toml")),
            address: network.address(member)?,
            process: None,
        })
    }
}

/// Loopback addresses that nobody else uses: every demo takes its own corner of 127.0.0.0/8, so
/// that several can run at once and no port is taken between choosing it and listening on it.
#[derive(Debug)]
struct Network(u8, u8);

impl Network {
    fn random() -> Self {
        Self(rand::random_range(1..=254), rand::random_range(1..=254))
    }

    fn host(&self, member: u8) -> String {
        format!("127.{}.{}.{member}", self.0, self.1)
    }

    fn port(&self, member: u8) -> Result<u16, DemoError> {
        let host = self.host(member);
        TcpListener::bind((host.as_str(), 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .map_err(|error| DemoError::io("find a free port on", Path::new(&host), error))
    }

    fn address(&self, member: u8) -> Result<String, DemoError> {
        Ok(format!("{}:{}", self.host(member), self.port(member)?))
    }
}

fn temporary_directory() -> Result<TempDir, DemoError> {
    let usual = std::env::temp_dir();
    let place = match usual.as_os_str().len() > DIRECTORY_BYTES_MAX {
        true => PathBuf::from("/tmp"),
        false => usual,
    };
    tempfile::Builder::new()
        .prefix("agent-demo-")
        .tempdir_in(&place)
        .map_err(|error| DemoError::io("make a directory in", &place, error))
}

fn create(path: &Path) -> Result<(), DemoError> {
    fs::create_dir_all(path).map_err(|error| DemoError::io("create", path, error))
}

/// 128 random bits as hexadecimal digits.
fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Waits until something holds, within a bound.
pub(super) async fn wait_for<F>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<(), DemoError>
where
    F: Future<Output = Result<bool, DemoError>>,
{
    /// Between two looks.
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let looking = async {
        while !condition().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    match tokio::time::timeout(within, looking).await {
        Ok(result) => result,
        Err(_) => Err(DemoError::TooLate {
            what: what.to_owned(),
            after: within,
        }),
    }
}
