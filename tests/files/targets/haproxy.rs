//! HAProxy: addresses move at once, states outlive the reload, and only what runs counts.

use std::fs;
use std::process::Command;

use failover_agent::config::settings::{HaproxyTarget, TargetSettings};
use failover_agent::model::outcome::FailureKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::change::{File, STEP, Server, page};
use crate::support::ports::free_port;
use crate::support::wait_until;

struct Haproxy {
    _server: Server,
    dir: TempDir,
    port: u16,
    file: File,
}

impl Haproxy {
    async fn start(servers: &[(&str, u16)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let port = free_port();
        fs::write(at("haproxy.cfg"), text(&dir, port, servers)).unwrap();
        fs::write(at("state"), "").unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-W", "-db", "-p"]).arg(at("pid"));
        command.arg("-f").arg(at("haproxy.cfg"));
        let server = Server::start(&mut command, &at("log"));
        let file = File {
            path: at("haproxy.cfg"),
            settings: TargetSettings::Haproxy(HaproxyTarget {
                program: "haproxy".into(),
                config: vec![at("haproxy.cfg")],
                socket: at("admin"),
                pid_file: at("pid"),
                state_file: Some(at("state")),
            }),
            state: at("agent"),
        };
        let haproxy = Self {
            _server: server,
            dir,
            port,
            file,
        };
        wait_until("HAProxy serves", STEP, async || {
            let written = fs::metadata(haproxy.dir.path().join("pid")).is_ok_and(|it| it.len() > 0);
            written
                && UnixStream::connect(haproxy.dir.path().join("admin"))
                    .await
                    .is_ok()
        })
        .await;
        haproxy
    }

    fn text(&self, servers: &[(&str, u16)]) -> String {
        text(&self.dir, self.port, servers)
    }

    async fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("admin"))
            .await
            .unwrap();
        stream
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Name, administrative state and port of each server.
    async fn servers(&self) -> Vec<(String, String, String)> {
        let state = self.ask("show servers state").await;
        let rows = state.lines().skip(2).filter(|line| !line.is_empty());
        rows.map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[3].into(), fields[6].into(), fields[18].into())
        })
        .collect()
    }

    async fn body(&self) -> String {
        super::change::body(self.port).await
    }
}

fn text(dir: &TempDir, port: u16, servers: &[(&str, u16)]) -> String {
    let dir = dir.path().display();
    let lines: String = servers
        .iter()
        .map(|(name, port)| format!("    server {name} 127.0.0.1:{port}\n"))
        .collect();
    format!(
        "global\n    stats socket {dir}/admin mode 600 level admin expose-fd listeners\n    \
         server-state-file {dir}/state\n\ndefaults\n    mode http\n    timeout client 5s\n    \
         timeout connect 2s\n    timeout server 5s\n    load-server-state-from-file global\n\n\
         listen app\n    bind 127.0.0.1:{port}\n{lines}"
    )
}

fn row(name: &str, admin: &str, port: u16) -> (String, String, String) {
    (name.to_owned(), admin.to_owned(), port.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_move_and_a_server_in_maintenance_stays_there_over_the_reload() {
    let (fra, ams) = (page("this is fra").await, page("this is ams").await);
    let haproxy = Haproxy::start(&[("db", fra), ("spare", fra)]).await;
    haproxy.ask("set server app/spare state maint").await;
    assert_eq!(haproxy.body().await, "this is fra");
    let text = haproxy.text(&[("db", ams), ("spare", ams)]);
    let changed = haproxy.file.change(&text, STEP).await.unwrap();
    assert!(changed.contains("2 servers"), "{changed:?}");
    assert_eq!(haproxy.body().await, "this is ams");
    // 1 is SRV_ADMF_FMAINT: set by a person.
    let servers = haproxy.servers().await;
    assert_eq!(servers, [row("db", "0", ams), row("spare", "1", ams)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_new_comes_with_the_reload() {
    let fra = page("this is fra").await;
    let haproxy = Haproxy::start(&[("db", fra)]).await;
    let text = haproxy.text(&[("db", fra), ("second", fra)]);
    haproxy.file.change(&text, STEP).await.unwrap();
    let servers = haproxy.servers().await;
    assert_eq!(servers, [row("db", "0", fra), row("second", "0", fra)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_haproxy_refuses_replaces_nothing() {
    let fra = page("this is fra").await;
    let haproxy = Haproxy::start(&[("db", fra)]).await;
    let old = haproxy.text(&[("db", fra)]);
    let refused = haproxy
        .file
        .change(&format!("{old}    servr x\n"), STEP)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
    assert!(refused.what.contains("servr"), "{refused}");
    assert_eq!(fs::read_to_string(&haproxy.file.path).unwrap(), old);
    assert_eq!(haproxy.body().await, "this is fra");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_the_settings_call_by_another_name_is_checked_before_it_is_replaced() {
    let fra = page("this is fra").await;
    let mut haproxy = Haproxy::start(&[("db", fra)]).await;
    let link = haproxy.dir.path().join("link.cfg");
    std::os::unix::fs::symlink(&haproxy.file.path, &link).unwrap();
    let TargetSettings::Haproxy(settings) = &mut haproxy.file.settings else {
        panic!("another target");
    };
    settings.config = vec![link];
    let broken = haproxy.dir.path().join("broken.cfg");
    fs::write(&broken, "listen app\n    servr x\n").unwrap();
    let mut target = haproxy.file.target();
    let refused = target.validate(&[broken], super::change::soon()).await;
    let refused = refused.unwrap_err();
    assert!(refused.what.contains("servr"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_without_a_new_worker_is_no_success() {
    let (fra, ams) = (page("this is fra").await, page("this is ams").await);
    let haproxy = Haproxy::start(&[("db", fra)]).await;
    let mut target = haproxy.file.target();
    // Somebody breaks it after the check: HAProxy stays with its old worker and says so to its log.
    let text = haproxy.text(&[("db", ams)]);
    fs::write(&haproxy.file.path, format!("{text}    servr x\n")).unwrap();
    target.apply(super::change::soon()).await.unwrap();
    let within = failover_agent::effects::clock::boottime() + std::time::Duration::from_secs(1);
    let refused = target.verify(within).await.unwrap_err();
    assert!(refused.what.contains("no new worker"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_that_is_no_admin_is_told() {
    let fra = page("this is fra").await;
    let mut haproxy = Haproxy::start(&[("db", fra)]).await;
    let TargetSettings::Haproxy(settings) = &mut haproxy.file.settings else {
        panic!("another target");
    };
    settings.socket = haproxy.dir.path().join("nowhere");
    let refused = haproxy
        .file
        .target()
        .before(super::change::soon())
        .await
        .unwrap_err();
    assert!(refused.hint.unwrap().contains("stats socket"));
}
