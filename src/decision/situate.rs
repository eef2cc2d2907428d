//! State → [`Facts`]: what the agent knows, boiled down to small closed facts.
//!
//! The two nodes have files of their own: `own_view` and `peer_view`.

use crate::decision::fitness;
use crate::decision::health::Condition;
use crate::decision::observing;
use crate::decision::own_view::{own_disk, own_node, own_report, own_standby};
use crate::decision::peer_view::{peer_node, peer_probe_report, peer_standby};
use crate::decision::policy::{Policy, Thresholds, TripRule};
use crate::decision::state::{Contact, State};
use crate::model::lease::LeaseView;
use crate::model::observation::{DatabaseSeen, NodeReport, Target};
use crate::model::situation::{Facts, Identity, NodeState, Reach, RecordSays, Standing};
use crate::model::{LagBytes, Lsn, Member, Moment};

/// Boils the state down to facts, as of `now`.
#[must_use]
pub fn situate(policy: &Policy, state: &State, now: Moment) -> Facts {
    let own = own_node(policy, state, now);
    let peer_node = peer_node(policy, state, now);
    let identity = identity(state);
    let peer_agent = reach(policy, &state.peer, now);
    let (standing, record) = observing::imagined(
        policy,
        state,
        (standing(policy, state), record_says(policy, state)),
        (peer_node, peer_agent),
    );
    let facts = Facts {
        standing,
        record: match record {
            // A promotion that is known to have happened, of a node that does not run now: it is
            // started like any other primary, and its first write proves it.
            RecordSays::MinePromoting if state.promoted && own == NodeState::Dead => {
                RecordSays::Mine
            }
            says @ (RecordSays::Nothing
            | RecordSays::Mine
            | RecordSays::MinePromoting
            | RecordSays::Theirs
            | RecordSays::TheirsPromoting) => says,
        },
        own,
        disk: own_disk(state, own),
        peer_node,
        peer_agent,
        witness: if policy.has_witness() {
            reach(policy, &state.witness, now)
        } else if policy.lease_runs_out() {
            // Nobody waits for it, and its absence means nothing.
            Reach::Unknown
        } else {
            Reach::Absent
        },
        identity,
        standby: match standing {
            Standing::Active | Standing::ActiveCutOff => peer_standby(policy, state, own, now),
            Standing::Unknown
            | Standing::Inherited
            | Standing::Peer
            | Standing::FreeForMe
            | Standing::Free => own_standby(state, own, peer_node),
        },
        tripped: policy
            .trips
            .iter()
            .any(|rule| trip_broken(rule, state, now)),
        endpoint_down: policy.endpoints.keys().any(|name| {
            condition(policy, state, &Target::Endpoint(name.clone()), now) == Condition::Down
        }),
        guard_lost: state.guard_lost.is_some(),
        finish_failed: state.finish_failed,
        unfit: false,
    };
    match fitness::unfit(policy, state, now) {
        Some(_) => fitness::without_accusations(facts),
        None => facts,
    }
}

fn standing(policy: &Policy, state: &State) -> Standing {
    match &state.lease {
        LeaseView::Unknown => Standing::Unknown,
        LeaseView::Held { .. } if policy.lease_runs_out() && !renewable(policy, state) => {
            Standing::ActiveCutOff
        }
        LeaseView::Held { .. } => Standing::Active,
        LeaseView::Other { holder, .. } if *holder == policy.me => Standing::Inherited,
        LeaseView::Other { .. } => Standing::Peer,
        LeaseView::Free {
            released_to: Some(to),
            ..
        } if *to == policy.me => Standing::FreeForMe,
        LeaseView::Free { .. } => Standing::Free,
    }
}

/// Whether those who let this site hold the lease answer: a majority of the voters; or the store,
/// or else the other agent.
fn renewable(policy: &Policy, state: &State) -> bool {
    if policy.lease_in_store {
        return !state.reached.is_empty();
    }
    state.reached.len() * 2 > policy.voters.len()
}

fn record_says(policy: &Policy, state: &State) -> RecordSays {
    match &state.record {
        None => RecordSays::Nothing,
        Some(record) => match (record.primary == policy.me, record.promoting) {
            (true, false) => RecordSays::Mine,
            (true, true) => RecordSays::MinePromoting,
            (false, false) => RecordSays::Theirs,
            (false, true) => RecordSays::TheirsPromoting,
        },
    }
}

