//! Reasons not to act. Inputs of a plan, never an afterthought: they are checked before step 1.

use std::time::Duration;

use crate::decision::brakes;
use crate::decision::fitness;
use crate::decision::own_view;
use crate::decision::peer_view;
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::State;
use crate::model::brakes::Conduct;
use crate::model::lease::ClusterRecord;
use crate::model::observation::DatabaseSeen;
use crate::model::situation::{
    Facts, Identity, NodeState, PeerNode, Reach, RecordSays, StandbyState, Standing,
};
use crate::model::time::Now;
use crate::model::{LagBytes, SiteName};

/// Who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mover {
    /// The agent by itself: all guards apply.
    Agent,
    /// A person: guards of preference do not apply, guards of safety do (S15).
    Operator,
}

/// One reason not to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// An automatic failover happened a short while ago (S14).
    Blocked {
        /// How long it still lasts.
        left: Duration,
    },
    /// There were as many as may be within the window.
    LimitReached {
        /// How many may be.
        limit: usize,
        /// Within this.
        window: Duration,
        /// How long until there may be another one.
        left: Duration,
    },
    /// Somebody paused what agents do by themselves.
    Paused {
        /// Who, and where.
        by: String,
        /// Why.
        reason: Option<String>,
        /// How long it still lasts; `None`: until somebody resumes.
        left: Option<Duration>,
    },
    /// This agent only observes.
    Observing,
    /// The other agent only observes: it would neither take over nor fence its node in time.
    PeerObserves {
        /// Whose.
        site: SiteName,
    },
    /// This agent is no judge of others.
    Unfit {
        /// Why.
        why: String,
    },
    /// The journal cannot be written (S11).
    JournalBroken {
        /// Why.
        why: String,
    },
    /// The own node cannot be fenced by this agent (S3).
    CannotFence {
        /// Whose node.
        site: SiteName,
    },
    /// The nodes are not copies of one database.
    WrongCluster,
    /// The other agent does not answer.
    PeerSilent {
        /// Who.
        site: SiteName,
    },
    /// The other site's node cannot take over.
    StandbyUnusable {
        /// Whose.
        site: SiteName,
        /// What was seen.
        why: String,
    },
    /// It lacks too much.
    StandbyLagging {
        /// Whose.
        site: SiteName,
        /// How much.
        lag: LagBytes,
        /// How much is allowed.
        lag_max: LagBytes,
    },
    /// It is up but receives nothing from a living primary.
    NotReceiving {
        /// Whose.
        site: SiteName,
    },
    /// Nothing is known of it yet.
    StandbyUnknown {
        /// Whose.
        site: SiteName,
    },
    /// A majority of voters does not answer.
    CutOff,
    /// There is no third vote, so a silent site is never taken over (S7).
    NoWitness,
    /// Somebody still sees the other site's database alive.
    PrimaryLives {
        /// Whose.
        site: SiteName,
    },
    /// The other site still holds the lease.
    LeaseRuns {
        /// Who.
        site: SiteName,
    },
    /// The other site's guard was switched off: its lease does not run out, its node may write.
    GuardOff {
        /// Whose.
        site: SiteName,
        /// By whom.
        by: String,
    },
    /// The own guard was switched off.
    OwnGuardOff,
    /// Nobody has ever held the lease, so nobody knows which node has the data.
    NoRecord,
    /// The other site began a promotion that nobody knows the end of.
    PromotionUnfinished {
        /// Who.
        site: SiteName,
    },
    /// The own promotion is not proved by a write yet.
    PromotionUnproved,
    /// The own node is no standby.
    OwnNotStandby {
        /// What it is.
        own: NodeState,
    },
    /// Nothing but this agent would fence the own node at its deadline (S4).
    NoGuard {
        /// Why.
        why: String,
    },
}

