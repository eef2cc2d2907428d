//! `agent pause --guard-off`: whoever works on an agent for longer than a lease lasts keeps the
//! primary, and nobody else becomes one meanwhile.

use std::time::{Duration, Instant};

use failover_agent::model::Moment;
use failover_agent::model::peer::Progress;
use failover_agent::model::plan::PlanKind;
use failover_agent::runtime::guard::link::GuardSeen;
use failover_agent::runtime::inherited::{self, LeaseWord};

use super::{Ended, SOON, agent};
use crate::support::cluster::{ClusterOptions, SITES, TestCluster};
use crate::support::members::Members;
use crate::support::writer::{Session, overlap};
use crate::support::{guards, wait_until};

/// The ttl of the clusters here is 3 s: what runs out has run out by then.
const LONG: Duration = Duration::from_millis(4500);

async fn ask(members: &Members, index: usize, arguments: &[&str]) -> Ended {
    let socket = members.cluster.dir().join(SITES[index]).join("agent.sock");
    agent(&socket, arguments).await
}

/// What the word for the agent's next life, which counts nanoseconds, says of no deadline.
const NEVER_LEFT: Moment = Moment::from_boot(Duration::from_nanos(u64::MAX));

/// For so long the node's sessions commit, and the other site's agent takes nothing.
async fn goes_on(members: &Members, session: &Session) {
    let began = Instant::now();
    while began.elapsed() < LONG {
        let other = members.status(1).await.unwrap();
        // It may note a new epoch in its files.
        let takes = |run: &Progress| run.kind != PlanKind::Converge;
        let nothing = !other.run.as_ref().is_some_and(takes);
        assert!(!other.active && nothing, "{other:#?}");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A fence would have ended the session for good; a slow disk only holds it up.
    let until = Instant::now();
    wait_until("the session commits on", SOON, async || {
        let newest = session.commits().last().map(|commit| commit.at);
        newest.is_some_and(|at| at > until)
    })
    .await;
}

async fn start() -> (Members, Session) {
    let mut members = Members::of(TestCluster::prepare(ClusterOptions::default()).await);
    members.start_all();
    members.wait_settled(0, SOON).await;
    let session = Session::open(members.cluster.node(0)).await;
    (members, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_primary_outlives_its_agent_while_the_guard_is_off_and_nobody_takes_over() {
    let (mut members, session) = start().await;
    let pause = ["pause", "--guard-off", "--for", "1h", "--reason", "upgrade"];
    let paused = ask(&members, 1, &pause).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert!(paused.stdout.contains("guard is off"), "{paused:?}");
    members
        .wait_both("both know that the guard is off", SOON, |[fra, ams]| {
            let off = |it: &Option<_>| it.as_ref().is_some_and(|site| *site == SITES[0]);
            off(&fra
                .brakes
                .guard_off
                .as_ref()
                .map(|site| site.as_str().to_owned()))
                && off(&ams
                    .brakes
                    .guard_off
                    .as_ref()
                    .map(|site| site.as_str().to_owned()))
                && fra.lease.fence_in_ms.is_none()
        })
        .await;
    let shown = ask(&members, 0, &["status"]).await;
    assert!(shown.stdout.contains("off at fra"), "{shown:?}");

    members.stop(SITES[0]);
    goes_on(&members, &session).await;
    let refused = ask(&members, 1, &["failover", "--to", "ams", "--yes"]).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("the guard of site fra is off"),
        "{refused:?}"
    );

    // Its next life takes up where it was, and is killed without more ado.
    members.start(SITES[0]);
    // Its lease is a new one, with a deadline until a majority keeps the pin under the new epoch;
    // the guard and the word for the life after it hear of that milliseconds later.
    let state_dir = members.cluster.state_dir(SITES[0]);
    members
        .wait_both("fra and all it tells know no deadline", SOON, |[fra, _]| {
            let endless = |(epoch, at)| epoch == fra.lease.epoch && at >= NEVER_LEFT;
            let told = fra.guard_seen.as_ref().is_some_and(|seen| {
                matches!(seen, GuardSeen::AtWork(state)
                    if state.term.is_some_and(|term| endless((term.epoch, term.fence_at))))
            });
            let left = matches!(inherited::word(&state_dir),
                Ok(LeaseWord::Until { epoch, fence_at, .. }) if endless((epoch, fence_at)));
            fra.active && fra.lease.fence_in_ms.is_none() && told && left
        })
        .await;
    members.kill(SITES[0]);
    goes_on(&members, &session).await;

    members.start(SITES[0]);
    members
        .wait_both("fra holds the lease again", SOON, |[fra, _]| fra.active)
        .await;
    let resumed = ask(&members, 1, &["resume"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    members
        .wait_both("the lease runs out again", SOON, |[fra, ams]| {
            fra.lease.fence_in_ms.is_some()
                && fra.brakes.guard_off.is_none()
                && ams.brakes.guard_off.is_none()
        })
        .await;

    // The guard is on: what it is for happens.
    let next = Session::persistent(members.cluster.node(1));
    members.kill(SITES[0]);
    wait_until("ams is active", SOON, async || {
        members.status(1).await.is_some_and(|status| status.active)
    })
    .await;
    wait_until("ams commits", SOON, async || !next.commits().is_empty()).await;
    assert!(members.cluster.node(0).processes().is_empty(), "fenced");
    assert_eq!(overlap(&session.commits(), &next.commits()), Duration::ZERO);
}

/// What the README says to do when the host is lost for good meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn site_whose_host_is_lost_with_its_guard_off_is_let_go_by_an_agent_in_its_place() {
    let (mut members, session) = start().await;
    let paused = ask(&members, 0, &["pause", "--guard-off"]).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    // The host is gone, with all that it had.
    members.kill(SITES[0]);
    let state_dir = members.cluster.state_dir(SITES[0]);
    guards::kill(&state_dir);
    members.cluster.node(0).kill_all();
    wait_until("the session is over", SOON, async || {
        session.ended().is_some()
    })
    .await;
    std::fs::remove_dir_all(&state_dir).unwrap();
    std::fs::rename(
        &members.cluster.node(0).data_dir,
        members.cluster.dir().join("lost"),
    )
    .unwrap();
    let refused = ask(&members, 1, &["failover", "--to", "ams", "--yes"]).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");

    members.start(SITES[0]);
    wait_until("the agent in its place holds the lease", SOON, async || {
        let shown = members.status(0).await;
        shown.is_some_and(|status| status.lease.view == "held")
    })
    .await;
    let resumed = ask(&members, 0, &["resume"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    members.stop(SITES[0]);
    wait_until("ams is active", SOON, async || {
        members.status(1).await.is_some_and(|status| status.active)
    })
    .await;
}
