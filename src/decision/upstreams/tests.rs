//! Cases of the table and of time; properties of plans are in `tests/files/upstream/plans.rs`.

use super::*;
use crate::model::observation::{EndpointResult, EndpointSeen, Phases};
use Condition::{Down, Unknown, Up};
use Place::{In, Out};

const RULES: GroupRules = GroupRules {
    thresholds: Thresholds {
        fall: 3,
        rise: 2,
        stale_after: Duration::from_secs(9),
    },
    min_healthy: 2,
    change_max: 2,
    settle: Duration::from_millis(200),
    interval: Duration::from_secs(2),
};

fn at(millis: u64) -> Moment {
    Moment::from_boot(Duration::from_millis(millis))
}

fn places(conditions: &[Condition], present: &[Place]) -> Option<Vec<Place>> {
    plan(&RULES, conditions, Some(present), true).places
}

#[test]
fn what_is_down_goes_and_what_is_up_comes() {
    let becomes = places(&[Up, Down, Up, Up], &[In, In, In, Out]);
    assert_eq!(becomes, Some(vec![In, Out, In, In]));
}

#[test]
fn all_down_changes_nothing() {
    for conditions in [[Down; 3], [Down, Unknown, Down], [Unknown; 3]] {
        let plan = plan(&RULES, &conditions, Some(&[In, Out, In]), true);
        assert_eq!(plan.places, None);
        assert_eq!(plan.held, Some(Held::NoneHealthy));
    }
}

#[test]
fn s13_unknown_members_keep_their_places() {
    let becomes = places(&[Up, Unknown, Unknown, Up], &[In, In, Out, In]);
    assert_eq!(becomes, Some(vec![In, In, Out, In]));
}

#[test]
fn too_few_healthy_ones_and_nobody_is_taken_out_but_the_healthy_come_in() {
    let plan = plan(&RULES, &[Up, Down, Down], Some(&[Out, In, In]), true);
    assert_eq!(plan.places, Some(vec![In, In, In]));
    let held = Held::TooFew {
        healthy: 1,
        needed: 2,
    };
    assert_eq!(plan.held, Some(held));
}

#[test]
fn more_changes_than_allowed_are_left_for_the_next_rendering() {
    let conditions = [Down, Down, Down, Up, Up, Up];
    let mut present = vec![In, In, In, In, In, Out];
    let mut lefts = Vec::new();
    for _ in 0..3 {
        let plan = plan(&RULES, &conditions, Some(&present), true);
        lefts.push(plan.left);
        present = plan.places.unwrap();
    }
    assert_eq!(lefts, [2, 0, 0]);
    assert_eq!(present, [Out, Out, Out, In, In, In]);
}

#[test]
fn as_many_as_the_minimum_stay_until_others_have_come() {
    let conditions = [Down, Down, Up, Up];
    let plan = plan(&RULES, &conditions, Some(&[In, In, Out, Out]), true);
    assert_eq!(plan.places, Some(vec![In, In, In, In]));
    assert_eq!(plan.left, 2);
}

#[test]
fn file_that_has_nothing_yet_gets_what_works_once_everything_was_looked_at() {
    let unclear = plan(&RULES, &[Up, Unknown, Up], None, false);
    assert_eq!(
        (unclear.places, unclear.held),
        (None, Some(Held::FirstLooks))
    );
    let late = plan(&RULES, &[Up, Unknown, Up], None, true);
    assert_eq!(late.places, Some(vec![In, Out, In]));
    // Better all of them than one that is known to be too few.
    let few = plan(&RULES, &[Up, Down, Down], None, false);
    assert_eq!(few.places, Some(vec![In, In, In]));
}

#[test]
fn group_suffices_only_if_the_unknown_ones_do_not_decide_it() {
    let tally = |up, down, unknown| Tally { up, down, unknown };
    assert_eq!(tally(2, 8, 0).suffices(2), Some(true));
    assert_eq!(tally(1, 8, 0).suffices(2), Some(false));
    assert_eq!(tally(1, 8, 1).suffices(2), None);
}

fn look(group: &mut Group, index: usize, result: &EndpointResult, at: Moment) {
    let seen = Seen::Endpoint(EndpointSeen {
        result: result.clone(),
        phases: Phases::default(),
    });
    group.observe(index, seen, at);
}

/// A group that is up, and whose file is right.
fn settled(members: usize) -> Group {
    let mut group = Group::new(RULES, members, at(0));
    for index in 0..members {
        look(&mut group, index, &EndpointResult::Passed, at(100));
    }
    let due = group.due().unwrap();
    let plan = group.begin(due).plan(Some(&vec![In; members]));
    group.rendered(&plan, false, due);
    assert_eq!(group.due(), None);
    group
}

