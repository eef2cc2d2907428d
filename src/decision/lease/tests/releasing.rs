//! How a lease is given to another site, and what is carried along with it.

use super::{at, free, held_by_a, record, site};
use crate::decision::lease::{Input, Mode};
use crate::model::Epoch;
use crate::model::lease::{LeaseChange, LeaseRequest, Verdict};

#[test]
fn released_lease_goes_to_the_successor_without_waiting() {
    let mut net = held_by_a(Mode::Quorum);
    net.release("a", "b");
    let released = LeaseChange::Released {
        epoch: Epoch(1),
        to: Some(site("b")),
    };
    assert!(net.told("a", &released));
    net.feed("b", Input::Poke);
    assert_eq!(net.view("b"), free(1, Some("b")));
    net.requests.clear();
    net.acquire("b");
    assert_eq!(net.holds("b"), Some(Epoch(2)));
    let asked_again = net
        .requests
        .iter()
        .any(|(.., it)| matches!(it, LeaseRequest::PreVote { .. }));
    assert!(!asked_again, "the look of the successor was its pre-vote");
}

#[test]
fn holder_that_released_does_not_renew_and_waits_for_the_successor() {
    let mut net = held_by_a(Mode::Quorum);
    net.release("a", "b");
    net.requests.clear();
    net.pass(3000);
    let renewed = net
        .requests
        .iter()
        .any(|(.., it)| matches!(it, LeaseRequest::Renew { .. }));
    assert!(!renewed);
    net.acquire("a");
    let reserved = LeaseChange::NotAcquired {
        verdict: Verdict::ReservedForSuccessor,
    };
    assert!(net.told("a", &reserved));
    net.pass(3000);
    net.acquire("a");
    assert_eq!(net.holds("a"), Some(Epoch(2)), "the successor did not come");
}

#[test]
fn release_is_sent_again_until_it_arrives_or_would_have_run_out() {
    let mut net = held_by_a(Mode::Quorum);
    net.cut.push("a");
    net.release("a", "b");
    let released = LeaseChange::Released {
        epoch: Epoch(1),
        to: Some(site("b")),
    };
    net.pass(1000);
    assert!(!net.told("a", &released));
    net.cut.clear();
    net.pass(300);
    assert!(net.told("a", &released));

    let mut net = held_by_a(Mode::Quorum);
    net.cut.push("a");
    net.release("a", "b");
    net.pass(5000);
    net.requests.clear();
    net.pass(2000);
    let sent = net
        .requests
        .iter()
        .any(|(.., it)| matches!(it, LeaseRequest::Release { .. }));
    assert!(!sent && !net.told("a", &released));
}

#[test]
fn record_is_told_as_kept_once_a_majority_has_it() {
    let mut net = held_by_a(Mode::Quorum);
    let kept = |revision| LeaseChange::RecordKept {
        version: (Epoch(1), revision),
    };
    net.keep("a", record(1, 1));
    assert!(
        net.told("a", &kept(1)),
        "a record is carried by a renewal at once"
    );
    net.cut.push("a");
    net.keep("a", record(1, 2));
    assert!(!net.told("a", &kept(2)));
    net.cut.clear();
    net.pass(1000);
    assert!(net.told("a", &kept(2)));
    net.pass(1000);
    let told = net
        .changes
        .iter()
        .filter(|(_, change)| *change == kept(2))
        .count();
    assert_eq!(told, 1);
    let mut seen = None;
    for (who, change) in &net.changes {
        if let LeaseChange::View { record, .. } = change
            && *who == site("b")
        {
            seen.clone_from(record);
        }
    }
    assert_eq!(seen, Some(record(1, 2)));
}

#[test]
fn older_records_and_records_of_others_are_not_carried() {
    let mut net = held_by_a(Mode::Quorum);
    net.keep("a", record(1, 5));
    net.keep("a", record(1, 4));
    net.keep("a", record(2, 1));
    net.keep("b", record(1, 9));
    net.pass(2000);
    let now = at(net.now);
    assert_eq!(net.voter("witness").view(now).record, Some(record(1, 5)));
}
