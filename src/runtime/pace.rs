//! How closely each target is watched, from what the decision side knows.
//!
//! The two channels of a node belong together: as soon as one of them is in doubt, or they
//! disagree, both are looked at fast. Otherwise the last good look of the slow one would count as
//! a sign of life until its next turn, and hold up the take-over of a lost site.

use crate::decision::health::Condition;
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::{Phase, State};
use crate::model::Moment;
use crate::model::observation::{Channel, Target};
use crate::model::situation::NodeState;
use crate::runtime::reports::in_doubt;
use crate::runtime::scheduler::{Pace, Scheduler};

/// Tells the scheduler how closely to watch each target.
pub fn set(scheduler: &Scheduler, policy: &Policy, state: &State, now: Moment) {
    for (target, health) in &state.health {
        let suspect =
            health.suspect() || unsettled(state) || node_in_doubt(policy, state, target, now);
        let pace = if suspect {
            Pace::Suspect
        } else {
            Pace::Settled
        };
        scheduler.set_pace(target, pace);
    }
}

/// A plan is under way, or nothing is known of the own node yet.
fn unsettled(state: &State) -> bool {
    let at_rest = matches!(state.phase, Phase::Active | Phase::Watching);
    !at_rest
        || state
            .facts
            .is_none_or(|facts| facts.own == NodeState::Unknown)
}

/// One channel of the target's node is suspect, or the channels disagree.
fn node_in_doubt(policy: &Policy, state: &State, target: &Target, now: Moment) -> bool {
    let channels = match target {
        Target::OwnDatabase(_) => [Channel::Persistent, Channel::Fresh].map(Target::OwnDatabase),
        Target::PeerDatabase(_) => [Channel::Persistent, Channel::Fresh].map(Target::PeerDatabase),
        Target::OwnProcess | Target::OwnDirectory | Target::Endpoint(_) | Target::Neutral(_) => {
            return false;
        }
    };
    // Its own agent wants to know what others see of it.
    let asked = matches!(target, Target::PeerDatabase(_))
        && state.peer.report.as_ref().is_some_and(|(report, at)| {
            in_doubt(report) && now.since(*at) <= policy.silent_after()
        });
    if asked {
        return true;
    }
    let suspect = channels
        .iter()
        .any(|channel| state.health(channel).is_some_and(|health| health.suspect()));
    let down = channels
        .iter()
        .filter(|channel| situate::condition(policy, state, channel, now) == Condition::Down)
        .count();
    suspect || down == 1
}
