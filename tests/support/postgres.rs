//! Real PostgreSQL nodes for tests: a primary, its streaming standbys, a pair.
//!
//! The nodes are started through `pg_ctl`, so that their postmaster is nobody's child here, as in
//! production. Dropping a node kills every process of it and removes its files; should the test
//! process itself be killed, a small shell that reads a pipe does the same.
//! Start reading at [`TestNode::primary`] and [`Pair::start`].

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::disk::DataDisk;
use super::ports::free_port;
use super::processes::{kill_all, processes_in, remove_memory, watch};
use super::programs::{bin_dir, give_to_server_user, run, server_command};
use super::{wait_until, wait_until_blocking};

/// The superuser of every test node.
pub const SUPERUSER: &str = "postgres";

/// The role for which [`NodeOptions::scram`] asks for a password.
pub const SCRAM_ROLE: &str = "scram_role";

/// Bound on one start, stop, or base backup.
const SERVER_TIMEOUT: Duration = Duration::from_secs(60);

/// A port can be taken between choosing it and listening on it.
const START_ATTEMPTS: u32 = 5;

/// So much of its log is shown when a server does not start.
const LOG_LINES: usize = 40;

/// What a node should be like, beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    scram_password: Option<String>,
    slot: Option<String>,
    own_disk: bool,
}

impl NodeOptions {
    /// Puts the data directory onto a disk of its own, see [`TestNode::disk`].
    pub fn own_disk(mut self) -> Self {
        self.own_disk = true;
        self
    }

    /// Sets a server setting, e.g. `("max_connections", "20")`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a line in front of the `pg_hba.conf` that trusts loopback.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Creates [`SCRAM_ROLE`] with this password, which it must prove by SCRAM.
    pub fn scram(mut self, password: &str) -> Self {
        self.scram_password = Some(password.to_owned());
        self
    }

    /// Makes a standby stream from a physical slot of this name, created with the base backup.
    pub fn slot(mut self, name: &str) -> Self {
        self.slot = Some(name.to_owned());
        self
    }
}

/// One running (or stopped) PostgreSQL node on loopback.
#[derive(Debug)]
pub struct TestNode {
    /// Its data directory, canonical.
    pub data_dir: PathBuf,
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// What `application_name` its WAL receiver shows, if it is a standby.
    pub name: String,
    options: NodeOptions,
    disk: Option<DataDisk>,
    /// Declared before `root`: the watching shell must go before the files that it would remove.
    watcher: Child,
    root: TempDir,
}

impl TestNode {
    /// Initialises and starts a primary.
    pub fn primary(options: NodeOptions) -> Self {
        let mut node = Self::prepare("primary", options);
        let initdb = node.tool("initdb");
        run(server_command(&initdb, &node.data_dir).args([
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
            SUPERUSER,
        ]));
        node.write_hba();
        node.start_on_free_port();
        if let Some(password) = node.options.scram_password.clone() {
            node.create_scram_role(&password);
        }
        node
    }

    /// Clones this primary with `pg_basebackup -R` and starts a standby that streams from it.
    pub fn standby(&self, options: NodeOptions) -> Self {
        let mut standby = Self::prepare("standby", options);
        standby.copy(self, standby.options.slot.as_deref());
        standby.start_on_free_port();
        standby
    }

    /// Becomes a standby of `source`, with the directory and the port that it has had: what an
    /// operator does with an old primary after a failover. No process of it may be left.
    pub fn follow(&self, source: &Self) {
        let left = self.processes();
        assert!(left.is_empty(), "still running: {left:?}");
        self.wait_until_ended();
        for entry in fs::read_dir(&self.data_dir).expect("the data directory can be read") {
            let path = entry.expect("the data directory can be read").path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.expect("the old data can be removed");
        }
        self.copy(source, None);
        self.write_settings();
        self.start();
    }

    /// Clones `source` into the empty data directory.
    fn copy(&self, source: &Self, new_slot: Option<&str>) {
        let from = format!(
            "host=127.0.0.1 port={} user={SUPERUSER} application_name={}",
            source.port, self.name
        );
        let mut clone = server_command(&self.tool("pg_basebackup"), &self.data_dir);
        clone.args([
            "-R",
            "-X",
            "stream",
            "--checkpoint=fast",
            "--no-sync",
            "-d",
            &from,
        ]);
        if let Some(slot) = new_slot {
            clone.args(["-C", "-S", slot]);
        }
        run(&mut clone);
    }

    /// Connects over TCP; a background task drives the connection until the client is dropped.
    pub async fn connect(&self, user: &str) -> Client {
        self.try_connect(user)
            .await
            .expect("test node accepts connections")
    }

