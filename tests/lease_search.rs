//! Searches the state space of the real voters and contenders for two writers (S1), an epoch held
//! twice, a released epoch that comes back, and a record that goes backwards.
//!
//! Three voters, two contenders whose clocks are as slow as allowed, voters whose clocks are as
//! fast as allowed, and within a budget everything that can go wrong: messages lost, late and
//! doubled, links cut one way or both, agents frozen or restarted, disks lost. Each search prints
//! how many states it saw. The mutation tests break one rule each, and the search must notice.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "lease_search/explore.rs"]
mod explore;
#[path = "lease_search/machines.rs"]
mod machines;
#[path = "lease_search/world.rs"]
mod world;

use explore::{Found, Search};
use failover_agent::decision::lease::BrokenRule;
use world::{Budget, Violation};

fn seconds(count: u64) -> Vec<u64> {
    (0..=count).map(|second| second * 1000).collect()
}

#[test]
fn probe() {
    let run = |name: &str, secs: u64, broken, budget, fresh| {
        let t = std::time::SystemTime::now();
        let found = Search { instants: seconds(secs), broken, budget, fresh }.run();
        println!("{name}: {found} {:?}", t.elapsed());
    };
    let b = Budget { acquires: [1, 1], ..Budget::default() };
    run("freeze", 6, None, Budget { freezes: 1, acquires: [1, 2], ..b }, false);
    run("links", 6, None, Budget { link_changes: 2, ..b }, false);
    run("release", 4, None, Budget { releases: 1, losses: 1, lates: 1, ..b }, false);
    run("restart", 6, None, Budget { agent_restarts: 1, acquires: [2, 1], ..b }, false);
    run("witness", 6, None, Budget { witness_restarts: 1, freezes: 1, ..b }, false);
    run("lost", 8, None, Budget { witness_restarts: 1, disks_lost: 1, freezes: 1, ..b }, false);
    run("fresh", 7, None, Budget { ..b }, true);
    run("keep", 5, None, Budget { keeps: 1, freezes: 1, losses: 1, ..b }, false);
}
