//! A member that is a backup gets requests when none of the others is left, and only then: through
//! the file that the agent writes, and where the agent is wrong and the file stays as it is.

use std::fs;

use super::ground::{Backend, Ground, wait_for};
use super::ready_made::{Haproxy, haproxy_target, in_maintenance};
use super::{PATIENT, QUICK};
use crate::support::wait_until;

/// Two members and their backup, which all serve, and the settings that name them.
struct Members {
    backends: [Backend; 3],
    list: String,
}

impl Members {
    async fn start() -> Self {
        let mut backends = [Backend::new(), Backend::new(), Backend::new()];
        for backend in &mut backends {
            backend.start().await;
        }
        let [first, second, backup] = backends.each_ref().map(|backend| &backend.address);
        let list = format!(
            "members = [\n  {{ address = \"{first}\" }},\n  {{ address = \"{second}\" }},\n  \
             {{ address = \"{backup}\", backup = true }},\n]\n"
        );
        Self { backends, list }
    }

    /// The addresses; the last one is the backup's.
    fn addresses(&self) -> [String; 3] {
        self.backends
            .each_ref()
            .map(|backend| backend.address.clone())
    }

    async fn stop(&mut self, index: usize) {
        self.backends[index].stop().await;
    }
}

/// The file as a person would begin it, for nginx.
fn write_by_hand(ground: &Ground, [first, second, backup]: &[String; 3]) {
    let text = format!(
        "# agent: upstream shop begins\nupstream shop {{\nserver {first};\nserver {second};\n\
         server {backup} backup;\n}}\n# agent: upstream shop ends\n"
    );
    fs::write(ground.file(), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_nginx_gets_requests_while_no_other_member_lives() {
    let ground = Ground::new();
    let mut members = Members::start().await;
    let addresses = members.addresses();
    let [first, second, backup] = addresses.each_ref().map(String::as_str);
    write_by_hand(&ground, &addresses);
    let nginx = ground.nginx().await;
    let mut group = ground.group(&format!("{}{QUICK}", members.list), &nginx.reload());
    group
        .wait("all are healthy", |status| {
            status.healthy == 3 && status.renderings == 1
        })
        .await;
    nginx.wait_for(&[first, second]).await;

    members.stop(0).await;
    members.stop(1).await;
    group
        .wait("only the backup is left", |status| {
            status.in_file == Some(1)
        })
        .await;
    nginx.wait_for(&[backup]).await;

    members.backends[1].start().await;
    group
        .wait("one is back", |status| status.in_file == Some(2))
        .await;
    nginx.wait_for(&[second]).await;
    assert_eq!(group.status().failures, 0);
}

/// Too few are healthy, so that those that are down stay in the file: nginx finds the backup.
#[tokio::test(flavor = "multi_thread")]
async fn backup_of_nginx_gets_requests_though_those_that_are_down_stay_in_the_file() {
    let ground = Ground::new();
    let mut members = Members::start().await;
    let addresses = members.addresses();
    write_by_hand(&ground, &addresses);
    let nginx = ground.nginx().await;
    let list = format!("{}{QUICK}min_healthy = 3\n", members.list);
    let mut group = ground.group(&list, &nginx.reload());
    group
        .wait("all are healthy", |status| {
            status.healthy == 3 && status.renderings == 1
        })
        .await;
    nginx.wait_for(&[&addresses[0], &addresses[1]]).await;
    members.stop(0).await;
    members.stop(1).await;
    group
        .wait("two are down", |status| {
            status.down == 2 && status.why_not.is_some()
        })
        .await;
    nginx.wait_for(&[&addresses[2]]).await;
    let status = group.status();
    assert_eq!((status.in_file, ground.reloads()), (Some(3), 1));
}

/// To the agent all are down, but the backup serves: its word must not take that one away.
#[tokio::test(flavor = "multi_thread")]
async fn backup_of_nginx_gets_requests_when_the_agent_takes_all_for_down() {
    let ground = Ground::new();
    let mut members = Members::start().await;
    let addresses = members.addresses();
    write_by_hand(&ground, &addresses);
    let before = ground.text();
    let nginx = ground.nginx().await;
    let looks = QUICK.replace("/health\"", "/health\", status = [\"204\"]");
    assert_ne!(looks, QUICK);
    let mut group = ground.group(&format!("{}{looks}", members.list), &nginx.reload());
    group
        .wait("all are down", |status| {
            status.down == 3 && status.why_not.is_some()
        })
        .await;
    nginx.wait_for(&[&addresses[0], &addresses[1]]).await;
    members.stop(0).await;
    members.stop(1).await;
    nginx.wait_for(&[&addresses[2]]).await;
    assert_eq!((ground.text(), ground.reloads()), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_haproxy_gets_requests_while_no_other_member_lives() {
    let ground = Ground::of_haproxy();
    let mut members = Members::start().await;
    let addresses = members.addresses();
    let [first, second, backup] = addresses.each_ref().map(String::as_str);
    let haproxy = Haproxy::start(&ground).await;
    let list = format!(
        "render = \"servers\"\n{}{QUICK}{}",
        members.list,
        haproxy_target(&ground)
    );
    let mut group = ground.group(&list, "");
    group
        .wait("the file was made", |status| status.in_file == Some(3))
        .await;
    wait_for(haproxy.port, &[first, second]).await;

    members.stop(0).await;
    members.stop(1).await;
    group
        .wait("only the backup is left", |status| {
            status.in_file == Some(1)
        })
        .await;
    wait_for(haproxy.port, &[backup]).await;
    let socket = ground.path("admin");
    wait_until("both are in maintenance", PATIENT, async || {
        in_maintenance(&socket).await == [first, second]
    })
    .await;

    members.backends[1].start().await;
    group
        .wait("one is back", |status| status.in_file == Some(2))
        .await;
    wait_for(haproxy.port, &[second]).await;
    assert_eq!(group.status().failures, 0);
}
