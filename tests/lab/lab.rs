//! The lab: hosts, disks and a prepared pair of nodes, from which every round begins anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use failover_agent::effects::clock::wall;
use tokio_postgres::{Client, NoTls};

use super::keeper::Keeper;
use super::settings::{self, Settings};
use super::support::processes::remove_memory;
use super::support::programs::{bin_dir, give_to_server_user, run, server_user};
use super::wires::{HOSTS, Host, SITES, Wires};

/// The port of every node.
pub const NODE_PORT: u16 = 5432;
/// The port of every member.
pub const MEMBER_PORT: u16 = 7400;
/// Long against every start and stop.
pub const SOON: Duration = Duration::from_secs(30);

/// Hosts, wires and disks, empty between rounds.
#[derive(Debug)]
pub struct Lab {
    pub wires: Wires,
    /// Declared last: it removes what all others use.
    keeper: Keeper,
}

/// A disk of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Under the data directory.
    Data,
    /// Under the agent's state.
    State,
}

impl Disk {
    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::State => "state",
        }
    }
}

/// Of the disk under an agent's state.
const STATE_DISK: &str = "16m";

impl Lab {
    /// Builds hosts and the pair from which rounds begin.
    pub async fn build() -> Self {
        let tag = Wires::tag();
        let keeper = Keeper::start(&tag);
        let lab = Self {
            wires: Wires::lay(&tag),
            keeper,
        };
        for host in HOSTS {
            let run = lab.run_dir(host);
            fs::create_dir_all(&run).expect("the host's directory");
            give_to_server_user(&run);
            for disk in [Disk::Data, Disk::State] {
                fs::create_dir_all(lab.disk(host, disk)).expect("a mount point");
            }
        }
        lab.prepare_pair().await;
        lab
    }

    pub fn root(&self) -> &Path {
        self.keeper.root()
    }

    /// A host's directory.
    pub fn dir(&self, host: Host) -> PathBuf {
        self.root().join(host.name())
    }

    /// Where a node's socket is: the oracle's way, which no broken wire touches.
    pub fn run_dir(&self, host: Host) -> PathBuf {
        self.dir(host).join("run")
    }

    pub fn disk(&self, host: Host, disk: Disk) -> PathBuf {
        self.dir(host).join(disk.name())
    }

    pub fn data_dir(&self, host: Host) -> PathBuf {
        self.disk(host, Disk::Data).join("pg")
    }

    /// The agent's own state.
    pub fn state_dir(&self, host: Host) -> PathBuf {
        self.disk(host, Disk::State).join("agent")
    }

    pub fn settings_file(&self, host: Host) -> PathBuf {
        self.dir(host).join("agent.toml")
    }

    /// What a member said.
    pub fn log(&self, host: Host) -> PathBuf {
        self.dir(host).join("log")
    }

    fn template(&self) -> PathBuf {
        self.root().join("template")
    }

