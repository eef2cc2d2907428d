//! What is known of each kind of step.

use std::collections::BTreeSet;
use std::time::Duration;

use failover_agent::decision::patience::{has_undo, patience, wave};
use failover_agent::model::plan::StepKind;

#[test]
fn every_kind_of_step_is_listed_once() {
    let known: BTreeSet<StepKind> = StepKind::ALL.into_iter().collect();
    assert_eq!(known.len(), StepKind::ALL.len());
}

#[test]
fn what_converges_is_tried_for_ever_and_the_rest_is_bounded() {
    for kind in StepKind::ALL {
        let patience = patience(kind);
        assert_eq!(
            patience.attempts_max.is_none(),
            wave(kind).is_some(),
            "{kind}"
        );
        assert!(
            patience
                .attempts_max
                .is_none_or(|max| (1..=10).contains(&max)),
            "{kind}"
        );
        assert!(patience.pause_first <= patience.pause_max, "{kind}");
        assert!(patience.pause_max <= Duration::from_mins(1), "{kind}");
        // Nobody is woken again and again without a pause.
        let repeats = patience.attempts_max.is_none_or(|max| max > 1);
        assert!(!repeats || !patience.pause_first.is_zero(), "{kind}");
    }
}

#[test]
fn s11_nothing_after_the_commit_point_has_an_undo() {
    for kind in StepKind::ALL {
        if kind.converges() {
            assert!(!has_undo(kind), "{kind}");
        }
        if wave(kind).is_some() {
            assert!(kind.converges(), "{kind}");
        }
    }
    // What changes something before the commit point can be taken back, but for the release of
    // the lease, which ends its plan, and for a start, which the next fence ends.
    let kept: Vec<StepKind> = StepKind::ALL
        .into_iter()
        .filter(|kind| !kind.converges() && !has_undo(*kind))
        .collect();
    assert_eq!(
        kept,
        [
            StepKind::HandOver,
            StepKind::StartStandby,
            StepKind::CheckCandidate,
            StepKind::StartOwn
        ]
    );
}

#[test]
fn s9_waves_follow_the_order_of_the_steps() {
    let waves: Vec<u8> = StepKind::ALL.into_iter().filter_map(wave).collect();
    assert!(waves.is_sorted());
    let sequence_ends = StepKind::ALL.iter().rposition(|kind| wave(*kind).is_none());
    let waves_begin = StepKind::ALL.iter().position(|kind| wave(*kind).is_some());
    assert!(
        sequence_ends < waves_begin,
        "nothing that converges may delay the sequence"
    );
}
