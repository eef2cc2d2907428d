//! What a voter promises, and what it remembers.

use super::{at, empty_vote, member, record, rules, site};
use crate::decision::lease::{Mode, Voter, VoterAnswer};
use crate::model::lease::{
    ClusterRecord, LeaseReply, LeaseRequest, StoredVote, Verdict, VoterView,
};
use crate::model::{Epoch, Member};

fn witness() -> Voter {
    Voter::boot(
        rules("witness", Mode::Quorum),
        Some(empty_vote(Mode::Quorum)),
        at(0),
    )
}

fn ask(voter: &mut Voter, request: &LeaseRequest, millis: u64) -> VoterAnswer {
    voter.handle(&rules("a", Mode::Quorum).identity, request, at(millis))
}

fn verdict(voter: &mut Voter, request: &LeaseRequest, millis: u64) -> Verdict {
    ask(voter, request, millis).reply.verdict
}

fn acquire(candidate: &str, epoch: u64) -> LeaseRequest {
    LeaseRequest::Acquire {
        candidate: site(candidate),
        epoch: Epoch(epoch),
    }
}

fn renew(holder: &str, epoch: u64, record: Option<ClusterRecord>) -> LeaseRequest {
    LeaseRequest::Renew {
        holder: site(holder),
        epoch: Epoch(epoch),
        record,
    }
}

fn release(holder: &str, epoch: u64, to: Option<&str>) -> LeaseRequest {
    let (holder, to) = (site(holder), to.map(site));
    LeaseRequest::Release {
        holder,
        epoch: Epoch(epoch),
        to,
        record: None,
    }
}

#[test]
fn grants_to_one_candidate_at_a_time_for_one_span_from_receipt() {
    let mut voter = witness();
    assert_eq!(verdict(&mut voter, &acquire("a", 1), 0), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &acquire("b", 2), 5024),
        Verdict::GrantRuns
    );
    // 5 s, and the 25 ms by which this voter's clock may be fast.
    assert_eq!(verdict(&mut voter, &acquire("b", 2), 5025), Verdict::Ok);
}

#[test]
fn pre_vote_says_what_acquire_would_and_changes_nothing() {
    let mut voter = witness();
    let before = voter.clone();
    let pre_vote = LeaseRequest::PreVote {
        candidate: site("a"),
        epoch: Epoch(1),
    };
    let answer = ask(&mut voter, &pre_vote, 0);
    assert_eq!((answer.reply.verdict, answer.store), (Verdict::Ok, None));
    assert_eq!(voter, before);
}

#[test]
fn an_epoch_is_granted_once() {
    let mut voter = witness();
    assert_eq!(verdict(&mut voter, &acquire("a", 3), 0), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &acquire("a", 3), 0),
        Verdict::StaleEpoch
    );
    assert_eq!(
        verdict(&mut voter, &acquire("b", 3), 9000),
        Verdict::StaleEpoch
    );
    assert_eq!(
        verdict(&mut voter, &acquire("b", 2), 9000),
        Verdict::StaleEpoch
    );
}

#[test]
fn same_site_gets_a_higher_epoch_while_its_own_grant_runs() {
    let mut voter = witness();
    assert_eq!(verdict(&mut voter, &acquire("a", 1), 0), Verdict::Ok);
    assert_eq!(verdict(&mut voter, &acquire("a", 2), 100), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &renew("a", 1, None), 200),
        Verdict::StaleEpoch
    );
}

#[test]
fn new_epoch_release_and_changed_record_are_stored_and_plain_renewals_are_not() {
    let mut voter = witness();
    let stored = ask(&mut voter, &acquire("a", 1), 0).store.unwrap();
    let granted = StoredVote {
        promised: Epoch(1),
        granted_to: Some(site("a")),
        ..empty_vote(Mode::Quorum)
    };
    assert_eq!(stored, granted);
    assert_eq!(ask(&mut voter, &renew("a", 1, None), 1000).store, None);
    let with_record = Some(record(1, 1));
    let stored = ask(&mut voter, &renew("a", 1, with_record.clone()), 2000)
        .store
        .unwrap();
    assert_eq!(
        stored,
        StoredVote {
            record: with_record.clone(),
            ..granted.clone()
        }
    );
    assert_eq!(
        ask(&mut voter, &renew("a", 1, with_record.clone()), 3000).store,
        None
    );
    let stored = ask(&mut voter, &release("a", 1, Some("b")), 4000)
        .store
        .unwrap();
    let (released, released_to) = (true, Some(site("b")));
    assert_eq!(
        stored,
        StoredVote {
            record: with_record,
            released,
            released_to,
            ..granted
        }
    );
}

