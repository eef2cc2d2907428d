//! Records at Route 53, against ministack and moto.

use std::time::Duration;

use failover_agent::config::secret::Secret;
use failover_agent::config::settings::{AwsLogin, DnsAccess, DnsRecord, Route53};
use failover_agent::effects::dns::{
    DnsProvider, Observed, Wanted, apply, observe, provider_of, verify,
};
use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::{Permit, Unconditional};
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{Epoch, SiteName};

use super::aws::{Aws, Fault, change_of};
use crate::support::permit::Expiring;

pub(super) const OLD: &str = "192.0.2.1";
pub(super) const NEW: &str = "192.0.2.2";
pub(super) const THIRD: &str = "192.0.2.7";
pub(super) const SHOP: &str = "shop.example.test";
pub(super) const NOTE: &str = "_agent.shop.example.test";
pub(super) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A Route 53 with a record to move, and a provider for it.
pub(super) struct World {
    pub(super) aws: Aws,
    pub(super) zone: String,
    pub(super) provider: Box<dyn DnsProvider>,
}

pub(super) fn settings(aws: &Aws, zone: Option<&str>, name: &str, kind: &str) -> DnsRecord {
    DnsRecord {
        name: "public".to_owned(),
        record: name.to_owned(),
        kind: kind.to_owned(),
        access: DnsAccess::Route53(Route53 {
            zone_id: zone.map(str::to_owned),
            endpoint: Some(aws.url()),
            region: "us-east-1".to_owned(),
            login: AwsLogin::Key {
                id: KEY_ID.to_owned(),
                secret: Secret::new(SECRET),
            },
            role: None,
        }),
        timeout: Duration::from_secs(20),
        contents: [OLD, NEW].map(|content| vec![content.to_owned()]),
    }
}

pub(super) async fn world() -> World {
    let (aws, zone) = Aws::ministack().await;
    let changes = change_of("CREATE", SHOP, "A", 45, &[OLD])
        + &change_of("CREATE", SHOP, "AAAA", 45, &["2001:db8::1"])
        + &change_of("CREATE", SHOP, "TXT", 300, &["\"v=spf1 -all\""])
        + &change_of("CREATE", "other.example.test", "A", 45, &[OLD]);
    aws.change(&zone, &changes).await;
    let provider = provider_of(&settings(&aws, Some(&zone), SHOP, "A")).unwrap();
    World {
        aws,
        zone,
        provider,
    }
}

pub(super) fn wanted(name: &str, kind: &str, content: &str, epoch: u64) -> Wanted {
    Wanted {
        name: name.to_owned(),
        kind: kind.to_owned(),
        contents: vec![content.to_owned()],
        epoch: Epoch(epoch),
        site: SiteName::new("ams"),
    }
}

pub(super) fn shop(content: &str, epoch: u64) -> Wanted {
    wanted(SHOP, "A", content, epoch)
}

impl World {
    pub(super) async fn apply(&self, content: &str, epoch: u64) -> Result<bool, EffectError> {
        moves(self.provider.as_ref(), &shop(content, epoch)).await
    }

    pub(super) async fn refused(&self, kind: FailureKind) -> EffectError {
        let error = self.apply(NEW, 3).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        error
    }

    /// The record's values.
    pub(super) async fn record(&self) -> Vec<String> {
        self.aws.values(&self.zone, SHOP, "A").await
    }

    pub(super) async fn note(&self) -> Vec<String> {
        self.aws.values(&self.zone, NOTE, "TXT").await
    }

    pub(super) fn impatient(&mut self) {
        let mut settings = settings(&self.aws, Some(&self.zone), SHOP, "A");
        settings.timeout = Duration::from_millis(700);
        self.provider = provider_of(&settings).unwrap();
    }
}

pub(super) async fn moves(
    provider: &dyn DnsProvider,
    wanted: &Wanted,
) -> Result<bool, EffectError> {
    let applied = apply(provider, wanted, &Unconditional).await?;
    Ok(applied.changed)
}

/// Moves another record, or the same, between the look and the change.
#[derive(Debug)]
pub(super) struct MovedMeanwhile {
    settings: DnsRecord,
    wanted: Wanted,
}

impl MovedMeanwhile {
    pub(super) fn moves(settings: DnsRecord, wanted: Wanted) -> Self {
        Self { settings, wanted }
    }
}

