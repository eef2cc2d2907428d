//! What holds of every plan for a proxy's file, whatever the health of its members.

use std::time::Duration;

use failover_agent::decision::health::Condition::{self, Down, Unknown, Up};
use failover_agent::decision::policy::Thresholds;
use failover_agent::decision::upstreams::{GroupRules, plan};
use failover_agent::model::upstream::Place::{self, In, Out};
use proptest::prelude::*;

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

fn healthy_ones(conditions: &[Condition]) -> usize {
    conditions
        .iter()
        .filter(|condition| **condition == Up)
        .count()
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![Just(Up), Just(Down), Just(Unknown)]
}

fn world() -> impl Strategy<Value = (GroupRules, Vec<(Condition, Place)>)> {
    let place = prop_oneof![Just(In), Just(Out)];
    let members = prop::collection::vec((condition(), place), 1..40);
    (members, 1..20_usize, 1..20_usize).prop_map(|(members, min_healthy, change_max)| {
        let rules = GroupRules {
            min_healthy: min_healthy.min(members.len()),
            change_max,
            ..RULES
        };
        (rules, members)
    })
}

fn members_in(places: &[Place]) -> usize {
    places.iter().filter(|place| **place == In).count()
}

proptest! {
    #[test]
    fn every_plan_keeps_minimum_limit_and_what_is_unknown((rules, members) in world()) {
        let (conditions, present): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let plan = plan(&rules, &conditions, Some(&present), true);
        let healthy = healthy_ones(&conditions);
        prop_assert_eq!(plan.places.is_none(), healthy == 0);
        let places = plan.places.unwrap_or_else(|| present.clone());
        let before = members_in(&present);
        prop_assert!(members_in(&places) >= rules.min_healthy.min(before));
        let changed = present.iter().zip(&places).filter(|(old, new)| old != new).count();
        prop_assert!(changed <= rules.change_max);
        for ((condition, old), new) in conditions.iter().zip(&present).zip(&places) {
            match condition {
                Up => prop_assert!(*new == In || *old == Out),
                Down => prop_assert!(*new == Out || *old == In),
                Unknown => prop_assert_eq!(old, new),
            }
        }
        if healthy < rules.min_healthy {
            let taken_out = present.iter().zip(&places).any(|(old, new)| *old == In && *new == Out);
            prop_assert!(!taken_out);
        }
    }

    #[test]
    fn stable_health_comes_to_rest_and_stays_there((rules, members) in world()) {
        let (conditions, mut present): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let mut rest = None;
        for round in 0..100 {
            let plan = plan(&rules, &conditions, Some(&present), true);
            let next = plan.places.unwrap_or_else(|| present.clone());
            if next == present {
                prop_assert_eq!(plan.left, 0, "it rests with something left");
                rest = Some(round);
                break;
            }
            present = next;
        }
        prop_assert!(rest.is_some(), "it never rests");
        let healthy = healthy_ones(&conditions);
        if healthy >= rules.min_healthy {
            for (condition, place) in conditions.iter().zip(&present) {
                prop_assert!(*condition == Unknown || (*condition == Up) == (*place == In));
            }
        }
    }
}
