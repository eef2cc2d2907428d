//! Facts → diagnosis, over every combination of facts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use failover_agent::decision::diagnose::{DIAGNOSES, Remedy, Row, diagnose};
use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::model::situation::{
    Disk, Facts, Identity, NodeState, PeerNode, Reach, RecordSays, StandbyState, Standing,
};

use crate::golden;

/// Calls `look` with every combination of facts.
fn every(mut look: impl FnMut(&Facts)) {
    let mut facts = Facts {
        standing: Standing::Unknown,
        record: RecordSays::Nothing,
        own: NodeState::Unknown,
        disk: Disk::Fine,
        peer_node: PeerNode::Unknown,
        peer_agent: Reach::Unknown,
        witness: Reach::Unknown,
        identity: Identity::Unknown,
        standby: StandbyState::Unknown,
        tripped: false,
        endpoint_down: false,
        guard_lost: false,
        finish_failed: false,
        unfit: false,
    };
    for &standing in Standing::ALL {
        facts.standing = standing;
        for &record in RecordSays::ALL {
            facts.record = record;
            for &own in NodeState::ALL {
                facts.own = own;
                every_disk(&mut facts, &mut look);
            }
        }
    }
}

/// The disk is looked at for these only.
fn every_disk(facts: &mut Facts, look: &mut impl FnMut(&Facts)) {
    let disks = match facts.own {
        NodeState::CannotWrite | NodeState::Dead | NodeState::Hung => Disk::ALL,
        NodeState::Unknown
        | NodeState::Primary
        | NodeState::Standby
        | NodeState::Busy
        | NodeState::Starting
        | NodeState::RefusesUs
        | NodeState::Disputed => &[Disk::Fine],
    };
    for &disk in disks {
        facts.disk = disk;
        every_peer(facts, look);
    }
}

fn every_peer(facts: &mut Facts, look: &mut impl FnMut(&Facts)) {
    for &peer_node in PeerNode::ALL {
        facts.peer_node = peer_node;
        for &peer_agent in Reach::ALL {
            facts.peer_agent = peer_agent;
            for &witness in Reach::ALL {
                facts.witness = witness;
                for &identity in Identity::ALL {
                    facts.identity = identity;
                    every_rest(facts, look);
                }
            }
        }
    }
}

fn every_rest(facts: &mut Facts, look: &mut impl FnMut(&Facts)) {
    for &standby in StandbyState::ALL {
        facts.standby = standby;
        for flags in 0..32 {
            facts.tripped = flags & 1 != 0;
            facts.endpoint_down = flags & 2 != 0;
            facts.guard_lost = flags & 4 != 0;
            facts.unfit = flags & 8 != 0;
            facts.finish_failed = flags & 16 != 0;
            look(facts);
        }
    }
}

/// Changes what another site has, or breaks what works here.
fn acts(remedy: Remedy) -> bool {
    match remedy {
        Remedy::GiveUp | Remedy::TakeOver | Remedy::Fence => true,
        Remedy::None | Remedy::Tell | Remedy::Claim => false,
    }
}

#[test]
fn some_row_always_holds_and_every_row_is_the_first_somewhere() {
    let mut first = BTreeSet::new();
    every(|facts| {
        let mut rows = diagnose(facts);
        first.insert(rows.next().unwrap().diagnosis);
        // Half of the combinations will do for what no single row decides.
        if facts.finish_failed {
            return;
        }
        let healthy = rows.any(|row| row.diagnosis == Diagnosis::Healthy);
        assert!(!healthy, "healthy and not: {facts:?}");
    });
    let shadowed: Vec<_> = Diagnosis::ALL
        .iter()
        .filter(|d| !first.contains(d))
        .collect();
    assert!(shadowed.is_empty(), "never the first to hold: {shadowed:?}");
}

#[test]
fn table_and_list_name_the_same_in_the_same_order_and_the_worst_first() {
    let rows: Vec<Diagnosis> = DIAGNOSES.iter().map(|row| row.diagnosis).collect();
    assert_eq!(rows, Diagnosis::ALL);
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len());
    for pair in DIAGNOSES.windows(2) {
        let (above, below) = (pair[0].diagnosis, pair[1].diagnosis);
        assert!(
            pair[0].severity >= pair[1].severity,
            "{below} is worse than {above}"
        );
    }
    assert!(DIAGNOSES.iter().all(|row| row.sentence.len() > 10));
}

