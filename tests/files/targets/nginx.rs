//! nginx: what it reads is proved by new workers and by what comes through it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use failover_agent::config::settings::{NginxTarget, TargetSettings};
use failover_agent::model::outcome::FailureKind;
use tempfile::TempDir;

use super::change::{File, STEP, Server, page};
use crate::support::ports::free_port;
use crate::support::wait_until;

/// An nginx whose upstream is in a file of its own, as on Debian.
struct Nginx {
    _server: Server,
    dir: TempDir,
    port: u16,
    file: File,
}

impl Nginx {
    async fn start(upstream: &str, verify_text: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let port = free_port();
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("conf.d/upstream.conf"), upstream).unwrap();
        fs::write(at("nginx.conf"), main_file(dir.path(), port)).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .args(["-g", "daemon off;", "-e"])
            .arg(at("error.log"))
            .arg("-c")
            .arg(at("nginx.conf"));
        let server = Server::start(&mut command, &at("output"));
        let file = File {
            path: at("conf.d/upstream.conf"),
            settings: TargetSettings::Nginx(NginxTarget {
                program: "nginx".into(),
                config: at("nginx.conf"),
                pid_file: at("nginx.pid"),
                error_log: at("error.log"),
                verify_url: verify_text.map(|_| format!("http://127.0.0.1:{port}/")),
                verify_text: verify_text.map(str::to_owned),
            }),
            state: at("agent"),
        };
        let nginx = Self {
            _server: server,
            dir,
            port,
            file,
        };
        wait_until("nginx serves", STEP, async || {
            nginx.log().contains("start worker process")
        })
        .await;
        nginx
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    fn reloads(&self) -> usize {
        self.log().matches("(SIGHUP) received").count()
    }

    async fn body(&self) -> String {
        super::change::body(self.port).await
    }
}

fn main_file(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "worker_processes 2;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log notice;\n\
         events {{ worker_connections 64; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  \
         scgi_temp_path {dir}/scgi;\n  include {dir}/conf.d/*.conf;\n  server {{\n    \
         listen 127.0.0.1:{port};\n    location / {{ proxy_pass http://shop; }}\n  }}\n}}\n"
    )
}

