//! What the world sees of a record: a primary server, a secondary that lags, a resolver that
//! remembers, and servers that do not answer.

use std::net::SocketAddr;
use std::time::Duration;

use failover_agent::config::settings::DnsCheck;
use failover_agent::effects::dns::outside::{Question, look};
use failover_agent::effects::dns::{apply, provider_of};
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::dns::{Heard, OutsideView, ServerAnswer, ServerKind, Share};
use failover_agent::model::{Epoch, SiteName};

use super::Wanted;
use super::servers::{KINDS, Server, ZONE, settings};
use crate::support::ports::free_port;
use crate::support::wait_until;

const OLD: &str = "192.0.2.1";
const NEW: &str = "192.0.2.2";
/// What the zone says of `shop`.
const TTL_S: u32 = 45;
const SOON: Duration = Duration::from_secs(20);

fn check(authoritative: &[SocketAddr], resolvers: &[SocketAddr]) -> DnsCheck {
    DnsCheck {
        authoritative: authoritative.to_vec(),
        resolvers: resolvers.to_vec(),
        timeout: Duration::from_secs(2),
        drift_every: Duration::from_secs(60),
    }
}

fn question(name: &str, wanted: &[&str]) -> Question {
    Question {
        name: format!("{name}.{ZONE}"),
        kind: "A".to_owned(),
        wanted: wanted.iter().map(|it| (*it).to_owned()).collect(),
        zone: None,
    }
}

async fn moves(primary: &Server, content: &str) {
    let provider = provider_of(&settings(primary.address(), "shop", "A")).unwrap();
    let wanted = Wanted {
        name: format!("shop.{ZONE}"),
        kind: "A".to_owned(),
        contents: vec![content.to_owned()],
        epoch: Epoch(3),
        site: SiteName::new("ams"),
    };
    apply(provider.as_ref(), &wanted, &Unconditional)
        .await
        .unwrap();
}

fn heard(view: &OutsideView) -> Vec<&Heard> {
    view.servers.iter().map(|answer| &answer.heard).collect()
}

fn shares(view: &OutsideView) -> [(usize, usize); 2] {
    [ServerKind::Authoritative, ServerKind::Resolver]
        .map(|kind| view.share(kind))
        .map(|Share { has, of }| (has, of))
}

#[tokio::test]
async fn change_is_seen_at_the_primary_then_the_secondary_and_a_resolver_keeps_the_old() {
    let primary = Server::start(KINDS[0]);
    let secondary = Server::secondary_of(&primary);
    let resolver = Server::resolver_of(&primary);
    let check = check(
        &[primary.address(), secondary.address()],
        &[resolver.address()],
    );
    let old = look(&check, &question("SHOP", &[OLD])).await;
    assert_eq!(shares(&old), [(2, 2), (1, 1)], "{old:?}");
    assert!(old.is_everywhere());

    moves(&primary, NEW).await;
    let view = look(&check, &question("shop", &[NEW])).await;
    assert_eq!(shares(&view), [(1, 2), (0, 1)], "{view:?}");
    assert_eq!(
        view.words(),
        "1 of 2 authoritative servers, 0 of 1 resolvers"
    );
    let lags = Heard::Other {
        values: vec![OLD.to_owned()],
        ttl_s: TTL_S,
    };
    assert_eq!(heard(&view)[..2], [&Heard::Wanted { ttl_s: TTL_S }, &lags]);
    // The first look made it remember; how much of that time is left is what it says.
    let keeps = view.resolvers_keep_old_s().unwrap();
    assert!((1..=TTL_S).contains(&keeps), "{keeps}");

    secondary.notify();
    wait_until("the secondary has it", SOON, || async {
        shares(&look(&check, &question("shop", &[NEW])).await)[0] == (2, 2)
    })
    .await;
}

#[tokio::test]
async fn dead_stopped_and_foreign_servers_are_told_apart_and_delay_nobody() {
    let server = Server::start(KINDS[1]);
    let stopped = Server::start(KINDS[1]);
    stopped.signal("STOP");
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut check = check(&[server.address(), dead, stopped.address()], &[]);
    check.timeout = Duration::from_millis(600);
    let view = look(&check, &question("shop", &[OLD])).await;
    stopped.signal("CONT");
    assert_eq!(shares(&view), [(1, 3), (0, 0)], "{view:?}");
    let [
        _,
        Heard::Silent { why: refused },
        Heard::Silent { why: late },
    ] = heard(&view)[..]
    else {
        panic!("{view:?}");
    };
    assert!(refused.contains("refused"), "{refused}");
    assert_eq!(late, "no answer within 600 ms");
    assert!(!view.is_everywhere());

    let mut elsewhere = question("shop", &[OLD]);
    "shop.example.org".clone_into(&mut elsewhere.name);
    check.authoritative.truncate(1);
    let view = look(&check, &elsewhere).await;
    assert!(
        matches!(heard(&view)[..], [Heard::Refused { .. }]),
        "{view:?}"
    );
    // It has the zone and resolves nothing.
    (check.authoritative, check.resolvers) = (vec![server.address()], vec![server.address()]);
    let view = look(&check, &question("shop", &[OLD])).await;
    assert_eq!(shares(&view), [(1, 1), (0, 1)], "{view:?}");
}