/// Whether a member answers, as of `now`.
#[must_use]
pub fn reach(policy: &Policy, contact: &Contact, now: Moment) -> Reach {
    let heard_lately = contact
        .report
        .as_ref()
        .is_some_and(|(_, at)| now.since(*at) <= policy.silent_after());
    if heard_lately {
        return Reach::Answers;
    }
    match contact.missed_since {
        Some(since) if now.since(since) > policy.silent_after() => Reach::Silent,
        _ => Reach::Unknown,
    }
}

/// The thresholds of a target.
#[must_use]
pub fn thresholds(policy: &Policy, target: &Target) -> Thresholds {
    match target {
        Target::OwnProcess
        | Target::OwnDirectory
        | Target::OwnDatabase(_)
        | Target::PeerDatabase(_) => policy.database,
        Target::Endpoint(name) => policy
            .endpoints
            .get(name)
            .copied()
            .unwrap_or(policy.database),
        Target::Neutral(_) => policy.self_check,
    }
}

/// The condition of a target, as of `now`.
#[must_use]
pub fn condition(policy: &Policy, state: &State, target: &Target, now: Moment) -> Condition {
    state.health(target).map_or(Condition::Unknown, |health| {
        health.condition(thresholds(policy, target), now)
    })
}

fn identity(state: &State) -> Identity {
    let own = own_report(state).map(|report| report.system_id);
    let reported = state
        .peer
        .report
        .as_ref()
        .and_then(|(report, _)| match &report.own_database {
            Some(DatabaseSeen::Answered(report)) => Some(report.system_id),
            _ => None,
        });
    let probed = peer_probe_report(state).map(|report| report.system_id);
    let recorded = state.record.as_ref().map(|record| record.system_id);
    let Some(own) = own else {
        return Identity::Unknown;
    };
    let others = [reported, probed, recorded];
    if others.iter().flatten().any(|other| *other != own) {
        Identity::Differs
    } else if others.iter().any(Option::is_some) {
        Identity::Same
    } else {
        Identity::Unknown
    }
}

/// The newest WAL position that the primary is known to have reached.
#[must_use]
pub fn newest_lsn(policy: &Policy, state: &State) -> Lsn {
    let recorded = state
        .record
        .as_ref()
        .map_or(Lsn(0), |record| record.last_lsn);
    let primary_is_mine = state
        .record
        .as_ref()
        .is_some_and(|record| record.primary == policy.me);
    let seen = if primary_is_mine {
        own_report(state).map(|report| report.lsn)
    } else {
        let reported =
            state
                .peer
                .report
                .as_ref()
                .and_then(|(report, _)| match &report.own_database {
                    Some(DatabaseSeen::Answered(report)) => Some(report.lsn),
                    _ => None,
                });
        reported.max(peer_probe_report(state).map(|report| report.lsn))
    };
    recorded.max(seen.unwrap_or(Lsn(0)))
}

/// How far a standby's report is behind the newest known write.
#[must_use]
pub fn lag(policy: &Policy, state: &State, standby: &NodeReport) -> LagBytes {
    standby.lsn.behind(newest_lsn(policy, state))
}

/// Whether a trip rule's condition holds right now, whatever for how long.
#[must_use]
pub fn trip_condition(policy: &Policy, rule: &TripRule, state: &State, now: Moment) -> bool {
    let down = rule
        .probes
        .iter()
        .filter(|name| {
            condition(policy, state, &Target::Endpoint((*name).clone()), now) == Condition::Down
        })
        .count();
    down >= rule.at_least
}

fn trip_broken(rule: &TripRule, state: &State, now: Moment) -> bool {
    state
        .trip_since
        .get(&rule.name)
        .is_some_and(|since| now.since(*since) >= rule.down_for)
}

/// The witness or the other agent, by member.
#[must_use]
pub fn contact<'a>(policy: &Policy, state: &'a State, member: &Member) -> Option<&'a Contact> {
    match member {
        Member::Witness => Some(&state.witness),
        Member::Site(site) if *site == policy.peer => Some(&state.peer),
        Member::Site(_) => None,
    }
}