#[test]
fn promise_that_could_not_be_written_was_not_given() {
    let mut voter = witness();
    let before = voter.clone();
    assert!(ask(&mut voter, &acquire("a", 1), 0).store.is_some());
    let reply = voter.not_durable(at(0));
    assert_eq!(
        reply,
        LeaseReply {
            verdict: Verdict::NotDurable,
            knows: VoterView::default()
        }
    );
    assert_eq!(voter, before);
    assert_eq!(verdict(&mut voter, &acquire("b", 1), 0), Verdict::Ok);
}

#[test]
fn only_the_last_change_can_be_taken_back() {
    let mut voter = witness();
    assert!(ask(&mut voter, &acquire("a", 1), 0).store.is_some());
    ask(&mut voter, &LeaseRequest::Read, 1);
    voter.not_durable(at(1));
    assert_eq!(voter.view(at(1)).promised, Epoch(1));
}

#[test]
fn grant_counts_for_one_span_after_a_restart() {
    let mut voter = witness();
    let stored = ask(&mut voter, &acquire("a", 1), 0).store;
    let mut voter = Voter::boot(rules("witness", Mode::Quorum), stored, at(4000));
    assert_eq!(
        verdict(&mut voter, &acquire("b", 2), 9024),
        Verdict::GrantRuns
    );
    assert_eq!(verdict(&mut voter, &acquire("b", 2), 9025), Verdict::Ok);
}

#[test]
fn released_epoch_is_neither_renewed_nor_granted_again() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    let stored = ask(&mut voter, &release("a", 1, None), 100).store;
    let restarted = Voter::boot(rules("witness", Mode::Quorum), stored, at(200));
    for mut voter in [voter, restarted] {
        assert_eq!(
            verdict(&mut voter, &renew("a", 1, None), 300),
            Verdict::StaleEpoch
        );
        assert_eq!(
            verdict(&mut voter, &acquire("a", 1), 300),
            Verdict::StaleEpoch
        );
        assert_eq!(verdict(&mut voter, &acquire("b", 2), 300), Verdict::Ok);
    }
}

#[test]
fn release_of_an_epoch_not_seen_keeps_a_late_request_from_reviving_it() {
    let mut voter = witness();
    assert_eq!(verdict(&mut voter, &release("a", 4, None), 0), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &acquire("a", 4), 100),
        Verdict::StaleEpoch
    );
    assert_eq!(
        verdict(&mut voter, &renew("a", 4, None), 100),
        Verdict::StaleEpoch
    );
}

#[test]
fn release_never_ends_another_sites_running_grant() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    assert_eq!(
        verdict(&mut voter, &release("b", 2, None), 100),
        Verdict::GrantRuns
    );
    assert_eq!(
        verdict(&mut voter, &release("b", 1, None), 100),
        Verdict::GrantRuns
    );
    assert_eq!(verdict(&mut voter, &renew("a", 1, None), 200), Verdict::Ok);
}

#[test]
fn successor_has_one_span_and_then_anybody() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    ask(&mut voter, &release("a", 1, Some("b")), 100);
    // A release that is sent again does not begin the span anew.
    ask(&mut voter, &release("a", 1, Some("b")), 3000);
    assert_eq!(
        verdict(&mut voter, &acquire("a", 2), 5124),
        Verdict::ReservedForSuccessor
    );
    let mut other = voter.clone();
    assert_eq!(verdict(&mut other, &acquire("b", 2), 200), Verdict::Ok);
    assert_eq!(verdict(&mut voter, &acquire("a", 2), 5125), Verdict::Ok);
}

#[test]
fn late_renewal_is_accepted_only_while_nobody_else_was_promised_anything() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    let mut other = voter.clone();
    assert_eq!(verdict(&mut voter, &renew("a", 1, None), 6000), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &acquire("b", 2), 6001),
        Verdict::GrantRuns
    );
    assert_eq!(verdict(&mut other, &acquire("b", 2), 6000), Verdict::Ok);
    assert_eq!(
        verdict(&mut other, &renew("a", 1, None), 6001),
        Verdict::StaleEpoch
    );
}

#[test]
fn winners_renewal_brings_a_voter_up_to_date() {
    let mut voter = witness();
    let answer = ask(&mut voter, &renew("a", 5, None), 0);
    assert_eq!(answer.reply.verdict, Verdict::Ok);
    assert_eq!(answer.store.unwrap().promised, Epoch(5));
    // This one had granted the same epoch to a candidate that lost and gave it back.
    let mut voter = witness();
    ask(&mut voter, &acquire("b", 5), 0);
    assert_eq!(
        verdict(&mut voter, &renew("a", 5, None), 100),
        Verdict::GrantRuns
    );
    ask(&mut voter, &release("b", 5, None), 200);
    assert_eq!(verdict(&mut voter, &renew("a", 5, None), 300), Verdict::Ok);
    assert_eq!(
        verdict(&mut voter, &renew("b", 5, None), 400),
        Verdict::GrantRuns
    );
}

