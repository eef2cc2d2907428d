//! State → [`Facts`]: what the agent knows, boiled down to small closed facts.

use std::time::Duration;

use crate::decision::health::{Condition, Health};
use crate::decision::policy::{Policy, Thresholds, TripRule};
use crate::decision::state::{Contact, State};
use crate::model::lease::LeaseView;
use crate::model::observation::{Channel, DatabaseSeen, NodeReport, ProcessSeen, Seen, Target};
use crate::model::situation::{
    Facts, Identity, NodeState, PeerNode, Reach, RecordSays, StandbyState, Standing,
};
use crate::model::{LagBytes, Lsn, Member, Moment, Role};

/// A node whose open connections stop answering while new ones still work is called hung only
/// after this long: a checkpoint may stall commits for half a minute on slow disks.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Boils the state down to facts, as of `now`.
#[must_use]
pub fn situate(policy: &Policy, state: &State, now: Moment) -> Facts {
    let own = own_node(policy, state, now);
    let peer_node = peer_node(policy, state, now);
    let standing = standing(policy, state);
    let identity = identity(state);
    Facts {
        standing,
        record: record_says(policy, state),
        own,
        peer_node,
        peer_agent: reach(policy, &state.peer, now),
        witness: if policy.has_witness() {
            reach(policy, &state.witness, now)
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
    }
}

fn standing(policy: &Policy, state: &State) -> Standing {
    match &state.lease {
        LeaseView::Unknown => Standing::Unknown,
        LeaseView::Held { .. } if policy.has_witness() && !majority_reached(policy, state) => {
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

fn majority_reached(policy: &Policy, state: &State) -> bool {
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
        Target::OwnProcess | Target::OwnDatabase(_) | Target::PeerDatabase(_) => policy.database,
        Target::Endpoint(name) => policy
            .endpoints
            .get(name)
            .copied()
            .unwrap_or(policy.database),
    }
}

/// The condition of a target, as of `now`.
#[must_use]
pub fn condition(policy: &Policy, state: &State, target: &Target, now: Moment) -> Condition {
    state.health(target).map_or(Condition::Unknown, |health| {
        health.condition(thresholds(policy, target), now)
    })
}

fn own_node(policy: &Policy, state: &State, now: Moment) -> NodeState {
    let process = match state.health(&Target::OwnProcess).and_then(Health::last) {
        Some((_, Seen::Process(process))) => Some(process),
        _ => None,
    };
    if process == Some(&ProcessSeen::Gone) {
        return NodeState::Dead;
    }
    let targets = [Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase);
    let [open, fresh] = &targets;
    let open_down = condition(policy, state, open, now) == Condition::Down;
    let fresh_down = condition(policy, state, fresh, now) == Condition::Down;
    if !open_down && !fresh_down {
        return working_node(policy, state, &targets, now);
    }
    let failing = if open_down { open } else { fresh };
    match last_seen(state, failing) {
        Some(DatabaseSeen::CannotWrite { .. }) => NodeState::CannotWrite,
        Some(DatabaseSeen::ShuttingDown) => NodeState::Starting,
        Some(DatabaseSeen::NothingListens) if !process_exists(process) => NodeState::Dead,
        _ if open_down && !fresh_down && stalls(state, open, fresh, now) => NodeState::Busy,
        _ => NodeState::Hung,
    }
}

fn process_exists(process: Option<&ProcessSeen>) -> bool {
    matches!(
        process,
        Some(ProcessSeen::Running { .. } | ProcessSeen::Stopped { .. })
    )
}

/// Open connections time out, but a new one has worked since: slow, not dead, for a while.
fn stalls(state: &State, open: &Target, fresh: &Target, now: Moment) -> bool {
    let Some(since) = state.health(open).and_then(Health::bad_since) else {
        return false;
    };
    let fresh_worked = state
        .health(fresh)
        .and_then(Health::last_good)
        .is_some_and(|(at, _)| *at > since);
    fresh_worked && now.since(since) < STALL_MAX
}

fn working_node(policy: &Policy, state: &State, targets: &[Target], now: Moment) -> NodeState {
    let newest = targets
        .iter()
        .filter(|target| condition(policy, state, target, now) == Condition::Up)
        .filter_map(|target| state.health(target)?.last_good())
        // A full house refuses new connections while the open one still tells the role.
        .max_by_key(|(at, seen)| {
            (
                matches!(seen, Seen::Database(DatabaseSeen::Answered(_))),
                *at,
            )
        });
    match newest {
        Some((_, Seen::Database(seen))) => match seen {
            DatabaseSeen::Answered(report) => match report.role {
                Role::Primary => NodeState::Primary,
                Role::Standby => NodeState::Standby,
            },
            DatabaseSeen::TooManyClients => NodeState::Busy,
            DatabaseSeen::StartingUp => NodeState::Starting,
            DatabaseSeen::RefusesUs { .. } => NodeState::RefusesUs,
            DatabaseSeen::ShuttingDown
            | DatabaseSeen::CannotWrite { .. }
            | DatabaseSeen::NothingListens
            | DatabaseSeen::TimedOut { .. }
            | DatabaseSeen::Unreachable { .. } => NodeState::Unknown,
        },
        _ => NodeState::Unknown,
    }
}

fn last_seen<'a>(state: &'a State, target: &Target) -> Option<&'a DatabaseSeen> {
    match state.health(target)?.last()? {
        (_, Seen::Database(seen)) => Some(seen),
        _ => None,
    }
}

/// The own node's newest report of itself, however old.
#[must_use]
pub fn own_report(state: &State) -> Option<&NodeReport> {
    newest_report(
        state,
        &[Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase),
    )
}

/// The other node's newest answer to a probe from here, however old.
#[must_use]
pub fn peer_probe_report(state: &State) -> Option<&NodeReport> {
    newest_report(
        state,
        &[Channel::Persistent, Channel::Fresh].map(Target::PeerDatabase),
    )
}

fn newest_report<'a>(state: &'a State, targets: &[Target; 2]) -> Option<&'a NodeReport> {
    targets
        .iter()
        .filter_map(|target| match state.health(target)?.last_good()? {
            (at, Seen::Database(DatabaseSeen::Answered(report))) => Some((at, report)),
            _ => None,
        })
        .max_by_key(|(at, _)| **at)
        .map(|(_, report)| report)
}