/// What speaks against giving the active role to the other site.
#[must_use]
pub fn against_give_up(
    policy: &Policy,
    state: &State,
    facts: &Facts,
    mover: Mover,
    now: Now,
) -> Vec<Guard> {
    let mut guards = common(policy, state, facts, mover, now);
    guards.extend(journal_broken(state));
    let site = policy.peer.clone();
    if facts.standing == Standing::ActiveCutOff {
        guards.push(Guard::CutOff);
    }
    // Guard and gate would go on believing that this lease never ends.
    let pinned = state.record.as_ref().and_then(ClusterRecord::pinned_to);
    if pinned == Some(&policy.me) {
        guards.push(Guard::OwnGuardOff);
    }
    if state.record.as_ref().is_some_and(|record| record.promoting) {
        guards.push(Guard::PromotionUnproved);
    }
    if !policy.can_fence.get(&policy.me).copied().unwrap_or(false) {
        guards.push(Guard::CannotFence {
            site: policy.me.clone(),
        });
    }
    if facts.peer_agent != Reach::Answers {
        guards.push(Guard::PeerSilent { site });
        return guards;
    }
    guards.extend(peer_observes(policy, state));
    match facts.standby {
        StandbyState::Ready => {}
        StandbyState::Unknown => guards.push(Guard::StandbyUnknown { site }),
        StandbyState::NotReceiving => guards.push(Guard::NotReceiving { site }),
        StandbyState::Unusable => {
            let why = unusable_because(policy, state, now);
            guards.push(Guard::StandbyUnusable { site, why });
        }
        StandbyState::Lagging => {
            let lag = match peer_view::peer_own_report(policy, state, now.moment) {
                Some(DatabaseSeen::Answered(report)) => {
                    situate::lag(policy, state, peer_view::newest_of(state, report))
                }
                _ => LagBytes(u64::MAX),
            };
            guards.push(Guard::StandbyLagging {
                site,
                lag,
                lag_max: policy.lag_max,
            });
        }
    }
    guards
}

/// What speaks against this site taking the active role from a silent one.
#[must_use]
pub fn against_take_over(
    policy: &Policy,
    state: &State,
    facts: &Facts,
    mover: Mover,
    now: Now,
) -> Vec<Guard> {
    let mut guards = common(policy, state, facts, mover, now);
    let site = policy.peer.clone();
    if !policy.lease_runs_out() {
        guards.push(Guard::NoWitness);
    }
    // It may be cut off and go on writing: only a fence that its own agent proves ends that (S3).
    if !policy.can_fence.get(&policy.peer).copied().unwrap_or(false) {
        guards.push(Guard::CannotFence { site: site.clone() });
    }
    guards.extend(peer_observes(policy, state));
    if mover == Mover::Agent {
        guards.extend(unfit(policy, state, now));
    }
    let guard_off = brakes::peer_guard_off(policy, state);
    let runs_out = policy.lease_runs_out() && guard_off.is_none();
    guards.extend(guard_off);
    match facts.standing {
        Standing::Unknown => guards.push(Guard::CutOff),
        // Where it never does, a reason above says it all.
        Standing::Peer if runs_out => {
            guards.push(Guard::LeaseRuns { site: site.clone() });
        }
        Standing::Peer
        | Standing::Free
        | Standing::FreeForMe
        | Standing::Inherited
        | Standing::Active
        | Standing::ActiveCutOff => {}
    }
    match facts.peer_node {
        PeerNode::Primary | PeerNode::Alive | PeerNode::Standby => {
            guards.push(Guard::PrimaryLives { site });
        }
        PeerNode::Unknown | PeerNode::Down => {}
    }
    match facts.record {
        RecordSays::Nothing => guards.push(Guard::NoRecord),
        RecordSays::TheirsPromoting => {
            let site = policy.peer.clone();
            guards.push(Guard::PromotionUnfinished { site });
        }
        RecordSays::Mine | RecordSays::MinePromoting | RecordSays::Theirs => {}
    }
    guards.extend(against_own_node(policy, state, facts));
    guards
}

