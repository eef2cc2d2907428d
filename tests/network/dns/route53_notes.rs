//! The note of an epoch at Route 53, where several records have to do with it.

use failover_agent::effects::dns::{apply, provider_of};
use failover_agent::model::outcome::FailureKind;

use super::aws::change_of;
use super::route53::{MovedMeanwhile, NEW, OLD, SHOP, moves, settings, shop, wanted, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_of_the_same_name_that_moves_meanwhile_under_the_same_epoch_costs_no_retry() {
    let world = world().await;
    let (aws, zone) = (&world.aws, &world.zone);
    let six = settings(aws, Some(zone), SHOP, "AAAA");
    let meanwhile = MovedMeanwhile::moves(six, wanted(SHOP, "AAAA", "2001:db8::2", 4));
    let applied = apply(world.provider.as_ref(), &shop(NEW, 4), &meanwhile).await;
    assert!(applied.unwrap().changed);
    assert_eq!(world.record().await, [NEW]);
    assert_eq!(aws.values(zone, SHOP, "AAAA").await, ["2001:db8::2"]);
    assert_eq!(world.note().await, ["\"agent epoch=4 site=ams\""]);
    // Another epoch's note is not built upon, whichever record it came with.
    let six = settings(aws, Some(zone), SHOP, "AAAA");
    let newer = MovedMeanwhile::moves(six, wanted(SHOP, "AAAA", "2001:db8::1", 9));
    let applied = apply(world.provider.as_ref(), &shop(OLD, 8), &newer).await;
    assert_eq!(applied.unwrap_err().kind, FailureKind::Retryable);
    assert_eq!(world.record().await, [NEW]);
}

#[tokio::test]
async fn s8_wildcard_and_its_parent_do_not_know_each_others_epoch() {
    let world = world().await;
    let any = format!("*.{SHOP}");
    let created = change_of("CREATE", &any, "A", 60, &[OLD]);
    world.aws.change(&world.zone, &created).await;
    let wildcard = provider_of(&settings(&world.aws, Some(&world.zone), &any, "A")).unwrap();
    let moved = moves(wildcard.as_ref(), &wanted(&any, "A", NEW, 9)).await;
    assert!(moved.unwrap());
    assert!(world.apply(NEW, 3).await.unwrap(), "of another cluster");
    let stale = moves(wildcard.as_ref(), &wanted(&any, "A", OLD, 8)).await;
    assert_eq!(stale.unwrap_err().kind, FailureKind::Permanent);
}
