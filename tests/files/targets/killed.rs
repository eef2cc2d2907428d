//! A change of a ready-made target that is killed anywhere: the clients of a paused PgBouncer go
//! on, and the next change makes all of it right.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{PauseExpired, PgbouncerTarget, TargetSettings};
use failover_agent::config::{self, MemberRole};
use failover_agent::effects::app_config::{Recovered, pauses_of_nobody, recover};
use failover_agent::runtime::app_recovery;
use tokio_util::sync::CancellationToken;

use super::change::{File, STEP};
use super::pgbouncer::{PASSWORD, Pgbouncer};
use crate::kill_at::kill_at;
use crate::support::ports::free_port;
use crate::support::wait_until;

const CHILD: &str = "AGENT_TEST_TARGET_CHANGE";

/// The child's part: one change of PgBouncer's file to what `new.ini` says, up to the point.
fn change_until(what: &str) {
    let words: Vec<&str> = what.splitn(3, ' ').collect();
    let [point, port, dir] = words[..] else {
        panic!("{what}");
    };
    kill_at(point.parse().unwrap());
    let dir = Path::new(dir);
    let file = File {
        path: dir.join("pgbouncer.ini"),
        settings: settings(port),
        state: dir.join("agent"),
    };
    let text = fs::read_to_string(dir.join("new.ini")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(file.change(&text, STEP)).unwrap();
}

fn settings(port: &str) -> TargetSettings {
    TargetSettings::Pgbouncer(PgbouncerTarget {
        address: format!("127.0.0.1:{port}"),
        user: "adm".to_owned(),
        password: Some(Secret::new(PASSWORD)),
        databases: vec!["app".to_owned()],
        pause_timeout: STEP,
        pause_expired: PauseExpired::Fail,
        close_timeout: STEP,
    })
}

/// Changes the file in a child that is killed at the point; whether it was.
async fn killed_at(test: &str, point: usize, pgbouncer: &Pgbouncer, text: &str) -> bool {
    let dir = pgbouncer.dir.path();
    fs::write(dir.join("new.ini"), text).unwrap();
    let what = format!("{point} {} {}", pgbouncer.port, dir.display());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", &format!("targets::killed::{test}")])
        .env(CHILD, what)
        .stdout(Stdio::null());
    let mut child = child.spawn().unwrap();
    let waiting = tokio::task::spawn_blocking(move || child.wait());
    let status = waiting.await.unwrap().unwrap();
    assert!(
        status.success() || status.signal() == Some(9),
        "point {point}: {status}"
    );
    !status.success()
}

/// Whether this process is the child, which has done its part then.
async fn is_child() -> bool {
    let Ok(what) = std::env::var(CHILD) else {
        return false;
    };
    tokio::task::spawn_blocking(move || change_until(&what))
        .await
        .unwrap();
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_that_was_killed_for_goes_on_and_has_the_file_of_the_next_change() {
    if is_child().await {
        return;
    }
    let test = "pgbouncer_that_was_killed_for_goes_on_and_has_the_file_of_the_next_change";
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let mut pauses = 0;
    for point in 1.. {
        let port = free_port();
        let text = pgbouncer.text(port);
        let killed = killed_at(test, point, &pgbouncer, &text).await;
        let paused = pgbouncer.shown("paused").await == "1";
        assert!(!paused || pgbouncer.note().exists(), "point {point}");
        pauses += usize::from(paused);
        let app = pgbouncer.file.app(STEP);
        let recovered = recover(&app, &pgbouncer.file.state).await.unwrap();
        let ended = matches!(recovered, Recovered::Ended { .. });
        assert!(ended || !paused, "point {point}: {recovered:?}");
        assert_eq!(pgbouncer.shown("paused").await, "0", "point {point}");
        pgbouncer.file.change(&text, STEP).await.unwrap();
        let shown = pgbouncer.shown("port").await;
        assert_eq!(shown, port.to_string(), "point {point}");
        assert!(!pgbouncer.note().exists(), "point {point}");
        if !killed {
            assert!(point > 6 && pauses > 3, "{point} points, {pauses} pauses");
            return;
        }
    }
}

/// Somebody runs a change by hand beside the agent, and it is killed: the agent looks for that all
/// the time, also one that only observes.
#[tokio::test(flavor = "multi_thread")]
async fn running_agent_ends_the_pause_of_another_process_that_was_killed() {
    if is_child().await {
        return;
    }
    let test = "running_agent_ends_the_pause_of_another_process_that_was_killed";
    let pgbouncer = Pgbouncer::start(free_port()).await;
    let settings = settings_of_agent(&pgbouncer);
    let parsed = config::parse(
        &settings,
        Path::new("agent.toml"),
        Some("fra"),
        MemberRole::Agent,
        &|_| None,
    );
    let config = parsed
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let stop = CancellationToken::new();
    app_recovery::start(&config, &stop);
    // By then its first look is long over.
    pgbouncer
        .file
        .change(&pgbouncer.text(free_port()), STEP)
        .await
        .unwrap();
    let text = pgbouncer.text(free_port());
    // Noted as begun: a pause, and no new file yet.
    let mut point = 3;
    while pgbouncer.shown("paused").await != "1" {
        assert!(killed_at(test, point, &pgbouncer, &text).await);
        point += 1;
    }
    wait_until("it goes on", STEP, async || {
        pgbouncer.shown("paused").await == "0" && !pgbouncer.note().exists()
    })
    .await;
    stop.cancel();
}

fn settings_of_agent(pgbouncer: &Pgbouncer) -> String {
    format!(
        r#"
mode = "observe"
state_dir = "{}"
[peer]
secret = "a secret of enough bytes"
[sites.fra]
address = "127.0.0.1:7401"
database = {{ data_dir = "/srv/fra" }}
[sites.ams]
address = "127.0.0.1:7402"
database = {{ port = 5433, data_dir = "/srv/ams" }}
[[app_config]]
name = "front"
path = "{}"
set = [{{ key = "databases.app", field = "port", value = "{{port}}" }}]
[app_config.pgbouncer]
address = "127.0.0.1:{}"
user = "adm"
password = "{PASSWORD}"
databases = ["app"]
"#,
        pgbouncer.file.state.display(),
        pgbouncer.file.path.display(),
        pgbouncer.port
    )
}

/// Others wait for its lock: nobody may be kept from a change by a console that hangs.
#[tokio::test]
async fn recovery_at_a_console_that_hangs_gives_up_long_before_a_change_would() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File {
        path: dir.path().join("pgbouncer.ini"),
        settings: settings(&hangs.local_addr().unwrap().port().to_string()),
        state: dir.path().join("agent"),
    };
    let note = file.dir().join("pgbouncer-paused");
    fs::create_dir_all(file.dir()).unwrap();
    fs::write(&note, "app\n").unwrap();
    let app = file.app(STEP * 10);
    let recovered = tokio::time::timeout(STEP, recover(&app, &file.state)).await;
    recovered.expect("it gave up").unwrap_err();
    assert!(note.exists(), "for whoever comes next");
}

#[tokio::test]
async fn recovery_keeps_out_of_the_way_of_who_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = File {
        path: dir.path().join("pgbouncer.ini"),
        settings: settings("1"),
        state: dir.path().join("agent"),
    };
    let note = file.dir().join("pgbouncer-paused");
    fs::create_dir_all(file.dir()).unwrap();
    fs::write(&note, "app\n").unwrap();
    let at_work = fs::File::create(file.dir().join("lock")).unwrap();
    at_work.lock().unwrap();
    let recovered = recover(&file.app(STEP), &file.state).await.unwrap();
    assert_eq!(recovered, Recovered::Busy);
    assert!(note.exists(), "for who is at work");
    at_work.unlock().unwrap();
    recover(&file.app(STEP), &file.state).await.unwrap_err();
}

/// Somebody took the app config out of the settings while its PgBouncer was paused.
#[tokio::test]
async fn pauses_that_the_settings_do_not_know_any_more_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let found = async || {
        pauses_of_nobody(dir.path(), vec!["front".to_owned()])
            .await
            .unwrap()
    };
    assert!(found().await.is_empty(), "there is nothing at all");
    let note = |name: &str| {
        dir.path()
            .join("app_config")
            .join(name)
            .join("pgbouncer-paused")
    };
    for name in ["front", "former", "third"] {
        fs::create_dir_all(note(name).parent().unwrap()).unwrap();
    }
    for name in ["front", "former"] {
        fs::write(note(name), "app\n").unwrap();
    }
    assert_eq!(found().await, [note("former")]);
}
