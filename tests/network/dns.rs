//! DNS providers against their counterparts: here Cloudflare against the stand-in, `rfc2136`
//! against BIND, Knot and PowerDNS, `route53` against ministack and moto.
//! S8: a record remembers the epoch that moved it.
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests may fail loudly"
)]

mod aws;
mod cloudflare;
mod connection;
mod edge;
mod official_client;
mod outside;
mod providers;
mod rfc2136;
mod route53;
mod route53_errors;
mod route53_notes;
mod servers;
mod sets;
mod watch;
mod zones;

use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{DnsAccess, DnsRecord, Proxy};
use failover_agent::effects::dns::{
    DNS_PROVIDERS, DnsProvider, Observed, Wanted, apply, observe, provider_of, verify,
};
use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::{Epoch, SiteName};
use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Fault, Record, ZONE_ID};
use serde_json::json;

use crate::support::permit::Expiring;
use crate::support::wait_until;

#[test]
fn every_provider_has_its_counterpart_here() {
    let names: Vec<&str> = DNS_PROVIDERS.iter().map(|kind| kind.name).collect();
    assert_eq!(names, ["cloudflare", "rfc2136", "route53"]);
}

const TOKEN: &str = "Sn3lkgR6nPbvUzsHbYVuuCTFM8dZZgiJ8hR1Tqtk";
const NAME: &str = "db.example.com";
const OLD: &str = "192.0.2.1";
const NEW: &str = "192.0.2.2";

/// A provider and the counterpart it talks to.
struct World {
    counterpart: CloudflareStandIn,
    provider: Box<dyn DnsProvider>,
}

fn settings(url: &str, token: &str) -> DnsRecord {
    DnsRecord {
        name: "public".to_owned(),
        record: NAME.to_owned(),
        kind: "A".to_owned(),
        access: DnsAccess::Cloudflare {
            zone_id: Some(ZONE_ID.to_owned()),
            token: Secret::new(token),
            api_url: Some(url.to_owned()),
            proxy: Proxy::default(),
        },
        timeout: Duration::from_secs(20),
        contents: [OLD, NEW].map(|content| vec![content.to_owned()]),
    }
}

/// The provider with a fresh counterpart that has these records.
async fn worlds(records: &[Record]) -> [World; 1] {
    let counterpart = CloudflareStandIn::start(TOKEN, records.to_vec())
        .await
        .unwrap();
    let provider = provider_of(&settings(counterpart.url(), TOKEN)).unwrap();
    [World {
        counterpart,
        provider,
    }]
}

async fn usual() -> [World; 1] {
    worlds(&[
        Record::new("A", "other.example.com", OLD),
        Record::new("A", NAME, OLD).comment("owner: web team; do not touch"),
        Record::new("AAAA", NAME, "2001:db8::1"),
    ])
    .await
}

fn wanted(content: &str, epoch: u64) -> Wanted {
    Wanted {
        name: NAME.to_owned(),
        kind: "A".to_owned(),
        contents: vec![content.to_owned()],
        epoch: Epoch(epoch),
        site: SiteName::new("b"),
    }
}

impl World {
    async fn apply(&self, content: &str, epoch: u64) -> Result<bool, EffectError> {
        apply(
            self.provider.as_ref(),
            &wanted(content, epoch),
            &Unconditional,
        )
        .await
        .map(|applied| applied.changed)
    }

    async fn refused(&self, kind: FailureKind) -> EffectError {
        let error = self.apply(NEW, 1).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        error
    }

    fn record(&self) -> Record {
        let mut records = self.counterpart.records();
        records.retain(|record| record.name == NAME && record.kind == "A");
        records.remove(0)
    }

    fn patches(&self) -> usize {
        let requests = self.counterpart.requests();
        requests.iter().filter(|r| r.method == "PATCH").count()
    }
}

/// Everything that an error can print, with its whole chain of causes.
fn whole_text(error: EffectError) -> String {
    let text = format!("{error} {error:?} {:?}", error.hint);
    format!("{text} {}", Failure::from(error))
}

#[tokio::test]
async fn s8_record_is_not_changed_when_the_lease_is_over_after_the_look() {
    for world in usual().await {
        let permit = Expiring::after(0);
        let late = apply(world.provider.as_ref(), &wanted(NEW, 3), &permit).await;
        let error = late.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        assert_eq!((world.patches(), world.record().content), (0, OLD.into()));
    }
}

