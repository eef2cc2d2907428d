//! What only Cloudflare has: zones, tokens, and a rate limit.

use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::settings::DnsAccess;
use failover_agent::effects::dns::common::Common;
use failover_agent::effects::dns::{apply, observe, provider_of, provider_with, verify};
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::outcome::FailureKind;
use failover_agent::surfaces::demo::cloudflare::{Fault, Record, ZONE_ID};

use super::{NAME, NEW, OLD, TOKEN, World, settings, usual, wanted, whole_text, worlds};

/// Without `zone_id`.
fn nameless(world: &mut World, record: &str) {
    let mut settings = settings(world.counterpart.url(), TOKEN);
    record.clone_into(&mut settings.record);
    if let DnsAccess::Cloudflare { zone_id, .. } = &mut settings.access {
        *zone_id = None;
    }
    world.provider = provider_of(&settings).unwrap();
}

/// As after a restart: nothing is known of the token.
fn begin_anew(world: &mut World) {
    world.provider = provider_of(&settings(world.counterpart.url(), TOKEN)).unwrap();
}

fn paths(world: &World) -> Vec<String> {
    let requests = world.counterpart.requests();
    let paths = requests
        .into_iter()
        .map(|it| format!("{} {}", it.method, it.path));
    paths.collect()
}

#[tokio::test]
async fn zone_is_the_active_one_with_the_longest_matching_name() {
    for mut world in usual().await {
        nameless(&mut world, NAME);
        // Longer, but not served yet; and one whose name only ends with the same letters.
        world.counterpart.add_zone("db.example.com", "pending");
        world.counterpart.add_zone("b.example.com", "active");
        assert!(world.apply(NEW, 3).await.unwrap());
        assert_eq!(world.record().content, NEW);
        let asked: Vec<String> = world.counterpart.requests()[..2]
            .iter()
            .map(|request| format!("{}?{}", request.path, request.query))
            .collect();
        assert_eq!(
            asked,
            ["/zones?name=db.example.com", "/zones?name=example.com"]
        );
    }
    for mut world in usual().await {
        nameless(&mut world, NAME);
        world.counterpart.add_zone("db.example.com", "active");
        world.refused(FailureKind::Permanent).await;
        let sub = format!("GET /zones/{:032x}/dns_records", 1);
        assert_eq!(
            paths(&world),
            ["GET /zones", &sub],
            "not in the zone above it"
        );
    }
}

#[tokio::test]
async fn zone_that_nobody_sees_or_that_is_there_twice_is_left_to_people() {
    for mut world in usual().await {
        nameless(&mut world, "db.example.org");
        let error = world.refused(FailureKind::Permanent).await;
        assert!(error.hint.unwrap().contains("zone_id"));
        nameless(&mut world, NAME);
        world.counterpart.add_zone("example.com", "active");
        let error = world.refused(FailureKind::Permanent).await;
        assert!(error.hint.unwrap().contains("zone_id"));
        assert_eq!((world.patches(), world.record().content), (0, OLD.into()));
    }
}

#[tokio::test]
async fn zone_that_was_found_while_nothing_moved_is_not_looked_for_again() {
    for mut world in usual().await {
        nameless(&mut world, NAME);
        let tended = world.provider.tend().await.unwrap();
        assert_eq!(
            (tended.again, tended.expires),
            (Duration::from_hours(1), None)
        );
        let before = paths(&world).len();
        assert!(world.apply(NEW, 3).await.unwrap());
        let list = format!("GET /zones/{ZONE_ID}/dns_records");
        let patch = format!("PATCH /zones/{ZONE_ID}/dns_records/{}", world.record().id);
        assert_eq!(paths(&world)[before..], [list, patch]);
    }
}

#[tokio::test]
async fn token_that_has_ended_is_told_while_nothing_moves_and_when_something_does() {
    for status in ["expired", "disabled"] {
        for mut world in usual().await {
            world.provider.tend().await.unwrap();
            world.counterpart.end_token(status);
            // Within a minute only the record's own refusal shows it.
            world.provider.tend().await.unwrap_err();
            begin_anew(&mut world);
            let error = world.provider.tend().await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent, "{error}");
            assert!(error.to_string().contains(status), "{error}");
            assert!(!whole_text(error).contains(TOKEN));
            world.refused(FailureKind::Permanent).await;
            assert_eq!(world.record().content, OLD);
            world.counterpart.end_token("active");
            world.provider.tend().await.unwrap();
        }
    }
}

#[tokio::test]
async fn token_of_an_account_is_proved_by_reading_the_record() {
    for world in usual().await {
        // Only the question for the token itself is refused.
        world.counterpart.fail_next(Fault::Status(401));
        world.provider.tend().await.unwrap();
        world.counterpart.fail_next(Fault::Status(401));
        world.counterpart.fail_next(Fault::Status(403));
        let error = world.provider.tend().await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    }
}

