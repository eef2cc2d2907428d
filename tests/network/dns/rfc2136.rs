//! Records at servers that take signed updates, against BIND, Knot and PowerDNS.

use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{DnsAccess, DnsRecord, TsigAlgorithm};
use failover_agent::effects::dns::diff::{Change, diff};
use failover_agent::effects::dns::{DnsProvider, Wanted, apply, observe, provider_of, verify};
use failover_agent::effects::dns::{Observed, Record};
use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{Epoch, SiteName};

use super::route53::MovedMeanwhile;
use super::servers::{KEY, KEY_NAME, KINDS, Server, ZONE, settings, signal};
use super::whole_text;
use crate::support::permit::{Expiring, Meanwhile};

const OLD: &str = "192.0.2.1";
const NEW: &str = "192.0.2.2";

fn wanted(name: &str, kind: &str, content: &str, epoch: u64) -> Wanted {
    Wanted {
        name: format!("{name}.{ZONE}"),
        kind: kind.to_owned(),
        contents: vec![content.to_owned()],
        epoch: Epoch(epoch),
        site: SiteName::new("ams"),
    }
}

fn shop(content: &str, epoch: u64) -> Wanted {
    wanted("shop", "A", content, epoch)
}

fn provider(server: &Server) -> Box<dyn DnsProvider> {
    provider_of(&settings(server.address(), "shop", "A")).unwrap()
}

/// With something of its access changed.
fn odd(server: &Server, change: impl FnOnce(&mut DnsRecord)) -> Box<dyn DnsProvider> {
    let mut settings = settings(server.address(), "shop", "A");
    change(&mut settings);
    provider_of(&settings).unwrap()
}

async fn moves(provider: &dyn DnsProvider, wanted: &Wanted) -> Result<bool, EffectError> {
    let applied = apply(provider, wanted, &Unconditional).await?;
    Ok(applied.changed)
}

#[tokio::test]
async fn record_moves_once_and_the_name_below_it_says_under_which_epoch() {
    for kind in KINDS {
        let server = Server::start(kind);
        let provider = provider(&server);
        let needed = Observed::Needed {
            from: vec![OLD.to_owned()],
        };
        let seen = observe(provider.as_ref(), &shop(NEW, 3)).await.unwrap();
        assert_eq!(seen, needed);
        assert!(moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap());
        assert_eq!(server.dig("shop", "A"), [NEW]);
        assert_eq!(
            server.dig("_agent.shop", "TXT"),
            ["\"agent epoch=3 site=ams\""]
        );
        // Nothing else is touched.
        assert_eq!(server.dig("shop", "AAAA"), ["2001:db8::1"]);
        assert_eq!(server.dig("shop", "TXT"), ["\"v=spf1 -all\""]);
        assert_eq!(server.dig("other", "A"), [OLD]);
        let records = provider.records(&format!("shop.{ZONE}")).await.unwrap();
        let ttl = records.iter().find(|it| it.kind == "A").unwrap().ttl;
        assert_eq!(ttl, Some(45), "the TTL stays");
        verify(provider.as_ref(), &shop(NEW, 3)).await.unwrap();
        assert!(!moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap());
        // Back again, under the next epoch.
        assert!(moves(provider.as_ref(), &shop(OLD, 4)).await.unwrap());
        assert_eq!(server.dig("shop", "A"), [OLD]);
    }
}

#[tokio::test]
async fn addresses_of_both_families_aliases_and_texts_move() {
    for kind in KINDS {
        let server = Server::start(kind);
        for (name, kind, content, shown) in [
            ("shop", "A", NEW, NEW),
            ("shop", "AAAA", "2001:db8::2", "2001:db8::2"),
            ("six", "AAAA", "2001:db8::2", "2001:db8::2"),
            ("alias", "CNAME", "ams.example.test", "ams.example.test."),
            ("text", "TXT", "site=ams; \"b\"", "\"site=ams; \\\"b\\\"\""),
        ] {
            let settings = settings(server.address(), name, kind);
            let provider = provider_of(&settings).unwrap();
            let wanted = wanted(name, kind, content, 7);
            assert!(
                moves(provider.as_ref(), &wanted).await.unwrap(),
                "{name} {kind}"
            );
            assert_eq!(server.dig(name, kind), [shown]);
            verify(provider.as_ref(), &wanted).await.unwrap();
        }
    }
}

