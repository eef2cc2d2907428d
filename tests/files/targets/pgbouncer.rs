//! PgBouncer: a change that clients do not notice, pauses that never outlive their reason.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{PauseExpired, PgbouncerTarget, TargetSettings};
use failover_agent::effects::app_config::targets::Target;
use failover_agent::model::outcome::FailureKind;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::change::{File, STEP, Server, soon};
use crate::support::database::fetch;
use crate::support::ports::free_port;
use crate::support::postgres::{NodeOptions, TestNode};
use crate::support::programs::{bin_dir, give_to_server_user, server_user};
use crate::support::wait_until;

pub(crate) const PASSWORD: &str = "hunter2";

pub(crate) struct Pgbouncer {
    server: Server,
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) file: File,
}

impl Pgbouncer {
    pub(crate) async fn start(node: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let port = free_port();
        fs::write(at("pgbouncer.ini"), text(&dir, port, node)).unwrap();
        fs::write(
            at("users"),
            format!("\"adm\" \"{PASSWORD}\"\n\"watcher\" \"{PASSWORD}\"\n\"postgres\" \"x\"\n"),
        )
        .unwrap();
        for path in [dir.path(), &at("pgbouncer.ini"), &at("users")] {
            give_to_server_user(path);
        }
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(at("pgbouncer.ini"));
        // It refuses to run as root.
        if let Some((uid, gid)) = server_user() {
            command.uid(uid).gid(gid);
        }
        let server = Server::start(&mut command, &at("log"));
        let file = File {
            path: at("pgbouncer.ini"),
            settings: TargetSettings::Pgbouncer(PgbouncerTarget {
                address: format!("127.0.0.1:{port}"),
                user: "adm".to_owned(),
                password: Some(Secret::new(PASSWORD)),
                databases: vec!["app".to_owned()],
                pause_timeout: Duration::from_millis(500),
                pause_expired: PauseExpired::Kill,
                close_timeout: Duration::from_millis(500),
            }),
            state: at("agent"),
        };
        let pgbouncer = Self {
            server,
            dir,
            port,
            file,
        };
        wait_until("PgBouncer serves", STEP, async || {
            pgbouncer
                .connect("adm", PASSWORD, "pgbouncer")
                .await
                .is_some()
        })
        .await;
        pgbouncer
    }

    fn settings(&mut self) -> &mut PgbouncerTarget {
        let TargetSettings::Pgbouncer(settings) = &mut self.file.settings else {
            panic!("another target");
        };
        settings
    }

    pub(crate) fn text(&self, node: u16) -> String {
        text(&self.dir, self.port, node)
    }

