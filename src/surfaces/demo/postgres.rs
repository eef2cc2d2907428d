//! Real PostgreSQL nodes of the demo: made, started, broken and removed again.
//!
//! The nodes are started through `pg_ctl`, so that their postmaster is nobody's child here, as in
//! production. Start reading at [`Postgres::find`], then [`Node`].

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::error::DemoError;
use super::session::Login;
use crate::config::secret::Secret;
use crate::effects::exec::{self, CommandSpec, OsUser};
use crate::effects::postgres::process::{Instance, Process};

/// The superuser of the demo's nodes.
pub(super) const SUPERUSER: &str = "postgres";

/// Bound on one `initdb`, base backup or start.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a node's processes are looked for until none is left.
const KILL_ROUNDS: u32 = 50;
const KILL_PAUSE: Duration = Duration::from_millis(10);

/// PostgreSQL as it is installed here, and the user that it runs as.
#[derive(Debug, Clone)]
pub(super) struct Postgres {
    bin_dir: PathBuf,
    /// `None`: as whoever runs the demo.
    user: Option<OsUser>,
    password: Secret,
}

impl Postgres {
    /// Finds the programs (the newest version where there are several) and the user.
    pub(super) fn find(
        bin_dir: Option<&Path>,
        user: Option<&str>,
        password: Secret,
    ) -> Result<Self, DemoError> {
        let places = bin_dir.map_or_else(usual_places, |dir| vec![dir.to_path_buf()]);
        let complete = |dir: &&PathBuf| {
            let programs = ["initdb", "pg_ctl", "postgres", "pg_basebackup"];
            programs.iter().all(|program| dir.join(program).is_file())
        };
        let Some(found) = places.iter().find(complete) else {
            let looked_in = match bin_dir {
                Some(dir) => dir.display().to_string(),
                None => "/usr/lib/postgresql/*/bin and the other usual places".to_owned(),
            };
            return Err(DemoError::NoPostgres { looked_in });
        };
        // Anybody else can only run programs as themselves.
        let user = match geteuid().is_root() {
            true => Some(OsUser::by_name(user.unwrap_or("postgres")).map_err(DemoError::NoUser)?),
            false => None,
        };
        Ok(Self {
            bin_dir: found.clone(),
            user,
            password,
        })
    }

    pub(super) fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The superuser's login at a node.
    pub(super) fn superuser(&self, node: &Node, database: &'static str) -> Login {
        Login {
            host: node.host.clone(),
            port: node.port,
            user: SUPERUSER,
            password: self.password.clone(),
            database,
        }
    }

    /// Makes a new database cluster in the node's directory.
    pub(super) async fn init(&self, node: &Node) -> Result<(), DemoError> {
        self.make_dir(&node.data_dir)?;
        let password_file = node.data_dir.with_extension("password");
        super::files::write_secret(&password_file, self.password.reveal())?;
        self.give(&password_file)?;
        let made = self
            .run(
                self.program("initdb", node)
                    .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
                    .args(["--no-sync", "--username", SUPERUSER, "--pwfile"])
                    .arg(&password_file),
            )
            .await;
        fs::remove_file(&password_file)
            .map_err(|error| DemoError::io("remove", &password_file, error))?;
        made?;
        let hba = "host all all 127.0.0.0/8 scram-sha-256\n\
                   host replication all 127.0.0.0/8 scram-sha-256\n";
        self.write(node, "pg_hba.conf", hba)
    }

    /// Makes the node a streaming copy of `primary`.
    pub(super) async fn copy(&self, node: &Node, primary: &Node) -> Result<(), DemoError> {
        self.make_dir(&node.data_dir)?;
        let source = format!(
            "host={} port={} user={SUPERUSER} application_name={}",
            primary.host, primary.port, node.name
        );
        self.run(
            self.program("pg_basebackup", node)
                .args(["--write-recovery-conf", "--wal-method=stream", "--no-sync"])
                .args(["--checkpoint=fast", "--dbname", &source])
                // Written into the standby's own settings, which only its user may read.
                .env("PGPASSWORD", self.password.reveal()),
        )
        .await
    }

