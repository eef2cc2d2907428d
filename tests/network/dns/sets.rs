//! Several values of one name, and what others do to them meanwhile.

use failover_agent::effects::dns::{Observed, apply, observe, verify};
use failover_agent::effects::permit::Unconditional;
use failover_agent::model::Epoch;
use failover_agent::model::outcome::FailureKind;
use failover_agent::surfaces::demo::cloudflare::Record;

use super::{NAME, NEW, OLD, World, usual, wanted, worlds};
use crate::support::permit::Meanwhile;

/// The contents of the records of this type, in their order, with their ids.
fn kept(world: &World, kind: &str) -> Vec<(String, String)> {
    let mut records = world.counterpart.records();
    records.retain(|record| record.name == NAME && record.kind == kind);
    records.into_iter().map(|it| (it.content, it.id)).collect()
}

fn contents(world: &World, kind: &str) -> Vec<String> {
    kept(world, kind)
        .into_iter()
        .map(|(content, _)| content)
        .collect()
}

#[tokio::test]
async fn several_values_move_in_one_batch_and_records_keep_their_ids() {
    for world in usual().await {
        let id = world.record().id;
        let mut both = wanted(NEW, 3);
        both.contents.push("192.0.2.3".to_owned());
        let provider = world.provider.as_ref();
        let moved = apply(provider, &both, &Unconditional).await.unwrap();
        assert!(moved.changed, "{}", moved.note);
        verify(provider, &both).await.unwrap();
        assert_eq!(contents(&world, "A"), [NEW, "192.0.2.3"]);
        assert_eq!(world.record().id, id);
        let posted = world.counterpart.records().pop().unwrap();
        assert_eq!((posted.ttl, posted.proxied), (60, false), "like the first");
        assert!(
            !apply(provider, &both, &Unconditional)
                .await
                .unwrap()
                .changed
        );

        // Both differ, and then one is too many.
        both.epoch = Epoch(4);
        both.contents = vec!["192.0.2.8".to_owned(), "192.0.2.9".to_owned()];
        apply(provider, &both, &Unconditional).await.unwrap();
        assert_eq!(contents(&world, "A"), ["192.0.2.8", "192.0.2.9"]);
        assert!(world.apply("192.0.2.9", 5).await.unwrap());
        assert_eq!(kept(&world, "A"), [("192.0.2.9".to_owned(), posted.id)]);
        assert_eq!(contents(&world, "AAAA"), ["2001:db8::1"]);
        let requests = world.counterpart.requests();
        let writes = requests.iter().filter(|request| request.method != "GET");
        let paths: Vec<&str> = writes
            .map(|it| it.path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(paths, ["batch", "batch", "batch"]);
    }
}

#[tokio::test]
async fn batch_that_meets_a_surprise_changes_nothing_and_is_tried_anew() {
    for world in usual().await {
        let provider = world.provider.as_ref();
        let mut both = wanted(NEW, 3);
        both.contents.push("192.0.2.3".to_owned());
        // Between the look and the change.
        let surprises: [fn(&World); 2] = [
            |world| world.counterpart.delete_by_hand(&world.record().id),
            |world| {
                let third = Record::new("A", NAME, "192.0.2.3");
                world.counterpart.create_by_hand(third);
            },
        ];
        for surprise in surprises {
            let permit = Meanwhile(|| surprise(&world));
            let before = contents(&world, "A");
            let error = apply(provider, &both, &permit).await.unwrap_err();
            assert_eq!(error.kind, FailureKind::Retryable, "{error}");
            assert!(
                !contents(&world, "A").contains(&NEW.to_owned()),
                "{before:?}"
            );
            if contents(&world, "A").is_empty() {
                world
                    .counterpart
                    .create_by_hand(Record::new("A", NAME, OLD));
            }
        }
        apply(provider, &both, &Unconditional).await.unwrap();
        verify(provider, &both).await.unwrap();
        let mut now = contents(&world, "A");
        now.sort();
        assert_eq!(now, [NEW, "192.0.2.3"]);
    }
}

#[tokio::test]
async fn texts_move_without_anybody_minding_quotes() {
    for world in worlds(&[Record::new("TXT", NAME, "\"site=fra\"")]).await {
        let mut text = wanted("site=ams \"b\"", 3);
        text.kind = "TXT".to_owned();
        let provider = world.provider.as_ref();
        let seen = observe(provider, &text).await.unwrap();
        let from = vec!["site=fra".to_owned()];
        assert_eq!(seen, Observed::Needed { from });
        assert!(
            apply(provider, &text, &Unconditional)
                .await
                .unwrap()
                .changed
        );
        assert_eq!(contents(&world, "TXT"), ["\"site=ams \\\"b\\\"\""]);
        verify(provider, &text).await.unwrap();
    }
}

#[tokio::test]
async fn record_that_is_gone_at_the_change_is_looked_for_again() {
    for world in usual().await {
        let id = world.record().id;
        let permit = Meanwhile(|| world.counterpart.delete_by_hand(&id));
        let late = apply(world.provider.as_ref(), &wanted(NEW, 3), &permit).await;
        let error = late.unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        // From then on it is missing, which people must mend.
        world.refused(FailureKind::Permanent).await;
    }
}

#[tokio::test]
async fn record_that_is_doubled_after_the_change_is_not_verified() {
    for world in usual().await {
        world.apply(NEW, 3).await.unwrap();
        let other = Record::new("A", NAME, "192.0.2.77");
        world.counterpart.create_by_hand(other);
        let error = verify(world.provider.as_ref(), &wanted(NEW, 3))
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Retryable, "{error}");
        assert!(world.apply(NEW, 3).await.unwrap());
        assert_eq!(contents(&world, "A"), [NEW]);
    }
}