    async fn connect(&self, user: &str, password: &str, database: &str) -> Option<Client> {
        let text = format!(
            "host=127.0.0.1 port={} user={user} password={password} dbname={database}",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await.ok()?;
        tokio::spawn(async move { drop(connection.await) });
        Some(client)
    }

    /// From now on the agent writes a file that PgBouncer does not read, so no change is taken.
    fn mislead(&mut self) {
        let other = self.dir.path().join("other.ini");
        fs::copy(&self.file.path, &other).unwrap();
        self.file.path = other;
    }

    pub(crate) fn note(&self) -> PathBuf {
        self.file.dir().join("pgbouncer-paused")
    }

    async fn app(&self) -> Client {
        self.connect("postgres", "x", "app")
            .await
            .expect("it serves")
    }

    /// A column of the database `app` in `SHOW DATABASES`.
    pub(crate) async fn shown(&self, column: &str) -> String {
        let console = self.connect("adm", PASSWORD, "pgbouncer").await.unwrap();
        let rows = console.simple_query("SHOW DATABASES").await.unwrap();
        rows.iter()
            .find_map(|message| {
                let SimpleQueryMessage::Row(row) = message else {
                    return None;
                };
                let ours = row.get("name") == Some("app");
                row.get(column).filter(|_| ours).map(str::to_owned)
            })
            .expect("there is app")
    }
}

fn text(dir: &TempDir, port: u16, node: u16) -> String {
    let dir = dir.path().display();
    format!(
        "[databases]\napp = host=127.0.0.1 port={node} dbname=postgres\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = md5\n\
         auth_file = {dir}/users\nadmin_users = adm\nstats_users = watcher\npool_mode = transaction\n"
    )
}

fn with_pgbench_tables() -> TestNode {
    let node = TestNode::primary(NodeOptions::default());
    let mut init = Command::new(bin_dir().join("pgbench"));
    init.args([
        "-i",
        "-q",
        "-s",
        "1",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
    ]);
    init.arg(node.port.to_string()).arg("postgres");
    crate::support::programs::run(&mut init);
    node
}

async fn transactions(node: &TestNode) -> usize {
    let count = fetch(node, "SELECT count(*)::text FROM pgbench_history").await;
    count.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_loses_no_transaction_when_the_change_is_planned() {
    let (fra, ams) = std::thread::scope(|scope| {
        let other = scope.spawn(with_pgbench_tables);
        (with_pgbench_tables(), other.join().unwrap())
    });
    let pgbouncer = Pgbouncer::start(fra.port).await;
    let mut load = Command::new(bin_dir().join("pgbench"));
    load.args(["-n", "-N", "-c", "8", "-j", "2", "--rate=200", "-T", "4"])
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
        .arg(pgbouncer.port.to_string())
        .arg("app")
        .env("PGPASSWORD", "x")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let load = load.spawn().unwrap();
    wait_until("fra has transactions", STEP, async || {
        transactions(&fra).await > 100
    })
    .await;
    let changed = pgbouncer
        .file
        .change(&pgbouncer.text(ams.port), STEP)
        .await
        .unwrap();
    assert!(changed.contains("during a pause"), "{changed:?}");
    let at_fra = transactions(&fra).await;
    let load = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&load.stdout).into_owned();
    assert!(
        load.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&load.stderr)
    );
    assert!(
        said.contains("number of failed transactions: 0 (0.000%)"),
        "{said}"
    );
    let (fra, ams) = (transactions(&fra).await, transactions(&ams).await);
    assert_eq!(
        fra, at_fra,
        "a transaction went to the old server afterwards"
    );
    assert!(ams > 100, "{ams}");
    let processed = format!("transactions actually processed: {}", fra + ams);
    assert!(said.contains(&processed), "{fra} {ams} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_that_an_open_transaction_holds_up_is_given_up() {
    let node = TestNode::primary(NodeOptions::default());
    let mut pgbouncer = Pgbouncer::start(node.port).await;
    pgbouncer.settings().pause_expired = PauseExpired::Fail;
    let open = pgbouncer.app().await;
    open.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let elsewhere = free_port();
    let refused = pgbouncer.file.target().before(soon()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable);
    assert_eq!(pgbouncer.shown("paused").await, "0");
    // Nobody was cut off, and others are served.
    open.batch_execute("COMMIT").await.unwrap();
    pgbouncer
        .app()
        .await
        .batch_execute("SELECT 1")
        .await
        .unwrap();

    // With the default, the change is made, and what stays at the old server is cut off.
    pgbouncer.settings().pause_expired = PauseExpired::Kill;
    open.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let changed = pgbouncer
        .file
        .change(&pgbouncer.text(elsewhere), STEP)
        .await
        .unwrap();
    assert!(changed.contains("without a pause"), "{changed:?}");
    assert_eq!(pgbouncer.shown("port").await, elsewhere.to_string());
    assert_eq!(pgbouncer.shown("paused").await, "0");
    assert!(open.batch_execute("COMMIT").await.is_err());
    assert!(!pgbouncer.note().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_of_a_dropped_change_ends() {
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let mut target = pgbouncer.file.target();
    target.before(soon()).await.unwrap();
    assert_eq!(pgbouncer.shown("paused").await, "1");
    drop(target);
    wait_until("it goes on", STEP, async || {
        pgbouncer.shown("paused").await == "0"
    })
    .await;
}

#[expect(clippy::mem_forget, reason = "what SIGKILL does to the agent's memory")]
fn kill(target: Box<dyn Target>) {
    std::mem::forget(target);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_of_a_killed_agent_is_ended_by_its_next_life() {
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let mut target = pgbouncer.file.target();
    target.before(soon()).await.unwrap();
    kill(target);
    assert_eq!(pgbouncer.shown("paused").await, "1");
    let recovered = pgbouncer.file.target().recover(soon()).await.unwrap();
    assert!(recovered.unwrap().contains("app"));
    assert_eq!(pgbouncer.shown("paused").await, "0");
    assert_eq!(pgbouncer.file.target().recover(soon()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_of_a_person_stays() {
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let console = pgbouncer
        .connect("adm", PASSWORD, "pgbouncer")
        .await
        .unwrap();
    console.simple_query("PAUSE app").await.unwrap();
    let elsewhere = free_port();
    pgbouncer
        .file
        .change(&pgbouncer.text(elsewhere), STEP)
        .await
        .unwrap();
    assert_eq!(pgbouncer.shown("port").await, elsewhere.to_string());
    assert_eq!(pgbouncer.shown("paused").await, "1");
    // Nothing was paused by the change, and nothing is left to be resumed.
    assert!(!pgbouncer.note().exists());
    fs::write(pgbouncer.note(), "").unwrap();
    assert_eq!(pgbouncer.file.target().recover(soon()).await.unwrap(), None);
    assert!(!pgbouncer.note().exists());
    assert_eq!(pgbouncer.shown("paused").await, "1");
}

/// RELOAD is answered, and PgBouncer stays where it was: the clients do not wait for the end of
/// that.
#[tokio::test(flavor = "multi_thread")]
async fn pause_ends_in_time_although_the_change_goes_on() {
    let node = TestNode::primary(NodeOptions::default());
    let mut pgbouncer = Pgbouncer::start(node.port).await;
    pgbouncer.settings().pause_timeout = Duration::from_secs(1);
    pgbouncer.mislead();
    let text = pgbouncer.text(free_port());
    // Before the change: in a pause it would wait for its connection, and see no pause any more.
    let app = pgbouncer.app().await;
    let client = async {
        wait_until("a pause", STEP, async || {
            pgbouncer.shown("paused").await == "1"
        })
        .await;
        app.batch_execute("SELECT 1").await.unwrap();
    };
    let change = pgbouncer.file.change(&text, Duration::from_secs(4));
    let mut change = std::pin::pin!(change);
    tokio::select! {
        changed = &mut change => panic!("it ended while a client waited: {changed:?}"),
        () = client => {}
    }
    let refused = change.await.unwrap_err();
    assert!(refused.what.contains("still elsewhere"), "{refused}");
    assert!(!pgbouncer.note().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_that_is_refused_is_no_resume() {
    let mut pgbouncer = Pgbouncer::start(free_port()).await;
    let mut target = pgbouncer.file.target();
    target.before(soon()).await.unwrap();
    kill(target);
    // One of its stats_users: it may see everything, and do nothing.
    pgbouncer.settings().user = "watcher".to_owned();
    let refused = pgbouncer.file.target().recover(soon()).await.unwrap_err();
    assert!(refused.what.contains("RESUME"), "{refused}");
    assert!(refused.hint.unwrap().contains("its clients wait"));
    assert_eq!(pgbouncer.shown("paused").await, "1");
    assert!(pgbouncer.note().exists());
    pgbouncer.settings().user = "adm".to_owned();
    pgbouncer.file.target().recover(soon()).await.unwrap();
    assert_eq!(pgbouncer.shown("paused").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_change_leaves_the_pause_of_a_newer_one_alone() {
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let mut dropped = pgbouncer.file.target();
    dropped.before(soon()).await.unwrap();
    let newer = fs::File::create(pgbouncer.file.dir().join("lock")).unwrap();
    newer.lock().unwrap();
    drop(dropped);
    // Far longer than a RESUME takes.
    for _ in 0..50 {
        assert_eq!(pgbouncer.shown("paused").await, "1");
        assert!(pgbouncer.note().exists());
    }
    newer.unlock().unwrap();
    wait_until("it goes on", STEP, async || {
        pgbouncer.shown("paused").await == "0" && !pgbouncer.note().exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_nobody_could_resume_are_told_with_the_change_that_failed() {
    let mut pgbouncer = Pgbouncer::start(free_port()).await;
    pgbouncer.settings().pause_timeout = Duration::from_secs(10);
    pgbouncer.mislead();
    let text = pgbouncer.text(free_port());
    let change = pgbouncer.file.change(&text, Duration::from_secs(1));
    let pid = i32::try_from(pgbouncer.server.0.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let killer = async {
        wait_until("a pause", STEP, async || {
            pgbouncer.shown("paused").await == "1"
        })
        .await;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let (refused, ()) = tokio::join!(change, killer);
    let refused = refused.unwrap_err();
    assert!(refused.what.contains("moreover"), "{refused}");
    assert!(refused.hint.unwrap().contains("say RESUME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_pgbouncer_would_stop_at_is_refused_and_its_reload_proves_nothing() {
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let old = fs::read_to_string(&pgbouncer.file.path).unwrap();
    let broken = format!("nonsense\n{}", pgbouncer.text(free_port()));
    let refused = pgbouncer.file.change(&broken, STEP).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
    assert_eq!(fs::read_to_string(&pgbouncer.file.path).unwrap(), old);
    assert_eq!(pgbouncer.shown("paused").await, "0");

    // A mistake that only PgBouncer knows: it answers RELOAD, and reads nothing.
    let elsewhere = free_port();
    let text = pgbouncer.text(elsewhere).replace(
        "[databases]",
        "[pgbouncer]\nno_such_setting = 1\n[databases]",
    );
    let within = Duration::from_secs(2);
    let changed = pgbouncer.file.change(&text, within).await;
    let shown = pgbouncer.shown("port").await;
    assert_eq!(
        changed.is_ok(),
        shown == elsewhere.to_string(),
        "{changed:?} {shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_and_silence_are_told_without_the_password() {
    let mut pgbouncer = Pgbouncer::start(free_port()).await;
    pgbouncer.settings().password = Some(Secret::new("swordfish"));
    let refused = pgbouncer.file.target().before(soon()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent);
    let told = failover_agent::model::outcome::Failure::from(refused).what;
    assert!(!told.contains("swordfish"), "{told}");
    assert!(!format!("{:?}", pgbouncer.file).contains("swordfish"));
    pgbouncer.settings().address = format!("127.0.0.1:{}", free_port());
    let refused = pgbouncer.file.target().before(soon()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable);
}
