//! The lease, wherever it is kept: one set of tests that every store must pass, over the product's
//! own keepers, voters and links; then what only etcd has: TLS and logins.
//!
//! Two contenders, `a` and `b`. What must never be (two writers, an epoch that does not grow) is
//! looked for all the time, see [`judge`]. The stores of a test run side by side: they mostly wait.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests may fail loudly"
)]

#[path = "lease_stores/contending.rs"]
mod contending;
#[path = "lease_stores/etcd.rs"]
mod etcd;
#[path = "lease_stores/ground.rs"]
mod ground;
#[path = "lease_stores/judge.rs"]
mod judge;
#[path = "lease_stores/pair.rs"]
mod pair;
#[path = "lease_stores/quorum.rs"]
mod quorum;
#[path = "lease_stores/stores.rs"]
mod stores;
mod support;

use std::time::Duration;

use contending::contend;
use failover_agent::config::secret::Secret;
use failover_agent::decision::lease::LeaseRules;
use failover_agent::effects::lease::etcd::EtcdCell;
use failover_agent::model::brakes::Paused;
use failover_agent::model::cell::{CELL_FORMAT, Cell, CellRequest};
use failover_agent::model::lease::{ClusterRecord, LeaseView, Verdict};
use failover_agent::model::{ClusterName, Epoch, Member, Moment, SiteName, Timestamp};
use ground::{TTL, World, record};
use stores::STORES;
use support::etcd::{TestEtcd, USER};

const PATIENCE: Duration = Duration::from_secs(2);

/// For how long nobody may take over what does not run out: else it would have been taken by then.
const LONG: Duration = TTL.saturating_mul(2);

