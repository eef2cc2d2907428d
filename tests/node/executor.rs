//! The executor's last look at the lease before a step that may start writes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::settings::Lease;
use failover_agent::config::{self, MemberRole};
use failover_agent::decision::decide::Order;
use failover_agent::effects::clock::boottime;
use failover_agent::effects::postgres::canary::HeartbeatTable;
use failover_agent::effects::postgres::client::Login;
use failover_agent::effects::postgres::control::NodeControl;
use failover_agent::effects::probes::resolve::Resolver;
use failover_agent::effects::steps::Tools;
use failover_agent::model::event::{Event, StepFinished};
use failover_agent::model::plan::Step;
use failover_agent::model::{Epoch, PlanId};
use failover_agent::runtime::app_templates;
use failover_agent::runtime::executor::{Executor, LeaseGate};
use failover_agent::runtime::fence_time::FenceTime;
use failover_agent::runtime::lease_keeper::Held;
use failover_agent::runtime::outbox::Outbox;
use tokio::sync::{mpsc, watch};

const RESERVE: Duration = Duration::from_secs(1);
const EPOCH: Epoch = Epoch(7);

/// A node whose start leaves a mark, and cannot be reached.
fn tools(dir: &Path) -> Tools {
    let text = format!(
        "cluster = \"test\"\nsite = \"fra\"\nstate_dir = \"{dir}\"\n\
         [peer]\nsecret = \"a test secret of enough length\"\n\
         [sites.fra]\naddress = \"127.0.0.1:7001\"\n\
         [sites.fra.database]\nhost = \"127.0.0.1\"\nport = 1\ndata_dir = \"{dir}/data\"\n\
         [sites.fra.database.control]\nkind = \"commands\"\n\
         start = [\"touch\", \"{dir}/started\"]\nstop = [\"true\"]\nstatus = [\"true\"]\n\
         [sites.ams]\naddress = \"127.0.0.1:7002\"\n\
         [sites.ams.database]\nhost = \"127.0.0.1\"\nport = 2\ndata_dir = \"{dir}/data\"\n\
         [witness]\naddress = \"127.0.0.1:7003\"\n[database]\ntls = \"off\"\n",
        dir = dir.display()
    );
    let path = dir.join("agent.toml");
    let loaded = config::parse(&text, &path, Some("fra"), MemberRole::Agent, &|_| None);
    let config = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config;
    let own = config.own_site().unwrap();
    Tools {
        cluster: config.cluster.clone(),
        site: own.name.clone(),
        node: NodeControl::new(own.name.clone(), own.node.clone()),
        login: Login::new(&own.node, &config.database, &Resolver::from_system()).unwrap(),
        other: None,
        table: HeartbeatTable::new(&config.database.heartbeat_table).unwrap(),
        app_configs: Vec::new(),
        surroundings: Arc::new(app_templates::surroundings(&config, own)),
        dns: Vec::new(),
        state_dir: dir.to_path_buf(),
    }
}

/// Orders a start under [`EPOCH`] while the keeper holds `held`; says how it ended, and whether
/// the node's start command ran.
async fn start_while(held: Held) -> (StepFinished, bool) {
    let dir = tempfile::tempdir().unwrap();
    let (_keeper, held) = watch::channel(held);
    let (events, mut ended) = mpsc::channel(1);
    let (outbox, _courier) = Outbox::open(dir.path(), Vec::new());
    let gate = LeaseGate {
        held,
        reserve: RESERVE,
        guard: None,
        fence_time: FenceTime::open(
            dir.path(),
            &Lease {
                ttl: Duration::from_secs(10),
                renew_every: Duration::from_secs(2),
                request_timeout: Duration::from_secs(1),
                fence_budget: Duration::from_secs(2),
            },
        ),
    };
    let mut executor = Executor::new(tools(dir.path()), gate, outbox, events);
    let timeout = Duration::from_secs(1);
    executor.run(Order {
        plan: PlanId::new("fra-1"),
        step: 0,
        what: Step::StartOwn { timeout },
        epoch: EPOCH,
        attempt: 1,
        undo: false,
        deadline: timeout,
    });
    match ended.recv().await {
        Some(Event::StepFinished(finished)) => (finished, dir.path().join("started").exists()),
        other => panic!("no end of the step: {other:?}"),
    }
}

#[tokio::test]
async fn s2_start_that_was_held_up_does_not_begin_once_the_lease_is_over() {
    let soon = boottime() + RESERVE / 2;
    let late = boottime() + RESERVE * 60;
    for held in [None, Some((EPOCH, soon)), Some((Epoch(8), late))] {
        let (finished, started) = start_while(held).await;
        let failure = finished.result.unwrap_err();
        assert!(failure.what.contains("lease of epoch 7"), "{failure:?}");
        assert!(!started, "nothing may start with {held:?}");
    }
}

#[tokio::test]
async fn s2_start_begins_while_enough_of_its_lease_is_left() {
    let (finished, started) = start_while(Some((EPOCH, boottime() + RESERVE * 60))).await;
    assert!(started, "{finished:?}");
}
