//! Every step on a real pair: applied, repeated, failed, undone. Start at [`WITH_EFFECT`].
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the test's tools fail the test"
)]

mod promoting;
mod world;

use std::fs;
use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::effects::error::EffectError;
use failover_agent::effects::postgres::process::Instance;
use failover_agent::model::observation::ProcessSeen;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{Step, StepKind};
use failover_agent::model::{SystemId, Timeline};
use failover_agent::surfaces::demo::cloudflare::Fault;
use world::{PATIENT, World, demand, gone, identity, of_a_silent_site};

use crate::support::agent_role::Access;
use crate::support::postgres::{NodeOptions, SCRAM_ROLE, SUPERUSER, TestNode};
use crate::support::wait_until;
use crate::support::writer::{Session, missing};

/// Kinds that change or look at something themselves.
const WITH_EFFECT: [StepKind; 8] = [
    StepKind::FenceOwn,
    StepKind::StartStandby,
    StepKind::StartOwn,
    StepKind::CheckCandidate,
    StepKind::Promote,
    StepKind::VerifyWrites,
    StepKind::RewriteAppConfig,
    StepKind::UpdateDns,
];

/// Kinds that are news for somebody else.
const WITHOUT_EFFECT: [StepKind; 3] = [
    StepKind::HandOver,
    StepKind::RecordPrimary,
    StepKind::Notify,
];

/// Of those with an effect, the ones that can be taken back.
const WITH_UNDO: [StepKind; 2] = [StepKind::FenceOwn, StepKind::Promote];

/// Time in which a hopeless attempt must give up.
const SHORT: Duration = Duration::from_millis(700);

/// What a busy machine may add to a deadline.
const LATE_MAX: Duration = Duration::from_secs(2);

#[test]
fn every_kind_is_tested_either_with_or_without_an_effect() {
    for kind in StepKind::ALL {
        assert_ne!(
            WITH_EFFECT.contains(&kind),
            WITHOUT_EFFECT.contains(&kind),
            "put step '{kind}' into exactly one list"
        );
    }
}

#[tokio::test]
async fn step_without_an_effect_is_refused_and_changes_nothing() {
    let world = World::start().await;
    for kind in WITHOUT_EFFECT {
        let before = world.state(world.node(kind)).await;
        let step = world.step(kind).await;
        for undo in [false, true] {
            let refused = world.attempt(&step, undo, PATIENT).await.unwrap_err();
            assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
            assert!(refused.what.contains(&kind.to_string()), "{refused}");
        }
        assert_eq!(world.state(world.node(kind)).await, before, "{kind}");
    }
}

#[tokio::test]
async fn s11_step_applied_twice_has_the_same_result_and_one_effect() {
    for kind in WITH_EFFECT {
        let world = World::start().await;
        let node = world.node(kind);
        let step = world.step(kind).await;
        world.prepare(kind).await;
        let before = world.state(node).await;

        let first = world.apply(&step).await.unwrap();
        let after = world.state(node).await;
        assert_eq!(after == before, kind == StepKind::CheckCandidate, "{kind}");

        let second = world.apply(&step).await.unwrap();
        assert_eq!(world.state(node).await, after, "{kind} had a second effect");
        assert_eq!(identity(&first), identity(&second), "{kind}");
    }
}

/// The standby can neither replay nor obey a promotion any more.
async fn stop_replay(node: &TestNode) {
    let client = node.connect(SUPERUSER).await;
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let startup: i32 = client.query_one(query, &[]).await.unwrap().get(0);
    node.signal("STOP", &[u32::try_from(startup).unwrap()]);
}

/// Lets the step fail in a way of its own kind.
async fn fail(world: &World, step: &Step) -> EffectError {
    let node = world.node(step.kind());
    let failed = match step.kind() {
        StepKind::FenceOwn => {
            // Stopped, it cannot end by itself before the first look, however slow that is.
            node.signal("STOP", &[node.postmaster_pid()]);
            let instance = Instance::new(&node.data_dir);
            wait_until("the postmaster is stopped", PATIENT, async || {
                matches!(instance.look(), ProcessSeen::Stopped { .. })
            })
            .await;
            let hasty = Step::FenceOwn {
                grace: Duration::ZERO,
                budget: Duration::ZERO,
            };
            world.apply(&hasty).await
        }
        StepKind::StartStandby | StepKind::StartOwn => {
            let settings = node.data_dir.join("postgresql.conf");
            let good = fs::read(&settings).unwrap();
            node.append_setting("shared_buffers", "nonsense");
            let failed = world.apply(step).await;
            fs::write(&settings, good).unwrap();
            failed
        }
        StepKind::CheckCandidate => {
            let other = other_system_id(step);
            world.apply(&other).await
        }
        StepKind::Promote => {
            stop_replay(node).await;
            world.attempt(step, false, SHORT).await
        }
        StepKind::VerifyWrites => {
            let standby = Access::to(&world.pair.standby);
            world.attempt_as(&standby, step, false, SHORT).await
        }
        StepKind::RewriteAppConfig => {
            let forbidden = world.path("no-reload");
            fs::write(&forbidden, "").unwrap();
            let failed = world.apply(step).await;
            fs::remove_file(forbidden).unwrap();
            failed
        }
        StepKind::UpdateDns => {
            world.dns.fail_next_write(Fault::AppliedButTimedOut);
            world.apply(step).await
        }
        StepKind::HandOver | StepKind::RecordPrimary | StepKind::Notify => {
            panic!("step '{}' has no effect that could fail", step.kind())
        }
    };
    failed.unwrap_err()
}

