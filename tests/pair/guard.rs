//! The guard (S4): the own node is fenced when the lease runs out, whatever happened to the agent.
//! Whole agents as processes of their own, over real PostgreSQL.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests run programs, may fail loudly, and print measured times"
)]

mod alone;
mod lost;
mod upgrade;

use std::time::{Duration, Instant};

use failover_agent::effects::clock::boottime;
use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::runtime::guard::protocol::word_path;
use failover_agent::runtime::inherited::{self, LeaseWord};
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::metrics;

use crate::support::agent_process::AgentProcess;
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::writer::{App, Session, overlap};
use crate::support::{guards, wait_until};

const SOON: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(3);

/// A cluster whose site fra has its agent as a process of its own; ams and the witness are here.
struct Place {
    /// Declared first: it must go before its guard does, or it would start another.
    fra: AgentProcess,
    cluster: TestCluster,
}

impl Place {
    async fn start(options: ClusterOptions) -> Self {
        let mut cluster = TestCluster::prepare(options).await;
        cluster.start_witness().await;
        let fra = Self::agent(&cluster);
        cluster.start_agent(1).await;
        let place = Self { fra, cluster };
        place.wait_active().await;
        place
    }

    fn agent(cluster: &TestCluster) -> AgentProcess {
        let settings = cluster.write_settings("fra");
        AgentProcess::run(&settings, "fra", &cluster.dir().join("fra.log"))
    }

    async fn wait_active(&self) {
        self.cluster
            .wait_status(1, "ams follows fra", SOON, |status| {
                status.lease.view == "other"
                    && status
                        .lease
                        .holder
                        .as_ref()
                        .is_some_and(|h| h.as_str() == "fra")
                    && status.run.is_none()
            })
            .await;
        wait_until("fra's guard is there", SOON, || async {
            self.guards().len() == 1
        })
        .await;
    }

    fn guards(&self) -> Vec<u32> {
        guards::of(&self.cluster.state_dir("fra"))
    }

    async fn wait_moved(&self) {
        self.cluster
            .wait_status(1, "ams is active", SOON, |status| status.active)
            .await;
    }
}

