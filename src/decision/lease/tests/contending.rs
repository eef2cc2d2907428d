//! How an agent looks, asks, renews and loses.

use std::time::Duration;

use super::{Net, at, free, held_by_a, member, other, rules, site};
use crate::decision::lease::{Contender, Input, Mode};
use crate::model::lease::{
    LeaseChange, LeaseCommand, LeaseReply, LeaseRequest, LeaseView, Verdict, VoterView,
};
use crate::model::{Epoch, Moment};

#[test]
fn nobody_acquires_without_being_told_to() {
    let mut net = Net::new(Mode::Quorum);
    net.pass(10_000);
    assert_eq!(
        (net.view("a"), net.view("b")),
        (free(0, None), free(0, None))
    );
    let reads = net
        .requests
        .iter()
        .all(|(.., request)| *request == LeaseRequest::Read);
    assert!(reads, "a look must change nothing");
}

#[test]
fn the_other_sees_who_holds_it() {
    let net = held_by_a(Mode::Quorum);
    assert_eq!(net.view("b"), other("a", 1));
    assert!(net.changes.iter().any(|(who, change)| {
        *who == site("b")
            && matches!(change, LeaseChange::View { reached, .. } if reached.len() == 3)
    }));
}

#[test]
fn holder_counts_from_the_sending_of_what_a_majority_granted() {
    let rules = rules("a", Mode::Quorum);
    let mut contender = Contender::new(rules.clone(), site("a"), 0, at(0));
    let looks = contender
        .handle(Input::Command(LeaseCommand::Acquire), at(0))
        .sends;
    let ok = |promised: u64| LeaseReply {
        verdict: Verdict::Ok,
        knows: VoterView {
            promised: Epoch(promised),
            ..VoterView::default()
        },
    };
    let reply = |from: &str, round, promised| Input::Reply {
        from: member(from),
        round,
        reply: ok(promised),
    };
    let round = looks.iter().map(|send| send.round).min().unwrap();
    contender.handle(reply("a", round, 0), at(10));
    let own = contender.handle(reply("witness", round, 0), at(20)).sends;
    assert_eq!(
        own.iter().map(|send| send.to.clone()).collect::<Vec<_>>(),
        [member("a")]
    );
    let others = contender.handle(reply("a", own[0].round, 1), at(30)).sends;
    assert_eq!(others.len(), 2);
    contender.handle(reply("witness", others[0].round, 1), at(900));
    // The own voter was asked at 20, the witness at 30; both granted what was sent at 20 or later.
    let held = |t_sent: Moment| LeaseView::Held {
        epoch: Epoch(1),
        fence_at: rules.fence_at(t_sent),
    };
    assert_eq!(contender.current_view(), held(at(20)));
    // A renewal counts as soon as a majority granted it, and from its own sending.
    let renewal = contender.handle(Input::Tick, at(1100)).sends;
    contender.handle(reply("b", renewal[0].round, 1), at(1200));
    assert_eq!(contender.current_view(), held(at(30)));
    contender.handle(reply("a", renewal[0].round, 1), at(1300));
    assert_eq!(contender.current_view(), held(at(1100)));
    // The same again, and an answer to an older round, move nothing back.
    contender.handle(reply("witness", others[0].round, 1), at(1310));
    contender.handle(reply("a", renewal[0].round, 1), at(1320));
    assert_eq!(contender.current_view(), held(at(1100)));
}

#[test]
fn answers_older_than_the_request_timeout_do_not_count() {
    let mut net = held_by_a(Mode::Quorum);
    net.cut.push("a");
    let before = net.view("a");
    let renewal = net.feed("a", Input::Tick);
    assert_eq!(renewal.sends, [], "not due yet");
    net.now += 1000;
    let sends = {
        let contender = &mut net.contenders[0];
        contender.handle(Input::Tick, at(net.now)).sends
    };
    let reply = LeaseReply {
        verdict: Verdict::Ok,
        knows: VoterView {
            promised: Epoch(1),
            ..VoterView::default()
        },
    };
    net.now += 1001;
    for from in ["a", "witness"] {
        let round = sends[0].round;
        let from = member(from);
        net.contenders[0].handle(
            Input::Reply {
                from,
                round,
                reply: reply.clone(),
            },
            at(net.now),
        );
    }
    assert_eq!(net.view("a"), before);
}

