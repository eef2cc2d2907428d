//! Whether a record's provider could be used is seen, shown and told while nothing moves, and one
//! that cannot even be opened stops nobody.

use std::time::Duration;

use failover_agent::config::Config;
use failover_agent::config::secret::Secret;
use failover_agent::config::settings::DnsAccess;
use failover_agent::effects::dns::late::LateProvider;
use failover_agent::effects::dns::{DnsProvider, apply};
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::alert::AlertLevel;
use failover_agent::model::dns_provider::DnsProviderStatus;
use failover_agent::model::outcome::FailureKind;
use failover_agent::surfaces::demo::cloudflare::ZONE_ID;

use super::watch::{SOON, Watched, config_with};
use super::{NAME, NEW, OLD, TOKEN, World, settings, usual, wanted, whole_text};
use crate::support::wait_until;

/// No header can hold it.
const BROKEN: &str = "brokenT0ken\u{7f}";

fn config(world: &World) -> Config {
    let record = |name: &str| {
        format!(
            "[[dns]]\nname = \"{name}\"\nprovider = \"cloudflare\"\n\
             record = \"{name}.example.com\"\nzone_id = \"{ZONE_ID}\"\n\
             token = \"{TOKEN}\"\napi_url = \"{}\"\n\
             content = {{ fra = \"{OLD}\", ams = \"{NEW}\" }}\n",
            world.counterpart.url()
        )
    };
    config_with(&(record("db") + &record("other")))
}

async fn seen(watched: &Watched, what: &str, is_so: impl Fn(&[DnsProviderStatus]) -> bool) {
    let mut providers = watched.providers.clone();
    let there = providers.wait_for(|seen| is_so(seen));
    let there = tokio::time::timeout(SOON, there).await;
    assert!(
        there.is_ok(),
        "waited for: {what}; there is {:?}",
        watched.providers.borrow()
    );
}

#[tokio::test]
async fn provider_that_cannot_be_opened_is_told_once_and_leaves_the_others_alone() {
    let [world] = usual().await;
    let mut config = config(&world);
    if let DnsAccess::Cloudflare { token, .. } = &mut config.dns[0].access {
        *token = Secret::new(BROKEN);
    }
    let watched = Watched::start(config);
    seen(&watched, "both were tended", |seen| {
        seen[0].trouble.is_some() && seen[1].verified_at.is_some()
    })
    .await;
    let [broken, good] = watched.providers.borrow().clone().try_into().unwrap();
    let trouble = broken.trouble.clone().unwrap();
    assert!(
        trouble.refused && trouble.why.contains("copy the token again"),
        "{trouble:?}"
    );
    let words = broken.words();
    assert!(
        words.starts_with("cloudflare, CANNOT BE USED since 20"),
        "{words}"
    );
    assert!(broken.verified_at.is_none() && good.trouble.is_none());
    assert!(
        good.words().starts_with("cloudflare, verified at 20"),
        "{}",
        good.words()
    );

    wait_until("it is told", SOON, || async { !watched.told().is_empty() }).await;
    let told = watched.told();
    assert_eq!((told.len(), told[0].0), (1, AlertLevel::Warn), "{told:?}");
    assert!(!told[0].1.contains("brokenT0ken"), "{told:?}");

    let planned = watched.desk.plan(&watched.picture, None).await.unwrap();
    let [broken, good] = planned.try_into().unwrap();
    assert!(
        broken
            .provider
            .unwrap_err()
            .contains("copy the token again")
    );
    assert_eq!(good.provider.unwrap().values, [OLD]);
}

#[tokio::test]
async fn provider_is_opened_at_each_use_until_that_works() {
    for world in usual().await {
        let mut broken = settings(world.counterpart.url(), BROKEN);
        let common = std::sync::Arc::default();
        let provider = LateProvider::new(broken.clone(), std::sync::Arc::clone(&common));
        for _ in 0..2 {
            let moving = apply(&provider, &wanted(NEW, 3), &Unconditional).await;
            let error = moving.unwrap_err();
            assert_eq!(error.kind, FailureKind::Permanent);
            assert!(error.hint.is_some() && !whole_text(error).contains("brokenT0ken"));
            provider.tend().await.unwrap_err();
        }
        assert!(world.counterpart.requests().is_empty());
        if let DnsAccess::Cloudflare { token, .. } = &mut broken.access {
            *token = Secret::new(TOKEN);
        }
        let provider = LateProvider::new(broken, common);
        assert!(provider.tend().await.unwrap().proved);
        let moved = apply(&provider, &wanted(NEW, 3), &Unconditional).await;
        assert!(moved.unwrap().changed);
    }
}

#[tokio::test]
async fn refused_token_and_its_end_are_shown() {
    let [world] = usual().await;
    world.counterpart.token_ends("2027-01-31T08:00:00Z");
    let watched = Watched::start(config(&world));
    seen(&watched, "both are verified", |seen| {
        seen.iter().all(|it| it.verified_at.is_some())
    })
    .await;
    let words = watched.providers.borrow()[0].words();
    assert!(
        words.ends_with(", good until 2027-01-31T08:00:00.000Z"),
        "{words}"
    );
    drop(watched);

    world.counterpart.end_token("expired");
    let watched = Watched::start(config(&world));
    seen(&watched, "both are refused", |seen| {
        let refused = |it: &DnsProviderStatus| it.trouble.as_ref().is_some_and(|it| it.refused);
        seen.iter().all(refused)
    })
    .await;
    let words = watched.providers.borrow()[0].words();
    assert!(
        words.contains("the token is expired: create another one"),
        "{words}"
    );
    assert!(!words.contains(TOKEN));
    // What may pass by itself is shown, and not told yet.
    world.counterpart.end_token("active");
    let url = world.counterpart.url().to_owned();
    drop(watched);
    drop(world);
    let mut away = settings(&url, TOKEN);
    away.timeout = Duration::from_secs(2);
    let provider = LateProvider::new(away, std::sync::Arc::default());
    assert_eq!(
        provider.tend().await.unwrap_err().kind,
        FailureKind::Retryable
    );
    assert_eq!(
        provider.records(NAME).await.unwrap_err().kind,
        FailureKind::Retryable
    );
}
