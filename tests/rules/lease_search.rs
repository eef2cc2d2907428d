//! Searches the state space of the real voters and contenders for two writers (S1), an epoch held
//! twice, a released epoch that comes back, and a record that goes backwards.
//!
//! Three voters, two contenders whose clocks are as slow as allowed, voters whose clocks are as
//! fast as allowed, and within a budget everything that can go wrong: messages lost, late and
//! doubled, links cut one way or both, agents frozen or restarted, disks lost. Each search prints
//! how many states it saw. The mutation tests break one rule each, and the search must notice.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test's own code: a panic is a failure, and its indices are its own"
)]

mod explore;
mod learning;
mod machines;
mod mutations;
mod pinned;
mod pins;
mod world;

use explore::Act::{self, Acquire, Exchange, Tick};
use explore::{Found, Search};
use failover_agent::decision::lease::Mode;
use failover_agent::decision::lease::rules::CLOCK_ERROR_PER_MILLE;
use world::Budget;

/// Site a holds the lease, and all voters know.
fn held_by_a(mode: Mode) -> Vec<Act> {
    let mut acts = vec![Tick(0), Tick(1), Acquire(0), Exchange(0), Exchange(0)];
    acts.extend((mode == Mode::Quorum).then_some(Exchange(0)));
    acts
}

fn search(seconds: u64, prefix: Vec<Act>, budget: Budget) -> Search {
    let instants = (0..=seconds).map(|second| second * 1000).collect();
    Search {
        instants,
        broken: None,
        prefix,
        budget,
        fresh: false,
        mode: Mode::Quorum,
    }
}

/// Runs a search of the rules as they are.
fn holds(name: &str, search: &Search) -> Found {
    let found = search.run();
    println!("{name}: {found}");
    assert_eq!(found.violation, None, "{name}");
    assert!(
        found.held > 0,
        "{name}: nobody ever held the lease, so nothing was shown"
    );
    found
}

fn both_ask() -> Budget {
    Budget {
        acquires: [1, 1],
        ..Budget::default()
    }
}

fn b_asks() -> Budget {
    Budget {
        acquires: [0, 1],
        ..Budget::default()
    }
}

#[test]
fn two_candidates_race_with_lost_late_and_doubled_messages() {
    let budget = Budget {
        losses: 1,
        lates: 1,
        duplicates: 1,
        ..both_ask()
    };
    holds("race", &search(2, Vec::new(), budget));
}