/// What the other agent last reported of its own node, if it has reported lately.
#[must_use]
pub fn peer_own_report<'a>(
    policy: &Policy,
    state: &'a State,
    now: Moment,
) -> Option<&'a DatabaseSeen> {
    let (report, at) = state.peer.report.as_ref()?;
    (now.since(*at) <= policy.silent_after()).then_some(report.own_database.as_ref())?
}

fn life_sign(seen: &DatabaseSeen) -> PeerNode {
    match seen {
        DatabaseSeen::Answered(report) => match report.role {
            Role::Primary => PeerNode::Primary,
            Role::Standby => PeerNode::Standby,
        },
        DatabaseSeen::TooManyClients
        | DatabaseSeen::StartingUp
        | DatabaseSeen::ShuttingDown
        | DatabaseSeen::CannotWrite { .. }
        | DatabaseSeen::RefusesUs { .. } => PeerNode::Alive,
        DatabaseSeen::NothingListens
        | DatabaseSeen::TimedOut { .. }
        | DatabaseSeen::Unreachable { .. } => PeerNode::Down,
    }
}

/// Puts together what the other agent says of its node, what this agent's probes see, what the
/// witness sees, and whether WAL still arrives. Any sign of life counts for life (S13).
fn peer_node(policy: &Policy, state: &State, now: Moment) -> PeerNode {
    let reported = peer_own_report(policy, state, now).map(life_sign);
    let probed = [Channel::Persistent, Channel::Fresh]
        .map(Target::PeerDatabase)
        .map(|target| match condition(policy, state, &target, now) {
            Condition::Unknown => None,
            Condition::Down => Some(PeerNode::Down),
            Condition::Up => match state.health(&target).and_then(Health::last_good) {
                Some((_, Seen::Database(seen))) => Some(life_sign(seen)),
                _ => None,
            },
        });
    let witnessed = witness_sighting(policy, state, now);
    let signs = [reported, probed[0], probed[1], witnessed];
    let any = |wanted: PeerNode| signs.contains(&Some(wanted));
    // The other agent knows its own node best, and at once.
    match reported {
        Some(PeerNode::Primary) => return PeerNode::Primary,
        Some(PeerNode::Down) if !wal_arrives(policy, state) => return PeerNode::Down,
        _ => {}
    }
    if any(PeerNode::Primary) {
        PeerNode::Primary
    } else if any(PeerNode::Standby) {
        PeerNode::Standby
    } else if any(PeerNode::Alive) || wal_arrives(policy, state) {
        PeerNode::Alive
    } else if any(PeerNode::Down) {
        PeerNode::Down
    } else {
        PeerNode::Unknown
    }
}

/// What the witness sees of the other site's node. Its failure to see it accuses nobody.
fn witness_sighting(policy: &Policy, state: &State, now: Moment) -> Option<PeerNode> {
    let (report, at) = state.witness.report.as_ref()?;
    if now.since(*at) > policy.silent_after() {
        return None;
    }
    report
        .sees
        .iter()
        .filter(|sighting| sighting.site == policy.peer)
        .map(|sighting| life_sign(&sighting.seen))
        .find(|sign| *sign != PeerNode::Down)
}

/// The own standby has heard from its sender within the time in which a living one would be heard.
fn wal_arrives(policy: &Policy, state: &State) -> bool {
    let fresh = [Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase);
    fresh.iter().any(|target| {
        let Some(health) = state.health(target) else {
            return false;
        };
        matches!(
            health.last(),
            Some((_, Seen::Database(DatabaseSeen::Answered(report))))
                if report.role == Role::Standby
                    && report.streaming
                    && report.heard.is_some_and(|age| age < policy.silent_after())
        )
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

/// The other site's node as somebody to hand over to.
fn peer_standby(policy: &Policy, state: &State, own: NodeState, now: Moment) -> StandbyState {
    let Some(seen) = peer_own_report(policy, state, now) else {
        return StandbyState::Unknown;
    };
    let tripped = state
        .peer
        .report
        .as_ref()
        .is_some_and(|(report, _)| report.site_tripped);
    let DatabaseSeen::Answered(report) = seen else {
        return StandbyState::Unusable;
    };
    let own_id = own_report(state).map(|own| own.system_id);
    if report.role != Role::Standby || tripped || own_id.is_some_and(|id| id != report.system_id) {
        StandbyState::Unusable
    } else if lag(policy, state, report) > policy.lag_max {
        StandbyState::Lagging
    } else if own == NodeState::Primary && !report.streaming {
        StandbyState::NotReceiving
    } else {
        StandbyState::Ready
    }
}

/// The own node as a standby.
fn own_standby(state: &State, own: NodeState, peer: PeerNode) -> StandbyState {
    match (own, own_report(state)) {
        (NodeState::Standby, Some(report)) => {
            let sender_lives = matches!(peer, PeerNode::Primary | PeerNode::Alive);
            if !report.streaming && sender_lives {
                StandbyState::NotReceiving
            } else {
                StandbyState::Ready
            }
        }
        (NodeState::Unknown, _) => StandbyState::Unknown,
        _ => StandbyState::Unusable,
    }
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
