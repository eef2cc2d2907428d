//! Who is sent where: at the edge of the lease, in every state of the node, from an old picture.

use serde_json::json;

use super::*;
use crate::model::situation::Facts;

const AGE_MAX: Duration = Duration::from_secs(3);
/// In the last 200 ms before the fence nobody is sent here.
const EDGE: Duration = Duration::from_millis(200);
const HAIR: Duration = Duration::from_nanos(1);
const LONG: Option<Duration> = Some(Duration::from_secs(2));

const STATES: [NodeState; 10] = [
    NodeState::Unknown,
    NodeState::Primary,
    NodeState::Standby,
    NodeState::Busy,
    NodeState::Starting,
    NodeState::RefusesUs,
    NodeState::CannotWrite,
    NodeState::Disputed,
    NodeState::Hung,
    NodeState::Dead,
];

/// The picture of an active site whose node is in this state.
fn picture(own: NodeState) -> Snapshot {
    let picture = json!({
        "cluster": "main", "site": "fra", "version": "1", "at": 0, "phase": "active",
        "active": true, "stopped": null,
        "lease": {
            "view": "held", "holder": "fra", "epoch": 7, "fence_in_ms": 2000,
            "reached": [], "words": "",
        },
        "record": null,
        "facts": {
            "standing": "active", "record": "mine", "own": "primary", "peer_node": "standby",
            "peer_agent": "answers", "witness": "answers", "identity": "same",
            "standby": "ready", "tripped": false, "endpoint_down": false,
        },
        "diagnoses": [], "would_do": "", "refusals": [], "members": [], "targets": [],
        "run": null, "last_run": null, "counters": [],
    });
    let picture: Snapshot = serde_json::from_value(picture).unwrap();
    let facts = picture.facts.map(|facts| Facts { own, ..facts });
    Snapshot { facts, ..picture }
}

fn asked(picture: &Snapshot, question: Question, lease_left: Option<Duration>) -> bool {
    asked_at(picture, question, lease_left, Duration::ZERO)
}

fn asked_at(
    picture: &Snapshot,
    question: Question,
    lease_left: Option<Duration>,
    age: Duration,
) -> bool {
    let at = Instant {
        age,
        age_max: AGE_MAX,
        lease_left,
    };
    let verdict = verdict(picture, question, Wanted::default(), at);
    assert_eq!(verdict.yes, verdict.why.is_empty(), "{verdict:?}");
    verdict.yes
}

/// S2: a question that is answered now is acted upon later, and then the fence has begun.
#[test]
fn s2_traffic_ends_before_the_fence_begins() {
    let picture = picture(NodeState::Primary);
    for question in [Question::Primary, Question::ReadOnly, Question::Readiness] {
        for (left, yes) in [
            (None, false),
            (Some(Duration::ZERO), false),
            (Some(EDGE - HAIR), false),
            (Some(EDGE), false),
            (Some(EDGE + HAIR), true),
            (LONG, true),
            // A lease that does not run out.
            (Some(Duration::MAX), true),
        ] {
            assert_eq!(
                asked(&picture, question, left),
                yes,
                "{question:?} {left:?}"
            );
        }
    }
}

/// The lease alone makes no primary, and an agent that only observes has none.
#[test]
fn site_that_is_not_active_or_only_observes_is_no_primary_whatever_its_lease() {
    let active = picture(NodeState::Primary);
    let passive = Snapshot {
        active: false,
        ..active.clone()
    };
    let mut observing = active.clone();
    observing.brakes.mode = Conduct::Observe;
    let blind = Snapshot {
        facts: None,
        ..active
    };
    for picture in [passive, observing, blind] {
        for question in [Question::Primary, Question::ReadOnly, Question::Readiness] {
            let yes = asked(&picture, question, Some(Duration::MAX));
            assert!(!yes, "{question:?} {picture:?}");
        }
    }
}

#[test]
fn every_state_of_the_node_has_its_answers() {
    use NodeState::{Busy, CannotWrite, Primary, RefusesUs, Standby};
    for own in STATES {
        let picture = picture(own);
        let primary = !matches!(own, Standby | NodeState::Starting | NodeState::Dead);
        let replica = own == Standby;
        let up = matches!(own, Primary | Standby | Busy | RefusesUs | CannotWrite);
        for (question, yes) in [
            (Question::Primary, primary),
            (Question::Replica, replica),
            (Question::ReadOnly, primary || replica),
            (Question::Readiness, primary || replica),
            (Question::Health, up),
            (Question::Liveness, true),
        ] {
            assert_eq!(asked(&picture, question, LONG), yes, "{question:?} {own:?}");
        }
        // Of an active site whose lease is nearly over, only a standby is left to be read.
        let read = asked(&picture, Question::ReadOnly, Some(EDGE));
        assert_eq!(read, replica, "{own:?}");
    }
}

/// The keeper's word does not age; all others do.
#[test]
fn old_picture_is_nobodys_word_but_takes_no_lease_away() {
    let (primary, standby) = (picture(NodeState::Primary), picture(NodeState::Standby));
    for (age, fresh) in [(AGE_MAX, true), (AGE_MAX + HAIR, false)] {
        for (picture, question, yes) in [
            (&primary, Question::Primary, true),
            (&primary, Question::Readiness, true),
            (&primary, Question::Health, fresh),
            (&primary, Question::Liveness, fresh),
            (&standby, Question::Replica, fresh),
            (&standby, Question::ReadOnly, fresh),
            (&standby, Question::Readiness, fresh),
        ] {
            let answer = asked_at(picture, question, LONG, age);
            assert_eq!(answer, yes, "{question:?} {age:?}");
        }
    }
}