#[tokio::test]
async fn several_values_move_in_one_message() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = settings(server.address(), "twice", "A");
        let provider = provider_of(&settings).unwrap();
        let steps = [
            &["192.0.2.7", "192.0.2.8"][..],
            &["192.0.2.6", "192.0.2.7", "192.0.2.8"],
            &["192.0.2.7"],
            &[OLD, NEW],
        ];
        for (epoch, to) in (3..).zip(steps) {
            let mut wanted = wanted("twice", "A", OLD, epoch);
            wanted.contents = to.iter().map(|it| (*it).to_owned()).collect();
            assert!(moves(provider.as_ref(), &wanted).await.unwrap(), "{to:?}");
            let mut now = server.dig("twice", "A");
            now.sort();
            assert_eq!(now, to);
            verify(provider.as_ref(), &wanted).await.unwrap();
            assert!(!moves(provider.as_ref(), &wanted).await.unwrap());
        }
    }
}

#[tokio::test]
async fn s8_prerequisite_is_the_whole_set() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = settings(server.address(), "twice", "A");
        let provider = provider_of(&settings).unwrap();
        let name = format!("twice.{ZONE}");
        let mut seen = provider.records(&name).await.unwrap();
        assert_eq!(seen.len(), 2);
        // As if the second one had come since.
        seen.truncate(1);
        let Change::Edit(edit) = diff(&seen, &wanted("twice", "A", NEW, 3)) else {
            panic!("nothing to change about {seen:?}");
        };
        let error = provider.change(&edit, Duration::MAX).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        assert_eq!(server.dig("twice", "A").len(), 2);
    }
}

#[tokio::test]
async fn s8_stale_writer_is_refused_by_the_server_itself() {
    for kind in KINDS {
        let server = Server::start(kind);
        let address = server.address();
        // The other site moves the record between our look and our change.
        let meanwhile = Meanwhile(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let provider = provider_of(&settings(address, "shop", "A")).unwrap();
                let wanted = shop("192.0.2.7", 9);
                let moving = async { moves(provider.as_ref(), &wanted).await.unwrap() };
                runtime.unwrap().block_on(moving)
            })
            .join()
            .unwrap();
        });
        let provider = provider(&server);
        let late = apply(provider.as_ref(), &shop(NEW, 8), &meanwhile).await;
        let error = late.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        assert_eq!(server.dig("shop", "A"), ["192.0.2.7"]);
        // The next look says why for good.
        let error = moves(provider.as_ref(), &shop(NEW, 8)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert!(error.to_string().contains("newer epoch, 9"), "{error}");
        assert_eq!(server.dig("shop", "A"), ["192.0.2.7"]);
    }
}

#[tokio::test]
async fn s8_update_itself_is_conditional_on_record_and_epoch() {
    for kind in KINDS {
        let server = Server::start(kind);
        let provider = provider(&server);
        let name = format!("shop.{ZONE}");
        let records = provider.records(&name).await.unwrap();
        let seen = records.iter().find(|it| it.kind == "A").unwrap();
        assert!(moves(provider.as_ref(), &shop(NEW, 5)).await.unwrap());
        // Of what was seen before, the content is another now, or only the epoch.
        let epoch_only = Record {
            content: NEW.to_owned(),
            ..seen.clone()
        };
        let content_only = Record {
            comment: "agent epoch=5 site=ams".to_owned(),
            ..seen.clone()
        };
        for (stale, epoch) in [(seen.clone(), 5), (epoch_only, 4), (content_only, 5)] {
            let wanted = shop("192.0.2.66", epoch);
            let Change::Edit(edit) = diff(std::slice::from_ref(&stale), &wanted) else {
                panic!("nothing to change about {stale:?}");
            };
            let error = provider.change(&edit, Duration::MAX).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Retryable, "{error}");
            assert_eq!(server.dig("shop", "A"), [NEW], "{stale:?}");
        }
    }
}

