//! What becomes of a promotion that fails, or is undone.

use std::time::Duration;

use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::StepKind;

use super::world::{PATIENT, World};
use super::{fail, stop_replay};
use crate::support::wait_until;

#[tokio::test]
async fn s3_failed_promotion_undone_leaves_no_process_and_a_standby_signal() {
    let world = World::start().await;
    let node = world.node(StepKind::Promote);
    let step = world.step(StepKind::Promote).await;
    world.prepare(StepKind::Promote).await;
    let failure = fail(&world, &step).await;
    assert_eq!(failure.kind, FailureKind::OutcomeUnknown, "{failure}");

    world.undo(&step).await.unwrap();
    let undone = world.state(node).await;
    assert!(node.processes().is_empty());
    assert!(undone.standby_signal);
    world.undo(&step).await.unwrap();
    assert_eq!(world.state(node).await, undone);
}

#[tokio::test]
async fn node_that_dies_in_its_promotion_is_not_waited_for() {
    let world = World::start().await;
    let node = world.node(StepKind::Promote);
    let step = world.step(StepKind::Promote).await;
    world.prepare(StepKind::Promote).await;
    // It is asked, and cannot obey.
    stop_replay(node).await;
    let asked = node.data_dir.join("promote");
    let dies = async {
        wait_until("the promotion is asked for", PATIENT, async || {
            asked.exists()
        })
        .await;
        world.kill(node).await;
    };
    let hour = Duration::from_secs(3600);
    let attempt = tokio::time::timeout(PATIENT, world.attempt(&step, false, hour));
    let (ended, ()) = tokio::join!(attempt, dies);
    let failure = ended
        .expect("it ends long before its deadline")
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutcomeUnknown, "{failure}");
    assert!(
        failure.what.contains("died while it was promoted"),
        "{failure}"
    );
}

#[tokio::test]
async fn s3_finished_promotion_is_fenced_but_its_undo_calls_for_a_human() {
    let world = World::start().await;
    let node = world.node(StepKind::Promote);
    let step = world.step(StepKind::Promote).await;
    world.prepare(StepKind::Promote).await;
    world.apply(&step).await.unwrap();
    assert!(!node.data_dir.join("standby.signal").exists());
    // Twice: a node that runs, and one that is fenced already.
    for _ in 0..2 {
        let refused = world.undo(&step).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");
        assert!(refused.what.contains("may have taken writes"), "{refused}");
        assert!(node.processes().is_empty());
        assert!(node.data_dir.join("standby.signal").exists());
    }
}