#[tokio::test]
async fn long_answers_absent_names_and_aliases_are_seen_as_what_they_are() {
    for kind in KINDS {
        let server = Server::start(kind);
        let check = check(&[server.address()], &[]);
        let many: Vec<String> = (1..=95).map(|n| format!("198.51.100.{n}")).collect();
        let mut all = question("many", &[]);
        all.wanted = many.iter().rev().cloned().collect();
        let view = look(&check, &all).await;
        assert_eq!(
            heard(&view),
            [&Heard::Wanted { ttl_s: 300 }],
            "{}",
            kind.name
        );
        all.wanted.pop();
        let view = look(&check, &all).await;
        assert!(
            matches!(heard(&view)[..], [Heard::Other { .. }]),
            "{view:?}"
        );

        // The zone's SOA record says how long that may be remembered.
        let absent = Heard::Absent { ttl_s: 60 };
        let view = look(&check, &question("nothing", &[OLD])).await;
        assert_eq!(heard(&view), [&absent], "{}", kind.name);
        let mut other_type = question("other", &["2001:db8::1"]);
        "AAAA".clone_into(&mut other_type.kind);
        let view = look(&check, &other_type).await;
        assert_eq!(heard(&view), [&absent], "{}", kind.name);

        let mut text = question("text", &["site=fra"]);
        "TXT".clone_into(&mut text.kind);
        let view = look(&check, &text).await;
        assert_eq!(shares(&view)[0], (1, 1), "{view:?}");

        let view = look(&check, &question("alias", &[OLD])).await;
        let alias = Heard::Alias {
            to: format!("fra.{ZONE}"),
            ttl_s: 300,
        };
        assert_eq!(heard(&view), [&alias], "{}", kind.name);
    }
}

#[tokio::test]
async fn servers_of_a_zone_are_found_by_its_ns_records_with_all_their_addresses() {
    let primary = Server::start(KINDS[0]);
    let resolver = Server::resolver_of(&primary);
    let mut check = check(&[], &[resolver.address()]);
    check.timeout = Duration::from_millis(800);
    for (name, zone) in [
        ("shop", None),
        ("not.there.at.all", None),
        // Its target is in the same zone; an alias must not lead out of it.
        ("alias", None),
        ("shop", Some(ZONE.to_owned())),
    ] {
        let mut asked = question(name, &[OLD]);
        asked.zone = zone;
        let view = look(&check, &asked).await;
        assert_eq!(view.unfound, None);
        let mut found: Vec<(String, String)> = view
            .servers
            .iter()
            .filter(|answer| answer.kind == ServerKind::Authoritative)
            .map(|answer| {
                let name = answer.name.clone().unwrap_or_default();
                (name, answer.server.to_string())
            })
            .collect();
        found.sort();
        let expected = [
            ("ns.example.test", "127.0.0.1:53"),
            ("ns2.example.test", "127.0.0.2:53"),
            ("ns2.example.test", "[::2]:53"),
        ];
        let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
        assert_eq!(found, expected, "{name}");
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    check.resolvers = vec![nobody];
    let view = look(&check, &question("shop", &[OLD])).await;
    assert!(view.unfound.is_some() && !view.is_everywhere(), "{view:?}");
    assert!(view.words().contains("not found"), "{}", view.words());
}

#[tokio::test]
async fn name_server_without_an_address_counts_as_silent() {
    let primary = Server::start_with(KINDS[0], "@ IN NS lost.example.invalid.\n");
    let resolver = Server::resolver_of(&primary);
    let mut check = check(&[], &[resolver.address()]);
    check.timeout = Duration::from_millis(800);
    let view = look(&check, &question("shop", &[OLD])).await;
    let lost: Vec<&ServerAnswer> = view
        .servers
        .iter()
        .filter(|it| it.name.as_deref() == Some("lost.example.invalid"))
        .collect();
    let [lost] = lost[..] else { panic!("{view:?}") };
    assert_eq!(lost.kind, ServerKind::Authoritative);
    let Heard::Silent { why } = &lost.heard else {
        panic!("{lost:?}");
    };
    assert!(why.starts_with("its address is not found: "), "{why}");
    // Two others are asked by IPv4; whether this host has IPv6 is not the question.
    let Share { of, .. } = view.share(ServerKind::Authoritative);
    let v6 = view.servers.iter().find(|it| it.server.starts_with('['));
    let v6 = !matches!(v6.unwrap().heard, Heard::Unaskable { .. });
    assert_eq!(of, 3 + usize::from(v6), "{view:?}");
    assert!(!view.is_everywhere());
    let words = view.words();
    assert!(words.contains("lost.example.invalid: its"), "{words}");
}
