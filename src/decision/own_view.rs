//! What is known of the own node.

use std::time::Duration;

use crate::decision::health::{Condition, Health};
use crate::decision::policy::Policy;
use crate::decision::situate::condition;
use crate::decision::state::{Contact, State};
use crate::model::observation::{
    Channel, DatabaseSeen, DiskFault, NodeReport, ProcessSeen, Seen, Target,
};
use crate::model::situation::{Disk, NodeState, PeerNode, StandbyState};
use crate::model::{Moment, Role};

/// A node whose open connections stop answering while new ones still work is called hung only
/// after this long: a checkpoint may stall commits for half a minute on slow disks.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The own node, as of `now`.
#[must_use]
pub fn own_node(policy: &Policy, state: &State, now: Moment) -> NodeState {
    let process = match state.health(&Target::OwnProcess).and_then(Health::last) {
        Some((_, Seen::Process(process))) => Some(process),
        _ => None,
    };
    if process == Some(&ProcessSeen::Gone) {
        return NodeState::Dead;
    }
    // Whatever it still answers, and even commits: nobody will find it there again.
    if directory_gone(policy, state, now) {
        return NodeState::CannotWrite;
    }
    let targets = [Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase);
    let [open, fresh] = &targets;
    if between_too_long(policy, state, &targets, now) {
        return NodeState::Hung;
    }
    let open_down = fails(policy, state, open, now);
    let fresh_down =
        fails(policy, state, fresh, now) && !just_back(policy, state, (open, fresh), now);
    if !open_down && !fresh_down {
        return if locked(state, open) {
            NodeState::Busy
        } else {
            working_node(policy, state, &targets, now)
        };
    }
    let failing = if open_down { open } else { fresh };
    let stopped = matches!(process, Some(ProcessSeen::Stopped { .. }));
    let disputed = !stopped && others_get_answers(policy, state, (failing, fresh), now);
    match last_seen(state, failing) {
        Some(DatabaseSeen::CannotWrite { .. }) => NodeState::CannotWrite,
        Some(DatabaseSeen::ShuttingDown) => NodeState::Starting,
        _ if stopped => NodeState::Hung,
        // A refused connection is no stall, however lately the standby heard.
        Some(DatabaseSeen::NothingListens) if !process_exists(process) => match disputed {
            true => NodeState::Disputed,
            false => NodeState::Dead,
        },
        // That WAL flows says less: it does so too when only the way from here is broken.
        _ if disputed && fresh_down => NodeState::Disputed,
        _ if open_down && wal_flows(policy, state, open, now) => NodeState::Busy,
        _ if disputed => NodeState::Disputed,
        _ if open_down && !fresh_down && stalls(state, open, fresh, now) => NodeState::Busy,
        _ => NodeState::Hung,
    }
}

/// What is wrong with the disk of a node that cannot write or is dead: what its directory showed
/// last, be it once, else the server's own last words. That it takes no writes from here is no
/// reason to hang. Says nothing of any other node.
#[must_use]
pub fn own_disk(state: &State, own: NodeState) -> Disk {
    let told = |target| state.health(&target).and_then(Health::fault);
    let last_words = || told(Target::OwnDatabase(Channel::Persistent));
    let fault = match own {
        NodeState::CannotWrite | NodeState::Dead => told(Target::OwnDirectory).or_else(last_words),
        NodeState::Hung => told(Target::OwnDirectory).filter(|fault| *fault != DiskFault::ReadOnly),
        NodeState::Unknown
        | NodeState::Primary
        | NodeState::Standby
        | NodeState::Starting
        | NodeState::Busy
        | NodeState::RefusesUs
        | NodeState::Disputed => None,
    };
    match fault {
        None => Disk::Fine,
        Some(DiskFault::Full) => Disk::Full,
        Some(DiskFault::ReadOnly) => Disk::ReadOnly,
        Some(DiskFault::Gone) => Disk::Gone,
    }
}

/// Several looks in a row did not find the data directory. A disk that hangs tells nothing (S13),
/// and one that takes no writes from here may take the server's (a unit's `ProtectSystem=`): that
/// explains a failure, and is none.
fn directory_gone(policy: &Policy, state: &State, now: Moment) -> bool {
    let target = Target::OwnDirectory;
    let fault = state.health(&target).and_then(Health::fault);
    fault == Some(DiskFault::Gone) && condition(policy, state, &target, now) == Condition::Down
}

/// It is down, and its last look was no better. On the way up again nothing speaks for a failover,
/// and what excused the failures before cannot be told any more.
fn fails(policy: &Policy, state: &State, target: &Target, now: Moment) -> bool {
    condition(policy, state, target, now) == Condition::Down
        && state
            .health(target)
            .is_some_and(|health| health.bad_since().is_some())
}

