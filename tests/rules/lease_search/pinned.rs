//! A lease that is pinned, because somebody switched the guard off: it does not run out, and its
//! end is as safe as any other.

use failover_agent::decision::lease::{BrokenRule, Mode};

use super::explore::Act::{self, Advance, Exchange, Pin, SetLink, Tick};
use super::explore::Search;
use super::mutations::notices;
use super::world::{Budget, Link, Violation};
use super::{b_asks, both_ask, held_by_a, holds, search};

/// Site a holds the lease, it is pinned, and all voters know.
fn pinned_by_a() -> Vec<Act> {
    let mut acts = held_by_a(Mode::Quorum);
    acts.extend([Pin(0), Exchange(0), Exchange(0), Exchange(0)]);
    acts
}

#[test]
fn pinned_lease_outlives_a_freeze_and_a_restart() {
    let budget = Budget {
        freezes: 1,
        agent_restarts: 1,
        ..b_asks()
    };
    let found = holds("pinned", &search(5, pinned_by_a(), budget));
    assert!(found.endless > 0, "it was never pinned");
    assert_eq!(found.moved, 0, "a pinned lease moved");
}

#[test]
fn lease_is_pinned_and_unpinned_with_lost_and_late_messages() {
    let budget = Budget {
        pins: 2,
        losses: 1,
        lates: 1,
        ..b_asks()
    };
    let found = holds("pin", &search(1, held_by_a(Mode::Quorum), budget));
    assert!(found.endless > 0, "it was never pinned");
}

#[test]
fn holder_freezes_while_it_pins_or_unpins() {
    let budget = Budget {
        pins: 2,
        freezes: 1,
        ..b_asks()
    };
    let found = holds(
        "pin and freeze",
        &search(5, held_by_a(Mode::Quorum), budget),
    );
    assert!(found.endless > 0 && found.moved > 0, "nobody took over");
}

#[test]
fn pin_is_ended_while_cut_off() {
    let mut prefix = pinned_by_a();
    prefix.extend([SetLink(0, 0, Link::Down), Advance(1000), Tick(0), Tick(1)]);
    let budget = Budget {
        pins: 1,
        link_changes: 1,
        ..b_asks()
    };
    let search = Search {
        instants: (1..=7).map(|second| second * 1000).collect(),
        ..search(0, prefix, budget)
    };
    let found = holds("unpinned while cut off", &search);
    assert!(found.endless > 0, "it was never pinned");
}

#[test]
fn pinned_lease_is_handed_over() {
    let budget = Budget {
        releases: 1,
        losses: 1,
        lates: 1,
        ..b_asks()
    };
    let found = holds("pinned handover", &search(4, pinned_by_a(), budget));
    assert!(found.moved > 0, "nobody took over");
}

#[test]
fn restarted_agent_ends_the_pin_of_its_former_life() {
    let budget = Budget {
        pins: 1,
        agent_restarts: 1,
        ..both_ask()
    };
    let found = holds(
        "unpinned by the next life",
        &search(5, pinned_by_a(), budget),
    );
    assert!(found.endless > 0 && found.moved > 0, "nobody took over");
}

#[test]
fn witness_loses_its_disk_under_a_pinned_lease() {
    let budget = Budget {
        witness_restarts: 1,
        disks_lost: 1,
        freezes: 1,
        ..b_asks()
    };
    let found = holds(
        "pinned, witness without disk",
        &search(6, pinned_by_a(), budget),
    );
    assert!(found.endless > 0, "it was never pinned");
    assert_eq!(found.moved, 0, "a pinned lease moved");
}

#[test]
fn agent_loses_its_disk_under_a_pinned_lease() {
    let budget = Budget {
        agent_restarts: 1,
        disks_lost: 1,
        ..both_ask()
    };
    let found = holds(
        "pinned, agent without disk",
        &search(6, pinned_by_a(), budget),
    );
    assert!(
        found.endless > 0 && found.epochs > 1,
        "it was never asked for anew"
    );
    assert_eq!(found.moved, 0, "a pinned lease moved");
}

#[test]
fn mutation_voter_ignores_a_pin() {
    let budget = Budget {
        freezes: 1,
        ..b_asks()
    };
    notices(
        BrokenRule::PinIgnored,
        &[Violation::TwoWriters],
        search(5, pinned_by_a(), budget),
    );
}

#[test]
fn mutation_voters_hear_of_the_end_of_a_pin_before_the_guard() {
    let mut prefix = pinned_by_a();
    prefix.extend([Advance(1000), Tick(0)]);
    let budget = Budget {
        pins: 1,
        freezes: 1,
        ..b_asks()
    };
    notices(
        BrokenRule::UnpinnedTooSoon,
        &[Violation::TwoWriters],
        Search {
            instants: (1..=6).map(|second| second * 1000).collect(),
            ..search(0, prefix, budget)
        },
    );
}
