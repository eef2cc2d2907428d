//! Zones that were found are known after a restart, and one that was made anew is noticed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use failover_agent::config::settings::{DnsAccess, DnsRecord};
use failover_agent::effects::dns::common::Common;
use failover_agent::effects::dns::zone_ids::ZoneIds;
use failover_agent::effects::dns::{DnsProvider, apply, provider_with};
use failover_agent::effects::permit::Unconditional;
use failover_agent::surfaces::demo::cloudflare::ZONE_ID;

use super::{NAME, NEW, OLD, TOKEN, World, route53, settings, usual, wanted};

/// One life of an agent: what it knows at its start is what the one before has left.
struct Life {
    common: Arc<Common>,
    provider: Box<dyn DnsProvider>,
}

impl Life {
    fn begin(dir: &Path, settings: &DnsRecord) -> Self {
        let zones = ZoneIds::open(dir, std::slice::from_ref(settings));
        let common = Arc::new(Common::with(zones));
        let provider = provider_with(settings, &common).unwrap();
        Self { common, provider }
    }

    async fn moves(&self, content: &str, epoch: u64) -> bool {
        let wanted = wanted(content, epoch);
        let applied = apply(self.provider.as_ref(), &wanted, &Unconditional).await;
        applied.unwrap().changed
    }
}

fn nameless(world: &World) -> DnsRecord {
    let mut settings = settings(world.counterpart.url(), TOKEN);
    if let DnsAccess::Cloudflare { zone_id, .. } = &mut settings.access {
        *zone_id = None;
    }
    settings
}

/// What was asked since, without the zone.
fn asked(world: &World, since: usize) -> Vec<String> {
    let requests = world.counterpart.requests();
    let asked = requests.into_iter().skip(since);
    asked
        .map(|it| format!("{} {}", it.method, it.path))
        .collect()
}

fn kept(dir: &Path) -> String {
    fs::read_to_string(dir.join("dns-zones.json")).unwrap_or_default()
}

#[tokio::test]
async fn move_after_a_restart_is_a_look_and_a_change() {
    for world in usual().await {
        let dir = tempfile::tempdir().unwrap();
        let settings = nameless(&world);
        let first = Life::begin(dir.path(), &settings);
        first.provider.tend().await.unwrap();
        first.common.zones.save().unwrap();
        let file = kept(dir.path());
        assert!(file.contains(ZONE_ID) && !file.contains(TOKEN), "{file}");

        let second = Life::begin(dir.path(), &settings);
        let before = world.counterpart.requests().len();
        assert!(second.moves(NEW, 3).await);
        let list = format!("GET /zones/{ZONE_ID}/dns_records");
        let patch = format!("PATCH /zones/{ZONE_ID}/dns_records/{}", world.record().id);
        assert_eq!(asked(&world, before), [list, patch]);
        // S8: that look is why what somebody else wrote meanwhile is left alone.
        let by_hand = serde_json::json!({ "comment": "agent epoch=9 site=a" });
        world
            .counterpart
            .change_by_hand(&world.record().id, &by_hand);
        let stale = apply(second.provider.as_ref(), &wanted(OLD, 4), &Unconditional).await;
        assert!(stale.unwrap_err().to_string().contains("newer epoch, 9"));
        // Nothing is written where nothing is new.
        fs::remove_file(dir.path().join("dns-zones.json")).unwrap();
        second.common.zones.save().unwrap();
        assert_eq!(kept(dir.path()), "");
    }
}

#[tokio::test]
async fn zone_that_was_made_anew_is_found_again_by_the_move_itself() {
    for world in usual().await {
        let dir = tempfile::tempdir().unwrap();
        let settings = nameless(&world);
        let first = Life::begin(dir.path(), &settings);
        first.provider.tend().await.unwrap();
        first.common.zones.save().unwrap();
        let anew = "0123456789abcdef0123456789abcdef";
        world.counterpart.make_zone_anew(anew);
        let second = Life::begin(dir.path(), &settings);
        assert!(second.moves(NEW, 3).await);
        assert_eq!(world.record().content, NEW);
        second.common.zones.save().unwrap();
        let file = kept(dir.path());
        assert!(file.contains(anew) && !file.contains(ZONE_ID), "{file}");
    }
}