#[tokio::test]
async fn s8_nothing_is_sent_when_the_lease_is_over_after_the_look() {
    for kind in KINDS {
        let server = Server::start(kind);
        let permit = Expiring::after(0);
        let late = apply(provider(&server).as_ref(), &shop(NEW, 3), &permit).await;
        assert_eq!(late.unwrap_err().kind, FailureKind::Retryable);
        assert_eq!(server.dig("shop", "A"), [OLD]);
    }
}

#[tokio::test]
async fn wrong_keys_are_told_apart_and_shown_to_nobody() {
    let other = "YW5vdGhlciBzZWNyZXQsIG9mIDMyIGJ5dGVzICEhISE=";
    for kind in KINDS {
        let server = Server::start(kind);
        let with = |name: &str, secret: &str| {
            odd(&server, |settings| {
                if let DnsAccess::Rfc2136 { key_name, key, .. } = &mut settings.access {
                    name.clone_into(key_name);
                    *key = Secret::new(secret);
                }
            })
        };
        for (provider, why) in [
            (with(KEY_NAME, other), "BADSIG"),
            (with("nobodys-key", KEY), "BADKEY"),
        ] {
            let error = moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap_err();
            let (as_kind, said) = match kind.says_what_is_wrong {
                true => (FailureKind::Permanent, why),
                false => (FailureKind::Retryable, "not signed"),
            };
            assert_eq!(error.kind, as_kind, "{error}");
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.hint.is_some(), "{error}");
            let text = whole_text(error) + &format!("{provider:?}");
            assert!(!text.contains(KEY) && !text.contains(other), "{text}");
        }
        assert_eq!(server.dig("shop", "A"), [OLD]);
    }
}

#[tokio::test]
async fn what_the_key_may_not_change_is_refused_with_what_it_needs() {
    for kind in KINDS.into_iter().filter(|kind| kind.grants_names) {
        let server = Server::start(kind);
        let settings = settings(server.address(), "other", "A");
        let provider = provider_of(&settings).unwrap();
        let error = moves(provider.as_ref(), &wanted("other", "A", NEW, 3))
            .await
            .unwrap_err();
        // Knot does not sign such an answer, so it proves nothing.
        assert_ne!(error.kind, FailureKind::Retryable, "{error}");
        let hint = error.hint.clone().unwrap_or_default();
        assert!(hint.contains("update-policy"), "{error}: {hint}");
        assert_eq!(server.dig("other", "A"), [OLD]);
    }
}

#[tokio::test]
async fn another_zone_or_algorithm_is_refused() {
    for kind in KINDS {
        let server = Server::start(kind);
        let elsewhere = odd(&server, |settings| {
            "shop.example.org".clone_into(&mut settings.record);
        });
        let mut outside = shop(NEW, 3);
        "shop.example.org".clone_into(&mut outside.name);
        let stronger = odd(&server, |settings| {
            if let DnsAccess::Rfc2136 { algorithm, .. } = &mut settings.access {
                *algorithm = TsigAlgorithm::HmacSha512;
            }
        });
        for (provider, wanted) in [(elsewhere, outside), (stronger, shop(NEW, 3))] {
            let error = moves(provider.as_ref(), &wanted).await.unwrap_err();
            assert_ne!(error.kind, FailureKind::OutcomeUnknown, "{error}");
            assert!(error.hint.is_some(), "{error}");
        }
        assert_eq!(server.dig("shop", "A"), [OLD]);
    }
}

#[tokio::test]
async fn missing_and_foreign_records_are_left_to_people() {
    for kind in KINDS {
        let server = Server::start(kind);
        for (name, kind) in [("missing", "A"), ("alias", "A"), ("shop", "CNAME")] {
            let settings = settings(server.address(), name, kind);
            let provider = provider_of(&settings).unwrap();
            let content = if kind == "CNAME" {
                "ams.example.test"
            } else {
                NEW
            };
            let error = moves(provider.as_ref(), &wanted(name, kind, content, 3))
                .await
                .unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent, "{name}: {error}");
            assert!(error.hint.is_some(), "{error}");
        }
    }
}

