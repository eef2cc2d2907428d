//! Promotion and its proof on real pairs, and the watch over the own postmaster.

#![expect(clippy::unwrap_used, reason = "the test's tools fail the test")]

use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::effects::permit::Unconditional;
use failover_agent::effects::postgres::control_file::{LastState, last_state};
use failover_agent::effects::postgres::process::Instance;
use failover_agent::effects::postgres::promote::promote;
use failover_agent::effects::postgres::verify::verify_writes;
use failover_agent::effects::probes::Probe;
use failover_agent::effects::probes::postgres::PersistentProbe;
use failover_agent::model::event::Event;
use failover_agent::model::observation::{
    Channel, DatabaseSeen, Observation, ProcessSeen, Seen, Target,
};
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::{Epoch, Moment, Role, SiteName, Timeline};
use failover_agent::runtime::scheduler::{Jitter, Scheduler};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::agent_role::{AGENT_ROLE, Access, install, table};
use crate::support::permit::Expiring;
use crate::support::postgres::{NodeOptions, Pair, SUPERUSER, TestNode};
use crate::support::wait_until;

const PATIENT: Duration = Duration::from_secs(30);

fn soon() -> Moment {
    boottime() + PATIENT
}

fn site() -> SiteName {
    SiteName::new("ams")
}

async fn pair() -> Pair {
    let pair = Pair::start();
    install(&pair.primary).await;
    pair.wait_caught_up().await;
    pair
}

async fn kill(node: &TestNode) {
    node.signal("KILL", &node.processes());
    wait_until("its processes are gone", PATIENT, async || {
        node.processes().is_empty()
    })
    .await;
}

#[tokio::test]
async fn s2_promotion_whose_lease_ends_on_the_way_is_not_asked_for() {
    let pair = pair().await;
    let login = Access::to(&pair.standby).login();
    let refused = promote(&login, None, &Expiring::after(0), soon()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable, "{refused}");
    assert!(pair.standby.data_dir.join("standby.signal").exists());
    pair.wait_caught_up().await;
    // One that is promoted already needs no lease to be seen.
    promote(&login, None, &Expiring::after(1), soon())
        .await
        .unwrap();
    promote(&login, None, &Expiring::after(0), soon())
        .await
        .unwrap();
}

#[tokio::test]
async fn promoted_standby_takes_writes_on_a_new_timeline() {
    let pair = pair().await;
    kill(&pair.primary).await;
    let login = Access::to(&pair.standby).login();

    let began = boottime();
    let report = promote(&login, None, &Unconditional, soon()).await.unwrap();
    let promoted = boottime();
    assert_eq!((report.role, report.timeline), (Role::Primary, Timeline(2)));
    let proved = verify_writes(&login, &table(), &site(), Epoch(2), soon())
        .await
        .unwrap();
    println!(
        "promoted in {} ms, first commit proved {} ms later (commit itself {:?})",
        promoted.since(began).as_millis(),
        boottime().since(promoted).as_millis(),
        proved.canary,
    );
    assert_eq!((proved.role, proved.timeline), (Role::Primary, Timeline(2)));
    assert!(proved.canary.is_some());

    // Again: nothing happens, and it is still right.
    let again = promote(&login, None, &Unconditional, soon()).await.unwrap();
    assert_eq!((again.role, again.timeline), (Role::Primary, Timeline(2)));
}

#[tokio::test]
async fn control_file_tells_a_promoted_node_from_one_that_was_not() {
    let pair = pair().await;
    kill(&pair.primary).await;
    let state_of = |node: &TestNode| last_state(&node.data_dir).unwrap();
    assert_eq!(state_of(&pair.primary), LastState::Primary);
    kill(&pair.standby).await;
    assert_eq!(state_of(&pair.standby), LastState::InRecovery);

    pair.standby.start();
    let login = Access::to(&pair.standby).login();
    promote(&login, None, &Unconditional, soon()).await.unwrap();
    kill(&pair.standby).await;
    assert_eq!(state_of(&pair.standby), LastState::Primary);
}

#[tokio::test]
async fn writes_are_proved_as_soon_as_a_standby_becomes_primary() {
    let pair = pair().await;
    let login = Access::to(&pair.standby).login();
    let refused = verify_writes(
        &login,
        &table(),
        &site(),
        Epoch(2),
        boottime() + Duration::from_millis(300),
    )
    .await
    .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable, "{refused}");

    let table = table();
    let site = site();
    let (proved, promoted) = tokio::join!(
        verify_writes(&login, &table, &site, Epoch(2), soon()),
        promote(&login, None, &Unconditional, soon()),
    );
    promoted.unwrap();
    assert_eq!(proved.unwrap().role, Role::Primary);
}

#[tokio::test]
async fn late_epoch_cannot_prove_writes_nor_bring_itself_back() {
    let node = TestNode::primary(NodeOptions::default());
    install(&node).await;
    let login = Access::to(&node).login();
    let verify = async |epoch| verify_writes(&login, &table(), &site(), Epoch(epoch), soon()).await;
    verify(7).await.unwrap();
    let late = verify(6).await.unwrap_err();
    assert_eq!(late.kind, FailureKind::Permanent, "{late}");
    verify(7).await.unwrap();
}