/// The open connection serves again, and no new one has been tried since.
fn just_back(
    policy: &Policy,
    state: &State,
    (open, fresh): (&Target, &Target),
    now: Moment,
) -> bool {
    let (Some(health), Some(tried)) = (state.health(open), state.health(fresh)) else {
        return false;
    };
    match condition(policy, state, open, now) {
        Condition::Unknown => false,
        Condition::Down => health.bad_since().is_none(),
        Condition::Up => tried.last().is_some_and(|(at, _)| *at <= health.since()),
    }
}

/// Somebody's lock keeps the canary out: nothing proves that commits work, and nothing speaks
/// against it.
fn locked(state: &State, open: &Target) -> bool {
    matches!(last_seen(state, open), Some(DatabaseSeen::Locked { .. }))
}

/// It has been starting up or shutting down for longer than any start may take: nothing says that
/// this will ever end, and nobody is served meanwhile.
fn between_too_long(policy: &Policy, state: &State, targets: &[Target], now: Moment) -> bool {
    targets
        .iter()
        .filter_map(|target| state.health(target)?.between_since())
        .any(|since| now.since(since) > policy.start_timeout)
}

/// The standby has heard from this node since its open connection stopped answering (I16): it
/// commits for others, however slowly. A node that stopped as a whole has sent nothing since.
fn wal_flows(policy: &Policy, state: &State, open: &Target, now: Moment) -> bool {
    let Some(since) = state.health(open).and_then(Health::bad_since) else {
        return false;
    };
    let Some((report, at)) = state.peer.report.as_ref() else {
        return false;
    };
    let Some(DatabaseSeen::Answered(standby)) = &report.own_database else {
        return false;
    };
    let heard = standby.heard.filter(|_| standby.streaming);
    let lately = |heard_at: Moment| now.since(heard_at) <= policy.silent_after();
    standby.role == Role::Standby && heard.is_some_and(|age| *at - age > since && lately(*at - age))
}

/// Everybody else who looks at the own node has had an answer on a new connection since this
/// agent's looks began to fail, and this agent has had none: what is broken is the way from here.
fn others_get_answers(
    policy: &Policy,
    state: &State,
    (failing, fresh): (&Target, &Target),
    now: Moment,
) -> bool {
    let Some(since) = state.health(failing).and_then(Health::bad_since) else {
        return false;
    };
    if fresh_worked(state, fresh, since) {
        return false;
    }
    let gets_answers = |contact: &Contact| {
        let Some((report, at)) = contact.report.as_ref() else {
            return false;
        };
        report.sees.iter().any(|sighting| {
            let answers = matches!(sighting.seen, DatabaseSeen::Answered(_))
                && sighting.site == policy.me
                && sighting.target == Target::PeerDatabase(Channel::Fresh);
            answers
                && sighting.age.is_some_and(|age| {
                    let looked_at = *at - age;
                    looked_at > since && now.since(looked_at) <= policy.silent_after()
                })
        })
    };
    gets_answers(&state.peer) && (!policy.has_witness() || gets_answers(&state.witness))
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
    fresh_worked(state, fresh, since) && now.since(since) < STALL_MAX
}

/// A new connection was answered since then.
fn fresh_worked(state: &State, fresh: &Target, since: Moment) -> bool {
    let last_good = state.health(fresh).and_then(Health::last_good);
    last_good.is_some_and(|(at, _)| *at > since)
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
            DatabaseSeen::TooManyClients | DatabaseSeen::Locked { .. } => NodeState::Busy,
            DatabaseSeen::StartingUp => NodeState::Starting,
            DatabaseSeen::RefusesUs { .. } => NodeState::RefusesUs,
            DatabaseSeen::ShuttingDown
            | DatabaseSeen::CannotWrite { .. }
            | DatabaseSeen::NothingListens
            | DatabaseSeen::TimedOut { .. }
            | DatabaseSeen::LocalFault { .. }
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

/// When the own node last answered a look.
#[must_use]
pub fn answered_at(state: &State) -> Option<Moment> {
    [Channel::Persistent, Channel::Fresh]
        .map(Target::OwnDatabase)
        .iter()
        .filter_map(|target| Some(state.health(target)?.last_report()?.0))
        .max()
}

/// The own node's newest report of itself, however old.
#[must_use]
pub fn own_report(state: &State) -> Option<&NodeReport> {
    newest_report(
        state,
        &[Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase),
    )
}

/// The newest answer through any of these channels, however old.
#[must_use]
pub fn newest_report<'a>(state: &'a State, targets: &[Target; 2]) -> Option<&'a NodeReport> {
    targets
        .iter()
        .filter_map(|target| state.health(target)?.last_report())
        .max_by_key(|(at, _)| *at)
        .map(|(_, report)| report)
}

/// The own node as a standby.
#[must_use]
pub fn own_standby(state: &State, own: NodeState, peer: PeerNode) -> StandbyState {
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