#[tokio::test]
async fn s11_failed_step_without_an_undo_keeps_its_state_and_converges_when_applied_again() {
    for kind in WITH_EFFECT {
        if WITH_UNDO.contains(&kind) {
            continue;
        }
        let world = World::start().await;
        let node = world.node(kind);
        let step = world.step(kind).await;
        world.prepare(kind).await;
        let failure = fail(&world, &step).await;
        let is_check = kind == StepKind::CheckCandidate;
        assert_eq!(
            failure.kind == FailureKind::Permanent,
            is_check,
            "{failure}"
        );

        let failed = world.state(node).await;
        for _ in 0..2 {
            let refused = world.undo(&step).await.unwrap_err();
            assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
        }
        assert_eq!(world.state(node).await, failed, "undo of {kind}");
        if matches!(kind, StepKind::StartStandby | StepKind::StartOwn) {
            assert!(failed.standby_signal, "S10: it may start as a primary");
        }

        world.apply(&step).await.unwrap();
        let done = world.state(node).await;
        // A reload that failed is made up for; a change that came true is not made again.
        let reloads = 2 * usize::from(kind == StepKind::RewriteAppConfig);
        let patches = usize::from(kind == StepKind::UpdateDns);
        assert_eq!((done.reloads, done.patches), (reloads, patches), "{kind}");
        assert!(done.postmaster.is_some(), "{kind}");
        world.apply(&step).await.unwrap();
        assert_eq!(world.state(node).await, done, "{kind}");
    }
}

/// Fences under a writer, undoes that twice, and looks for every acknowledged row.
async fn fence_and_undo(grace: Duration, fails: bool) {
    let world = World::start().await;
    let node = world.node(StepKind::FenceOwn);
    let writer = Session::open(node).await;
    wait_until("some commits are acknowledged", PATIENT, async || {
        writer.commits().len() > 20
    })
    .await;
    let mut step = world.step(StepKind::FenceOwn).await;
    if fails {
        let failure = fail(&world, &step).await;
        assert_eq!(failure.kind, FailureKind::OutcomeUnknown, "{failure}");
        let signal = node.data_dir.join("standby.signal");
        wait_until("standby.signal is written", PATIENT, async || {
            signal.exists()
        })
        .await;
    } else {
        step = Step::FenceOwn {
            grace,
            budget: PATIENT,
        };
        world.apply(&step).await.unwrap();
        assert!(node.processes().is_empty());
    }
    gone(node).await;
    wait_until("the writer has lost its session", PATIENT, async || {
        writer.ended().is_some()
    })
    .await;

    world.undo(&step).await.unwrap();
    let undone = world.state(node).await;
    assert!(!undone.standby_signal);
    assert_eq!(undone.answer.map(|(standby, _)| standby), Some(false));
    world.undo(&step).await.unwrap();
    assert_eq!(world.state(node).await, undone, "the second undo changed");

    let commits = writer.commits();
    let lost = missing(node, &commits).await;
    assert!(lost.is_empty(), "lost {lost:?} of {}", commits.len());
    let client = node.connect(SUPERUSER).await;
    client
        .batch_execute("INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
}

#[tokio::test]
async fn forced_fence_undone_runs_as_primary_with_every_acknowledged_row() {
    fence_and_undo(Duration::ZERO, false).await;
}

#[tokio::test]
async fn clean_fence_undone_runs_as_primary_with_every_acknowledged_row() {
    fence_and_undo(PATIENT, false).await;
}

#[tokio::test]
async fn fence_out_of_time_undone_runs_as_primary_with_every_acknowledged_row() {
    fence_and_undo(Duration::ZERO, true).await;
}

fn other_system_id(step: &Step) -> Step {
    let mut step = step.clone();
    if let Step::CheckCandidate { system_id, .. } = &mut step {
        *system_id = SystemId(system_id.0 + 1);
    }
    step
}

fn other_timeline(step: &Step) -> Step {
    let mut step = step.clone();
    if let Step::CheckCandidate { timeline, .. } = &mut step {
        *timeline = Timeline(timeline.0 + 1);
    }
    step
}

#[tokio::test]
async fn s1_nobody_is_promoted_beside_a_living_primary_of_a_silent_site() {
    let world = World::start().await;
    let handed_over = demand(&world).await;
    let step = of_a_silent_site(&handed_over);
    let refused = world.apply(&step).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Retryable, "{refused}");
    assert!(refused.what.contains("answers, as a primary"), "{refused}");
    world.apply(&handed_over).await.unwrap();
    world.kill(&world.pair.primary).await;
    world.apply(&step).await.unwrap();
}