fn dies(group: &mut Group, index: usize, when: u64) {
    for later in 0..3 {
        look(
            group,
            index,
            &EndpointResult::Refused,
            at(when + later * 10),
        );
    }
}

#[test]
fn one_failed_look_changes_nothing() {
    let mut group = settled(3);
    look(&mut group, 0, &EndpointResult::Refused, at(1000));
    assert_eq!(group.due(), None);
    assert!(group.suspect(0));
}

#[test]
fn change_is_rendered_once_it_is_quiet() {
    let mut group = settled(3);
    dies(&mut group, 0, 1000);
    assert_eq!(group.due(), Some(at(1220)));
}

#[test]
fn thousand_changes_within_one_interval_are_one_rendering() {
    let mut group = settled(1000);
    for index in 0..1000 {
        // All of them by looks that are spread over the whole interval.
        dies(&mut group, index, 5000 + index as u64 * 2);
        assert!(
            group.due().unwrap() > at(5000 + index as u64 * 2),
            "{index}"
        );
    }
    assert_eq!(group.due(), Some(at(5000 + 1998 + 20 + 200)));
}

#[test]
fn changes_that_never_cease_are_rendered_after_an_interval() {
    let mut group = settled(100);
    for index in 0..100 {
        dies(&mut group, index, 5000 + index as u64 * 100);
    }
    assert_eq!(group.due(), Some(at(5020 + 2000 + 200)));
}

#[test]
fn next_rendering_waits_for_an_interval() {
    let mut group = settled(9);
    dies(&mut group, 0, 1000);
    let plan = group.begin(at(1300)).plan(Some(&[In; 9]));
    dies(&mut group, 1, 1400);
    group.rendered(&plan, true, at(1500));
    assert_eq!(group.due(), Some(at(3500)));
}

#[test]
fn what_the_limit_left_follows_after_an_interval() {
    let mut group = settled(9);
    for index in 0..5 {
        dies(&mut group, index, 1000);
    }
    let plan = group.begin(at(1300)).plan(Some(&[In; 9]));
    assert_eq!(plan.left, 3);
    group.rendered(&plan, true, at(1500));
    assert_eq!(group.due(), Some(at(3500)));
}

#[test]
fn failed_rendering_is_tried_again_after_pauses_that_grow_to_a_bound() {
    let mut group = settled(3);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        group.begin(at(10_000));
        group.failed(None, at(10_000));
        pauses.push(group.due().unwrap().since(at(10_000)).as_secs());
    }
    assert_eq!(pauses[..4], [1, 2, 4, 8]);
    assert_eq!(pauses[11], 300);
    group.begin(at(10_000));
    group.failed(Some(Duration::from_secs(600)), at(10_000));
    assert_eq!(group.due(), Some(at(610_000)));
}

#[test]
fn agent_that_only_observes_decides_once_and_then_waits_for_a_change() {
    let rules = GroupRules {
        change_max: 1,
        settle: Duration::ZERO,
        ..RULES
    };
    let mut group = Group::new(rules, 5, at(0));
    for index in 0..5 {
        look(&mut group, index, &EndpointResult::Passed, at(100));
    }
    dies(&mut group, 0, 1000);
    dies(&mut group, 1, 1000);
    let due = group.due().unwrap();
    let plan = group.begin(due).plan(Some(&[In; 5]));
    assert_eq!(plan.left, 1);
    group.rendered(&plan, false, due);
    assert_eq!(group.due(), None);
    dies(&mut group, 2, 5000);
    assert_eq!(group.due(), Some(at(5020)));
}

#[test]
fn file_that_waits_for_the_first_looks_is_decided_on_when_one_comes_or_none_can_any_more() {
    let rules = GroupRules {
        settle: Duration::ZERO,
        ..RULES
    };
    let mut group = Group::new(rules, 3, at(0));
    look(&mut group, 0, &EndpointResult::Passed, at(100));
    let plan = group.begin(at(100)).plan(None);
    assert_eq!(plan.held, Some(Held::FirstLooks));
    group.rendered(&plan, false, at(100));
    assert_eq!(group.due(), Some(at(9001)));
    look(&mut group, 1, &EndpointResult::Passed, at(200));
    assert_eq!(group.due(), Some(at(200)));
    let plan = group.begin(at(200)).plan(None);
    group.rendered(&plan, false, at(200));
    // The first one is looked at all the while.
    look(&mut group, 0, &EndpointResult::Passed, at(9000));
    let late = group.begin(group.due().unwrap()).plan(None);
    assert_eq!(late.held, None);
    assert_eq!(late.places, Some(vec![In, In, Out]));
}