#[test]
fn holder_is_cut_off_one_way_or_both() {
    let found = holds(
        "cut off",
        &search(
            6,
            held_by_a(Mode::Quorum),
            Budget {
                link_changes: 2,
                ..b_asks()
            },
        ),
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn frozen_holder_wakes_up() {
    let budget = Budget {
        freezes: 1,
        lates: 1,
        ..both_ask()
    };
    let found = holds("frozen", &search(6, held_by_a(Mode::Quorum), budget));
    assert!(found.moved > 0 && found.epochs > 1, "nobody took over");
}

#[test]
fn handover_with_lost_and_late_messages() {
    let budget = Budget {
        releases: 1,
        losses: 1,
        lates: 1,
        ..b_asks()
    };
    let found = holds("handover", &search(4, held_by_a(Mode::Quorum), budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn handover_there_and_back() {
    let budget = Budget {
        releases: 2,
        lates: 1,
        ..both_ask()
    };
    let found = holds(
        "there and back",
        &search(2, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.epochs > 2, "it never came back");
}

#[test]
fn agent_is_restarted_and_asks_anew() {
    let budget = Budget {
        agent_restarts: 1,
        losses: 1,
        ..both_ask()
    };
    let found = holds(
        "agent restarted",
        &search(5, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.moved > 0 && found.epochs > 1, "nobody took over");
}

#[test]
fn restarted_agent_meets_its_own_late_requests() {
    let budget = Budget {
        agent_restarts: 1,
        lates: 2,
        acquires: [2, 1],
        ..Budget::default()
    };
    holds("late after a restart", &search(1, Vec::new(), budget));
}

#[test]
fn witness_is_restarted_while_the_holder_freezes() {
    let budget = Budget {
        witness_restarts: 1,
        freezes: 1,
        ..b_asks()
    };
    let found = holds(
        "witness restarted",
        &search(6, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn witness_loses_its_disk() {
    let budget = Budget {
        witness_restarts: 1,
        disks_lost: 1,
        freezes: 1,
        ..b_asks()
    };
    let found = holds(
        "witness without disk",
        &search(7, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn agent_loses_its_disk() {
    let budget = Budget {
        agent_restarts: 1,
        disks_lost: 1,
        ..both_ask()
    };
    let found = holds(
        "agent without disk",
        &search(7, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn first_start_of_a_new_cluster() {
    holds(
        "first start",
        &Search {
            fresh: true,
            ..search(5, Vec::new(), both_ask())
        },
    );
}

#[test]
fn records_are_kept_through_a_takeover() {
    let budget = Budget {
        keeps: 1,
        freezes: 1,
        losses: 1,
        ..b_asks()
    };
    let found = holds("records", &search(5, held_by_a(Mode::Quorum), budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn pauses_and_resumes_are_known_to_whoever_holds_next() {
    let budget = Budget {
        keeps: 2,
        releases: 1,
        lates: 1,
        ..b_asks()
    };
    let found = holds("pauses", &search(1, held_by_a(Mode::Quorum), budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn pause_outlives_restarts_of_an_agent_and_the_witness() {
    let budget = Budget {
        keeps: 1,
        agent_restarts: 1,
        witness_restarts: 1,
        ..both_ask()
    };
    let found = holds(
        "pause and restarts",
        &search(4, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn disks_refuse_promises_and_releases() {
    let budget = Budget {
        disk_errors: 2,
        releases: 1,
        agent_restarts: 1,
        ..both_ask()
    };
    let found = holds("disk errors", &search(1, held_by_a(Mode::Quorum), budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn takeover_right_at_the_end_of_the_term() {
    let instants = vec![0, 1000, 2000, 2992, 3000, 3008, 4000];
    let budget = Budget {
        freezes: 1,
        lates: 1,
        ..b_asks()
    };
    let found = holds(
        "end of term",
        &Search {
            instants,
            ..search(0, held_by_a(Mode::Quorum), budget)
        },
    );
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn pair_moves_only_by_handover() {
    let pair = |seconds, budget| Search {
        mode: Mode::Pair,
        ..search(seconds, held_by_a(Mode::Pair), budget)
    };
    let budget = Budget {
        agent_restarts: 1,
        link_changes: 1,
        ..both_ask()
    };
    let found = holds("pair without handover", &pair(4, budget));
    assert_eq!(found.moved, 0, "the lease moved without a handover");
    let budget = Budget {
        agent_restarts: 1,
        disks_lost: 1,
        losses: 1,
        ..both_ask()
    };
    let found = holds("pair without disk", &pair(5, budget));
    assert_eq!(found.moved, 0, "the lease moved without a handover");
    let budget = Budget {
        releases: 1,
        losses: 1,
        lates: 1,
        agent_restarts: 1,
        ..both_ask()
    };
    let found = holds("pair", &pair(2, budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn pair_race_of_two_candidates_is_won_by_one() {
    let pair = |seconds, budget| Search {
        mode: Mode::Pair,
        ..search(seconds, Vec::new(), budget)
    };
    let race = Budget {
        acquires: [2, 2],
        losses: 1,
        ..Budget::default()
    };
    let found = holds("pair race", &pair(2, race));
    assert!(found.epochs > 0, "nobody wins");
    let restarted = Budget {
        acquires: [2, 2],
        agent_restarts: 1,
        disk_errors: 1,
        ..Budget::default()
    };
    holds("pair race and restart", &pair(1, restarted));
}

#[test]
fn clock_error_is_the_one_of_the_configuration() {
    let configured = failover_agent::config::settings::CLOCK_ERROR_MAX;
    let counted = f64::from(CLOCK_ERROR_PER_MILLE) / 1000.0;
    assert!((configured - counted).abs() < f64::EPSILON);
}
