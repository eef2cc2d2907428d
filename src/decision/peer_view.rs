//! What is known of the other site's node: by its own agent, by probes from here, by the witness,
//! and by the WAL that arrives.

use crate::decision::health::{Condition, Health};
use crate::decision::own_view::{newest_report, own_report};
use crate::decision::policy::Policy;
use crate::decision::situate::{condition, lag};
use crate::decision::state::State;
use crate::model::observation::{Channel, DatabaseSeen, NodeReport, Seen, Target};
use crate::model::situation::{NodeState, PeerNode, StandbyState};
use crate::model::{Moment, Role};

/// The other node's newest answer to a probe from here, however old.
#[must_use]
pub fn peer_probe_report(state: &State) -> Option<&NodeReport> {
    newest_report(
        state,
        &[Channel::Persistent, Channel::Fresh].map(Target::PeerDatabase),
    )
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
        | DatabaseSeen::Locked { .. }
        | DatabaseSeen::StartingUp
        | DatabaseSeen::ShuttingDown
        | DatabaseSeen::CannotWrite { .. }
        | DatabaseSeen::RefusesUs { .. } => PeerNode::Alive,
        DatabaseSeen::LocalFault { .. } => PeerNode::Unknown,
        DatabaseSeen::NothingListens
        | DatabaseSeen::TimedOut { .. }
        | DatabaseSeen::Unreachable { .. } => PeerNode::Down,
    }
}

/// Puts together what the other agent says of its node, what this agent's probes see, what the
/// witness sees, and whether WAL still arrives. Any sign of life counts for life (S13).
#[must_use]
pub fn peer_node(policy: &Policy, state: &State, now: Moment) -> PeerNode {
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
        Some(PeerNode::Down) if !wal_arrives(policy, state) && !seen_since_report(state) => {
            return PeerNode::Down;
        }
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

/// A probe from here was answered after the other agent's last report had come.
fn seen_since_report(state: &State) -> bool {
    let reported = state.peer.report.as_ref().map(|(_, at)| *at);
    [Channel::Persistent, Channel::Fresh]
        .map(Target::PeerDatabase)
        .iter()
        .filter_map(|target| state.health(target)?.last_good())
        .any(|(at, _)| Some(*at) > reported)
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

/// The standby's report, or what a probe from here saw of it if that is further: reports come less
/// often than WAL is written, and their age is not its lag.
#[must_use]
pub fn newest_of<'a>(state: &'a State, report: &'a NodeReport) -> &'a NodeReport {
    let same = |seen: &&NodeReport| {
        seen.role == report.role
            && seen.system_id == report.system_id
            && seen.timeline == report.timeline
            && seen.lsn > report.lsn
    };
    peer_probe_report(state).filter(same).unwrap_or(report)
}

/// The other site's node as somebody to hand over to.
#[must_use]
pub fn peer_standby(policy: &Policy, state: &State, own: NodeState, now: Moment) -> StandbyState {
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
    } else if lag(policy, state, newest_of(state, report)) > policy.lag_max {
        StandbyState::Lagging
    } else if own == NodeState::Primary && !report.streaming {
        StandbyState::NotReceiving
    } else {
        StandbyState::Ready
    }
}