    /// As [`TestNode::connect`], for nodes that may be down.
    pub async fn try_connect(&self, user: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.conninfo(user), NoTls).await?;
        // The error of a connection that a test broke on purpose also reaches its client.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// The libpq connection string for this user.
    pub fn conninfo(&self, user: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname=postgres connect_timeout=10",
            self.port
        )
    }

    /// Where the server programs are.
    pub fn bin_dir(&self) -> PathBuf {
        bin_dir()
    }

    /// Starts the node through `pg_ctl`, as whatever its signal files say.
    pub fn start(&self) {
        if let Err(log) = self.try_start() {
            panic!(
                "cannot start {} on port {}: {log}",
                self.data_dir.display(),
                self.port
            );
        }
    }

    /// Stops the node with `pg_ctl stop -m <mode>`.
    pub fn stop(&self, mode: &str) {
        let mut stop = server_command(&self.tool("pg_ctl"), &self.data_dir);
        run(stop.args(["stop", "-w", "-t", "60", "-m", mode]));
    }

    /// The process id in `postmaster.pid`.
    pub fn postmaster_pid(&self) -> u32 {
        let text = fs::read_to_string(self.data_dir.join("postmaster.pid"))
            .expect("postmaster.pid of a running node can be read");
        let first = text
            .lines()
            .next()
            .expect("postmaster.pid has a first line");
        first
            .parse()
            .expect("postmaster.pid starts with a process id")
    }

    /// Every living process of this node, found by its working directory; zombies are not alive.
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&self.data_dir)
    }

    /// Its disk; `None` where [`NodeOptions::own_disk`] was not asked for, or is not permitted.
    pub fn disk(&self) -> Option<&DataDisk> {
        self.disk.as_ref()
    }

    /// Sends a signal by name (`KILL`, `STOP`, `CONT`) to these processes; one that is gone already
    /// is left out.
    pub fn signal(&self, signal: &str, pids: &[u32]) {
        let pids = pids.iter().map(ToString::to_string);
        drop(
            Command::new("kill")
                .arg("-s")
                .arg(signal)
                .args(pids)
                .stderr(Stdio::null())
                .status(),
        );
    }

    /// Kills every process of this node at once, its postmaster too.
    pub fn kill_all(&self) {
        kill_all(&self.data_dir);
    }

    /// Writes the signal file that makes the next start a standby.
    pub fn become_standby_at_next_start(&self) {
        let path = self.data_dir.join("standby.signal");
        fs::write(&path, "").expect("standby.signal can be written");
        give_to_server_user(&path);
    }

    /// Puts a setting into effect at the next start or reload.
    pub fn append_setting(&self, name: &str, value: &str) {
        self.append("postgresql.conf", &format!("{name} = '{value}'\n"));
    }

    fn prepare(kind: &str, options: NodeOptions) -> Self {
        let root = tempfile::Builder::new()
            .prefix("agent-test-")
            .tempdir()
            .expect("temporary directory can be created");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))
            .expect("temporary directory can be opened to the server's user");
        let base = root
            .path()
            .canonicalize()
            .expect("temporary directory has a canonical path");
        let data_dir = base.join("data");
        for dir in [&data_dir, &base.join("socket")] {
            fs::create_dir(dir).expect("directory can be created");
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .expect("directory can be made private");
            give_to_server_user(dir);
        }
        let disk = options
            .own_disk
            .then(|| DataDisk::mount(&base.join("disk.img"), &data_dir))
            .flatten();
        let watcher = watch(&data_dir, &base);
        let unique = base
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = format!("{kind}-{}", unique.unwrap_or_default());
        Self {
            data_dir,
            port: 0,
            name,
            options,
            disk,
            watcher,
            root,
        }
    }

    fn write_hba(&self) {
        let mut lines = self.options.hba.clone();
        if self.options.scram_password.is_some() {
            lines.push(format!("host all {SCRAM_ROLE} 127.0.0.1/32 scram-sha-256"));
        }
        lines.push("local all all trust".to_owned());
        lines.push("host all all 127.0.0.1/32 trust".to_owned());
        lines.push("host replication all 127.0.0.1/32 trust".to_owned());
        fs::write(self.data_dir.join("pg_hba.conf"), lines.join("\n") + "\n")
            .expect("pg_hba.conf can be written");
    }

    fn start_on_free_port(&mut self) {
        for attempt in 1..=START_ATTEMPTS {
            self.port = free_port();
            self.write_settings();
            match self.try_start() {
                Ok(()) => return,
                Err(log) if log.contains("in use") && attempt < START_ATTEMPTS => {}
                Err(log) => panic!("cannot start {}: {log}", self.data_dir.display()),
            }
        }
    }

    fn write_settings(&self) {
        let socket_dir = self.root.path().join("socket");
        let mut text = format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            self.port,
            socket_dir.display()
        );
        text += "listen_addresses = '127.0.0.1'\nfsync = off\nwal_log_hints = on\n\
                 hot_standby = on\nmax_connections = 40\nshared_buffers = 16MB\n\
                 max_wal_senders = 8\nmax_replication_slots = 8\nwal_keep_size = 64MB\n\
                 wal_retrieve_retry_interval = 200ms\nlogging_collector = off\n";
        for (name, value) in &self.options.settings {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        let path = self.data_dir.join("test.conf");
        fs::write(&path, text).expect("test.conf can be written");
        give_to_server_user(&path);
        let main = fs::read_to_string(self.data_dir.join("postgresql.conf"))
            .expect("postgresql.conf can be read");
        if !main.contains("include 'test.conf'") {
            self.append("postgresql.conf", "include 'test.conf'\n");
        }
    }

    fn append(&self, file: &str, text: &str) {
        fs::OpenOptions::new()
            .append(true)
            .open(self.data_dir.join(file))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("configuration can be appended to");
    }

    /// As [`TestNode::start`]; the server's log when it did not come up.
    pub fn try_start(&self) -> Result<(), String> {
        self.wait_until_ended();
        let log = self.root.path().join("socket/server.log");
        let mut start = server_command(&self.tool("pg_ctl"), &self.data_dir);
        start.args(["start", "-w", "-t", "60", "-l"]).arg(&log);
        if start.status().expect("pg_ctl can be run").success() {
            return Ok(());
        }
        Err(last_lines(&fs::read_to_string(&log).unwrap_or_default()))
    }

    /// Nothing is to run here when a server is started. PostgreSQL takes a dead postmaster that is
    /// still on its way out, or that nobody has reaped, for a living one.
    fn wait_until_ended(&self) {
        let pid_file = self.data_dir.join("postmaster.pid");
        let Ok(text) = fs::read_to_string(pid_file) else {
            return;
        };
        let Some(pid) = text
            .lines()
            .next()
            .and_then(|line| line.parse::<u32>().ok())
        else {
            return;
        };
        // A number is used again: then it is some other program's.
        let name = PathBuf::from(format!("/proc/{pid}/comm"));
        wait_until_blocking("the dead postmaster is gone", SERVER_TIMEOUT, || {
            fs::read_to_string(&name).map_or(true, |name| name.trim() != "postgres")
        });
    }

    fn create_scram_role(&self, password: &str) {
        let sql = format!(
            "SET password_encryption = 'scram-sha-256';\
             CREATE ROLE {SCRAM_ROLE} LOGIN PASSWORD '{}'",
            password.replace('\'', "''")
        );
        // On a thread of its own: the caller may be inside a runtime already.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("runtime can be built").block_on(async {
                    let client = self.connect(SUPERUSER).await;
                    client
                        .batch_execute(&sql)
                        .await
                        .expect("role can be created");
                });
            });
        });
    }

    #[expect(clippy::unused_self, reason = "reads as a property of the node")]
    fn tool(&self, name: &str) -> PathBuf {
        bin_dir().join(name)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        kill_all(&self.data_dir);
        remove_memory(&self.data_dir);
        // Closing its pipe lets the watcher end; it finds nothing left to do.
        drop(self.watcher.stdin.take());
        drop(self.watcher.wait());
    }
}

