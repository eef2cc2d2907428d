//! Each rule broken on purpose, one at a time: a search that sees nothing then would prove nothing.

use failover_agent::decision::lease::{BrokenRule, Mode};
use failover_agent::model::Epoch;

use super::explore::Act::{Advance, SetLink};
use super::explore::Search;
use super::world::{Budget, Link, Violation};
use super::{b_asks, both_ask, held_by_a, search};

/// Runs a search of the rules with one broken: it must notice.
pub(crate) fn notices(broken: BrokenRule, violations: &[Violation], search: Search) {
    let found = Search {
        broken: Some(broken),
        ..search
    }
    .run();
    println!("{broken:?}: {found}");
    let (violation, _) = found
        .violation
        .expect("the search does not notice the broken rule");
    assert!(
        violations.contains(&violation),
        "{broken:?} seen as {violation:?}"
    );
}

#[test]
fn mutation_voter_ignores_a_running_grant() {
    let held = held_by_a(Mode::Quorum);
    notices(
        BrokenRule::GrantIgnored,
        &[Violation::TwoWriters],
        search(1, held, b_asks()),
    );
}

#[test]
fn mutation_voter_forgets_its_promise_on_restart() {
    let budget = Budget {
        witness_restarts: 1,
        losses: 1,
        ..both_ask()
    };
    notices(
        BrokenRule::PromiseForgotten,
        &[Violation::TwoWriters, Violation::PromiseForgotten],
        search(1, Vec::new(), budget),
    );
}

#[test]
fn mutation_holder_counts_from_the_reply() {
    let mut prefix = held_by_a(Mode::Quorum);
    prefix.extend([SetLink(0, 0, Link::Down), Advance(1000)]);
    let instants = (1..=4).map(|second| second * 1000).collect();
    let budget = Budget {
        lates: 1,
        link_changes: 1,
        ..b_asks()
    };
    notices(
        BrokenRule::CountFromReply,
        &[Violation::TwoWriters],
        Search {
            instants,
            ..search(0, prefix, budget)
        },
    );
}

#[test]
fn mutation_one_vote_is_enough() {
    notices(
        BrokenRule::NoMajority,
        &[Violation::TwoWriters, Violation::EpochHeldTwice(Epoch(1))],
        search(1, Vec::new(), both_ask()),
    );
}

#[test]
fn mutation_late_renewal_is_accepted_after_the_release() {
    let budget = Budget {
        releases: 1,
        lates: 1,
        ..Budget::default()
    };
    notices(
        BrokenRule::ReleasedRenewed,
        &[Violation::ReleasedEpochCameBack(Epoch(1))],
        search(2, held_by_a(Mode::Quorum), budget),
    );
}

#[test]
fn mutation_restarted_voter_counts_its_grant_as_run_out() {
    let budget = Budget {
        witness_restarts: 1,
        losses: 1,
        ..both_ask()
    };
    notices(
        BrokenRule::BootTtlForgotten,
        &[Violation::TwoWriters],
        search(1, Vec::new(), budget),
    );
}

#[test]
fn mutation_voters_make_no_allowance_for_clocks() {
    let instants = vec![0, 1000, 2000, 2992, 3000];
    let budget = Budget {
        freezes: 1,
        ..b_asks()
    };
    notices(
        BrokenRule::ClockErrorIgnored,
        &[Violation::TwoWriters],
        Search {
            instants,
            ..search(0, held_by_a(Mode::Quorum), budget)
        },
    );
}

#[test]
fn mutation_voter_without_memory_votes_at_once() {
    let budget = Budget {
        witness_restarts: 1,
        disks_lost: 1,
        losses: 1,
        ..both_ask()
    };
    notices(
        BrokenRule::AmnesiaIgnored,
        &[Violation::TwoWriters, Violation::EpochHeldTwice(Epoch(1))],
        search(1, Vec::new(), budget),
    );
}

#[test]
fn mutation_loser_releases_while_its_site_is_writable() {
    let budget = Budget {
        agent_restarts: 1,
        losses: 2,
        ..both_ask()
    };
    notices(
        BrokenRule::LoserReleasesAtOnce,
        &[Violation::TwoWriters],
        search(2, held_by_a(Mode::Quorum), budget),
    );
}

#[test]
fn mutation_candidate_asks_others_before_its_own_voter() {
    let budget = Budget {
        acquires: [2, 0],
        agent_restarts: 1,
        ..Budget::default()
    };
    notices(
        BrokenRule::OwnVoteSkipped,
        &[Violation::EpochAskedTwice(Epoch(1))],
        search(1, Vec::new(), budget),
    );
}

#[test]
fn mutation_older_record_replaces_a_newer_one() {
    let budget = Budget {
        keeps: 2,
        lates: 1,
        ..Budget::default()
    };
    notices(
        BrokenRule::OlderRecordKept,
        &[Violation::RecordWentBack],
        search(1, held_by_a(Mode::Quorum), budget),
    );
}