#[tokio::test]
async fn change_that_a_stopped_server_makes_later_is_found_done() {
    for kind in KINDS {
        let server = Server::start(kind);
        let impatient = odd(&server, |settings| {
            settings.timeout = Duration::from_millis(700);
        });
        server.signal("STOP");
        let error = moves(impatient.as_ref(), &shop(NEW, 3)).await.unwrap_err();
        assert_eq!(
            error.kind,
            FailureKind::Retryable,
            "a look changes nothing: {error}"
        );
        server.signal("CONT");

        // Stopped once the change is under way: nobody knows.
        let pid = server.pid();
        let permit = Meanwhile(move || signal(pid, "STOP"));
        let late = apply(impatient.as_ref(), &shop(NEW, 3), &permit).await;
        let error = late.unwrap_err();
        assert_eq!(error.kind, FailureKind::OutcomeUnknown, "{error}");
        server.signal("CONT");
        moves(provider(&server).as_ref(), &shop(NEW, 3))
            .await
            .unwrap();
        assert_eq!(server.dig("shop", "A"), [NEW]);
    }
}

#[tokio::test]
async fn nobody_listening_is_retryable() {
    for kind in KINDS {
        let server = Server::start(kind);
        let provider = provider(&server);
        drop(server);
        let error = moves(provider.as_ref(), &shop(NEW, 1)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
    }
}

#[tokio::test]
async fn s8_wildcard_and_its_parent_do_not_know_each_others_epoch() {
    for kind in KINDS {
        let server = Server::start(kind);
        let provider = provider(&server);
        // Of two clusters: their epochs have nothing to do with each other.
        for (name, epoch) in [("*.both", 9), ("both", 3), ("*.both", 10)] {
            let content = if epoch == 10 { OLD } else { NEW };
            let wanted = wanted(name, "A", content, epoch);
            assert!(moves(provider.as_ref(), &wanted).await.unwrap(), "{name}");
        }
        let stale = wanted("*.both", "A", NEW, 8);
        let error = moves(provider.as_ref(), &stale).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        let note = |name: &str| server.dig(name, "TXT");
        assert_eq!(note("_agent.both"), ["\"agent epoch=3 site=ams\""]);
        assert_eq!(
            note("_agent-wildcard.both"),
            ["\"agent epoch=10 site=ams\""]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_of_the_same_name_that_moves_meanwhile_under_the_same_epoch_costs_no_retry() {
    for kind in KINDS {
        let server = Server::start(kind);
        let six = wanted("shop", "AAAA", "2001:db8::2", 4);
        let meanwhile = MovedMeanwhile::moves(settings(server.address(), "shop", "AAAA"), six);
        let applied = apply(provider(&server).as_ref(), &shop(NEW, 4), &meanwhile).await;
        assert!(applied.unwrap().changed, "{}", kind.name);
        assert_eq!(server.dig("shop", "A"), [NEW]);
        assert_eq!(server.dig("shop", "AAAA"), ["2001:db8::2"]);
    }
}

#[tokio::test]
async fn key_is_proved_while_nothing_moves() {
    for kind in KINDS {
        let server = Server::start(kind);
        let tended = provider(&server).tend().await.unwrap();
        assert!(tended.proved && tended.expires.is_none(), "{tended:?}");
        let stranger = odd(&server, |settings| {
            if let DnsAccess::Rfc2136 { key, .. } = &mut settings.access {
                *key = Secret::new("c29tZWJvZHkgZWxzZSdzIGtleSwgMzIgYnl0ZXMgISE=");
            }
        });
        stranger.tend().await.unwrap_err();
    }
}

#[tokio::test]
async fn record_that_only_a_wildcard_answers_for_is_left_to_people() {
    for kind in KINDS {
        let server = Server::start(kind);
        let settings = settings(server.address(), "a.wild", "A");
        let provider = provider_of(&settings).unwrap();
        let error = moves(provider.as_ref(), &wanted("a.wild", "A", NEW, 3))
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert!(error.to_string().contains("wildcard"), "{error}");
        assert_eq!(server.dig("a.wild", "A"), [OLD]);
    }
}