#[tokio::test]
async fn record_moves_once_and_says_under_which_epoch() {
    for world in usual().await {
        let before = world.counterpart.records();
        let needed = Observed::Needed {
            from: vec![OLD.to_owned()],
        };
        let provider = world.provider.as_ref();
        assert_eq!(observe(provider, &wanted(NEW, 3)).await.unwrap(), needed);
        verify(provider, &wanted(NEW, 3)).await.unwrap_err();
        assert!(world.apply(NEW, 3).await.unwrap());

        let now = world.record();
        assert_eq!(now.content, NEW);
        let comment = "agent epoch=3 site=b; owner: web team; do not touch";
        assert_eq!(now.comment.as_deref(), Some(comment));
        let others = |records: Vec<Record>| -> Vec<Record> {
            let same = |r: &Record| r.id != now.id;
            records.into_iter().filter(same).collect()
        };
        assert_eq!(others(world.counterpart.records()), others(before));

        assert!(!world.apply(NEW, 3).await.unwrap());
        verify(provider, &wanted(NEW, 3)).await.unwrap();
        let seen = observe(provider, &wanted(NEW, 3)).await.unwrap();
        assert_eq!(seen, Observed::AlreadyDone);
        assert_eq!(world.patches(), 1);
    }
}

#[tokio::test]
async fn only_content_and_comment_are_sent() {
    for world in usual().await {
        world.apply(NEW, 3).await.unwrap();
        let requests = world.counterpart.requests();
        let patch = requests.iter().find(|r| r.method == "PATCH").unwrap();
        let comment = "agent epoch=3 site=b; owner: web team; do not touch";
        let body = json!({ "content": NEW, "comment": comment });
        assert_eq!(patch.body.as_ref(), Some(&body));
        let methods: Vec<&str> = requests.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(methods, ["GET", "PATCH"]);
    }
}

#[tokio::test]
async fn stale_epoch_is_refused_before_and_after_the_change() {
    for world in usual().await {
        world.apply(NEW, 5).await.unwrap();
        let error = world.apply(OLD, 4).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        let stale = wanted(NEW, 4);
        let provider = world.provider.as_ref();
        observe(provider, &stale).await.unwrap_err();
        verify(provider, &stale).await.unwrap_err();
        assert_eq!((world.record().content.as_str(), world.patches()), (NEW, 1));
        assert!(world.apply(OLD, 6).await.unwrap());
    }
}

#[tokio::test]
async fn change_by_hand_is_put_right_under_the_same_epoch() {
    for world in usual().await {
        world.apply(NEW, 5).await.unwrap();
        let id = world.record().id;
        world
            .counterpart
            .change_by_hand(&id, &json!({ "content": OLD }));
        assert!(world.apply(NEW, 5).await.unwrap());
        assert_eq!(world.record().content, NEW);
    }
}

#[tokio::test]
async fn applied_but_timed_out_ends_as_done_without_a_second_change() {
    for mut world in usual().await {
        let mut settings = settings(world.counterpart.url(), TOKEN);
        settings.timeout = Duration::from_millis(400);
        world.provider = provider_of(&settings).unwrap();
        world.counterpart.fail_next(Fault::AppliedButTimedOut);
        world.refused(FailureKind::OutcomeUnknown).await;
        assert_eq!(world.record().content, NEW);
        assert!(!world.apply(NEW, 1).await.unwrap());
        assert_eq!(world.patches(), 1);
    }
}

#[tokio::test]
async fn timeout_is_unknown_only_after_a_change_was_sent() {
    for mut world in usual().await {
        let mut settings = settings(world.counterpart.url(), TOKEN);
        settings.timeout = Duration::from_millis(400);
        world.provider = provider_of(&settings).unwrap();
        world.counterpart.fail_next(Fault::Timeout);
        world.refused(FailureKind::Retryable).await;
        world.counterpart.fail_next_write(Fault::Timeout);
        world.refused(FailureKind::OutcomeUnknown).await;
        assert_eq!(world.record().content, OLD);
        assert!(world.apply(NEW, 1).await.unwrap());
    }
}

#[tokio::test]
async fn nobody_listening_is_retryable() {
    for mut world in usual().await {
        let url = world.counterpart.url().to_owned();
        let settings = settings(&url, TOKEN);
        world.provider = provider_of(&settings).unwrap();
        drop(world.counterpart);
        let result = apply(world.provider.as_ref(), &wanted(NEW, 1), &Unconditional).await;
        assert_eq!(result.unwrap_err().kind, FailureKind::Retryable);
    }
}

#[tokio::test]
async fn refusals_are_permanent_and_say_what_the_token_needs() {
    for world in usual().await {
        for status in [401, 403] {
            for on_write in [false, true] {
                if on_write {
                    world.counterpart.fail_next_write(Fault::Status(status));
                } else {
                    world.counterpart.fail_next(Fault::Status(status));
                }
                let error = world.refused(FailureKind::Permanent).await;
                assert!(error.hint.unwrap().contains("DNS:Edit"));
            }
        }
        world.counterpart.deny_writes();
        let error = world.refused(FailureKind::Permanent).await;
        assert!(error.to_string().contains("10000"), "{error}");
        assert_eq!(world.record().content, OLD);
    }
}