impl Permit for MovedMeanwhile {
    fn still_held(&self) -> Result<Duration, EffectError> {
        let (settings, wanted) = (self.settings.clone(), self.wanted.clone());
        let moving = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let provider = provider_of(&settings).unwrap();
            let moving = async { moves(provider.as_ref(), &wanted).await.unwrap() };
            runtime.unwrap().block_on(moving)
        };
        std::thread::spawn(moving).join().unwrap();
        Ok(Duration::MAX)
    }
}

#[tokio::test]
async fn record_moves_once_and_the_name_below_it_says_under_which_epoch() {
    let world = world().await;
    let provider = world.provider.as_ref();
    let needed = Observed::Needed {
        from: vec![OLD.to_owned()],
    };
    assert_eq!(observe(provider, &shop(NEW, 3)).await.unwrap(), needed);
    verify(provider, &shop(NEW, 3)).await.unwrap_err();
    assert!(world.apply(NEW, 3).await.unwrap());
    let (aws, zone) = (&world.aws, &world.zone);
    let moved = aws.set(zone, SHOP, "A").await;
    assert_eq!(moved, Some((45, vec![NEW.to_owned()])), "the TTL stays");
    assert_eq!(world.note().await, ["\"agent epoch=3 site=ams\""]);
    // Nothing else is touched.
    assert_eq!(aws.values(zone, SHOP, "AAAA").await, ["2001:db8::1"]);
    assert_eq!(aws.values(zone, SHOP, "TXT").await, ["\"v=spf1 -all\""]);
    assert_eq!(aws.values(zone, "other.example.test", "A").await, [OLD]);
    verify(provider, &shop(NEW, 3)).await.unwrap();
    assert!(!world.apply(NEW, 3).await.unwrap());
    // Back again, under the next epoch, over a note that is there already.
    assert!(world.apply(OLD, 4).await.unwrap());
    assert_eq!(world.record().await, [OLD]);
    assert_eq!(world.note().await, ["\"agent epoch=4 site=ams\""]);
    assert_eq!(aws.posts(), 2);
}

#[tokio::test]
async fn zone_is_the_longest_public_one_and_every_kind_of_name_moves() {
    let (aws, outer) = Aws::ministack().await;
    let inner = aws.zone("eu.example.test", "public").await;
    aws.zone("shop.eu.example.test", "private").await;
    let records = change_of("CREATE", "shop.eu.example.test", "AAAA", 60, &["2001:db8::1"])
        + &change_of("CREATE", "www.eu.example.test", "CNAME", 60, &["fra.example.test"])
        // As Route 53 spells the asterisk.
        + &change_of("CREATE", "\\052.eu.example.test", "A", 60, &[OLD]);
    aws.change(&inner, &records).await;
    aws.change(
        &outer,
        &change_of("CREATE", "top.example.test", "A", 60, &[OLD]),
    )
    .await;
    for (zone, name, kind, content, note) in [
        (
            &inner,
            "shop.eu.example.test",
            "AAAA",
            "2001:db8::2",
            "_agent.shop.eu.example.test",
        ),
        (
            &inner,
            "www.eu.example.test",
            "CNAME",
            "ams.example.test",
            "_agent.www.eu.example.test",
        ),
        (
            &inner,
            "*.eu.example.test",
            "A",
            NEW,
            "_agent-wildcard.eu.example.test",
        ),
        (
            &outer,
            "top.example.test",
            "A",
            NEW,
            "_agent.top.example.test",
        ),
    ] {
        let provider = provider_of(&settings(&aws, None, name, kind)).unwrap();
        let wanted = wanted(name, kind, content, 7);
        assert!(moves(provider.as_ref(), &wanted).await.unwrap(), "{name}");
        assert_eq!(aws.values(zone, name, kind).await, [content]);
        let noted = aws.values(zone, note, "TXT").await;
        assert_eq!(noted, ["\"agent epoch=7 site=ams\""], "{name}");
        verify(provider.as_ref(), &wanted).await.unwrap();
    }
    // Two public zones of one name: nobody can say which of them the world asks.
    aws.zone("eu.example.test", "another public").await;
    for (name, why) in [
        ("shop.eu.example.test", "2 public zones"),
        ("shop.example.org", "no public zone"),
    ] {
        let provider = provider_of(&settings(&aws, None, name, "AAAA")).unwrap();
        let wanted = wanted(name, "AAAA", "2001:db8::3", 8);
        let error = moves(provider.as_ref(), &wanted).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.hint.unwrap().contains("zone_id"));
    }
}

