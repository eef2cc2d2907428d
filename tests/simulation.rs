//! Whole agents on a virtual clock and network, seeded.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::struct_excessive_bools,
    dead_code,
    reason = "a test's own code: a panic is a failure, and its indices are its own"
)]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/dns.rs"]
mod dns;
#[path = "simulation/effects.rs"]
mod effects;
#[path = "simulation/ending.rs"]
mod ending;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/fencing.rs"]
mod fencing;
#[path = "simulation/guard.rs"]
mod guard;
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
#[path = "simulation/operators.rs"]
mod operators;
#[path = "simulation/probes.rs"]
mod probes;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/setup.rs"]
mod setup;
#[path = "simulation/starts.rs"]
mod starts;
#[path = "simulation/steps.rs"]
mod steps;
#[path = "simulation/timeline.rs"]
mod timeline;
#[path = "simulation/world.rs"]
mod world;

use checks::Rule;
use failover_agent::decision::lease::BrokenRule;
use setup::Mutation;
use world::End;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn whole_agents_keep_every_rule() {
    let (seed, runs) = (number("SIM_SEED", 1), number("SIM_RUNS", 1_000));
    let enough = usize::try_from(number("SIM_ENOUGH", 200)).unwrap();
    let found = schedule::run_many(seed, runs, Mutation::None, |found| found.len() >= enough);
    println!("{}", found.counts);
    for (why, times) in &found.explanations {
        println!("{times:>6} x {why}");
    }
    for (seed, end) in &found.violations {
        println!("make sim SEED={seed} RUNS=1: {end:?}");
    }
    if let Some((seed, end)) = found.violations.first_key_value() {
        println!("the story of seed {seed}, which ended as {end:?}:");
        for line in schedule::tell(*seed, Mutation::None) {
            println!("{line}");
        }
    }
    assert_eq!(found.violations.len(), 0, "a rule was broken");
}

/// Runs the product with one rule broken: the simulation must notice, by the rule itself and not
/// only because the cluster does not come back. It begins at a seed that once showed it, and
/// searches on from there.
fn notices(broken: Mutation, from: u64) {
    let shown = |end: &End| !matches!(end, End::Violation(Rule::Liveness, _));
    let found = schedule::run_many(from, 3_000, broken, |violations| {
        violations.values().any(shown)
    });
    let seen = found.violations.iter().find(|(_, end)| shown(end));
    println!(
        "{broken:?}: {seen:?} in {} schedules",
        found.counts.schedules
    );
    assert!(seen.is_some(), "{broken:?} was not noticed");
}

#[test]
fn s2_a_keeper_that_never_fences_is_noticed() {
    notices(Mutation::KeeperNeverFences, 1163);
}

#[test]
fn s3_a_fence_that_proves_nothing_is_noticed() {
    notices(Mutation::FenceUnproved, 1);
}

#[test]
fn s5_a_voter_that_ignores_a_running_grant_is_noticed() {
    notices(Mutation::Rule(BrokenRule::GrantIgnored), 2240);
}

#[test]
fn s7_a_lease_without_a_majority_is_noticed() {
    notices(Mutation::Rule(BrokenRule::NoMajority), 1);
}

#[test]
fn s10_a_node_that_its_host_starts_as_primary_is_noticed() {
    notices(Mutation::SignalIgnored, 120);
}

#[test]
fn s11_a_step_begun_before_the_journal_has_it_is_noticed() {
    notices(Mutation::JournalLate, 1);
}

#[test]
fn a_lost_vote_is_noticed() {
    notices(Mutation::VoteLost, 170);
}

#[test]
fn s8_targets_that_take_any_epoch_are_noticed() {
    notices(Mutation::EpochIgnored, 420);
}