    /// Takes every host back to where rounds begin: new disks, stopped nodes, whole wires.
    pub fn reset(&self, settings: &Settings) {
        for host in HOSTS {
            self.power_off(host);
        }
        self.wires.mend_all();
        for host in HOSTS {
            for (disk, size) in [(Disk::Data, settings.data_disk), (Disk::State, STATE_DISK)] {
                let place = self.disk(host, disk);
                // The first time there is none.
                let mut unmount = Command::new("umount");
                drop(unmount.arg("-l").arg(&place).output());
                let size = format!("size={size},mode=755");
                run(Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &size, "lab"])
                    .arg(&place));
                use_up_inodes(&place);
            }
            drop(fs::remove_file(self.log(host)));
            let member = settings.member(self, host);
            fs::write(self.settings_file(host), member).expect("settings");
        }
        for site in SITES {
            let data = self.data_dir(site);
            run(Command::new("cp").arg("-a").arg(self.template()).arg(&data));
            self.write_node_settings(site, settings);
        }
        let signal = self.data_dir(Host::Ams).join("standby.signal");
        fs::write(&signal, "").expect("standby.signal");
        give_to_server_user(&signal);
    }

    fn write_node_settings(&self, site: Host, settings: &Settings) {
        let path = self.data_dir(site).join("lab.conf");
        fs::write(&path, settings.node(self, site)).expect("node settings");
        give_to_server_user(&path);
    }

    /// Kills everything on a host at once; what was written to its disks stays.
    pub fn power_off(&self, host: Host) -> Vec<u32> {
        let mut killed = Vec::new();
        for _ in 0..500 {
            let pids = self.wires.processes(host);
            if pids.is_empty() {
                // As in a host that boots: shared memory and sockets live in memory.
                remove_memory(&self.data_dir(host));
                let sockets = fs::read_dir(self.run_dir(host)).into_iter().flatten();
                for entry in sockets.flatten() {
                    drop(fs::remove_file(entry.path()));
                }
                return killed;
            }
            killed.extend(&pids);
            let pids = pids.iter().map(ToString::to_string);
            drop(Command::new("kill").arg("-KILL").args(pids).output());
            // bounded: 500 rounds of 2 ms
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("processes of {} do not die", host.name());
    }

    /// Starts a node by hand, as its owner would.
    pub fn start_node(&self, site: Host, clock: &[(&str, PathBuf)]) {
        let started = self.pg_ctl(site, &["start", "-w", "-t", "30"], clock);
        let log = fs::read_to_string(self.run_dir(site).join("server.log")).unwrap_or_default();
        assert!(started, "{} does not start: {log}", site.name());
    }

    fn pg_ctl(&self, site: Host, arguments: &[&str], env: &[(&str, PathBuf)]) -> bool {
        let data = self.data_dir(site);
        // Set after the user is: faketime shares memory with its children.
        let set = env
            .iter()
            .map(|(name, value)| format!("{name}={}", value.display()));
        let mut command = self.as_server(site, Path::new("env"));
        command
            .args(set)
            .arg(bin_dir().join("pg_ctl"))
            .args(arguments)
            .arg("-D")
            .arg(data);
        command.arg("-l").arg(self.run_dir(site).join("server.log"));
        // Whoever inherits a pipe would keep it open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("pg_ctl can be run").success()
    }

    /// How far the wall clock of a node is from the host's, in whole seconds.
    pub fn clock_of_node(&self, site: Host) -> Option<i64> {
        let mut ask = self.as_server(site, &bin_dir().join("psql"));
        ask.arg("-h").arg(self.run_dir(site));
        ask.args([
            "-AtXc",
            "SELECT extract(epoch FROM clock_timestamp())::bigint",
        ]);
        let said = ask.env("PGCONNECT_TIMEOUT", "2").output().ok()?;
        let there: i64 = String::from_utf8(said.stdout).ok()?.trim().parse().ok()?;
        Some(there - wall().0 / 1000)
    }

    /// A program of PostgreSQL on a host, as the server's user.
    fn as_server(&self, site: Host, program: &Path) -> Command {
        let (uid, gid) = server_user().expect("the lab runs as root");
        let mut command = self.wires.command(site, Path::new("setpriv"));
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg("--clear-groups")
            .arg(program)
            .current_dir("/")
            .env("LC_ALL", "C");
        command
    }

    /// A superuser's session over the node's socket.
    pub async fn connect(&self, site: Host) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.conninfo(site), NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    pub fn conninfo(&self, site: Host) -> String {
        let dir = self.run_dir(site);
        format!(
            "host={} port={NODE_PORT} user=postgres dbname=postgres",
            dir.display()
        )
    }

    /// One node, initialised once; a cold copy of it is a standby, too.
    async fn prepare_pair(&self) {
        let settings = Settings::default();
        let data = self.data_dir(Host::Fra);
        let holder = data.parent().expect("it has one");
        fs::set_permissions(holder, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::create_dir_all(&data).expect("a data directory");
        give_to_server_user(&data);
        let mut initdb = self.as_server(Host::Fra, &bin_dir().join("initdb"));
        run(initdb
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--username=postgres", "-D"])
            .arg(&data));
        let append = |file: &str, text: &str| {
            let path = data.join(file);
            let old = fs::read_to_string(&path).expect("a new node's settings");
            fs::write(&path, old + text).expect("settings");
        };
        append("postgresql.conf", "include 'lab.conf'\n");
        append("pg_hba.conf", settings::HBA);
        self.write_node_settings(Host::Fra, &settings);
        self.start_node(Host::Fra, &[]);
        let toml = settings.member(self, Host::Fra);
        fs::write(self.settings_file(Host::Fra), toml).expect("settings");
        let grants = self.agent_program(&["check", "--grants", "--config"], Host::Fra);
        let client = self.connect(Host::Fra).await.expect("the new node answers");
        let sql = String::from_utf8(grants.stdout).expect("SQL");
        client.batch_execute(&sql).await.expect("grants");
        client
            .batch_execute(
                "CREATE TABLE kept (n bigint PRIMARY KEY); CREATE TABLE churn (n bigint, t text);
                 CREATE ROLE app LOGIN; GRANT ALL ON kept, churn TO app",
            )
            .await
            .expect("tables");
        drop(client);
        assert!(self.pg_ctl(Host::Fra, &["stop", "-w", "-m", "fast"], &[]));
        let mut moving = Command::new("cp");
        run(moving.arg("-a").arg(&data).arg(self.template()));
        fs::remove_dir_all(&data).expect("the original goes");
    }

    /// Runs a command of the agent to its end, for the member of a host.
    pub fn agent_program(&self, arguments: &[&str], host: Host) -> Output {
        let mut command = self.wires.command(host, Path::new(AGENT));
        command.args(arguments).arg(self.settings_file(host));
        command.output().expect("the agent's program can be run")
    }
}

/// The real thing.
pub const AGENT: &str = env!("CARGO_BIN_EXE_agent");

/// PostgreSQL's shared memory has the inode of the data directory as its key, and every fresh file
/// system in memory counts from one: labs beside each other, and rounds after each other, would
/// find each other's. Source: PostgreSQL, `src/backend/port/sysv_shmem.c`, `PGSharedMemoryCreate`.
fn use_up_inodes(place: &Path) {
    static USED: AtomicU32 = AtomicU32::new(0);
    let before = USED.fetch_add(1, Ordering::Relaxed);
    let count = std::process::id() % 97 + before * 7 % 1009;
    let file = place.join("inode");
    for _ in 0..count {
        fs::write(&file, "").expect("a file on a fresh disk");
        fs::remove_file(&file).expect("a file on a fresh disk");
    }
}