#[tokio::test]
async fn s8_stale_epoch_is_refused_and_nothing_is_sent_without_the_lease() {
    let world = world().await;
    let permit = Expiring::after(0);
    let late = apply(world.provider.as_ref(), &shop(NEW, 5), &permit).await;
    assert_eq!(late.unwrap_err().kind, FailureKind::Retryable);
    assert_eq!(
        (world.aws.posts(), world.record().await),
        (0, vec![OLD.into()])
    );
    // Another spelling of a note, and what people wrote beside it.
    let texts = ["\"agent epoch=6 site=fra; see \\\"wiki\\\"\" \" and \\344\""];
    world
        .aws
        .change(&world.zone, &change_of("CREATE", NOTE, "TXT", 300, &texts))
        .await;
    let error = world.apply(NEW, 5).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    assert!(error.to_string().contains("newer epoch, 6"), "{error}");
    verify(world.provider.as_ref(), &shop(OLD, 5))
        .await
        .unwrap_err();
    assert_eq!(
        (world.aws.posts(), world.record().await),
        (0, vec![OLD.into()])
    );
    assert!(world.apply(NEW, 7).await.unwrap());
    let note = world.aws.set(&world.zone, NOTE, "TXT").await.unwrap();
    assert_eq!(note.0, 300, "the note's TTL stays");
    let text = "\"agent epoch=7 site=ams; see \\\"wiki\\\" and ";
    assert!(note.1.first().unwrap().starts_with(text), "{note:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_writer_that_was_overtaken_changes_nothing() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    // Between the look and the change: the other site is quicker.
    let other = settings(aws, Some(zone), SHOP, "A");
    let meanwhile = MovedMeanwhile::moves(other, shop(THIRD, 9));
    let late = apply(world.provider.as_ref(), &shop(NEW, 8), &meanwhile).await;
    let error = late.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error}");
    assert_eq!(world.record().await, [THIRD]);
    let error = world.apply(NEW, 8).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
}

#[tokio::test]
async fn s8_batch_itself_is_conditional_on_record_ttl_and_note() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    let note = |action, epoch| {
        let text = format!("\"agent epoch={epoch} site=fra\"");
        change_of(action, NOTE, "TXT", 60, &[&text])
    };
    let record = |ttl, values: &[&str]| change_of("UPSERT", SHOP, "A", ttl, values);
    for (other, kept) in [
        // A note where there was none; then another one.
        (note("CREATE", 2), vec![OLD]),
        (note("UPSERT", 3), vec![OLD]),
        // Another value, another TTL, one value more, none at all.
        (record(45, &[THIRD]), vec![THIRD]),
        (record(46, &[THIRD]), vec![THIRD]),
        (record(46, &[THIRD, OLD]), vec![THIRD, OLD]),
    ] {
        aws.fail_next("POST", Fault::Meanwhile(other.clone()));
        let error = world.apply(NEW, 5).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error} after {other}");
        assert!(error.to_string().contains("somebody else"), "{error}");
        assert_eq!(world.record().await, kept, "{other}");
    }
    aws.change(zone, &record(45, &[OLD])).await;
    let gone = change_of("DELETE", SHOP, "A", 45, &[OLD]);
    aws.fail_next("POST", Fault::Meanwhile(gone));
    world.refused(FailureKind::Retryable).await;
    let error = world.refused(FailureKind::Permanent).await;
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(world.record().await.is_empty());
}

#[tokio::test]
async fn change_by_hand_is_put_right_under_the_same_epoch() {
    let world = world().await;
    world.apply(NEW, 5).await.unwrap();
    let by_hand = change_of("UPSERT", SHOP, "A", 120, &[THIRD]);
    world.aws.change(&world.zone, &by_hand).await;
    assert!(world.apply(NEW, 5).await.unwrap());
    let set = world.aws.set(&world.zone, SHOP, "A").await;
    assert_eq!(set, Some((120, vec![NEW.to_owned()])));
}