fn upstream(members: &[String]) -> String {
    let lines: String = members
        .iter()
        .map(|member| format!("  server {member};\n"))
        .collect();
    format!("upstream shop {{\n{lines}}}\n")
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_upstream_is_proved_by_new_workers_and_the_marker() {
    let (fra, ams) = (page("this is fra").await, page("this is ams").await);
    let nginx = Nginx::start(&upstream(&[local(fra)]), Some("this is ams")).await;
    assert_eq!(nginx.body().await, "this is fra");
    let changed = nginx
        .file
        .change(&upstream(&[local(ams)]), STEP)
        .await
        .unwrap();
    assert!(changed.contains("verify_url"), "{changed:?}");
    assert!(!changed.contains("looks up"), "{changed}");
    assert_eq!(nginx.body().await, "this is ams");
    assert_eq!(nginx.reloads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_nginx_refuses_never_reaches_it() {
    let fra = page("this is fra").await;
    let nginx = Nginx::start(&upstream(&[local(fra)]), None).await;
    let refused = nginx
        .file
        .change("upstream shop { servr x; }\n", STEP)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent);
    assert!(refused.what.contains("servr"), "{refused}");
    // The old file was put back, and read once more.
    assert_eq!(nginx.reloads(), 1);
    assert!(!nginx.log().contains("[emerg]"));
    assert_eq!(nginx.body().await, "this is fra");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_that_nginx_refuses_by_itself_is_no_success() {
    let fra = page("this is fra").await;
    let nginx = Nginx::start(&upstream(&[local(fra)]), None).await;
    let mut target = nginx.file.target();
    // Somebody breaks it after the check: the signal arrives all the same.
    fs::write(&nginx.file.path, "upstream shop { servr x; }\n").unwrap();
    target.apply(super::change::soon()).await.unwrap();
    let refused = target.verify(super::change::soon()).await.unwrap_err();
    assert!(refused.what.contains("[emerg]"), "{refused}");
    assert_eq!(nginx.body().await, "this is fra");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_without_the_marker_is_put_back() {
    let (fra, other) = (page("this is fra").await, page("somebody else").await);
    let nginx = Nginx::start(&upstream(&[local(fra)]), Some("this is fra")).await;
    let text = upstream(&[local(other)]);
    let refused = nginx
        .file
        .change(&text, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable);
    assert!(refused.what.contains("verify_text"), "{refused}");
    assert_eq!(nginx.body().await, "this is fra");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_dns_are_told_and_fail_in_words_without_it() {
    let nginx = Nginx::start(&upstream(&[local(page("fra").await)]), None).await;
    let text = upstream(&["no-such-host.invalid:80".to_owned()]);
    let refused = nginx.file.change(&text, STEP).await.unwrap_err();
    assert!(refused.what.contains("host not found"), "{refused}");
    assert!(refused.hint.unwrap().contains("write addresses"));
    assert!(!nginx.file.text().contains("no-such-host"));
    // No address to nginx, but the resolver of the C library knows it without DNS.
    let text = upstream(&["127.1:80".to_owned(), local(free_port())]);
    let changed = nginx.file.change(&text, STEP).await.unwrap();
    assert!(changed.contains("nginx looks up 127.1 "), "{changed}");
}

/// A program that calls itself nginx and has one worker, which is born under its parent's title, as
/// those of nginx are, and takes its own when nginx was told. It takes no reload.
const STUBBORN: &str = r#"
trap : HUP
( trap - HUP; until [ -e "$1.told" ]; do sleep 0.02; done
  exec -a "nginx: worker process" sleep 60 ) &
worker=$!
trap 'kill $worker; exit' TERM
echo $$ >"$1"
while :; do wait $worker; done
"#;

#[tokio::test]
async fn worker_that_was_being_born_when_nginx_was_told_is_no_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The kernel calls a process by its program's name.
    fs::copy("/bin/bash", at("nginx")).unwrap();
    fs::write(at("stubborn"), STUBBORN).unwrap();
    let mut command = Command::new(at("nginx"));
    command.arg(at("stubborn")).arg(at("pid"));
    let _server = Server::start(&mut command, &at("log"));
    wait_until("it runs", STEP, async || {
        fs::metadata(at("pid")).is_ok_and(|pid| pid.len() > 0)
    })
    .await;
    fs::write(at("upstream.conf"), "").unwrap();
    let file = File {
        path: at("upstream.conf"),
        settings: TargetSettings::Nginx(NginxTarget {
            program: "nginx".into(),
            config: at("nginx.conf"),
            pid_file: at("pid"),
            error_log: at("error.log"),
            verify_url: None,
            verify_text: None,
        }),
        state: at("agent"),
    };
    let mut target = file.target();
    target.apply(super::change::soon()).await.unwrap();
    fs::write(at("pid.told"), "").unwrap();
    let within = failover_agent::effects::clock::boottime() + Duration::from_secs(2);
    let refused = target.verify(within).await.unwrap_err();
    assert!(refused.what.contains("not replaced"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_members_are_one_reload() {
    let ams = page("this is ams").await;
    let nginx = Nginx::start(&upstream(&[local(free_port())]), None).await;
    let members: Vec<String> = (0..1000).map(|_| local(ams)).collect();
    nginx.file.change(&upstream(&members), STEP).await.unwrap();
    assert_eq!(nginx.reloads(), 1);
    assert_eq!(nginx.body().await, "this is ams");
}

#[tokio::test]
async fn pid_file_of_another_program_is_not_signalled() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    fs::write(&pid_file, std::process::id().to_string()).unwrap();
    let file = File {
        path: dir.path().join("upstream.conf"),
        settings: TargetSettings::Nginx(NginxTarget {
            program: "nginx".into(),
            config: dir.path().join("nginx.conf"),
            pid_file,
            error_log: dir.path().join("error.log"),
            verify_url: None,
            verify_text: None,
        }),
        state: dir.path().join("agent"),
    };
    let refused = file
        .target()
        .apply(super::change::soon())
        .await
        .unwrap_err();
    assert!(refused.what.contains("nginx does not run"), "{refused}");
}
