//! Pause, resume and acknowledge, from the command line to both sites.

use super::{Desk, SOON};
use crate::support::cluster::ClusterOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s14_pause_holds_at_both_sites_until_somebody_resumes_and_ack_ends_the_block() {
    let desk = Desk::open(ClusterOptions::default()).await;
    let nothing = desk.agent(0, &["ack"]).await;
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert!(nothing.stdout.contains("nothing to acknowledge"));
    let before = desk.state();
    let preview = desk.agent(1, &["pause", "--dry-run", "--json"]).await;
    assert_eq!(preview.json()["answer"], "would_do", "{preview:?}");
    assert_eq!(desk.state(), before, "a dry run changes nothing");

    // Asked for at the standby's site, written by the active one.
    let pause = ["pause", "--for", "1h", "--reason", "upgrade", "--json"];
    let paused = desk.agent(1, &pause).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert_eq!(paused.json()["answer"], "done");
    assert_eq!(paused.json()["brakes"]["paused"]["reason"], "upgrade");
    for index in 0..2 {
        desk.cluster
            .wait_status(index, "the pause is known", SOON, |status| {
                status.brakes.paused.is_some()
            })
            .await;
        let status = desk.agent(index, &["status"]).await;
        assert_eq!(status.code, Some(5), "{status:?}");
        assert!(status.stdout.contains("(upgrade)"), "{status:?}");
        assert!(status.stdout.contains("agent resume"), "{status:?}");
    }

    let node = desk.cluster.node(0);
    node.signal("KILL", &[node.postmaster_pid()]);
    desk.cluster
        .wait_status(
            0,
            "the death is seen, and why nothing is done",
            SOON,
            |status| {
                let dead = status
                    .diagnoses
                    .iter()
                    .any(|d| d.name.name() == "database_dead");
                dead && status.refusals.iter().any(|why| why.contains("paused by"))
            },
        )
        .await;
    assert!(desk.cluster.status(0).run.is_none());
    assert_eq!(desk.cluster.status(0).lease.view, "held");

    let resumed = desk.agent(0, &["resume"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    desk.cluster
        .wait_status(
            1,
            "the failover is done, and blocks the next",
            SOON,
            |status| {
                status.active && status.brakes.blocked_ms.is_some() && status.brakes.failovers == 1
            },
        )
        .await;
    desk.cluster
        .wait_status(0, "the old site knows who is active", SOON, |status| {
            status.lease.view == "other"
        })
        .await;
    let acknowledged = desk.agent(0, &["ack"]).await;
    assert_eq!(acknowledged.code, Some(0), "{acknowledged:?}");
    desk.cluster
        .wait_status(1, "the block is over", SOON, |status| {
            status.brakes.blocked_ms.is_none() && status.brakes.acknowledged.is_some()
        })
        .await;
}