/// What speaks against promoting the own node, whoever gave it the lease.
#[must_use]
pub fn against_own_node(policy: &Policy, state: &State, facts: &Facts) -> Vec<Guard> {
    let mut guards: Vec<_> = journal_broken(state).into_iter().collect();
    guards.extend(no_guard(state));
    if facts.own != NodeState::Standby {
        guards.push(Guard::OwnNotStandby { own: facts.own });
    }
    if let Some(report) = own_view::own_report(state) {
        let lag = situate::lag(policy, state, report);
        if lag > policy.lag_max {
            let site = policy.me.clone();
            guards.push(Guard::StandbyLagging {
                site,
                lag,
                lag_max: policy.lag_max,
            });
        }
    }
    guards
}

/// The journal, as a reason not to begin any plan.
#[must_use]
pub fn journal_broken(state: &State) -> Option<Guard> {
    let why = state.journal_broken.clone()?;
    Some(Guard::JournalBroken { why })
}

/// The missing guard, as a reason not to become active.
#[must_use]
pub fn no_guard(state: &State) -> Option<Guard> {
    let why = state.guard_lost.clone()?;
    Some(Guard::NoGuard { why })
}

/// This agent's own trouble, as a reason.
#[must_use]
pub fn unfit(policy: &Policy, state: &State, now: Now) -> Option<Guard> {
    let unfit = fitness::unfit(policy, state, now.moment)?;
    Some(Guard::Unfit {
        why: unfit.to_string(),
    })
}

/// By its last report, however old: a site that falls silent does not begin to act by that. Two
/// observing agents watch what they would do together.
fn peer_observes(policy: &Policy, state: &State) -> Option<Guard> {
    let observes = state.peer.report.as_ref().is_some_and(|(r, _)| r.observes);
    (observes && policy.conduct == Conduct::Act).then(|| Guard::PeerObserves {
        site: policy.peer.clone(),
    })
}

fn common(policy: &Policy, state: &State, facts: &Facts, mover: Mover, now: Now) -> Vec<Guard> {
    let mut guards = Vec::new();
    if facts.identity == Identity::Differs {
        guards.push(Guard::WrongCluster);
    }
    // The brakes protect against what agents do by themselves, not against a person (S14, S15).
    if mover == Mover::Agent {
        guards.extend(brakes::against_automatic(policy, state, now));
    }
    guards
}

fn unusable_because(policy: &Policy, state: &State, now: Now) -> String {
    let tripped = state
        .peer
        .report
        .as_ref()
        .is_some_and(|(report, _)| report.site_tripped);
    if tripped {
        return "its apps break a trip rule".to_owned();
    }
    match peer_view::peer_own_report(policy, state, now.moment) {
        None => "it has not reported its node".to_owned(),
        Some(DatabaseSeen::Answered(report)) => {
            format!(
                "its node is a {} of system {}",
                report.role, report.system_id
            )
        }
        Some(DatabaseSeen::TooManyClients) => "every connection slot is taken".to_owned(),
        Some(DatabaseSeen::StartingUp) => "its node is starting up".to_owned(),
        Some(DatabaseSeen::ShuttingDown) => "its node is shutting down".to_owned(),
        Some(
            DatabaseSeen::CannotWrite { why, .. }
            | DatabaseSeen::RefusesUs { why }
            | DatabaseSeen::Locked { why },
        ) => why.clone(),
        Some(DatabaseSeen::NothingListens) => "its node is down".to_owned(),
        Some(DatabaseSeen::TimedOut { phase }) => format!("its node does not answer ({phase})"),
        Some(DatabaseSeen::LocalFault { why }) => format!("its agent cannot look at it: {why}"),
        Some(DatabaseSeen::Unreachable { why }) => format!("its node is unreachable: {why}"),
    }
}