#[test]
fn remedies_act_only_where_they_may() {
    every(|facts| {
        let remedy = diagnose(facts).next().unwrap().remedy;
        if facts.identity == Identity::Differs {
            assert!(
                !acts(remedy) && remedy != Remedy::Claim,
                "of another cluster: {facts:?}"
            );
        }
        match remedy {
            Remedy::GiveUp => assert_eq!(facts.standing, Standing::Active, "{facts:?}"),
            // S5, S7: only a lease that ran out, of a site that nobody sees. A pair's lease does
            // not run out: it is named so that people are told why the guards refuse.
            Remedy::TakeOver => {
                let pair = facts.standing == Standing::Peer && facts.witness == Reach::Absent;
                assert!(pair || facts.standing == Standing::Free, "{facts:?}");
                assert_eq!(
                    (facts.peer_agent, facts.peer_node, facts.own),
                    (Reach::Silent, PeerNode::Down, NodeState::Standby),
                    "{facts:?}"
                );
            }
            Remedy::Claim => assert!(
                matches!(
                    facts.standing,
                    Standing::Free | Standing::FreeForMe | Standing::Inherited
                ) && !matches!(
                    facts.record,
                    RecordSays::Theirs | RecordSays::TheirsPromoting
                ),
                "{facts:?}"
            ),
            Remedy::Fence => assert_eq!(
                (facts.standing, facts.own),
                (Standing::Peer, NodeState::Primary),
                "{facts:?}"
            ),
            Remedy::None | Remedy::Tell => {}
        }
    });
}

#[test]
fn s13_unknown_never_leads_to_a_remedy_that_acts() {
    every(|facts| {
        let remedy = diagnose(facts).next().unwrap().remedy;
        let unknown = facts.own == NodeState::Unknown || facts.standing == Standing::Unknown;
        assert!(!(unknown && acts(remedy)), "{facts:?}");
        let unseen = facts.peer_node == PeerNode::Unknown || facts.peer_agent == Reach::Unknown;
        assert!(!(unseen && remedy == Remedy::TakeOver), "{facts:?}");
    });
}

#[test]
fn s13_an_unfit_agent_accuses_nobody() {
    every(|facts| {
        if !facts.unfit {
            return;
        }
        let mut rows = diagnose(facts);
        let row = rows.next().unwrap();
        assert_ne!(row.remedy, Remedy::TakeOver, "{facts:?}");
        // What is no accusation but a fact of the own host: no process, a commit that failed, no
        // guard.
        let proved =
            matches!(facts.own, NodeState::Dead | NodeState::CannotWrite) || facts.guard_lost;
        assert!(row.remedy != Remedy::GiveUp || proved, "{facts:?}");
        let unfit = |row: &Row| row.diagnosis == Diagnosis::Unfit;
        assert!(unfit(row) || rows.any(unfit), "{facts:?}");
    });
}

#[test]
fn a_hang_has_the_name_of_its_disk() {
    every(|facts| {
        let named = match facts.disk {
            Disk::Fine => Diagnosis::DatabaseHung,
            Disk::Full => Diagnosis::DiskFull,
            Disk::ReadOnly => Diagnosis::DiskReadOnly,
            Disk::Gone => Diagnosis::DataDirectoryGone,
        };
        let of_node = [named, Diagnosis::DatabaseHung];
        let judged = matches!(facts.standing, Standing::Active | Standing::ActiveCutOff);
        if facts.own == NodeState::Hung {
            let found = diagnose(facts).find(|row| of_node.contains(&row.diagnosis));
            let expected = (judged && !facts.unfit).then_some(named);
            assert_eq!(found.map(|row| row.diagnosis), expected, "{facts:?}");
        }
    });
}

#[test]
fn a_node_that_answers_others_is_not_given_up() {
    every(|facts| {
        if facts.own == NodeState::Disputed {
            let remedy = diagnose(facts).next().unwrap().remedy;
            assert!(!acts(remedy), "{facts:?}");
        }
    });
}

#[test]
fn s7_the_witness_changes_no_remedy() {
    every(|facts| {
        if facts.witness == Reach::Silent {
            let answering = Facts {
                witness: Reach::Answers,
                ..*facts
            };
            let with = diagnose(&answering).next().unwrap().remedy;
            let without = diagnose(facts).next().unwrap().remedy;
            assert_eq!(acts(with), acts(without), "{facts:?}");
        }
    });
}

#[test]
fn diagnoses_are_as_kept() {
    let mut text = String::new();
    for row in DIAGNOSES {
        let (name, severity, remedy) = (row.diagnosis, row.severity, row.remedy);
        writeln!(text, "{name} ({severity:?}, {remedy:?}): {}", row.sentence).unwrap();
    }
    golden::check("tables/diagnoses.txt", &text);
}