/// A primary and the standby that streams from it.
#[derive(Debug)]
pub struct Pair {
    /// Dropped first: a primary's shutdown would wait for nothing, but a standby logs less.
    pub standby: TestNode,
    /// Takes writes.
    pub primary: TestNode,
}

impl Pair {
    /// Starts both with default settings.
    pub fn start() -> Self {
        Self::start_with(NodeOptions::default(), NodeOptions::default())
    }

    /// Starts both.
    pub fn start_with(primary: NodeOptions, standby: NodeOptions) -> Self {
        let primary = TestNode::primary(primary);
        let standby = primary.standby(standby);
        Self { standby, primary }
    }

    /// Waits until the standby has replayed everything that the primary has written so far.
    pub async fn wait_caught_up(&self) {
        let primary = self.primary.connect(SUPERUSER).await;
        let standby = self.standby.connect(SUPERUSER).await;
        let row = primary
            .query_one("SELECT pg_current_wal_lsn()::text", &[])
            .await
            .expect("primary tells its position");
        let target: String = row.get(0);
        wait_until("the standby has caught up", SERVER_TIMEOUT, || async {
            let query = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
            let row = standby
                .query_one(query, &[&target])
                .await
                .expect("standby answers");
            row.get(0)
        })
        .await;
    }
}

/// The end of a server's log: what it was started with long ago says nothing about its last start.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
