//! Groups whose proxy is tested, told and asked by a ready-made target, without a command.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::ground::{Backend, Ground, member_list, wait_for};
use super::{PATIENT, QUICK};
use crate::support::ports::free_port;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_refuses_the_file_never_sees_it_and_follows_once_it_takes_it() {
    let ground = Ground::new();
    let mut backends = [Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    ground.write_by_hand(&addresses);
    let nginx = ground.nginx().await;
    let at = |name: &str| ground.path(name).display().to_string();
    let target = format!(
        "[upstream.nginx]\nprogram = \"/usr/sbin/nginx\"\nconfig = \"{}\"\npid_file = \"{}\"\n\
         error_log = \"{}\"\n",
        at("nginx.conf"),
        at("nginx.pid"),
        at("error.log")
    );
    let members = member_list(&addresses, "");
    let mut group = ground.group(&format!("{members}{QUICK}{target}"), "");
    group
        .wait("all are healthy", |status| {
            status.healthy == 2 && status.renderings == 1
        })
        .await;
    backends[1].stop().await;
    nginx.wait_for(&[&addresses[0]]).await;
    group
        .wait("it was rendered", |status| status.in_file == Some(1))
        .await;

    // Somebody breaks another file of nginx: the old one goes on, and ours comes back.
    let main = ground.path("nginx.conf");
    let (right, before) = (fs::read_to_string(&main).unwrap(), ground.text());
    fs::write(&main, format!("{right}nonsense;\n")).unwrap();
    backends[1].start().await;
    group
        .wait("it is refused", |status| status.failures > 0)
        .await;
    let why = group.status().why_not.unwrap();
    assert!(
        why.contains("refused by") && why.contains("nonsense"),
        "{why}"
    );
    assert_eq!(ground.text(), before);
    nginx.wait_for(&[&addresses[0]]).await;
    fs::write(&main, right).unwrap();
    nginx.wait_for(&[&addresses[0], &addresses[1]]).await;
}

/// HAProxy with the group's servers in a backend of its own file.
pub(super) struct Haproxy {
    running: Child,
    pub(super) port: u16,
}

impl Haproxy {
    pub(super) async fn start(ground: &Ground) -> Self {
        let port = free_port();
        let at = |name: &str| ground.path(name).display().to_string();
        let text = format!(
            "global\n    stats socket {} level admin\n    server-state-file {}\ndefaults\n    \
             mode http\n    timeout connect 2s\n    timeout client 5s\n    timeout server 5s\n    \
             load-server-state-from-file global\nfrontend front\n    bind 127.0.0.1:{port}\n    \
             default_backend shop\nbackend shop\n    # agent: upstream shop begins\n    \
             # agent: upstream shop ends\n",
            at("admin"),
            at("servers"),
        );
        fs::write(ground.file(), text).unwrap();
        fs::write(ground.path("servers"), "").unwrap();
        let running = Command::new("/usr/sbin/haproxy")
            .args(["-W", "-db", "-p"])
            .arg(ground.path("pid"))
            .arg("-f")
            .arg(ground.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("HAProxy is installed: packaging/setup");
        let (pid_file, socket) = (ground.path("pid"), ground.path("admin"));
        wait_until("HAProxy serves", PATIENT, async || {
            fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0)
                && UnixStream::connect(&socket).await.is_ok()
        })
        .await;
        Self { running, port }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let pid = i32::try_from(self.running.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.running.wait().ok();
    }
}

/// The settings that test, tell and ask it.
pub(super) fn haproxy_target(ground: &Ground) -> String {
    let at = |name: &str| ground.path(name).display().to_string();
    format!(
        "[upstream.haproxy]\nprogram = \"/usr/sbin/haproxy\"\nconfig = [\"{}\"]\nsocket = \"{}\"\n\
         pid_file = \"{}\"\nstate_file = \"{}\"\n",
        at("shop.conf"),
        at("admin"),
        at("pid"),
        at("servers"),
    )
}

/// Servers that HAProxy itself says are in maintenance.
pub(super) async fn in_maintenance(socket: &Path) -> Vec<String> {
    let Ok(mut stream) = UnixStream::connect(socket).await else {
        return Vec::new();
    };
    let mut answer = String::new();
    stream.write_all(b"show servers state shop\n").await.ok();
    stream.read_to_string(&mut answer).await.ok();
    let rows = answer.lines().skip(2).map(|line| line.split(' '));
    let rows = rows.map(Iterator::collect::<Vec<_>>);
    // Source: management guide, "show servers state": 4 srv_name, 7 srv_admin_state.
    rows.filter(|row| row.get(6).is_some_and(|state| *state != "0"))
        .map(|row| row[3].to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_takes_members_out_and_in_and_keeps_what_people_said_of_others() {
    let ground = Ground::of_haproxy();
    let mut backends = [Backend::new(), Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    let haproxy = Haproxy::start(&ground).await;
    let target = haproxy_target(&ground);
    let members = member_list(&addresses, "");
    let group = format!("render = \"servers\"\n{members}{QUICK}{target}");
    let mut group = ground.group(&group, "");
    group
        .wait("the file was made", |status| status.in_file == Some(3))
        .await;
    let [first, second, third] = addresses.each_ref().map(String::as_str);
    wait_for(haproxy.port, &[first, second, third]).await;

    // A person takes one out; the agent, another.
    let socket = ground.path("admin");
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    let command = format!("set server shop/{third} state maint\n");
    stream.write_all(command.as_bytes()).await.unwrap();
    wait_for(haproxy.port, &[first, second]).await;
    backends[1].stop().await;
    group
        .wait("it was rendered", |status| status.in_file == Some(2))
        .await;
    wait_until("both are in maintenance", PATIENT, async || {
        in_maintenance(&socket).await == [second, third]
    })
    .await;
    wait_for(haproxy.port, &[first]).await;

    backends[1].start().await;
    group
        .wait("it was rendered", |status| status.in_file == Some(3))
        .await;
    wait_for(haproxy.port, &[first, second]).await;
    assert_eq!(in_maintenance(&socket).await, [third]);
    assert_eq!(group.status().failures, 0);
}