#[tokio::test]
async fn kept_zone_that_the_record_has_left_is_looked_for_anew() {
    for world in usual().await {
        let dir = tempfile::tempdir().unwrap();
        let settings = nameless(&world);
        world.counterpart.add_zone("example.net", "active");
        let left = format!("{:032x}", 1);
        let first = Life::begin(dir.path(), &settings);
        first.provider.tend().await.unwrap();
        first.common.zones.save().unwrap();
        assert!(
            !first.common.zones.kept(&settings),
            "it was found in this life"
        );
        let file = kept(dir.path()).replace(ZONE_ID, &left);
        fs::write(dir.path().join("dns-zones.json"), file).unwrap();
        let second = Life::begin(dir.path(), &settings);
        assert!(second.common.zones.kept(&settings));
        assert!(second.moves(NEW, 3).await);
        assert!(!second.common.zones.kept(&settings));
        second.common.zones.save().unwrap();
        assert!(kept(dir.path()).contains(ZONE_ID));
    }
}

#[tokio::test]
async fn file_that_cannot_be_used_is_like_none() {
    for world in usual().await {
        let settings = nameless(&world);
        let entry_of = |name: &str, record: &str, zone: &str| {
            let (url, provider) = (world.counterpart.url(), "cloudflare");
            format!(
                "[{{\"provider\":\"{provider}\",\"api\":\"{url}\",\"record\":\"{record}\",\
                 {name}\"zone\":\"{zone}\"}}]"
            )
        };
        let entry = |record: &str, zone: &str| entry_of("\"name\":\"public\",", record, zone);
        for (epoch, text) in (1..).zip([
            "{\"zones\": 7".to_owned(),
            String::new(),
            " ".repeat(1 << 20),
            entry("db.example.com", "../../user/tokens"),
            entry("db.example.com", ""),
            entry("elsewhere.example.com", ZONE_ID),
            entry_of("", NAME, ZONE_ID),
            entry_of("\"name\":\"another\",", NAME, ZONE_ID),
        ]) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("dns-zones.json"), &text).unwrap();
            let life = Life::begin(dir.path(), &settings);
            let before = world.counterpart.requests().len();
            life.moves(if epoch % 2 == 0 { OLD } else { NEW }, epoch)
                .await;
            let asked = asked(&world, before);
            assert_eq!(asked.first().unwrap(), "GET /zones", "{text:.80}");
            life.common.zones.save().unwrap();
            assert!(kept(dir.path()).contains(ZONE_ID));
        }
    }
}

#[tokio::test]
async fn zone_of_route_53_is_kept_and_one_that_is_gone_is_looked_for_anew() {
    let world = route53::world().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = route53::settings(&world.aws, None, route53::SHOP, "A");
    let first = Life::begin(dir.path(), &settings);
    first.provider.tend().await.unwrap();
    first.common.zones.save().unwrap();
    let file = kept(dir.path());
    assert!(
        file.contains(&world.zone) && !file.contains(route53::SECRET),
        "{file}"
    );
    let asked = || world.aws.requests().len();
    let paths = |since: usize| {
        let requests = world.aws.requests().into_iter().skip(since);
        requests.map(|it| it.path).collect::<Vec<_>>()
    };

    let second = Life::begin(dir.path(), &settings);
    let before = asked();
    let moved = route53::moves(second.provider.as_ref(), &route53::shop(NEW, 3)).await;
    assert!(moved.unwrap());
    let since = paths(before);
    assert!(since.iter().all(|it| it.contains("/rrset")), "{since:?}");

    fs::write(
        dir.path().join("dns-zones.json"),
        file.replace(&world.zone, "ZGONE"),
    )
    .unwrap();
    let third = Life::begin(dir.path(), &settings);
    let before = asked();
    let moved = route53::moves(third.provider.as_ref(), &route53::shop(OLD, 4)).await;
    assert!(moved.unwrap());
    let since = paths(before);
    assert!(since.first().unwrap().contains("ZGONE"), "{since:?}");
    third.common.zones.save().unwrap();
    assert!(kept(dir.path()).contains(&world.zone));
}
