//! Groups of app servers behind a real proxy: who gets requests, when the proxy is reloaded, and
//! when nothing changes.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests: a broken assumption is a failed test, and servers are started here"
)]

mod backups;
mod ground;
mod plans;
mod ready_made;
mod rendering;

use std::fs;
use std::time::Duration;

use failover_agent::model::ProbeName;
use failover_agent::model::event::Event;
use failover_agent::model::observation::{EndpointResult, Seen, Target};
use failover_agent::runtime::policy::policy;
use failover_agent::runtime::upstreams::UpstreamStatus;

use ground::{Backend, Ground, Group, member_list};

/// Far longer than anything here takes.
const PATIENT: Duration = Duration::from_secs(20);

/// Quick looks, for tests of few members.
const QUICK: &str = r#"
interval = "200ms"
fast_interval = "50ms"
timeout = "2s"
fall = 2
settle = "100ms"
http = { url = "http://{address}/health" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn dead_member_gets_no_requests_until_it_is_back_and_all_down_changes_nothing() {
    let ground = Ground::new();
    let mut backends = [Backend::new(), Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    ground.write_by_hand(&addresses);
    let nginx = ground.nginx().await;
    let members = member_list(&addresses, "");
    let mut group = ground.group(
        &format!("{members}{QUICK}trip_below = 1\n"),
        &nginx.reload(),
    );
    group
        .wait("all are healthy", |status| {
            // What was written by hand got the agent's form.
            status.healthy == 3 && status.renderings == 1
        })
        .await;

    backends[1].stop().await;
    nginx.wait_for(&[&addresses[0], &addresses[2]]).await;
    group
        .wait("it was rendered", |status| status.in_file == Some(2))
        .await;
    assert_eq!((ground.reloads(), group.status().renderings), (2, 2));

    backends[1].start().await;
    nginx
        .wait_for(&[&addresses[0], &addresses[1], &addresses[2]])
        .await;
    group
        .wait("it was rendered", |status| status.in_file == Some(3))
        .await;

    backends[0].stop().await;
    backends[1].stop().await;
    nginx.wait_for(&[&addresses[2]]).await;
    group
        .wait("one is left", |status| status.in_file == Some(1))
        .await;
    let before = (ground.text(), ground.reloads());
    backends[2].stop().await;
    group
        .wait("all are down", |status| {
            status.down == 3 && status.why_not.is_some()
        })
        .await;
    let why = group.status().why_not.unwrap();
    assert!(why.starts_with("no member is known to be healthy"), "{why}");
    assert_eq!((ground.text(), ground.reloads()), before);
    group
        .wait_for_word("0 of 3 members healthy, 1 needed")
        .await;

    // Without a reload: that one was never taken out.
    backends[2].start().await;
    nginx.wait_for(&[&addresses[2]]).await;
    group
        .wait("it is healthy", |status| {
            status.healthy == 1 && status.why_not.is_none()
        })
        .await;
    assert_eq!((ground.text(), ground.reloads()), before);
    group.wait_for_word("passed").await;
}

/// The command says that all is well: it only sends a signal. nginx stays with what it had, because
/// another of its files is broken.
#[tokio::test(flavor = "multi_thread")]
async fn reload_that_nginx_refuses_after_the_command_succeeded_is_no_rendering() {
    let ground = Ground::new();
    let mut backends = [Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    ground.write_by_hand(&addresses);
    let nginx = ground.nginx().await;
    let reload = format!(
        "reload = [\"sh\", \"-c\", \"kill -HUP $(cat {})\"]\n",
        ground.path("nginx.pid").display()
    );
    let members = member_list(&addresses, "");
    let mut group = ground.group(&format!("{members}{QUICK}"), &reload);
    group
        .wait("all are healthy", |status| {
            status.healthy == 2 && status.renderings == 1
        })
        .await;
    let before = ground.text();
    let main = fs::read_to_string(ground.path("nginx.conf")).unwrap();
    fs::write(ground.path("nginx.conf"), format!("{main}servr x;\n")).unwrap();
    backends[1].stop().await;
    group
        .wait("it was not taken", |status| status.why_not.is_some())
        .await;
    let why = group.status().why_not.unwrap();
    assert!(why.contains("[emerg]") && why.contains("servr"), "{why}");
    assert_eq!((ground.text(), group.status().renderings), (before, 1));

    fs::write(ground.path("nginx.conf"), main).unwrap();
    nginx.wait_for(&[&addresses[0]]).await;
}

/// Every address of 127/8 is this host's: one listener is a thousand servers, and dies as such.
#[tokio::test(flavor = "multi_thread")]
async fn thousand_members_that_die_at_once_are_one_rendering_and_one_reload() {
    let ground = Ground::new();
    let (mut many, mut one) = (Backend::everywhere(), Backend::new());
    many.start().await;
    one.start().await;
    let port = many.address.rsplit(':').next().unwrap();
    let mut addresses: Vec<String> = (0..1000)
        .map(|index| format!("127.1.{}.{}:{port}", index / 250, index % 250 + 1))
        .collect();
    addresses.push(one.address.clone());
    ground.write_by_hand(&addresses);
    let nginx = ground.nginx().await;
    let members = member_list(&addresses, "");
    let rhythm = "interval = \"2s\"\ntimeout = \"5s\"\nfall = 2\nsettle = \"1s\"\n";
    let mut group = ground.group(&format!("{members}{rhythm}"), &nginx.reload());
    group
        .wait("all are healthy", |status| {
            status.healthy == 1001 && status.renderings == 1
        })
        .await;
    assert_eq!(ground.reloads(), 1);

    many.stop().await;
    group
        .wait("one is left", |status| status.in_file == Some(1))
        .await;
    // It took a thousand out, so there was no other.
    assert_eq!((group.status().renderings, ground.reloads()), (2, 2));
    nginx.wait_for(&[&one.address]).await;
    assert_eq!(ground.text().matches(" down;").count(), 1000);

    many.start().await;
    group
        .wait("all are back", |status| status.in_file == Some(1001))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_the_proxy_does_not_take_comes_back_and_is_tried_again() {
    let ground = Ground::new();
    let mut backends = [Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    ground.write_by_hand(&addresses);
    let broken = ground.path("broken");
    fs::write(&broken, "").unwrap();
    let commands = format!(
        "reload = [\"sh\", \"-c\", \"echo >> {} && test ! -e {}\"]\nverify = [\"true\"]\n",
        ground.path("reloads").display(),
        broken.display()
    );
    let before = ground.text();
    let members = member_list(&addresses, "");
    let mut group = ground.group(&format!("{members}{QUICK}"), &commands);
    group
        .wait("all are healthy", |status| status.healthy == 2)
        .await;
    backends[0].stop().await;
    group
        .wait("a rendering failed", |status| status.failures > 0)
        .await;
    let why = group.status().why_not.unwrap();
    assert!(why.contains("the previous files are back"), "{why}");
    assert_eq!(ground.text(), before);
    fs::remove_file(&broken).unwrap();
    group
        .wait("it was rendered", |status| status.in_file == Some(1))
        .await;
    assert_eq!(group.status().failures, 0);
    assert!(
        ground
            .text()
            .contains(&format!("server {} down;", addresses[0]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_lets_the_rest_follow_and_a_file_that_is_missing_is_made() {
    let ground = Ground::new();
    let (mut many, mut one) = (Backend::everywhere(), Backend::new());
    many.start().await;
    one.start().await;
    let port = many.address.rsplit(':').next().unwrap();
    let mut addresses: Vec<String> = (1..=5)
        .map(|last| format!("127.2.0.{last}:{port}"))
        .collect();
    addresses.push(one.address.clone());
    let members = member_list(&addresses, "");
    let mut group = ground.group(&format!("{members}{QUICK}max_change = 2\n"), "");
    group
        .wait("the file was made", |status| status.in_file == Some(6))
        .await;
    many.stop().await;
    group
        .wait("all were taken out", |status| status.in_file == Some(1))
        .await;
    // 2, 2 and 1, after the first one.
    assert_eq!(group.status().renderings, 4);
    assert_eq!(group.status().why_not, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_of_somebody_else_is_left_alone_and_status_says_why() {
    let ground = Ground::new();
    fs::write(ground.file(), "upstream shop { server 127.0.0.1:1; }\n").unwrap();
    let mut backend = Backend::new();
    backend.start().await;
    let members = member_list(std::slice::from_ref(&backend.address), "");
    let mut group = ground.group(&format!("{members}{QUICK}"), "");
    group
        .wait("it is refused", |status| status.why_not.is_some())
        .await;
    let why = group.status().why_not.unwrap();
    assert!(why.contains("# agent: upstream shop begins"), "{why}");
    assert_eq!(ground.text(), "upstream shop { server 127.0.0.1:1; }\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_agent_writes_nothing_and_says_what_it_would() {
    let ground = Ground::new().observing();
    let mut backends = [Backend::new(), Backend::new()];
    for backend in &mut backends {
        backend.start().await;
    }
    let addresses = backends.each_ref().map(|backend| backend.address.clone());
    ground.write_by_hand(&addresses);
    let before = ground.text();
    let members = member_list(&addresses, "");
    let mut group = ground.group(&format!("{members}{QUICK}"), "");
    backends[0].stop().await;
    let says = |why: &Option<String>| why.as_ref().is_some_and(|why| why.contains("observes"));
    group
        .wait("it says so", |status| {
            status.down == 1 && says(&status.why_not)
        })
        .await;
    assert_eq!(group.status().in_file, Some(2));
    assert_eq!(ground.text(), before);
}

#[test]
fn group_trips_its_own_site_only() {
    let ground = Ground::new();
    let group = "members = [{ address = \"127.0.0.1:1\" }]\ntrip_below = 1\ndown_for = \"7s\"\n";
    let own = policy(&ground.config(group, "")).unwrap();
    let names: Vec<_> = own.trips.iter().map(|trip| trip.name.as_str()).collect();
    assert_eq!(names, ["upstream/shop"]);
    assert_eq!(own.trips[0].down_for, Duration::from_secs(7));
    assert!(own.endpoints.contains_key(&own.trips[0].probes[0]));
    let other = policy(&ground.config(&format!("{group}site = \"old\"\n"), "")).unwrap();
    assert!(other.trips.is_empty() && other.endpoints.is_empty());
}

impl Group {
    /// Waits until the status is as wanted.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&UpstreamStatus) -> bool) {
        let reached = self.shown.wait_for(|status| wanted(status));
        let reached = tokio::time::timeout(PATIENT, reached).await;
        let reached = reached.map(|status| status.is_ok());
        assert_eq!(reached, Ok(true), "{what}: {:?}", self.status());
    }

    /// Waits until the loop is told this of the group as a whole.
    async fn wait_for_word(&mut self, word: &str) {
        let told = async {
            loop {
                let event = self.events.recv().await.expect("the group's task lives");
                let Event::Observed(observation) = event else {
                    panic!("{event:?}");
                };
                assert_eq!(
                    observation.target,
                    Target::Endpoint(ProbeName::new("upstream/shop"))
                );
                let Seen::Endpoint(seen) = observation.seen else {
                    panic!("{:?}", observation.seen);
                };
                let said = match seen.result {
                    EndpointResult::Passed => "passed".to_owned(),
                    EndpointResult::WrongAnswer { why } | EndpointResult::LocalFault { why } => why,
                    other => panic!("{other:?}"),
                };
                if said == word {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(PATIENT, told).await;
        assert!(told.is_ok(), "waited for: {word}");
    }
}