#[test]
fn newest_record_is_kept_and_told() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    ask(&mut voter, &renew("a", 1, Some(record(1, 7))), 100);
    assert_eq!(
        ask(&mut voter, &renew("a", 1, Some(record(1, 6))), 200).store,
        None
    );
    let reply = ask(&mut voter, &LeaseRequest::Read, 300).reply;
    assert_eq!(reply.knows.record, Some(record(1, 7)));
    // The epoch orders records first.
    ask(&mut voter, &acquire("b", 2), 9000);
    ask(&mut voter, &renew("b", 2, Some(record(2, 1))), 9001);
    assert_eq!(voter.view(at(9001)).record, Some(record(2, 1)));
}

#[test]
fn record_of_a_refused_renewal_is_not_kept() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 2), 0);
    ask(&mut voter, &renew("b", 1, Some(record(1, 9))), 100);
    assert_eq!(voter.view(at(100)).record, None);
}

#[test]
fn other_cluster_or_other_voters_are_refused_and_told_nothing() {
    let mut voter = witness();
    ask(&mut voter, &acquire("a", 1), 0);
    let pair = rules("a", Mode::Pair).identity;
    let mut named = rules("a", Mode::Quorum).identity;
    named.cluster = crate::model::ClusterName::new("other");
    for identity in [pair, named] {
        let answer = voter.handle(&identity, &acquire("a", 2), at(100));
        assert_eq!(answer.reply.verdict, Verdict::WrongCluster);
        assert_eq!(
            (answer.reply.knows, answer.store),
            (VoterView::default(), None)
        );
    }
    assert_eq!(voter.view(at(100)).promised, Epoch(1));
}

#[test]
fn promises_of_another_cluster_or_format_are_no_memory() {
    let mut other_cluster = empty_vote(Mode::Quorum);
    other_cluster.identity.cluster = crate::model::ClusterName::new("other");
    let other_format = StoredVote {
        version: 99,
        ..empty_vote(Mode::Quorum)
    };
    for stored in [other_cluster, other_format] {
        let voter = Voter::boot(rules("witness", Mode::Quorum), Some(stored), at(0));
        assert!(voter.abstains());
    }
}

/// A voter whose memory is gone, started at 0.
fn without_memory() -> Voter {
    Voter::boot(rules("witness", Mode::Quorum), None, at(0))
}

fn remembers(promised: u64) -> LeaseReply {
    let knows = VoterView {
        promised: Epoch(promised),
        ..VoterView::default()
    };
    LeaseReply {
        verdict: Verdict::Ok,
        knows,
    }
}

fn remembers_nothing() -> LeaseReply {
    LeaseReply {
        verdict: Verdict::Abstains,
        knows: VoterView::default(),
    }
}

fn learn(voter: &mut Voter, heard: &[(&str, LeaseReply, u64)]) -> Option<StoredVote> {
    heard.iter().fold(None, |stored, (from, reply, millis)| {
        stored.or(voter.learn(reply, &member(from), at(*millis)))
    })
}

#[test]
fn voter_without_memory_abstains_from_everything() {
    let mut voter = without_memory();
    let pre_vote = LeaseRequest::PreVote {
        candidate: site("a"),
        epoch: Epoch(1),
    };
    let requests = [
        LeaseRequest::Read,
        pre_vote,
        acquire("a", 1),
        renew("a", 1, Some(record(1, 1))),
        release("a", 1, None),
    ];
    for request in requests {
        let answer = ask(&mut voter, &request, 60_000);
        assert_eq!((answer.reply, answer.store), (remembers_nothing(), None));
    }
}

#[test]
fn voter_without_memory_learns_from_a_majority_of_the_others_after_one_span() {
    let mut voter = without_memory();
    let early = [("a", remembers(3), 5000), ("b", remembers(4), 5024)];
    assert_eq!(learn(&mut voter, &early), None);
    let twice_the_same = [("a", remembers(3), 5025), ("a", remembers(3), 6000)];
    assert_eq!(learn(&mut voter, &twice_the_same), None);
    assert!(voter.abstains());
    let stored = learn(&mut voter, &[("b", remembers(4), 6001)]).unwrap();
    assert_eq!(stored.promised, Epoch(4));
    assert!(!voter.abstains());
    assert_eq!(
        verdict(&mut voter, &acquire("a", 4), 6002),
        Verdict::StaleEpoch
    );
    assert_eq!(verdict(&mut voter, &acquire("a", 5), 6002), Verdict::Ok);
}

