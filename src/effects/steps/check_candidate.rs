//! `CheckCandidate`: proves that the own standby may be promoted; changes nothing.

use std::time::Duration;

use super::Tools;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::client::Login;
use crate::effects::postgres::report::report;
use crate::model::event::Learned;
use crate::model::observation::{DatabaseSeen, NodeReport};
use crate::model::{LagBytes, Lsn, Moment, Role, SystemId, Timeline};

/// What the standby must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) system_id: SystemId,
    pub(super) timeline: Timeline,
    pub(super) last_lsn: Lsn,
    pub(super) lag_max: LagBytes,
    /// It may have been promoted already.
    pub(super) finishes: bool,
    /// The other site has not handed over: its node must not answer.
    pub(super) silent: bool,
}

/// Time for the last look at the other site's node. One that is gone without a trace costs the
/// take-over as much.
const LAST_LOOK: Duration = Duration::from_millis(250);

pub(super) async fn apply(
    tools: &Tools,
    demand: Demand,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    let other = tools.other.as_ref().filter(|_| demand.silent);
    let (own, alive) = tokio::join!(check_own(tools, demand, deadline), still_serves(other));
    let learned = own?;
    match alive {
        Some(why) => Err(EffectError::retryable(why).hint(
            "the other site's agent is silent, its database is not: look at that site; nothing is \
             promoted beside a living primary",
        )),
        None => Ok(learned),
    }
}

/// Why nobody may be promoted beside the other site's node: it answers. What is known of it when a
/// take-over is decided may be a probe old, and the way there may just have healed.
async fn still_serves(other: Option<&Login>) -> Option<String> {
    let login = other?;
    let deadline = boottime() + LAST_LOOK;
    let seen = match login.connect(deadline).await {
        Err(error) => error.into_seen(),
        Ok(mut connection) => match report(&mut connection, deadline).await {
            Ok(node) if node.role == Role::Standby => return None,
            Ok(_) => return Some(format!("node {login} answers, as a primary")),
            Err(error) => error.into_seen(),
        },
    };
    let alive = match seen {
        DatabaseSeen::TooManyClients => "all its connections are taken",
        DatabaseSeen::Locked { .. } => "its heartbeat table is locked",
        DatabaseSeen::StartingUp => "it is starting up",
        DatabaseSeen::ShuttingDown => "it is shutting down",
        DatabaseSeen::RefusesUs { .. } => "it refuses this agent",
        DatabaseSeen::Answered(_)
        | DatabaseSeen::CannotWrite { .. }
        | DatabaseSeen::NothingListens
        | DatabaseSeen::TimedOut { .. }
        | DatabaseSeen::LocalFault { .. }
        | DatabaseSeen::Unreachable { .. } => return None,
    };
    Some(format!("node {login} answers: {alive}"))
}

async fn check_own(
    tools: &Tools,
    demand: Demand,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    let attempted = format!("check node {} as candidate", tools.login);
    let mut connection = tools
        .login
        .connect(deadline)
        .await
        .map_err(|error| error.into_effect(&attempted))?;
    let node = report(&mut connection, deadline)
        .await
        .map_err(|error| error.into_effect(&attempted))?;
    connection.close(deadline).await;
    judge(demand, &node).map_err(|why| {
        EffectError::permanent(format!("cannot promote node {}: {why}", tools.login))
    })?;
    let lag = node.lsn.behind(demand.last_lsn);
    Ok(Learned {
        note: format!(
            "timeline {}, received {}, lacks {lag}",
            node.timeline, node.lsn
        ),
        node: Some(node),
    })
}

/// Why the node may not be promoted.
fn judge(demand: Demand, node: &NodeReport) -> Result<(), String> {
    if node.system_id != demand.system_id {
        return Err(format!(
            "its system identifier is {}, not {}: it is a copy of another database",
            node.system_id, demand.system_id
        ));
    }
    if node.role != Role::Standby && !demand.finishes {
        return Err("it is not a standby".to_owned());
    }
    let promoted = demand.finishes && node.timeline > demand.timeline;
    if node.timeline != demand.timeline && !promoted {
        return Err(format!(
            "it is on timeline {}, the primary was on {}: its history is another one",
            node.timeline, demand.timeline
        ));
    }
    let lag = node.lsn.behind(demand.last_lsn);
    if lag > demand.lag_max {
        return Err(format!(
            "it lacks {lag} of the primary's WAL, more than failover.lag_max ({})",
            demand.lag_max
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        system_id: SystemId(7),
        timeline: Timeline(3),
        last_lsn: Lsn(1_000),
        lag_max: LagBytes(100),
        finishes: false,
        silent: false,
    };

    fn node() -> NodeReport {
        NodeReport {
            system_id: SystemId(7),
            role: Role::Standby,
            timeline: Timeline(3),
            lsn: Lsn(950),
            replayed: Lsn(900),
            streaming: false,
            heard: None,
            canary: None,
        }
    }

    #[test]
    fn a_following_standby_within_the_lag_limit_may_be_promoted() {
        assert_eq!(judge(DEMAND, &node()), Ok(()));
    }

    #[test]
    fn s9_what_may_have_been_promoted_already_must_still_lack_little() {
        let demand = Demand {
            finishes: true,
            ..DEMAND
        };
        let promoted = NodeReport {
            role: Role::Primary,
            timeline: Timeline(4),
            ..node()
        };
        assert_eq!(judge(demand, &promoted), Ok(()));
        let older = NodeReport {
            timeline: Timeline(2),
            ..promoted.clone()
        };
        let lacking = NodeReport {
            lsn: Lsn(899),
            ..promoted
        };
        for flawed in [older, lacking] {
            assert!(judge(demand, &flawed).is_err(), "{flawed:?}");
        }
    }

    #[test]
    fn s9_any_flaw_forbids_promotion() {
        let flawed = [
            NodeReport {
                system_id: SystemId(8),
                ..node()
            },
            NodeReport {
                role: Role::Primary,
                ..node()
            },
            NodeReport {
                timeline: Timeline(2),
                ..node()
            },
            NodeReport {
                timeline: Timeline(4),
                ..node()
            },
            NodeReport {
                lsn: Lsn(899),
                ..node()
            },
        ];
        for node in flawed {
            assert!(judge(DEMAND, &node).is_err(), "{node:?}");
        }
    }
}
