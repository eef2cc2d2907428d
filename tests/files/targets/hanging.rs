//! Files that hang: the threads that renew the lease do not.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use failover_agent::config::settings::{
    HaproxyTarget, NginxTarget, PauseExpired, PgbouncerTarget, SystemdTarget, TargetSettings,
};

use super::change::{File, STEP, soon};
use super::pgbouncer::Pgbouncer;
use crate::support::ports::free_port;
use crate::support::wait_until;

/// A pipe that nobody writes to is a file of which every open hangs.
fn hanging(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Lets the threads go that hang in it.
fn release(hangs: &Path) {
    drop(OpenOptions::new().read(true).write(true).open(hangs));
}

fn kinds(hangs: &Path) -> [TargetSettings; 4] {
    [
        TargetSettings::Nginx(NginxTarget {
            program: "nginx".into(),
            config: hangs.into(),
            pid_file: hangs.into(),
            error_log: hangs.into(),
            verify_url: None,
            verify_text: None,
        }),
        TargetSettings::Haproxy(HaproxyTarget {
            program: "haproxy".into(),
            config: vec![hangs.into()],
            socket: hangs.into(),
            pid_file: hangs.into(),
            state_file: None,
        }),
        TargetSettings::Pgbouncer(PgbouncerTarget {
            address: "127.0.0.1:1".to_owned(),
            user: "adm".to_owned(),
            password: None,
            databases: vec!["app".to_owned()],
            pause_timeout: STEP,
            pause_expired: PauseExpired::Kill,
            close_timeout: STEP,
        }),
        TargetSettings::Systemd(SystemdTarget {
            program: "/bin/true".into(),
            unit: "shop.service".to_owned(),
            environment_file: true,
            settle: Duration::ZERO,
        }),
    ]
}

/// On one thread, so that whoever blocks it stops the timer, and with it this test.
#[tokio::test]
async fn file_that_hangs_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = dir.path().join("hangs");
    hanging(&hangs);
    for settings in kinds(&hangs) {
        let name = settings.name();
        let file = File {
            path: hangs.clone(),
            settings,
            state: dir.path().join("agent"),
        };
        let mut target = file.target();
        let staged = [hangs.clone()];
        let asking = async {
            // Whichever of the two reads a file.
            drop(target.before(soon()).await);
            drop(target.validate(&staged, soon()).await);
        };
        let cut_off = tokio::time::timeout(Duration::from_millis(200), asking).await;
        assert!(cut_off.is_err(), "{name} did not read the file");
        release(&hangs);
    }
}

/// The file is read while the clients still wait.
#[tokio::test]
async fn proof_that_hangs_in_a_file_holds_nobody_up_for_longer_than_a_pause_may_last() {
    let mut pgbouncer = Pgbouncer::start(free_port()).await;
    let TargetSettings::Pgbouncer(settings) = &mut pgbouncer.file.settings else {
        panic!("another kind");
    };
    settings.pause_timeout = Duration::from_secs(1);
    let file = &pgbouncer.file;
    let mut target = file.target();
    target.before(soon()).await.unwrap();
    assert!(pgbouncer.note().exists(), "it is paused");
    fs::remove_file(&file.path).unwrap();
    hanging(&file.path);
    let goes_on = wait_until("it goes on", STEP, async || {
        pgbouncer.shown("paused").await == "0"
    });
    tokio::select! {
        proof = target.verify(soon()) => panic!("{proof:?}"),
        () = goes_on => {}
    }
    release(&file.path);
}