/// Runs a test on every store, and names those that fail it.
async fn on_every_store<F>(test: fn(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = Vec::new();
    for (name, start) in STORES {
        let passes = tokio::spawn(async move { test(World::start(start).await).await });
        running.push((name, passes));
    }
    let mut failed = Vec::new();
    for (name, passes) in running {
        failed.extend(passes.await.err().map(|_| name));
    }
    assert_eq!(failed, Vec::<&str>::new(), "see their panics above");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_of_two_contenders_one_wins() {
    on_every_store(one_of_two_wins).await;
}

async fn one_of_two_wins(mut world: World) {
    // Once more right after a restart of everything.
    for again in [true, false] {
        let (a, b) = world.ground.both();
        a.wait_free().await;
        b.wait_free().await;
        let (winner, loser) = match contend(a, b).await {
            true => (a, b),
            false => (b, a),
        };
        assert_eq!(loser.ask_in_vain().await, Verdict::GrantRuns);
        assert!(winner.holds());
        winner.release(None).await;
        if again {
            world.store.restart_all(&mut world.ground).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_silent_holder_is_taken_over_when_its_term_is_over_and_never_where_none_ends() {
    on_every_store(silent_holder).await;
}

async fn silent_holder(mut world: World) {
    let (a, b) = world.ground.both();
    a.wait_free().await;
    let (epoch, _) = a.take_over().await;
    b.wait_other().await;
    a.stop().await;
    if world.store.runs_out() {
        let (next, _) = b.take_over().await;
        assert!(next > epoch);
        world.ground.restart_side(0).await;
        let (a, b) = world.ground.both();
        a.wait_other().await;
        assert_eq!(a.ask_in_vain().await, Verdict::GrantRuns);
        assert_eq!(b.epoch(), next);
    } else {
        b.never_takes_over(LONG).await;
        world.ground.restart_side(0).await;
        let (a, b) = world.ground.both();
        assert_eq!(a.take_over().await.0, epoch, "it goes on");
        assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_holder_whose_answers_are_lost_stops_before_the_other_one_starts() {
    on_every_store(lost_answers).await;
}

async fn lost_answers(mut world: World) {
    let runs_out = world.store.runs_out();
    let ground = &mut world.ground;
    ground.sides[0].wait_free().await;
    let (epoch, _) = ground.sides[0].take_over().await;
    ground.network.deafen("a");
    let (a, b) = ground.both();
    if runs_out {
        let (lost_at, (next, taken_at)) = tokio::join!(a.wait_lost(), b.take_over());
        assert!(lost_at < taken_at, "the holder stops before (S2)");
        assert!(next > epoch);
    } else {
        b.never_takes_over(LONG).await;
        assert_eq!(a.epoch(), epoch, "it goes on");
    }
    // What was under way arrives now.
    ground.network.heal();
    let (a, b) = ground.both();
    let (holder, other) = if runs_out { (b, a) } else { (a, b) };
    other.wait_other().await;
    assert_eq!(other.ask_in_vain().await, Verdict::GrantRuns);
    assert!(holder.holds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acquisition_that_is_applied_and_not_answered_uses_its_epoch_up() {
    on_every_store(unanswered_acquisition).await;
}

async fn unanswered_acquisition(mut world: World) {
    let text = world.store.acquisition();
    let ground = &mut world.ground;
    ground.sides[0].wait_free().await;
    ground.network.deafen_at("a", text);
    let why = ground.sides[0].ask_in_vain().await;
    assert_ne!(why, Verdict::GrantRuns, "nobody else has asked");
    ground.network.heal();
    let (epoch, _) = ground.sides[0].take_over().await;
    assert!(epoch > Epoch::NONE.next(), "{epoch:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successor_gets_lease_and_record_and_gives_them_back() {
    on_every_store(there_and_back).await;
}

async fn there_and_back(mut world: World) {
    let (a, b) = world.ground.both();
    a.wait_free().await;
    let (first, _) = a.take_over().await;
    let kept = record("a", first);
    a.keep(&kept).await;
    a.release(Some("b")).await;
    b.wait_released_to("b").await;
    b.wait_record(&kept).await;
    let (second, _) = b.take_over().await;
    assert!(second > first);
    a.wait_other().await;
    assert_eq!(a.ask_in_vain().await, Verdict::GrantRuns);
    let kept = record("b", second);
    b.keep(&kept).await;
    b.release(Some("a")).await;
    a.wait_released_to("a").await;
    a.wait_record(&kept).await;
    assert!(a.take_over().await.0 > second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_of_voters_or_members_loses_neither_lease_nor_record() {
    on_every_store(restarts).await;
}

async fn restarts(mut world: World) {
    let (a, _) = world.ground.both();
    a.wait_free().await;
    let (epoch, _) = a.take_over().await;
    let kept = record("a", epoch);
    a.keep(&kept).await;
    world.store.restart_each(&mut world.ground).await;
    let (a, b) = world.ground.both();
    b.wait_other().await;
    // Renewals are not stored: what was granted before a restart counts all the same.
    assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
    assert_eq!(a.epoch(), epoch);
    world.store.restart_all(&mut world.ground).await;
    let (a, b) = world.ground.both();
    let (again, _) = a.take_over().await;
    a.wait_record(&kept).await;
    b.wait_record(&kept).await;
    assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
    assert_eq!(
        again > epoch,
        world.store.runs_out(),
        "{epoch:?}, then {again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_epoch_goes_on_when_the_store_has_lost_its_memory() {
    on_every_store(forgotten).await;
}

async fn forgotten(mut world: World) {
    let (a, b) = world.ground.both();
    a.wait_free().await;
    a.take_over().await;
    a.release(Some("b")).await;
    let (epoch, _) = b.take_over().await;
    if world.store.forget(&mut world.ground).await {
        let (_, b) = world.ground.both();
        assert!(b.take_over().await.0 > epoch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_what_was_granted_before_a_restart_of_the_others_holds_after_it() {
    on_every_store(restart_without_the_holder).await;
}

/// The holder goes on until its deadline and cannot be asked; the judge knows that.
async fn restart_without_the_holder(mut world: World) {
    world.ground.sides[0].wait_free().await;
    let (epoch, _) = world.ground.sides[0].take_over().await;
    world.ground.network.cut_off("a");
    world.store.restart_others(&mut world.ground).await;
    let runs_out = world.store.runs_out();
    let (a, b) = world.ground.both();
    if runs_out {
        assert!(b.take_over().await.0 > epoch);
    } else {
        b.never_takes_over(LONG).await;
        assert_eq!(a.epoch(), epoch, "it goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_holder_stops_and_nobody_starts() {
    on_every_store(lost_majority).await;
}

async fn lost_majority(mut world: World) {
    let runs_out = world.store.runs_out();
    let (a, b) = world.ground.both();
    a.wait_free().await;
    let (epoch, _) = a.take_over().await;
    b.wait_other().await;
    if world.store.lose_minority(&mut world.ground).await {
        let (a, b) = world.ground.both();
        a.wait_renewed().await;
        assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
        assert_eq!(a.epoch(), epoch);
    }
    world.store.lose_majority(&mut world.ground).await;
    let (a, b) = world.ground.both();
    if runs_out {
        a.wait_lost().await;
        tokio::join!(a.never_takes_over(LONG), b.never_takes_over(LONG));
    } else {
        b.never_takes_over(LONG).await;
        assert_eq!(a.epoch(), epoch, "it goes on");
    }
    world.store.regain(&mut world.ground).await;
    let (a, b) = world.ground.both();
    if runs_out {
        assert!(b.take_over().await.0 > epoch);
    } else {
        assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
        assert_eq!(a.epoch(), epoch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_pinned_lease_does_not_run_out_until_its_holder_says_so() {
    on_every_store(pinned).await;
}

async fn pinned(mut world: World) {
    let runs_out = world.store.runs_out();
    let (a, b) = world.ground.both();
    a.wait_free().await;
    let (epoch, _) = a.take_over().await;
    let mut record = record("a", epoch);
    set_guard(&mut record, false);
    a.keep(&record).await;
    b.wait_record(&record).await;
    // Cut off, and then gone, for longer than a term.
    world.ground.network.cut_off("a");
    world.ground.sides[1].never_takes_over(LONG).await;
    assert_eq!(world.ground.sides[0].epoch(), epoch, "it goes on");
    world.ground.network.heal();
    let (a, b) = world.ground.both();
    a.wait_view(
        |view| matches!(view, LeaseView::Held { fence_at, .. } if *fence_at == Moment::NEVER),
    )
    .await;
    a.stop().await;
    b.never_takes_over(LONG).await;
    world.ground.restart_side(0).await;
    let (a, b) = world.ground.both();
    let (epoch, _) = a.take_over().await;
    assert_eq!(b.ask_in_vain().await, Verdict::GrantRuns);
    // Only the holder's word ends it, and then the term begins.
    record.succeed(epoch);
    set_guard(&mut record, true);
    a.keep(&record).await;
    a.stop().await;
    if runs_out {
        assert!(b.take_over().await.0 > epoch);
    } else {
        b.never_takes_over(LONG).await;
    }
}

fn set_guard(record: &mut ClusterRecord, on: bool) {
    record.brakes.paused = Some(Paused {
        by: "ada".to_owned(),
        since: Timestamp(0),
        length: None,
        reason: None,
        guard_off: !on,
    });
}

fn cell_of(site: &str, epoch: Epoch) -> Cell {
    let voters = ["a", "b"].map(|name| Member::Site(SiteName::new(name)));
    Cell {
        format: CELL_FORMAT,
        identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
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
