//! Reports between members: what this agent says of itself, and hearing what the others say.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::decision::health::{Health, Sign, sign};
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::{Phase, State};
use crate::effects::clock;
use crate::model::Member;
use crate::model::brakes::Conduct;
use crate::model::event::Event;
use crate::model::observation::{Channel, DatabaseSeen, Seen, Target};
use crate::model::peer::{PeerReport, Sighting};
use crate::model::situation::NodeState;
use crate::model::time::Now;
use crate::runtime::members::Members;
use crate::runtime::status;
use crate::runtime::tasks::spawn_named;

/// Reports are pushed at news, but not more often than this.
const PUSH_PAUSE: Duration = Duration::from_millis(20);

/// Between two reports while the own node is in doubt.
const DOUBT_EVERY: Duration = Duration::from_millis(200);

/// What this agent says of itself.
#[must_use]
pub fn own_report(policy: &Policy, state: &State, now: Now) -> PeerReport {
    PeerReport {
        from: Member::Site(policy.me.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clock: now.wall,
        epoch: state.epoch(),
        active: state.phase == Phase::Active && state.held_epoch().is_some(),
        own_database: own_database(state),
        sees: sightings(policy, state, now),
        diagnoses: state.diagnoses.clone(),
        site_tripped: state.facts.is_some_and(|facts| facts.tripped),
        observes: policy.conduct == Conduct::Observe,
        doing: state
            .run
            .as_ref()
            .or(state.last_run.as_ref())
            .map(|run| status::progress(run, now)),
    }
}

/// The own node in the words of a probe; what the process watch knows comes first.
fn own_database(state: &State) -> Option<DatabaseSeen> {
    match state.facts?.own {
        NodeState::Dead => Some(DatabaseSeen::NothingListens),
        NodeState::Hung | NodeState::Disputed => Some(DatabaseSeen::TimedOut {
            phase: "query".to_owned(),
        }),
        NodeState::Unknown => None,
        NodeState::Primary
        | NodeState::Standby
        | NodeState::Busy
        | NodeState::Starting
        | NodeState::RefusesUs => last_seen(state),
        NodeState::CannotWrite => {
            let seen = last_seen(state)?;
            let DatabaseSeen::Answered(report) = seen else {
                return Some(seen);
            };
            // It still answers, but its directory shows that it is not to be relied on.
            Some(DatabaseSeen::CannotWrite {
                report,
                fault: None,
                why: directory_words(state),
            })
        }
    }
}

fn last_seen(state: &State) -> Option<DatabaseSeen> {
    [Channel::Persistent, Channel::Fresh]
        .into_iter()
        .find_map(
            |channel| match state.health(&Target::OwnDatabase(channel))?.last()? {
                (_, Seen::Database(seen)) => Some(seen.clone()),
                _ => None,
            },
        )
}

fn directory_words(state: &State) -> String {
    let seen = state.health(&Target::OwnDirectory).and_then(Health::last);
    let words = seen.map_or_else(String::new, |(_, seen)| status::seen_words(seen));
    format!("{}: {words}", Target::OwnDirectory)
}

fn sightings(policy: &Policy, state: &State, now: Now) -> Vec<Sighting> {
    [Channel::Persistent, Channel::Fresh]
        .into_iter()
        .filter_map(|channel| {
            let target = Target::PeerDatabase(channel);
            let (at, seen) = state.health(&target)?.last()?;
            let lately = now.moment.since(*at) <= situate::thresholds(policy, &target).stale_after;
            let Seen::Database(seen) = seen else {
                return None;
            };
            lately.then(|| Sighting {
                site: policy.peer.clone(),
                target,
                seen: seen.clone(),
                age: Some(now.moment.since(*at)),
            })
        })
        .collect()
}

/// Exchanges reports with every other member: at each rhythm, and at once when there is news.
#[derive(Debug)]
pub struct Reporter {
    /// The links.
    pub members: Members,
    /// The newest own report; it changes only when it says something new.
    pub own: watch::Receiver<PeerReport>,
    /// What the others say goes here.
    pub events: mpsc::Sender<Event>,
    /// The rhythm.
    pub every: Duration,
}

impl Reporter {
    /// Runs until stopped: one task for each member, so that a slow one delays no other.
    pub fn start(self, stop: &CancellationToken) {
        for member in self.members.others() {
            let link = Link {
                to: member.clone(),
                members: self.members.clone(),
                own: self.own.clone(),
                events: self.events.clone(),
                every: self.every,
            };
            let stop = stop.clone();
            spawn_named(format!("reports to {member}"), async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = link.run() => {}
                }
            });
        }
    }
}

/// While the own node is in doubt, what the others see of it is asked for more often: a verdict on
/// it takes about a second.
fn pause(own: &PeerReport, every: Duration) -> Duration {
    match in_doubt(own) {
        true => every.min(DOUBT_EVERY),
        false => every,
    }
}

/// What a member says of its own node calls for a look at it.
#[must_use]
pub fn in_doubt(report: &PeerReport) -> bool {
    let own = report.own_database.clone().map(Seen::Database);
    own.is_some_and(|seen| sign(&seen) == Sign::Bad)
}

struct Link {
    to: Member,
    members: Members,
    own: watch::Receiver<PeerReport>,
    events: mpsc::Sender<Event>,
    every: Duration,
}

impl Link {
    async fn run(mut self) {
        loop {
            let own = self.own.borrow_and_update().clone();
            let own = PeerReport {
                clock: clock::wall(),
                ..own
            };
            let every = pause(&own, self.every);
            let event = match self.members.report(&self.to, &own).await {
                Ok(report) => Event::Reported(Box::new(report)),
                // Told by the link.
                Err(_) => Event::ReportMissed {
                    from: self.to.clone(),
                },
            };
            if self.events.send(event).await.is_err() {
                return;
            }
            tokio::time::sleep(PUSH_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                changed = self.own.changed() => if changed.is_err() { return },
            }
        }
    }
}