#[test]
fn holder_that_is_cut_off_is_fenced_before_any_other_takes_over() {
    let mut net = held_by_a(Mode::Quorum);
    let LeaseView::Held { fence_at, .. } = net.view("a") else {
        panic!("not held")
    };
    net.cut.push("a");
    while net.fences.is_empty() {
        net.pass(50);
    }
    assert!(at(net.now) >= fence_at && at(net.now) < fence_at + Duration::from_millis(50));
    assert_eq!(net.fences, [(site("a"), Epoch(1))]);
    assert!(net.told("a", &LeaseChange::Lost { epoch: Epoch(1) }));
    let fenced = at(net.now) + rules("a", Mode::Quorum).fence_budget;
    while net.holds("b").is_none() {
        net.acquire("b");
        net.pass(50);
    }
    assert!(at(net.now) >= fenced);
    assert_eq!(net.holds("b"), Some(Epoch(2)));
}

#[test]
fn candidate_looks_again_when_the_grants_run_out() {
    let mut net = held_by_a(Mode::Quorum);
    net.cut.push("a");
    let cut_at = net.now;
    while net.view("b") != free(1, None) {
        net.pass(50);
    }
    // The last renewal was up to one period before the cut; a look costs up to two steps here.
    assert!(
        net.now <= cut_at + 5025 + 100,
        "seen as free after {} ms",
        net.now - cut_at
    );
}

#[test]
fn free_needs_a_majority_that_says_so() {
    let mut net = held_by_a(Mode::Quorum);
    // Only the own voter of b lets go; a and the witness still hear of renewals.
    net.cut.push("b");
    net.pass(10_000);
    assert_eq!(net.view("b"), LeaseView::Unknown);
    net.cut.clear();
    net.pass(2000);
    assert_eq!(net.view("b"), other("a", 1));
}

#[test]
fn holder_that_wakes_up_after_its_deadline_asks_anew() {
    let mut net = held_by_a(Mode::Quorum);
    net.now += 60_000;
    net.requests.clear();
    net.feed("a", Input::Tick);
    assert_eq!(net.fences, [(site("a"), Epoch(1))]);
    let reads = net
        .requests
        .iter()
        .all(|(.., request)| *request == LeaseRequest::Read);
    assert!(
        reads && !net.requests.is_empty(),
        "it must read before it writes"
    );
    net.acquire("a");
    assert_eq!(net.holds("a"), Some(Epoch(2)));
}

#[test]
fn late_grant_does_not_revive_a_lease_whose_deadline_has_passed() {
    let mut net = held_by_a(Mode::Quorum);
    net.now += 1000;
    let renewal = net.contenders[0].handle(Input::Tick, at(net.now)).sends;
    net.now += 10_000;
    for from in ["a", "b", "witness"] {
        let knows = VoterView {
            promised: Epoch(1),
            ..VoterView::default()
        };
        let reply = LeaseReply {
            verdict: Verdict::Ok,
            knows,
        };
        let input = Input::Reply {
            from: member(from),
            round: renewal[0].round,
            reply,
        };
        net.feed("a", input);
    }
    assert_eq!(net.holds("a"), None);
    assert_eq!(net.fences, [(site("a"), Epoch(1))]);
}

#[test]
fn whoever_sees_a_higher_epoch_stops_at_once() {
    let mut net = held_by_a(Mode::Quorum);
    let identity = rules("a", Mode::Quorum).identity;
    let now = at(net.now + 100_000);
    let acquire = LeaseRequest::Acquire {
        candidate: site("b"),
        epoch: Epoch(7),
    };
    net.voter("witness").handle(&identity, &acquire, now);
    net.pass(1000);
    assert_eq!(net.holds("a"), None);
    assert_eq!(net.fences, [(site("a"), Epoch(1))]);
    net.pass(10_000);
}

#[test]
fn losing_the_witness_does_not_stop_a_healthy_holder() {
    let mut net = held_by_a(Mode::Quorum);
    net.cut.push("witness");
    net.pass(30_000);
    assert_eq!(net.holds("a"), Some(Epoch(1)));
}

#[test]
fn silent_holder_is_not_replaced_without_a_third_vote() {
    let mut net = held_by_a(Mode::Quorum);
    net.cut.extend(["a", "witness"]);
    net.pass(10_000);
    net.requests.clear();
    net.acquire("b");
    assert_eq!(net.holds("b"), None);
    let promises = net.requests.iter();
    let promises = promises.filter(|(.., it)| matches!(it, LeaseRequest::Acquire { .. }));
    assert_eq!(
        promises.count(),
        0,
        "a candidate that is cut off must disturb nobody"
    );
}

#[test]
fn refused_attempt_says_why() {
    let mut net = held_by_a(Mode::Quorum);
    net.acquire("b");
    assert!(net.told(
        "b",
        &LeaseChange::NotAcquired {
            verdict: Verdict::GrantRuns
        }
    ));
    assert_eq!(net.holds("a"), Some(Epoch(1)));
}