#[tokio::test]
async fn nothing_is_asked_while_the_rate_limit_is_used_up() {
    for world in usual().await {
        world.counterpart.fail_next(Fault::UsedUp(3600));
        let provider = world.provider.as_ref();
        observe(provider, &wanted(NEW, 3)).await.unwrap();
        let error = observe(provider, &wanted(NEW, 3)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        let pause = error.retry_after.unwrap();
        assert!(pause > Duration::from_secs(290) && pause <= Duration::from_secs(300));
        world.refused(FailureKind::Retryable).await;
        assert_eq!(paths(&world).len(), 1);
    }
    for world in usual().await {
        world.counterpart.fail_next(Fault::RateLimited(3600));
        world.refused(FailureKind::Retryable).await;
        world.refused(FailureKind::Retryable).await;
        assert_eq!(paths(&world).len(), 1);
    }
}

#[tokio::test]
async fn records_with_one_token_have_one_limit_and_others_their_own() {
    for world in usual().await {
        let common = Arc::new(Common::default());
        let with = |token: &str, record: &str| {
            let mut settings = settings(world.counterpart.url(), token);
            record.clone_into(&mut settings.record);
            // Each may have another patience.
            settings.timeout += Duration::from_secs(u64::try_from(record.len()).unwrap());
            provider_with(&settings, &common).unwrap()
        };
        let (one, two) = (with(TOKEN, NAME), with(TOKEN, "other.example.com"));
        world.counterpart.fail_next(Fault::UsedUp(60));
        one.records(NAME).await.unwrap();
        let error = two.records("other.example.com").await.unwrap_err();
        assert!(error.retry_after.is_some(), "{error}");
        assert_eq!(paths(&world).len(), 1, "nothing was asked");
        let stranger = with("an0therT0ken", NAME);
        let error = stranger.records(NAME).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert_eq!(paths(&world).len(), 2);
    }
}

#[tokio::test]
async fn token_is_verified_once_for_all_its_records() {
    for world in usual().await {
        let common = Arc::new(Common::default());
        let with = |record: &str| {
            let mut settings = settings(world.counterpart.url(), TOKEN);
            record.clone_into(&mut settings.record);
            provider_with(&settings, &common).unwrap()
        };
        let all = [with(NAME), with("other.example.com"), with(NAME)];
        let verified = || {
            let asked = paths(&world);
            let verify = asked.iter().filter(|it| it.ends_with("/tokens/verify"));
            verify.count()
        };
        let tend_all = async || {
            let [one, two, three] = &all;
            tokio::join!(one.tend(), two.tend(), three.tend())
        };
        let (one, two, three) = tend_all().await;
        assert!(
            one.is_ok() && two.is_ok() && three.is_ok(),
            "{one:?} {two:?} {three:?}"
        );
        assert_eq!(verified(), 1);
        all[0].tend().await.unwrap();
        assert_eq!(verified(), 1, "an hour is not over");
        // A refusal asks again, but not each time.
        world.counterpart.end_token("disabled");
        tend_all().await.0.unwrap_err();
        assert_eq!(verified(), 1, "a minute is not over");
    }
}

#[tokio::test]
async fn end_of_a_token_is_known_before_it_comes() {
    for mut world in usual().await {
        assert_eq!(world.provider.tend().await.unwrap().expires, None);
        world.counterpart.token_ends("2027-01-31T08:00:00Z");
        begin_anew(&mut world);
        let tended = world.provider.tend().await.unwrap();
        let end = tended.expires.unwrap().to_string();
        assert_eq!((tended.proved, &*end), (true, "2027-01-31T08:00:00.000Z"));
    }
}

#[tokio::test]
async fn change_goes_out_although_its_look_took_the_last_request() {
    for world in usual().await {
        world.counterpart.fail_next(Fault::UsedUp(60));
        assert!(world.apply(NEW, 3).await.unwrap());
        assert_eq!(world.record().content, NEW);
        // Its answer says that there are some again, but it may be older than it looks.
        let verifying = verify(world.provider.as_ref(), &wanted(NEW, 3)).await;
        let pause = verifying.unwrap_err().retry_after;
        assert!(pause.is_some_and(|it| it <= Duration::from_secs(60)));
    }
}

#[tokio::test]
async fn name_at_two_providers_is_moved_at_each_by_itself() {
    let [one] = usual().await;
    let [other] = worlds(&[Record::new("A", NAME, OLD)]).await;
    other.counterpart.fail_next(Fault::Status(503));
    assert!(one.apply(NEW, 3).await.unwrap());
    other.refused(FailureKind::Retryable).await;
    assert_eq!(
        (one.record().content, other.record().content),
        (NEW.into(), OLD.into())
    );
    let applied = apply(other.provider.as_ref(), &wanted(NEW, 3), &Unconditional).await;
    assert!(applied.unwrap().changed);
    assert!(!one.apply(NEW, 3).await.unwrap());
}

#[tokio::test]
async fn token_that_ends_with_a_newline_works() {
    for world in usual().await {
        let token = format!("{TOKEN}\n");
        let settings = settings(world.counterpart.url(), &token);
        let provider = provider_of(&settings).unwrap();
        assert!(
            apply(provider.as_ref(), &wanted(NEW, 1), &Unconditional)
                .await
                .unwrap()
                .changed
        );
    }
}
