//! Whole agents on a virtual clock and network, seeded.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test's own code: a panic is a failure, and its indices are its own"
)]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/keeper.rs"]
mod keeper;
#[path = "simulation/links.rs"]
mod links;
#[path = "simulation/mind.rs"]
mod mind;
#[path = "simulation/net.rs"]
mod net;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/nodes.rs"]
mod nodes;
#[path = "simulation/probes.rs"]
mod probes;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/setup.rs"]
mod setup;
#[path = "simulation/steps.rs"]
mod steps;
#[path = "simulation/timeline.rs"]
mod timeline;
#[path = "simulation/world.rs"]
mod world;

use setup::Mutation;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn whole_agents_keep_every_rule() {
    let (seed, runs) = (number("SIM_SEED", 1), number("SIM_RUNS", 10_000));
    let enough = usize::try_from(number("SIM_ENOUGH", 10)).unwrap();
    let found = schedule::run_many(seed, runs, Mutation::None, enough);
    println!("{}", found.counts);
    for (why, times) in &found.explanations {
        println!("{times:>6} x {why}");
    }
    for (seed, end) in &found.violations {
        println!("make sim SEED={seed} RUNS=1: {end:?}");
    }
    if let Some((seed, _)) = found.violations.first_key_value() {
        for line in schedule::tell(*seed, Mutation::None) {
            println!("{line}");
        }
    }
    assert!(found.violations.is_empty());
}
