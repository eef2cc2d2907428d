//! (phase, trigger) → phase: complete, without a dead end.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use failover_agent::decision::state::Phase;
use failover_agent::decision::transitions::{Deed, IGNORED, TRANSITIONS, Trigger, transition};

use crate::golden;

#[test]
fn every_phase_and_trigger_has_one_row_or_one_reason_to_be_ignored() {
    for phase in Phase::ALL {
        for trigger in Trigger::ALL {
            let rows = TRANSITIONS
                .iter()
                .filter(|row| row.from == phase && row.trigger == trigger)
                .count();
            let ignored = IGNORED
                .iter()
                .filter(|(from, ..)| *from == phase)
                .flat_map(|(_, triggers, _)| triggers.iter())
                .filter(|known| **known == trigger)
                .count();
            assert_eq!(
                (rows + ignored),
                1,
                "{phase} {trigger}: {rows} rows, {ignored} ignored"
            );
            assert_eq!(transition(phase, trigger).is_some(), rows == 1);
        }
    }
    let sentences = TRANSITIONS.iter().map(|row| row.sentence);
    let reasons = IGNORED.iter().map(|(_, _, why)| *why);
    assert!(sentences.chain(reasons).all(|text| text.len() > 10));
}

#[test]
fn every_trigger_is_known_once() {
    let known: BTreeSet<Trigger> = Trigger::ALL.into_iter().collect();
    assert_eq!(known.len(), Trigger::ALL.len());
    let used: BTreeSet<Trigger> = TRANSITIONS.iter().map(|row| row.trigger).collect();
    assert_eq!(used, known, "a trigger without any row moves nothing");
}

#[test]
fn every_phase_is_reached_from_watching_and_left_again() {
    let mut reached = BTreeSet::from([Phase::Watching]);
    for _ in Phase::ALL {
        let next: Vec<Phase> = TRANSITIONS
            .iter()
            .filter(|row| reached.contains(&row.from))
            .map(|row| row.to)
            .collect();
        reached.extend(next);
    }
    assert_eq!(reached, Phase::ALL.into_iter().collect());
    for phase in Phase::ALL {
        let leaves = TRANSITIONS
            .iter()
            .any(|row| row.from == phase && row.to != phase);
        // Stopped is left by a person only, who stops and starts the agent.
        assert_eq!(leaves, phase != Phase::Stopped, "{phase}");
    }
}

#[test]
fn a_lost_lease_and_a_stuck_plan_end_every_plan_that_needs_the_lease() {
    for phase in [Phase::GivingUp, Phase::TakingOver, Phase::Restarting] {
        let lost = transition(phase, Trigger::LeaseLost).unwrap();
        assert_eq!(
            (lost.to, lost.deed),
            (Phase::Watching, Deed::DropPlan),
            "S8: {phase}"
        );
        let stuck = transition(phase, Trigger::PlanStuck).unwrap();
        assert_eq!(
            (stuck.to, stuck.deed),
            (Phase::Stopped, Deed::CallHuman),
            "S11: {phase}"
        );
    }
}

#[test]
fn a_stopped_agent_only_fences() {
    let rows: Vec<_> = TRANSITIONS
        .iter()
        .filter(|row| row.from == Phase::Stopped)
        .collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].trigger, rows[0].to),
        (Trigger::FenceCalled, Phase::Stopped)
    );
}

#[test]
fn transitions_are_as_kept() {
    let mut text = String::new();
    for row in TRANSITIONS {
        let (from, trigger, to) = (row.from, row.trigger, row.to);
        writeln!(
            text,
            "{from} + {trigger} -> {to} ({}): {}",
            row.deed, row.sentence
        )
        .unwrap();
    }
    for (phase, triggers, why) in IGNORED {
        let names: Vec<String> = triggers.iter().map(ToString::to_string).collect();
        writeln!(text, "{phase} ignores {}: {why}", names.join(", ")).unwrap();
    }
    golden::check("tables/transitions.txt", &text);
}