#[test]
fn voter_without_memory_learns_the_newest_record_and_the_release() {
    let mut voter = without_memory();
    let mut from_a = remembers(3);
    from_a.knows.released = true;
    from_a.knows.record = Some(record(3, 2));
    let mut from_b = remembers(2);
    from_b.knows.record = Some(record(2, 9));
    learn(&mut voter, &[("a", from_a, 6000), ("b", from_b, 6000)]).unwrap();
    let view = voter.view(at(6000));
    assert_eq!((view.record, view.released), (Some(record(3, 2)), true));
    assert_eq!(
        verdict(&mut voter, &renew("a", 3, None), 6001),
        Verdict::StaleEpoch
    );
}

#[test]
fn first_start_of_a_whole_cluster_ends_the_abstention() {
    let mut voter = without_memory();
    let nothing = [
        ("a", remembers_nothing(), 6000),
        ("b", remembers_nothing(), 6000),
    ];
    assert_eq!(
        learn(&mut voter, &nothing).unwrap(),
        empty_vote(Mode::Quorum)
    );
    assert_eq!(verdict(&mut voter, &acquire("a", 1), 6001), Verdict::Ok);
}

#[test]
fn one_memory_of_three_is_not_enough_to_learn_from() {
    let mut voter = without_memory();
    let heard = [("a", remembers(3), 6000), ("b", remembers_nothing(), 6000)];
    assert_eq!(learn(&mut voter, &heard), None);
    assert!(learn(&mut voter, &[("b", remembers(3), 7000)]).is_some());
}

#[test]
fn learning_that_could_not_be_written_goes_on_abstaining() {
    let mut voter = without_memory();
    learn(
        &mut voter,
        &[("a", remembers(3), 6000), ("b", remembers(3), 6000)],
    )
    .unwrap();
    voter.not_durable(at(6000));
    assert!(voter.abstains());
    assert!(learn(&mut voter, &[("a", remembers(3), 6100)]).is_some());
}

#[test]
fn strangers_itself_and_other_clusters_are_not_listened_to() {
    let mut voter = without_memory();
    let wrong = LeaseReply {
        verdict: Verdict::WrongCluster,
        knows: VoterView::default(),
    };
    let heard = [
        ("witness", remembers(3), 6000),
        ("c", remembers(3), 6000),
        ("a", wrong, 6000),
    ];
    assert_eq!(learn(&mut voter, &heard), None);
    assert_eq!(learn(&mut voter, &[("b", remembers(3), 6000)]), None);
}

#[test]
fn pair_grants_never_run_out() {
    let stored = Some(empty_vote(Mode::Pair));
    let mut voter = Voter::boot(rules("b", Mode::Pair), stored, at(0));
    let identity = rules("a", Mode::Pair).identity;
    let stored = voter.handle(&identity, &acquire("a", 1), at(0)).store;
    let year = 365 * 24 * 3600 * 1000;
    let answer = voter.handle(&identity, &acquire("b", 2), at(year));
    assert_eq!(answer.reply.verdict, Verdict::GrantRuns);
    assert_eq!(answer.reply.knows.grant.unwrap().left, None);
    let mut voter = Voter::boot(rules("b", Mode::Pair), stored, at(year));
    let answer = voter.handle(&identity, &acquire("b", 2), at(2 * year));
    assert_eq!(answer.reply.verdict, Verdict::GrantRuns);
}

#[test]
fn pair_voter_without_memory_takes_the_running_grant_over() {
    let mut voter = Voter::boot(rules("b", Mode::Pair), None, at(0));
    let mut heard = remembers(1);
    let left = None;
    let grant = crate::model::lease::GrantView {
        holder: site("a"),
        epoch: Epoch(1),
        left,
    };
    heard.knows.grant = Some(grant);
    assert!(voter.learn(&heard, &member("a"), at(6000)).is_some());
    let identity = rules("a", Mode::Pair).identity;
    let answer = voter.handle(&identity, &acquire("b", 2), at(6001));
    assert_eq!(answer.reply.verdict, Verdict::GrantRuns);
}

#[test]
fn witness_is_a_member_like_the_others() {
    assert_eq!(member("witness"), Member::Witness);
    assert_eq!(rules("a", Mode::Quorum).voters.len(), 3);
    assert_eq!(rules("a", Mode::Pair).voters.len(), 2);
}
