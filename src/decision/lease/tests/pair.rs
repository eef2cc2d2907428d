//! A lease that both agents must agree on, without a witness.

use super::{Net, held_by_a, member, other, site};
use crate::decision::lease::{Input, Mode};
use crate::model::Epoch;
use crate::model::lease::LeaseChange;

#[test]
fn pair_holder_keeps_the_lease_without_the_other() {
    let mut net = held_by_a(Mode::Pair);
    net.cut.push("b");
    net.pass(600_000);
    assert_eq!(net.holds("a"), Some(Epoch(1)));
    assert_eq!(net.view("b"), other("a", 1));
    net.acquire("b");
    assert_eq!(net.holds("b"), None);
}

#[test]
fn pair_needs_both_to_acquire() {
    let mut net = Net::new(Mode::Pair);
    net.cut.push("b");
    net.pass(100);
    net.acquire("a");
    assert_eq!(net.holds("a"), None);
    net.cut.clear();
    net.pass(100);
    net.acquire("a");
    net.pass(100);
    assert_eq!(net.holds("a"), Some(Epoch(1)));
}

#[test]
fn pair_moves_by_handover() {
    let mut net = held_by_a(Mode::Pair);
    net.release("a", "b");
    let released = LeaseChange::Released {
        epoch: Epoch(1),
        to: Some(site("b")),
    };
    assert!(net.told("a", &released));
    net.feed("b", Input::Poke);
    net.acquire("b");
    assert_eq!(net.holds("b"), Some(Epoch(2)));
}

#[test]
fn pair_release_reaches_the_own_voter_first() {
    let mut net = held_by_a(Mode::Pair);
    net.requests.clear();
    net.release("a", "b");
    let to: Vec<_> = net.requests.iter().map(|(_, to, _)| to.clone()).collect();
    assert_eq!(to, [member("a"), member("b")]);
}

#[test]
fn pair_holder_goes_on_after_a_restart_with_and_without_the_other() {
    for alone in [false, true] {
        let mut net = held_by_a(Mode::Pair);
        net.cut.extend(alone.then_some("b"));
        net.restart("a");
        net.feed("a", Input::Tick);
        assert_eq!(net.view("a"), other("a", 1));
        net.acquire("a");
        assert_eq!(net.holds("a"), Some(Epoch(1)));
    }
}

#[test]
fn pair_holder_that_released_does_not_go_on_after_a_restart() {
    let mut net = held_by_a(Mode::Pair);
    net.cut.push("b");
    net.release("a", "b");
    net.restart("a");
    net.acquire("a");
    assert_eq!(net.holds("a"), None);
}

#[test]
fn pair_epoch_that_only_the_other_voter_knows_to_be_given_back_is_not_gone_on_with() {
    let mut net = held_by_a(Mode::Pair);
    let epoch = net.holds("a");
    // The own voter's disk takes no release, the other one's does; then the agent dies.
    let before = net.disk("a").clone();
    net.release("a", "b");
    net.pass(1000);
    *net.disk("a") = before;
    net.restart("a");
    net.acquire("a");
    assert_eq!(net.holds("a"), None);
    // Once the successor has let its time pass, it gets a new one.
    net.pass(5000);
    net.acquire("a");
    assert!(net.holds("a") > epoch, "{:?}", net.view("a"));
}

#[test]
fn pair_lease_that_the_other_voter_knows_to_be_given_back_is_lost() {
    let mut net = held_by_a(Mode::Pair);
    let epoch = net.holds("a").unwrap();
    let before = net.disk("a").clone();
    net.release("a", "b");
    net.pass(1000);
    *net.disk("a") = before;
    // The other voter cannot be asked when it goes on.
    net.cut.push("b");
    net.restart("a");
    net.acquire("a");
    assert_eq!(net.holds("a"), Some(epoch));
    net.cut.clear();
    net.pass(2000);
    assert_ne!(net.holds("a"), Some(epoch));
    assert!(net.fences.contains(&(site("a"), epoch)));
}