#[tokio::test]
async fn comparison_that_fails_for_nothing_is_replaced_after_another_look() {
    let world = world().await;
    let why = "Tried to delete resource record set [name='shop.example.test.', type='A'] but the \
               values provided do not match the current values";
    world.aws.fail_next("POST", Fault::batch(why));
    assert!(world.apply(NEW, 3).await.unwrap());
    assert_eq!(world.record().await, [NEW]);
    assert_eq!(world.note().await, ["\"agent epoch=3 site=ams\""]);
    let requests = world.aws.requests();
    let posts: Vec<_> = requests.iter().filter(|it| it.method == "POST").collect();
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|it| !it.path.contains('?')));
    assert!(!posts.first().unwrap().body.contains("UPSERT"));
    assert!(posts.last().unwrap().body.contains("UPSERT"));
}

#[tokio::test]
async fn all_values_of_a_name_move_at_once_and_texts_keep_their_quotes() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    aws.change(zone, &change_of("UPSERT", SHOP, "A", 60, &[OLD, THIRD]))
        .await;
    let mut both = shop(NEW, 3);
    both.contents.push("192.0.2.3".to_owned());
    assert!(moves(world.provider.as_ref(), &both).await.unwrap());
    assert_eq!(world.record().await, [NEW, "192.0.2.3"]);
    verify(world.provider.as_ref(), &both).await.unwrap();
    assert!(world.apply(OLD, 4).await.unwrap());
    assert_eq!(world.record().await, [OLD]);
    let texts = provider_of(&settings(aws, Some(zone), SHOP, "TXT")).unwrap();
    let text = "v=spf1 \"a\" \\ -all";
    let wanted = wanted(SHOP, "TXT", text, 5);
    assert!(moves(texts.as_ref(), &wanted).await.unwrap());
    let written = "\"v=spf1 \\\"a\\\" \\\\ -all\"";
    assert_eq!(aws.values(zone, SHOP, "TXT").await, [written]);
    verify(texts.as_ref(), &wanted).await.unwrap();
}

#[tokio::test]
async fn note_is_found_behind_many_other_names() {
    let world = world().await;
    let between: String = (0..120)
        .map(|n| change_of("CREATE", &format!("{n}.{SHOP}"), "A", 60, &[OLD]))
        .collect();
    world.aws.change(&world.zone, &between).await;
    assert!(world.apply(NEW, 3).await.unwrap());
    assert!(!world.apply(NEW, 3).await.unwrap());
    let stale = world.apply(OLD, 2).await.unwrap_err();
    assert_eq!(stale.kind, FailureKind::Permanent, "{stale}");
}

#[tokio::test]
async fn tending_finds_the_zone_ahead_and_follows_a_change_to_the_servers() {
    let world = world().await;
    let provider = provider_of(&settings(&world.aws, None, SHOP, "A")).unwrap();
    let asked = || world.aws.requests().len();
    let first = provider.tend().await.unwrap();
    assert!(first.proved, "the record was read: {first:?}");
    let idle = first.again;
    let ready = asked();
    assert_eq!(provider.tend().await.unwrap().again, idle);
    assert_eq!(asked(), ready, "nothing moves, so nothing is asked");
    moves(provider.as_ref(), &shop(NEW, 3)).await.unwrap();
    let paths: Vec<_> = world.aws.requests().into_iter().map(|it| it.path).collect();
    let moving = paths.get(ready..).unwrap();
    assert!(moving.iter().all(|it| it.contains("/rrset")), "{moving:?}");
    // ministack says PENDING once, then INSYNC.
    assert!(provider.tend().await.unwrap().again < idle);
    assert_eq!(provider.tend().await.unwrap().again, idle);
    let changes = |it: &String| it.contains("/change/C");
    let paths: Vec<_> = world.aws.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(paths.iter().filter(|it| changes(it)).count(), 2);
}

#[tokio::test]
async fn change_that_route_53_forgot_is_followed_no_more_and_troubles_nobody() {
    let world = world().await;
    let provider = world.provider.as_ref();
    let idle = provider.tend().await.unwrap().again;
    assert!(world.apply(NEW, 3).await.unwrap());
    // What may pass is no reason to end.
    let busy = Fault::error(400, "Throttling", "Rate exceeded");
    world.aws.fail_next("GET", busy);
    assert!(provider.tend().await.unwrap().again < idle);
    let gone = "Could not find resource with ID: C0";
    world
        .aws
        .fail_next("GET", Fault::error(404, "NoSuchChange", gone));
    assert_eq!(provider.tend().await.unwrap().again, idle);
    let asked = world.aws.requests().len();
    assert_eq!(provider.tend().await.unwrap().again, idle);
    assert_eq!(world.aws.requests().len(), asked);
}