/// Cuts replication and lets the primary write on: what it then demands.
async fn let_it_lag(world: &World) -> Step {
    let standby = world.pair.standby.connect(SUPERUSER).await;
    for sql in [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ] {
        standby.batch_execute(sql).await.unwrap();
    }
    wait_until("the WAL receiver is gone", PATIENT, async || {
        let query = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        standby.query_one(query, &[]).await.unwrap().get(0)
    })
    .await;
    let primary = world.pair.primary.connect(SUPERUSER).await;
    let write = "INSERT INTO kept SELECT generate_series(1, 20000)";
    primary.batch_execute(write).await.unwrap();
    demand(world).await
}

#[tokio::test]
async fn s9_unfit_candidate_is_refused_with_the_reason_and_left_as_it_was() {
    let world = World::start_with(NodeOptions::default().scram("right")).await;
    let standby = Access::to(&world.pair.standby);
    let good = world.step(StepKind::CheckCandidate).await;
    world.apply(&good).await.unwrap();
    let refuse = async |access: &Access, step: &Step, kind, reason: &str| {
        let nodes = [&world.pair.primary, &world.pair.standby];
        let before = [world.state(nodes[0]).await, world.state(nodes[1]).await];
        let refused = world.attempt_as(access, step, false, PATIENT).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.what.contains(reason), "'{reason}' not in {refused}");
        let after = [world.state(nodes[0]).await, world.state(nodes[1]).await];
        assert_eq!(after, before, "{reason}");
    };
    let permanent = FailureKind::Permanent;
    let step = other_system_id(&good);
    refuse(&standby, &step, permanent, "copy of another database").await;
    let step = other_timeline(&good);
    refuse(&standby, &step, permanent, "timeline").await;
    let primary = Access::to(&world.pair.primary);
    refuse(&primary, &good, permanent, "not a standby").await;
    let stranger = standby.clone().user(SCRAM_ROLE, Some("wrong"));
    refuse(&stranger, &good, permanent, "password").await;
    let lagging = let_it_lag(&world).await;
    refuse(&standby, &lagging, permanent, "failover.lag_max").await;
    world.kill(&world.pair.standby).await;
    refuse(&standby, &good, FailureKind::Retryable, "nothing listens").await;
}

#[tokio::test]
async fn fence_without_a_data_directory_is_permanent_and_names_it() {
    let world = World::start().await;
    let node = world.node(StepKind::FenceOwn);
    let before = world.state(node).await;
    let mut access = Access::to(node);
    access.node.data_dir = world.path("missing");
    let step = world.step(StepKind::FenceOwn).await;
    let refused = world.attempt_as(&access, &step, false, PATIENT).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
    let shown = access.node.data_dir.display().to_string();
    assert!(refused.what.contains(&shown), "{refused}");
    assert!(refused.hint.is_some_and(|hint| hint.contains("data_dir")));
    assert!(!access.node.data_dir.exists());
    assert_eq!(world.state(node).await, before);
}

#[tokio::test]
async fn step_on_a_stopped_node_ends_by_its_deadline() {
    let world = World::start().await;
    let mut steps = Vec::new();
    for kind in [
        StepKind::CheckCandidate,
        StepKind::Promote,
        StepKind::VerifyWrites,
    ] {
        steps.push(world.step(kind).await);
    }
    for node in [&world.pair.primary, &world.pair.standby] {
        node.signal("STOP", &node.processes());
    }
    for step in &steps {
        let began = boottime();
        let failed = world.attempt(step, false, SHORT).await.unwrap_err();
        let took = boottime().since(began);
        assert_eq!(failed.kind, FailureKind::Retryable, "{failed}");
        assert!(failed.what.contains("in time"), "{failed}");
        assert!(took < SHORT + LATE_MAX, "{}: {took:?}", step.kind());
    }
    // Nothing of that was asked for behind its back.
    let standby = &world.pair.standby;
    standby.signal("CONT", &standby.processes());
    let state = world.state(standby).await;
    assert_eq!(state.answer, Some((true, None)));
}

#[tokio::test]
async fn s3_stopped_node_is_fenced_within_its_budget() {
    let world = World::start().await;
    let node = world.node(StepKind::FenceOwn);
    node.signal("STOP", &node.processes());
    let budget = Duration::from_secs(5);
    let step = Step::FenceOwn {
        grace: Duration::ZERO,
        budget,
    };
    let began = boottime();
    world.apply(&step).await.unwrap();
    assert!(boottime().since(began) < budget);
    assert!(node.processes().is_empty());
}