    /// Starts the node as whatever its directory says.
    pub(super) async fn start(&self, node: &Node) -> Result<(), DemoError> {
        // Without unix sockets nothing of the demo lies outside its directory. The rest makes a
        // small server: the demo shows a failover, not a load.
        let settings = format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = ''\n\
             cluster_name = '{}'\nwal_log_hints = on\nmax_connections = 40\n\
             shared_buffers = 16MB\nwal_keep_size = 64MB\nmin_wal_size = 32MB\n",
            node.host, node.port, node.name
        );
        // Read after all others. Source: PostgreSQL manual 20.1.2.
        self.write(node, "demo.conf", &settings)?;
        let main = node.data_dir.join("postgresql.conf");
        let mut text =
            fs::read_to_string(&main).map_err(|error| DemoError::io("read", &main, error))?;
        if !text.contains("include 'demo.conf'") {
            text.push_str("include 'demo.conf'\n");
            self.write(node, "postgresql.conf", &text)?;
        }
        self.run(
            self.program("pg_ctl", node)
                .args(["start", "-w", "-s", "-t", "30", "-l"])
                .arg(node.data_dir.join("server.log")),
        )
        .await
    }

    fn program(&self, name: &str, node: &Node) -> CommandSpec {
        let spec = CommandSpec::new(self.bin_dir.join(name), PROGRAM_TIMEOUT)
            .arg("-D")
            .arg(&node.data_dir);
        match &self.user {
            Some(user) => spec.user(user.clone()),
            None => spec,
        }
    }

    async fn run(&self, spec: CommandSpec) -> Result<(), DemoError> {
        let finished = exec::run(&spec).await?;
        if finished.success() {
            return Ok(());
        }
        Err(DemoError::Program {
            program: spec.to_string(),
            complaint: finished.complaint(),
        })
    }

    fn make_dir(&self, path: &Path) -> Result<(), DemoError> {
        fs::create_dir(path).map_err(|error| DemoError::io("create", path, error))?;
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| DemoError::io("set the mode of", path, error))?;
        self.give(path)
    }

    fn write(&self, node: &Node, name: &str, text: &str) -> Result<(), DemoError> {
        let path = node.data_dir.join(name);
        fs::write(&path, text).map_err(|error| DemoError::io("write", &path, error))?;
        self.give(&path)
    }

    /// Gives a file to the user that PostgreSQL runs as.
    fn give(&self, path: &Path) -> Result<(), DemoError> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        chown(path, Some(user.uid), Some(user.gid))
            .map_err(|error| DemoError::io("change the owner of", path, error))
    }
}

/// Where packages put the server's programs, the newest version first.
fn usual_places() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let others = [
        "/usr/pgsql-18/bin",
        "/usr/pgsql-17/bin",
        "/usr/pgsql-16/bin",
        "/usr/pgsql-15/bin",
        "/usr/pgsql-14/bin",
        "/usr/local/pgsql/bin",
        "/usr/local/bin",
        "/usr/bin",
    ];
    let versions = versions.into_iter().map(|(_, path)| path);
    versions.chain(others.map(PathBuf::from)).collect()
}

/// One node of the demo.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) data_dir: PathBuf,
    instance: Instance,
}

impl Node {
    pub(super) fn new(name: &'static str, host: String, port: u16, data_dir: PathBuf) -> Self {
        Self {
            name,
            host,
            port,
            instance: Instance::new(data_dir.clone()),
            data_dir,
        }
    }

    /// The postmaster's process id.
    pub(super) fn postmaster(&self) -> Result<u32, DemoError> {
        let process = self.instance.postmaster()?;
        process.map(|process| process.pid).ok_or_else(|| {
            let what = format!("the postmaster of {}", self.name);
            DemoError::TooLate {
                what,
                after: Duration::ZERO,
            }
        })
    }

    /// Every process of the node, its postmaster first; nothing once there is no such directory.
    pub(super) fn processes(&self) -> Vec<Process> {
        let mut processes = self.instance.processes().unwrap_or_default();
        let postmaster = self.instance.postmaster().ok().flatten();
        processes.sort_by_key(|process| Some(process.pid) != postmaster.map(|found| found.pid));
        processes
    }

    /// Kills the postmaster alone. Its backends notice and go; until then they could still commit.
    pub(super) fn kill_postmaster(&self) -> Result<(), DemoError> {
        send(self.postmaster()?, Signal::KILL);
        Ok(())
    }

    /// Kills everything at once, as a power cut would.
    pub(super) fn kill_all(&self) {
        for process in self.processes() {
            send(process.pid, Signal::KILL);
        }
    }

    /// Freezes everything: the postmaster first, so that no new process escapes.
    pub(super) fn freeze_all(&self) {
        for process in self.processes() {
            send(process.pid, Signal::STOP);
        }
    }

    /// True when every process is frozen.
    pub(super) fn is_frozen(&self) -> bool {
        self.processes().iter().all(Process::is_stopped)
    }

    /// Kills until no process is left, within bounds.
    pub(super) fn clear(&self) {
        for _ in 0..KILL_ROUNDS {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for process in processes {
                send(process.pid, Signal::KILL);
            }
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

/// A process that is gone already needs no signal.
fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, signal).ok();
    }
}