/// Breaks fra's agent while a session of before goes on committing, and checks that ams takes over
/// after the last commit at fra.
async fn agent_is_lost(what: &str, break_it: impl Fn(&Place)) {
    let place = Place::start(ClusterOptions::default()).await;
    let cluster = &place.cluster;
    let old = Session::open(cluster.node(0)).await;
    let new = Session::open(cluster.node(1)).await;
    wait_until("it commits", SOON, || async { old.commits().len() > 50 }).await;
    let began = Instant::now();
    break_it(&place);
    wait_until("the session of before is gone", SOON, || async {
        old.ended().is_some()
    })
    .await;
    let last = old.commits().last().unwrap().at;
    let last = last.saturating_duration_since(began);
    place.wait_moved().await;
    let taken = began.elapsed();
    wait_until("the session of before commits at ams", SOON, || async {
        !new.commits().is_empty()
    })
    .await;
    assert!(cluster.node(0).processes().is_empty(), "fra is fenced");
    assert!(cluster.node(0).data_dir.join("standby.signal").exists());
    assert_eq!(
        overlap(&old.commits(), &new.commits()),
        Duration::ZERO,
        "two writers"
    );
    assert!(last < TTL, "the last commit came {last:?} after the fault");
    println!("timing {what}: last commit at fra +{last:?}, ams active +{taken:?} (ttl {TTL:?})");
    wait_until("the guard has left word", SOON, || async {
        word_path(&cluster.state_dir("fra")).exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_frozen_agent_is_fenced_by_its_guard_and_the_peer_takes_over() {
    agent_is_lost("agent frozen", |place| place.fra.signal("STOP")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_killed_agent_is_fenced_by_its_guard_and_the_peer_takes_over() {
    agent_is_lost("agent killed", |place| place.fra.signal("KILL")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_agent_frozen_for_long_wakes_up_to_a_fenced_node_and_follows() {
    let place = Place::start(ClusterOptions::default()).await;
    place.fra.signal("STOP");
    place.wait_moved().await;
    place.fra.signal("CONT");
    // It journals what its guard did, and takes the word away.
    let state_dir = place.cluster.state_dir("fra");
    wait_until("the word is taken", SOON, || async {
        !word_path(&state_dir).exists()
    })
    .await;
    let told = "the guard fenced the own node at";
    wait_until("the journal has it", SOON, || async {
        let journal = place.cluster.journal(0);
        journal
            .iter()
            .any(|entry| format!("{entry:?}").contains(told))
    })
    .await;
    assert!(place.cluster.node(0).processes().is_empty());
    assert!(place.cluster.status(1).active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_killed_guard_is_replaced_and_nobody_notices() {
    let place = Place::start(ClusterOptions::default()).await;
    let postmaster = place.cluster.node(0).postmaster_pid();
    let app = App::start([place.cluster.node(0), place.cluster.node(1)]);
    wait_until("the app commits", SOON, || async {
        app.commits().len() > 50
    })
    .await;
    let mut quickest = SOON;
    for round in 0..3 {
        let [old] = place.guards()[..] else {
            panic!("one guard: {:?}", place.guards());
        };
        let began = Instant::now();
        guards::kill(&place.cluster.state_dir("fra"));
        wait_until("another guard", SOON, || async {
            matches!(place.guards()[..], [new] if new != old)
        })
        .await;
        println!("timing guard killed: replaced +{:?}", began.elapsed());
        quickest = quickest.min(began.elapsed());
        // It must know the deadline before the agent's own would come.
        let so_far = app.commits().len();
        wait_until("the app goes on", SOON, || async {
            app.commits().len() > so_far + 20
        })
        .await;
        assert_eq!(app.failures(), 0, "round {round}");
    }
    // The best of three, because other tests want the processor too.
    assert!(quickest < Duration::from_secs(1), "replaced +{quickest:?}");
    assert_eq!(place.cluster.node(0).postmaster_pid(), postmaster);
    place.fra.signal("KILL");
    place.wait_moved().await;
    assert!(
        place.cluster.node(0).processes().is_empty(),
        "fra is fenced"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_frozen_guard_is_replaced_before_it_could_thaw_late_and_fence() {
    let place = Place::start(ClusterOptions {
        ttl: "4s",
        ..ClusterOptions::default()
    })
    .await;
    let state_dir = place.cluster.state_dir("fra");
    let postmaster = place.cluster.node(0).postmaster_pid();
    let [old] = place.guards()[..] else {
        panic!("one guard: {:?}", place.guards());
    };
    let began = Instant::now();
    guards::signal(&state_dir, "STOP");
    // What it was told last is no earlier.
    let LeaseWord::Until { fence_at, .. } = inherited::word(&state_dir).unwrap() else {
        panic!("no deadline of the active site");
    };
    wait_until("another guard", SOON, || async {
        matches!(place.guards()[..], [new] if new != old)
    })
    .await;
    println!("timing guard frozen: replaced +{:?}", began.elapsed());
    let gone = boottime();
    assert!(
        gone < fence_at,
        "gone {:?} after its deadline",
        gone.since(fence_at)
    );
    assert_eq!(place.cluster.node(0).postmaster_pid(), postmaster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_guard_never_fences_while_renewals_come() {
    let place = Place::start(ClusterOptions::default()).await;
    let postmaster = place.cluster.node(0).postmaster_pid();
    let app = App::start([place.cluster.node(0), place.cluster.node(1)]);
    let guard = place.guards();
    let until = Instant::now() + TTL * 6;
    while Instant::now() < until {
        assert_eq!(app.failures(), 0, "not one commit fails");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(place.cluster.node(0).postmaster_pid(), postmaster);
    assert_eq!(place.guards(), guard);
    println!("timing under load: {} commits", app.commits().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_site_without_its_required_watchdog_does_not_become_active_and_says_why() {
    let mut cluster = TestCluster::prepare(ClusterOptions {
        extra: "[guard]\nwatchdog = \"required\"\nwatchdog_device = \"/dev/no-such-watchdog\"\n"
            .to_owned(),
        ..ClusterOptions::default()
    })
    .await;
    cluster.start_witness().await;
    cluster.start_agent(0).await;
    let missing = |status: &Snapshot| {
        let shown = status.diagnoses.iter();
        shown
            .map(|d| d.name)
            .any(|name| name == Diagnosis::GuardMissing)
    };
    let why = |status: &Snapshot| {
        let mut refusals = status.refusals.iter();
        refusals.any(|why| why.contains("/dev/no-such-watchdog"))
    };
    cluster
        .wait_status(0, "why it is not active", SOON, |status| {
            missing(status) && why(status)
        })
        .await;
    // The voters begin to vote after one ttl.
    let until = Instant::now() + TTL * 3;
    while Instant::now() < until {
        let status = cluster.status(0);
        assert!(!status.active && status.lease.view != "held", "{status:#?}");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_site_without_its_automatic_watchdog_is_active_and_says_so_loudly() {
    let mut cluster = TestCluster::prepare(ClusterOptions {
        extra: "[guard]\nwatchdog = \"automatic\"\nwatchdog_device = \"/dev/no-such-watchdog\"\n"
            .to_owned(),
        ..ClusterOptions::default()
    })
    .await;
    cluster.start_witness().await;
    cluster.start_agent(0).await;
    cluster.start_agent(1).await;
    let loud = |status: &Snapshot| {
        let guard = status.guard.as_ref();
        guard.is_some_and(|words| words.contains("NO WATCHDOG: /dev/no-such-watchdog"))
    };
    cluster
        .wait_status(0, "active, and loud", SOON, |status| {
            status.active && loud(status)
        })
        .await;
    let metrics = metrics::exposition(&cluster.status(0));
    for line in ["agent_watchdog_wanted 1", "agent_watchdog_usable 0"] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
}

/// What holds when both are gone at once: the node is not stopped by anybody of this host until
/// the next agent starts, so the other site must not, and does not, promote while it sees it alive.
/// The next agent finds the deadline of the former one passed, fences at once, and starts the node
/// again under a lease of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_guard_and_agent_killed_together_are_made_good_by_the_next_agent() {
    let mut place = Place::start(ClusterOptions::default()).await;
    let old = Session::open(place.cluster.node(0)).await;
    place.fra.signal("KILL");
    guards::kill(&place.cluster.state_dir("fra"));
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until {
        assert!(!place.cluster.status(1).active, "fra's database lives");
        // bounded: by the condition of the loop
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let restarted = Instant::now();
    place.fra = Place::agent(&place.cluster);
    place.wait_active().await;
    let fenced = old.ended().expect("the node was fenced first");
    assert!(fenced > restarted, "not before the next agent came");
}