#[tokio::test]
async fn missing_grant_is_permanent_and_promotes_nothing() {
    let pair = Pair::start();
    install(&pair.primary).await;
    let revoke =
        format!("REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM {AGENT_ROLE}");
    let superuser = pair.primary.connect(SUPERUSER).await;
    superuser.batch_execute(&revoke).await.unwrap();
    pair.wait_caught_up().await;
    let login = Access::to(&pair.standby).login();
    let refused = promote(&login, None, &Unconditional, soon())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
    assert!(refused.hint.is_some());

    superuser
        .batch_execute("DROP TABLE agent.heartbeat")
        .await
        .unwrap();
    let primary = Access::to(&pair.primary).login();
    let refused = verify_writes(&primary, &table(), &site(), Epoch(1), soon())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
}

#[tokio::test]
async fn node_that_is_down_was_not_asked_to_promote() {
    let node = TestNode::primary(NodeOptions::default());
    install(&node).await;
    kill(&node).await;
    let login = Access::to(&node).login();
    let refused = promote(&login, None, &Unconditional, soon())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable, "{refused}");
}

#[tokio::test]
async fn promotion_that_hangs_has_an_unknown_outcome_and_ends_well_when_asked_again() {
    let pair = pair().await;
    let client = pair.standby.connect(SUPERUSER).await;
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let startup: i32 = client.query_one(query, &[]).await.unwrap().get(0);
    let startup = u32::try_from(startup).unwrap();
    pair.standby.signal("STOP", &[startup]);
    let login = Access::to(&pair.standby).login();
    let unknown = promote(
        &login,
        None,
        &Unconditional,
        boottime() + Duration::from_millis(700),
    )
    .await
    .unwrap_err();
    assert_eq!(unknown.kind, FailureKind::OutcomeUnknown, "{unknown}");
    pair.standby.signal("CONT", &[startup]);
    assert_eq!(
        promote(&login, None, &Unconditional, soon())
            .await
            .unwrap()
            .role,
        Role::Primary
    );
}

struct Watched {
    events: mpsc::Receiver<Event>,
    _stop: tokio_util::sync::DropGuard,
    _scheduler: Scheduler,
}

impl Watched {
    fn start(node: &TestNode, with_database: bool) -> Self {
        let (sender, events) = mpsc::channel(100);
        let stop = CancellationToken::new();
        let mut probes: Vec<(Box<dyn Probe>, _)> = Vec::new();
        if with_database {
            let access = Access::to(node);
            let target = Target::OwnDatabase(Channel::Persistent);
            let probe = PersistentProbe::new(target, access.login(), None);
            let mut timing = access.database.timing;
            // Never again by itself within this test.
            timing.interval = Duration::from_secs(3600);
            probes.push((Box::new(probe), timing));
        }
        let scheduler = Scheduler::start(probes, Jitter::None, &sender, &stop);
        drop(scheduler.watch_process(Instance::new(&node.data_dir), &sender, &stop));
        Self {
            events,
            _stop: stop.drop_guard(),
            _scheduler: scheduler,
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Seen) -> bool) -> Observation {
        let search = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Event::Observed(observation) = event
                    && wanted(&observation.seen)
                {
                    return observation;
                }
            }
        };
        tokio::time::timeout(PATIENT, search).await.unwrap()
    }

    async fn until_process(&mut self, wanted: ProcessSeen) -> Observation {
        self.until(|seen| *seen == Seen::Process(wanted.clone()))
            .await
    }
}

#[tokio::test]
async fn death_and_return_of_the_postmaster_are_told_at_once() {
    let node = TestNode::primary(NodeOptions::default());
    let pid = node.postmaster_pid();
    let mut watched = Watched::start(&node, false);
    let first = watched.until_process(ProcessSeen::Running { pid }).await;
    assert_eq!(first.target, Target::OwnProcess);

    node.signal("STOP", &[pid]);
    watched.until_process(ProcessSeen::Stopped { pid }).await;
    node.signal("CONT", &[pid]);
    watched.until_process(ProcessSeen::Running { pid }).await;

    let killed = boottime();
    node.signal("KILL", &[pid]);
    let gone = watched.until_process(ProcessSeen::Gone).await;
    println!(
        "death told {:?} after the order to kill (a program run included)",
        gone.at.since(killed)
    );

    kill(&node).await;
    node.start();
    let pid = node.postmaster_pid();
    watched.until_process(ProcessSeen::Running { pid }).await;
}

#[tokio::test]
async fn death_of_the_postmaster_makes_the_own_database_be_looked_at() {
    let node = TestNode::primary(NodeOptions::default());
    install(&node).await;
    let mut watched = Watched::start(&node, true);
    watched
        .until(|seen| matches!(seen, Seen::Database(DatabaseSeen::Answered(_))))
        .await;
    kill(&node).await;
    watched
        .until(|seen| *seen == Seen::Database(DatabaseSeen::NothingListens))
        .await;
}

#[tokio::test]
async fn directory_that_is_no_instance_is_unknown_not_gone() {
    let (sender, mut events) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let dir = tempfile::tempdir().unwrap();
    let scheduler = Scheduler::start(Vec::new(), Jitter::None, &sender, &stop);
    let task = scheduler.watch_process(Instance::new(dir.path()), &sender, &stop);
    let event = tokio::time::timeout(PATIENT, events.recv()).await.unwrap();
    let Some(Event::Observed(observation)) = event else {
        panic!("{event:?}");
    };
    assert!(matches!(
        observation.seen,
        Seen::Process(ProcessSeen::Unknown { .. })
    ));
    stop.cancel();
    task.await.unwrap();
}
