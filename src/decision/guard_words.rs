//! What each guard says to a person: why nothing is done, and what would change that.

use std::fmt;

use crate::decision::guards::Guard;
use crate::model::brakes::span_words;

/// Said wherever an observing agent is asked to act.
pub(super) const ONLY_OBSERVES: &str = "this agent only observes (mode = \"observe\" in agent.toml): it \
    says what it would do, and does nothing";

const WRONG_CLUSTER: &str =
    "the nodes have different system identifiers: they are not copies of one database";

const NO_GUARD: &str =
    "this site has no fit guard, which would stop its database at the end of the lease";

impl Guard {
    /// What keeps agents from acting by themselves, in words.
    fn brake_words(&self) -> String {
        match self {
            Self::Blocked { left } => format!(
                "an automatic failover happened a short while ago: no second one for another {} \
                 (failover.block); `agent ack` ends this, and `agent failover` by hand is still \
                 possible",
                span_words(*left)
            ),
            Self::LimitReached {
                limit,
                window,
                left,
            } => format!(
                "there were {limit} automatic failovers within {}, as many as may be \
                 (failover.max_automatic): no more for another {}; `agent ack` ends this, and \
                 `agent failover` by hand is still possible",
                span_words(*window),
                span_words(*left)
            ),
            Self::Paused { by, reason, left } => format!(
                "paused by {by}{}, {}: nothing is failed over, restarted or taken over by itself; \
                 a lost lease still fences the node; commands by hand still work",
                reason
                    .as_ref()
                    .map_or_else(String::new, |why| format!(" ({why})")),
                left.map_or_else(
                    || "until `agent resume`".to_owned(),
                    |left| format!("for another {}, or until `agent resume`", span_words(left))
                ),
            ),
            Self::PeerObserves { site } => format!(
                "the agent of site {site} only observes (mode = \"observe\"): it would neither take \
                 over nor fence its node when it is cut off; let it act first"
            ),
            Self::Unfit { why } => format!(
                "this agent is unfit to judge others, so it accuses nobody and takes nothing over: \
                 {why}"
            ),
            Self::Observing
            | Self::JournalBroken { .. }
            | Self::CannotFence { .. }
            | Self::WrongCluster
            | Self::PeerSilent { .. }
            | Self::StandbyUnusable { .. }
            | Self::StandbyLagging { .. }
            | Self::NotReceiving { .. }
            | Self::StandbyUnknown { .. }
            | Self::CutOff
            | Self::NoWitness
            | Self::PrimaryLives { .. }
            | Self::LeaseRuns { .. }
            | Self::GuardOff { .. }
            | Self::OwnGuardOff
            | Self::NoRecord
            | Self::PromotionUnfinished { .. }
            | Self::PromotionUnproved
            | Self::NoGuard { .. }
            | Self::OwnNotStandby { .. } => ONLY_OBSERVES.to_owned(),
        }
    }

    /// What speaks against a site, in words.
    fn site_words(&self) -> String {
        match self {
            Self::CannotFence { site } => format!(
                "the node of site {site} is controlled by commands without `fence` and `fenced`: \
                 it cannot be proved to have stopped"
            ),
            Self::PeerSilent { site } => {
                format!("the agent of site {site} does not answer: start it or its network")
            }
            Self::StandbyUnusable { site, why } => {
                format!("the node of site {site} cannot take over: {why}")
            }
            Self::StandbyLagging { site, lag, lag_max } => format!(
                "the standby of site {site} lacks {lag}, more than failover.lag_max ({lag_max})"
            ),
            Self::NotReceiving { site } => format!(
                "the standby of site {site} receives no WAL although the primary lives: repair \
                 replication first"
            ),
            Self::StandbyUnknown { site } => {
                format!("nothing is known yet of the node of site {site}")
            }
            Self::PrimaryLives { site } => format!(
                "the database of site {site} still shows signs of life: stop it first, or start \
                 its agent"
            ),
            Self::LeaseRuns { site } => format!(
                "site {site} still holds the lease: it runs out within one ttl if that site is dead"
            ),
            Self::GuardOff { site, by } => format!(
                "the guard of site {site} is off (paused by {by}), so its node may take writes \
                 although nobody hears of it: start its agent, then `agent resume`; if its host is \
                 lost, make sure that it is off, and do so with an agent in its place"
            ),
            Self::Blocked { .. }
            | Self::LimitReached { .. }
            | Self::Paused { .. }
            | Self::Observing
            | Self::PeerObserves { .. }
            | Self::Unfit { .. }
            | Self::JournalBroken { .. }
            | Self::WrongCluster
            | Self::CutOff
            | Self::NoWitness
            | Self::OwnGuardOff
            | Self::NoRecord
            | Self::PromotionUnfinished { .. }
            | Self::PromotionUnproved
            | Self::NoGuard { .. }
            | Self::OwnNotStandby { .. } => String::new(),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked { .. }
            | Self::LimitReached { .. }
            | Self::Paused { .. }
            | Self::Observing
            | Self::PeerObserves { .. }
            | Self::Unfit { .. } => f.write_str(&self.brake_words()),
            Self::JournalBroken { why } => {
                write!(
                    f,
                    "the journal cannot be written ({why}): free or repair its disk"
                )
            }
            Self::CannotFence { .. }
            | Self::StandbyUnusable { .. }
            | Self::StandbyLagging { .. }
            | Self::NotReceiving { .. }
            | Self::StandbyUnknown { .. }
            | Self::PeerSilent { .. }
            | Self::PrimaryLives { .. }
            | Self::LeaseRuns { .. }
            | Self::GuardOff { .. } => f.write_str(&self.site_words()),
            Self::WrongCluster => f.write_str(WRONG_CLUSTER),
            Self::CutOff => f.write_str("a majority of voters does not answer"),
            Self::NoWitness => f.write_str(
                "there is no witness: a silent site is never taken over, because it cannot be \
                 told from a cut link; bring its agent back, or configure a witness",
            ),
            Self::OwnGuardOff => f.write_str(
                "the guard of this site is off, so its lease does not run out: `agent resume` first",
            ),
            Self::NoRecord => f.write_str(
                "nobody has ever held the lease, so it is not known which node has the data: \
                 start the right one as primary",
            ),
            Self::PromotionUnfinished { site } => write!(
                f,
                "site {site} began a promotion and may have taken writes: bring it back, or \
                 decide which node is newest"
            ),
            Self::PromotionUnproved => f.write_str(
                "the promotion of the own node is not proved by a first write yet, so the other \
                 site could not know which node is newest",
            ),
            Self::OwnNotStandby { own } => write!(f, "the own node is not a standby: {own}"),
            Self::NoGuard { why } => write!(f, "{NO_GUARD}: {why}"),
        }
    }
}
