//! The lease in etcd, against real ones: one member and three, with TLS and logins too.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests may fail loudly"
)]

#[path = "lease_stores/contending.rs"]
mod contending;
mod support;

use std::time::Duration;

use contending::contender;
use failover_agent::config::secret::Secret;
use failover_agent::effects::lease::etcd::EtcdCell;
use failover_agent::model::cell::{CELL_FORMAT, Cell, CellRequest};
use failover_agent::model::lease::{LeaseChange, LeaseCommand, LeaseView, Verdict};
use failover_agent::model::{ClusterName, Epoch, SiteName};
use support::etcd::{TestEtcd, USER};

const MEMBERS: [usize; 2] = [1, 3];
const PATIENCE: Duration = Duration::from_secs(2);

fn cell_of(site: &str, epoch: Epoch) -> Cell {
    Cell {
        format: CELL_FORMAT,
        identity: contending::rules(site).identity,
        epoch,
        holder: SiteName::new(site),
        claim: 1,
        beat: 1,
        released: false,
        released_to: None,
        record: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_two_contenders_one_wins_and_the_other_waits_out_the_term() {
    for members in MEMBERS {
        let etcd = TestEtcd::start(members).await;
        let (mut a, mut b) = (contender(&etcd, "a"), contender(&etcd, "b"));
        a.wait_free().await;
        b.wait_free().await;
        a.command(LeaseCommand::Acquire);
        b.command(LeaseCommand::Acquire);
        let (mut winner, mut loser) = if contending::first_held(&mut a, &mut b).await {
            (a, b)
        } else {
            (b, a)
        };
        let epoch = winner.wait_held().await;
        assert_eq!(epoch, Epoch::NONE.next());
        assert!(!loser.holds());
        // Silent: nothing that it is answered arrives any more.
        winner.swallow_answers(true);
        let (lost_at, taken_at) = tokio::join!(winner.wait_lost(), loser.take_over());
        assert!(lost_at < taken_at.1, "the holder stops before (S2)");
        assert!(taken_at.0 > epoch, "the epoch only grows");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_that_is_applied_and_not_answered_uses_its_epoch_up() {
    for members in MEMBERS {
        let etcd = TestEtcd::start(members).await;
        let mut a = contender(&etcd, "a");
        a.wait_free().await;
        a.swallow_answers(true);
        a.command(LeaseCommand::Acquire);
        let verdict = a
            .wait_change(|change| match change {
                LeaseChange::NotAcquired { verdict } => Some(*verdict),
                _ => None,
            })
            .await;
        assert_eq!(verdict, Verdict::StoreSilent);
        a.swallow_answers(false);
        let (epoch, _) = a.take_over().await;
        assert_eq!(epoch, Epoch::NONE.next().next());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successor_gets_lease_and_record_and_both_outlive_the_members() {
    for members in MEMBERS {
        let mut etcd = TestEtcd::start(members).await;
        let (mut a, mut b) = (contender(&etcd, "a"), contender(&etcd, "b"));
        a.wait_free().await;
        a.command(LeaseCommand::Acquire);
        let epoch = a.wait_held().await;
        let record = contending::record("a", epoch);
        a.command(LeaseCommand::Keep(Box::new(record.clone())));
        a.wait_change(|change| {
            matches!(change, LeaseChange::RecordKept { version } if *version == record.version())
                .then_some(())
        })
        .await;
        for index in 0..members {
            etcd.restart(index);
        }
        etcd.wait_serving().await;
        let epoch = match a.holds() {
            true => a.wait_held().await,
            false => a.take_over().await.0,
        };
        a.command(LeaseCommand::Release {
            to: Some(SiteName::new("b")),
        });
        let seen = b
            .wait_change(|change| match change {
                LeaseChange::View {
                    view: LeaseView::Free { released_to, .. },
                    record,
                    ..
                } if released_to.is_some() => Some(record.clone()),
                _ => None,
            })
            .await;
        assert_eq!(seen, Some(record));
        let (next, _) = b.take_over().await;
        assert!(next > epoch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_holder_stops_and_nobody_starts() {
    let mut etcd = TestEtcd::start(3).await;
    let (mut a, mut b) = (contender(&etcd, "a"), contender(&etcd, "b"));
    a.wait_free().await;
    a.command(LeaseCommand::Acquire);
    a.wait_held().await;
    // One of three is no loss.
    etcd.kill(0);
    etcd.wait_serving().await;
    a.wait_view(|view| matches!(view, LeaseView::Held { .. }))
        .await;
    etcd.kill(1);
    a.wait_lost().await;
    b.wait_view(|view| *view == LeaseView::Unknown).await;
    b.command(LeaseCommand::Acquire);
    let verdict = b
        .wait_change(|change| match change {
            LeaseChange::NotAcquired { verdict } => Some(*verdict),
            _ => None,
        })
        .await;
    assert_eq!(verdict, Verdict::StoreSilent);
    etcd.restart(0);
    etcd.wait_serving().await;
    assert!(b.take_over().await.0 > Epoch::NONE.next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_and_login_are_shown_and_a_lost_token_is_replaced() {
    let mut etcd = TestEtcd::start_guarded().await;
    let cell = etcd.cell("shop");
    let write = CellRequest::Write {
        if_revision: 0,
        cell: Box::new(cell_of("a", Epoch::NONE.next())),
    };
    assert!(cell.call(&write, PATIENCE).await.unwrap().written);
    // Members keep tokens in memory: this one knows none any more.
    etcd.restart(0);
    etcd.wait_serving().await;
    let seen = cell.call(&CellRequest::Look, PATIENCE).await.unwrap().seen;
    assert!(seen.cell.is_some());
    assert!(!cell.call(&write, PATIENCE).await.unwrap().written);

    let mut settings = etcd.settings();
    settings.login = Some((USER.0.to_owned(), Secret::new("wrong-word")));
    let cell = EtcdCell::new(&settings, &ClusterName::new("shop"), PATIENCE).unwrap();
    let error = cell.call(&CellRequest::Look, PATIENCE).await.unwrap_err();
    let shown = format!("{error} {error:?} {cell:?} {settings:?}");
    assert!(!shown.contains("wrong-word"), "{shown}");
    settings.identity = None;
    let cell = EtcdCell::new(&settings, &ClusterName::new("shop"), PATIENCE).unwrap();
    assert!(cell.call(&CellRequest::Look, PATIENCE).await.is_err());
}