#[test]
fn restarted_agent_gets_a_new_epoch_at_once() {
    let mut net = held_by_a(Mode::Quorum);
    net.restart("a");
    net.feed("a", Input::Tick);
    assert_eq!(net.view("a"), other("a", 1));
    net.acquire("a");
    assert_eq!(net.holds("a"), Some(Epoch(2)));
    assert_eq!(
        net.fences,
        [],
        "a restart within the ttl is not to be noticed"
    );
}

#[test]
fn loser_gives_back_what_it_got_and_backs_off() {
    let mut net = Net::new(Mode::Quorum);
    net.pass(6000);
    // Everybody would grant, but then only the own voter does.
    let out = net.contenders[1].handle(Input::Command(LeaseCommand::Acquire), at(net.now));
    let round = out.sends[0].round;
    let knows = VoterView::default();
    for from in ["a", "b"] {
        let reply = LeaseReply {
            verdict: Verdict::Ok,
            knows: knows.clone(),
        };
        net.cut = vec!["a", "witness"];
        net.feed(
            "b",
            Input::Reply {
                from: member(from),
                round,
                reply,
            },
        );
    }
    assert!(net.told(
        "b",
        &LeaseChange::NotAcquired {
            verdict: Verdict::Abstains
        }
    ));
    let now = at(net.now);
    let own = net.voter("b").view(now);
    assert!(own.promised == Epoch(1) && own.released, "{own:?}");
    net.cut.clear();
    net.requests.clear();
    net.acquire("b");
    let asked = net
        .requests
        .iter()
        .any(|(.., it)| matches!(it, LeaseRequest::PreVote { .. }));
    assert!(!asked, "it must back off first");
    net.pass(1000);
    assert_eq!(
        net.holds("b"),
        Some(Epoch(2)),
        "the command is carried out after the pause"
    );
}

#[test]
fn loser_keeps_its_grants_while_its_site_may_still_be_writable() {
    let mut net = held_by_a(Mode::Quorum);
    net.restart("a");
    let out = net.contenders[0].handle(Input::Command(LeaseCommand::Acquire), at(net.now));
    let round = out.sends[0].round;
    let knows = VoterView {
        promised: Epoch(1),
        ..VoterView::default()
    };
    net.cut = vec!["b", "witness"];
    for from in ["a", "witness"] {
        let reply = LeaseReply {
            verdict: Verdict::Ok,
            knows: knows.clone(),
        };
        net.feed(
            "a",
            Input::Reply {
                from: member(from),
                round,
                reply,
            },
        );
    }
    net.pass(1500);
    assert_eq!(net.holds("a"), None);
    let released = net
        .requests
        .iter()
        .any(|(.., it)| matches!(it, LeaseRequest::Release { .. }));
    assert!(
        !released,
        "the guard still lets the node write under epoch 1"
    );
}

#[test]
fn higher_epoch_in_the_pre_vote_raises_the_epoch_asked_for() {
    let mut net = held_by_a(Mode::Quorum);
    net.pass(1000);
    net.release("a", "b");
    net.restart("b");
    net.now += 10;
    net.acquire("b");
    assert_eq!(net.holds("b"), Some(Epoch(2)));
}

#[test]
fn candidate_asks_its_own_voter_before_the_others() {
    let mut net = Net::new(Mode::Quorum);
    net.pass(100);
    net.acquire("b");
    let asked = net
        .requests
        .iter()
        .filter(|(.., it)| matches!(it, LeaseRequest::Acquire { .. }));
    let asked: Vec<_> = asked.map(|(_, to, _)| to.clone()).collect();
    assert_eq!(asked, [member("b"), member("a"), member("witness")]);
}

#[test]
fn two_sites_back_off_differently() {
    let pause = |seed| {
        let mut contender = Contender::new(rules("a", Mode::Quorum), site("a"), seed, at(0));
        (0..8)
            .map(|_| contender.random_below(Duration::from_secs(1)))
            .collect::<Vec<_>>()
    };
    assert_ne!(pause(0), pause(1));
    assert!(pause(3).iter().all(|pause| *pause < Duration::from_secs(1)));
}

#[test]
fn machine_always_says_when_to_wake_it() {
    let mut net = Net::new(Mode::Quorum);
    for _ in 0..50 {
        let wake_at = net.feed("a", Input::Tick).wake_at.unwrap();
        assert!(wake_at > at(net.now), "it would never sleep");
        net.now += 50;
    }
}
