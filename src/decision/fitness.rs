//! Self-doubt (S13, I17): an agent that reaches none of its neutral targets, or whose own clockwork
//! was late, must not take its own trouble for somebody else's.

use std::fmt;
use std::time::Duration;

use crate::decision::health::Condition;
use crate::decision::policy::Policy;
use crate::decision::situate::condition;
use crate::decision::state::State;
use crate::model::brakes::span_words;
use crate::model::observation::Target;
use crate::model::situation::{Facts, PeerNode, Reach};
use crate::model::time::measured_words;
use crate::model::{Moment, ProbeName};

/// Why this agent is no judge of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// None of its neutral targets can be reached.
    Isolated,
    /// It did something so much later than it was due that its timeouts mean nothing.
    Late {
        /// How much later.
        by: Duration,
        /// How long ago.
        ago: Duration,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolated => f.write_str(
                "none of the neutral targets (self_check.targets) can be reached from here",
            ),
            Self::Late { by, ago } => write!(
                f,
                "this agent was {} late {} ago (self_check.late_max): its host is overloaded, \
                 or it was stopped",
                measured_words(*by),
                span_words(*ago)
            ),
        }
    }
}

/// Whether this agent is fit to judge others. It is again only after a while: neutral targets by
/// the thresholds of their probes, lateness by as long as it takes others to fall silent.
#[must_use]
pub fn unfit(policy: &Policy, state: &State, now: Moment) -> Option<Unfit> {
    let reachable = |name: &ProbeName| {
        let target = Target::Neutral(name.clone());
        condition(policy, state, &target, now) != Condition::Down
    };
    if !policy.neutral.is_empty() && !policy.neutral.iter().any(reachable) {
        return Some(Unfit::Isolated);
    }
    let (at, by) = state.late?;
    let ago = now.since(at);
    (ago <= policy.silent_after()).then_some(Unfit::Late { by, ago })
}

/// The facts without what only accuses others: an unfit agent does not know.
#[must_use]
pub fn without_accusations(facts: Facts) -> Facts {
    let heard = |reach| match reach {
        Reach::Silent => Reach::Unknown,
        reach @ (Reach::Absent | Reach::Unknown | Reach::Answers) => reach,
    };
    Facts {
        peer_node: match facts.peer_node {
            PeerNode::Down => PeerNode::Unknown,
            seen
            @ (PeerNode::Unknown | PeerNode::Primary | PeerNode::Standby | PeerNode::Alive) => seen,
        },
        peer_agent: heard(facts.peer_agent),
        witness: heard(facts.witness),
        tripped: false,
        endpoint_down: false,
        unfit: true,
        ..facts
    }
}