#[tokio::test]
async fn rate_limit_is_retryable_and_carries_the_delay() {
    for world in usual().await {
        world.counterpart.fail_next(Fault::RateLimited(17));
        let error = world.refused(FailureKind::Retryable).await;
        assert_eq!(error.retry_after, Some(Duration::from_secs(17)));
    }
    for world in usual().await {
        world.counterpart.fail_next_write(Fault::RateLimited(1));
        let error = world.refused(FailureKind::Retryable).await;
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        wait_until("the limit is over", Duration::from_secs(20), || async {
            world.apply(NEW, 1).await.is_ok_and(|changed| changed)
        })
        .await;
    }
}

#[tokio::test]
async fn broken_servers_and_bodies_are_retryable_and_change_nothing() {
    for world in usual().await {
        for fault in [
            Fault::Status(500),
            Fault::Status(502),
            Fault::Status(503),
            Fault::Garbage,
            Fault::Huge,
        ] {
            world.counterpart.fail_next(fault);
            world.refused(FailureKind::Retryable).await;
            assert_eq!(world.record().content, OLD, "{fault:?}");
        }
        world.counterpart.fail_next_write(Fault::Status(500));
        world.refused(FailureKind::Retryable).await;
        world.counterpart.fail_next_write(Fault::Garbage);
        world.refused(FailureKind::Retryable).await;
        assert!(world.apply(NEW, 1).await.unwrap());
    }
}

#[tokio::test]
async fn refusal_with_status_200_is_a_refusal() {
    for world in usual().await {
        world.counterpart.fail_next(Fault::RefusedWith200);
        world.refused(FailureKind::Permanent).await;
        world.counterpart.fail_next_write(Fault::RefusedWith200);
        let error = world.refused(FailureKind::Permanent).await;
        assert!(error.to_string().contains("1004"), "{error}");
    }
}

#[tokio::test]
async fn invalid_content_is_permanent_and_the_chain_says_why() {
    for world in usual().await {
        let error = world.apply("192.0.2.256", 1).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        let text = error.to_string();
        assert!(text.contains("1004") && text.contains("9005"), "{text}");
    }
}

#[tokio::test]
async fn missing_and_foreign_records_are_left_to_people() {
    for records in [
        vec![Record::new("A", "other.example.com", OLD)],
        vec![Record::new("CNAME", NAME, "db.example.net")],
    ] {
        for world in worlds(&records).await {
            let before = world.counterpart.records();
            let error = world.refused(FailureKind::Permanent).await;
            assert!(error.hint.is_some());
            assert_eq!(world.counterpart.records(), before);
            assert_eq!(world.counterpart.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn ignored_filter_moves_the_right_record_or_none() {
    for world in usual().await {
        world.counterpart.fail_next(Fault::FilterIgnored);
        assert!(world.apply(NEW, 1).await.unwrap());
        let contents: Vec<String> = world
            .counterpart
            .records()
            .into_iter()
            .map(|record| record.content)
            .collect();
        assert_eq!(contents, [OLD, NEW, "2001:db8::1"]);
    }
    let mut many: Vec<Record> = (0..150)
        .map(|n| Record::new("A", &format!("h{n}.example.com"), OLD))
        .collect();
    many.push(Record::new("A", NAME, OLD));
    for world in worlds(&many).await {
        world.counterpart.fail_next(Fault::FilterIgnored);
        world.refused(FailureKind::Permanent).await;
        assert_eq!(world.patches(), 0);
    }
}

#[tokio::test]
async fn token_is_in_no_text() {
    for world in usual().await {
        let mut errors = Vec::new();
        for fault in [Fault::Status(403), Fault::Status(500), Fault::Garbage] {
            world.counterpart.fail_next(fault);
            errors.push(world.apply(NEW, 1).await.unwrap_err());
        }
        let wrong = settings(world.counterpart.url(), "Wr0ngT0ken");
        let provider = provider_of(&wrong).unwrap();
        errors.push(
            apply(provider.as_ref(), &wanted(NEW, 1), &Unconditional)
                .await
                .unwrap_err(),
        );
        let with_newline = settings(world.counterpart.url(), "Wr0ngT0ken\u{7f}");
        errors.push(provider_of(&with_newline).unwrap_err());
        let plain = settings("http://192.0.2.9/client/v4", "Wr0ngT0ken");
        errors.push(provider_of(&plain).unwrap_err());
        for error in errors {
            let text = whole_text(error);
            assert!(
                !text.contains(TOKEN) && !text.contains("Wr0ngT0ken"),
                "{text}"
            );
        }
        let debug = format!("{provider:?} {:?}", world.provider);
        assert!(
            !debug.contains(TOKEN) && !debug.contains("Wr0ngT0ken"),
            "{debug}"
        );
    }
}
