//! When an agent looks at what, and what it sees: the mirror of `runtime::scheduler` and of the
//! process watch.

use failover_agent::decision::health::Condition;
use failover_agent::decision::policy::Policy;
use failover_agent::decision::situate::condition;
use failover_agent::decision::state::{Phase, State};
use failover_agent::model::Moment;
use failover_agent::model::event::Event;
use failover_agent::model::observation::{
    DatabaseSeen, EndpointResult, EndpointSeen, Observation, Phases, ProcessSeen, Seen, Target,
};
use failover_agent::model::situation::NodeState;

use crate::agent::Task;
use crate::clock::{MS, Real, US, nanos};
use crate::links::channel_of;
use crate::node::{Look, Process};
use crate::setup::app;
use crate::world::{Ev, World};

/// Own node by both channels, the other's by both, and the endpoint.
const PROBES: usize = 5;
const OWN: [usize; 2] = [0, 1];
const ENDPOINT: usize = 4;

/// One probe and when it looks.
#[derive(Debug, Default)]
pub(crate) struct ProbeRhythm {
    number: u64,
    due: Real,
    begun: Real,
    looking: bool,
    hurry: bool,
    fast: bool,
    kept: Option<u32>,
}

fn target(probe: usize) -> Target {
    match probe {
        0 | 1 => Target::OwnDatabase(channel_of(probe)),
        2 | 3 => Target::PeerDatabase(channel_of(probe)),
        _ => Target::Endpoint(app()),
    }
}

impl World {
    pub(crate) fn start_probes(&mut self, site: usize) {
        let first: Vec<Real> = (0..PROBES).map(|_| self.rng.below(500 * MS)).collect();
        let now = self.now;
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.probes = first
                .iter()
                .map(|span| ProbeRhythm {
                    due: now + span,
                    ..ProbeRhythm::default()
                })
                .collect();
        }
        for (probe, span) in first.into_iter().enumerate() {
            self.task(site, span, Task::Look(probe, 0));
        }
        self.task(site, MS, Task::ProcessRepeat);
    }

    fn interval(&self, probe: usize, fast: bool) -> Real {
        nanos(match (fast, probe) {
            (true, _) => self.setup.probe_fast,
            (false, 1 | 3) => self.setup.fresh_every,
            (false, _) => self.setup.probe_every,
        })
    }

    pub(crate) fn look(&mut self, site: usize, probe: usize, number: u64) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let rhythm = &mut agent.probes[probe];
        if rhythm.number != number || rhythm.looking {
            return;
        }
        rhythm.looking = true;
        rhythm.begun = now;
        if probe == ENDPOINT {
            return self.look_at_endpoint(site);
        }
        let at = if OWN.contains(&probe) { site } else { 1 - site };
        let mut kept = rhythm.kept.take().filter(|_| probe.is_multiple_of(2));
        self.write(at);
        let mut travel = 0;
        let mut look = Look::Hangs("connect");
        if at == site || self.reaches(site, at, &mut travel) {
            let clock = self.sites[at].clock.clone();
            look = self.sites[at].node.look(&mut kept, probe == 0, &clock, now);
        }
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.probes[probe].kept = kept;
        }
        let timeout = nanos(self.setup.probe_timeout);
        let (span, seen) = match look {
            Look::Seen(seen) if travel < timeout => (travel, seen),
            Look::Seen(_) => (timeout, timed_out("query")),
            Look::Hangs(phase) => (timeout, timed_out(phase)),
        };
        if span == 0 {
            self.look_ended(site, probe, seen);
        } else {
            self.task(site, span, Task::Seen(probe, Box::new(seen)));
        }
    }

    /// A round trip to the other site's node, and how long it takes.
    fn reaches(&mut self, site: usize, at: usize, travel: &mut Real) -> bool {
        let there = self.net.carry(site, at, &mut self.rng);
        let back = self.net.carry(at, site, &mut self.rng);
        if !self.sites[at].host_up {
            return false;
        }
        let (Some(there), Some(back)) = (there.first(), back.first()) else {
            return false;
        };
        *travel = (there + back).max(1);
        true
    }

    fn look_at_endpoint(&mut self, site: usize) {
        let result = if self.sites[site].app_down {
            EndpointResult::Refused
        } else {
            EndpointResult::Passed
        };
        let phases = Phases::default();
        self.observed(
            site,
            ENDPOINT,
            Seen::Endpoint(EndpointSeen { result, phases }),
        );
    }

    pub(crate) fn look_ended(&mut self, site: usize, probe: usize, seen: DatabaseSeen) {
        self.observed(site, probe, Seen::Database(seen));
    }

    fn observed(&mut self, site: usize, probe: usize, seen: Seen) {
        let now = self.now;
        let at = self.moment(site);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let rhythm = &mut agent.probes[probe];
        rhythm.looking = false;
        let (begun, hurry, fast) = (rhythm.begun, std::mem::take(&mut rhythm.hurry), rhythm.fast);
        let due = if hurry {
            now
        } else {
            (begun + self.interval(probe, fast)).max(now + US)
        };
        self.look_at(site, probe, due);
        let took = at.since(self.clock(site).moment(begun));
        self.tell(
            site,
            Event::Observed(Observation {
                target: target(probe),
                at,
                took,
                seen,
            }),
        );
    }

    fn look_at(&mut self, site: usize, probe: usize, due: Real) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let rhythm = &mut agent.probes[probe];
        rhythm.number += 1;
        rhythm.due = due;
        let (number, life) = (rhythm.number, agent.life);
        self.at(due, Ev::Agent(site, life, Task::Look(probe, number)));
    }

    pub(crate) fn set_paces(&mut self, site: usize) {
        let (now, moment) = (self.now, self.moment(site));
        let policy = &self.setup.policies[site];
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(state) = &agent.state else {
            return;
        };
        let unsettled = unsettled(state);
        let mut sooner = Vec::new();
        for probe in 0..PROBES {
            let suspect = state.health(&target(probe)).map(|health| {
                health.suspect() || unsettled || node_in_doubt(policy, state, probe, moment)
            });
            let Some(fast) = suspect else { continue };
            let rhythm = &mut agent.probes[probe];
            if rhythm.fast != fast {
                rhythm.fast = fast;
                if !rhythm.looking {
                    sooner.push((probe, fast, rhythm.due));
                }
            }
        }
        for (probe, fast, due) in sooner {
            let next = now + self.interval(probe, fast);
            if next < due {
                self.look_at(site, probe, next);
            }
        }
    }

    /// The process of the node has changed; its watch sees a death at once, the rest soon.
    pub(crate) fn process_changed(&mut self, site: usize) {
        let dead = matches!(
            self.sites[site].node.process,
            Process::Down | Process::Orphans
        );
        let span = if dead {
            self.rng.below(MS)
        } else {
            self.rng.below(200 * MS)
        };
        self.task(site, span, Task::Process);
    }

    pub(crate) fn process_look(&mut self, site: usize, repeat: bool) {
        let node = &self.sites[site].node;
        let pid = node.instance;
        let seen = match node.process {
            Process::Down | Process::Orphans => ProcessSeen::Gone,
            _ if node.frozen || node.postmaster_frozen => ProcessSeen::Stopped { pid },
            Process::Starting | Process::Up | Process::Stopping => ProcessSeen::Running { pid },
        };
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let told = agent.process_told.replace(seen.clone());
        let same = told.as_ref() == Some(&seen);
        if same && !repeat {
            return;
        }
        let pid_of = |seen: &ProcessSeen| match seen {
            ProcessSeen::Running { pid } | ProcessSeen::Stopped { pid } => Some(*pid),
            ProcessSeen::Gone | ProcessSeen::Unknown { .. } => None,
        };
        let died_between = told
            .as_ref()
            .and_then(pid_of)
            .zip(pid_of(&seen))
            .is_some_and(|(old, new)| old != new);
        if died_between {
            self.process_seen(site, ProcessSeen::Gone);
        }
        self.process_seen(site, seen.clone());
        if !same && (pid_of(&seen).is_none() || told.as_ref().and_then(pid_of) != pid_of(&seen)) {
            self.hurry(site);
        }
    }

    fn process_seen(&mut self, site: usize, seen: ProcessSeen) {
        let at = self.moment(site);
        self.tell(
            site,
            Event::Observed(Observation {
                target: Target::OwnProcess,
                at,
                took: std::time::Duration::ZERO,
                seen: Seen::Process(seen),
            }),
        );
    }

    fn hurry(&mut self, site: usize) {
        let now = self.now;
        for probe in OWN {
            let Some(agent) = self.sites[site].agent.as_mut() else {
                return;
            };
            let rhythm = &mut agent.probes[probe];
            if rhythm.looking {
                rhythm.hurry = true;
            } else {
                self.look_at(site, probe, now);
            }
        }
    }
}

fn timed_out(phase: &str) -> DatabaseSeen {
    DatabaseSeen::TimedOut {
        phase: phase.to_owned(),
    }
}

/// As `runtime::pace` says.
fn unsettled(state: &State) -> bool {
    let at_rest = matches!(state.phase, Phase::Active | Phase::Watching);
    !at_rest
        || state
            .facts
            .is_none_or(|facts| facts.own == NodeState::Unknown)
}

fn node_in_doubt(policy: &Policy, state: &State, probe: usize, now: Moment) -> bool {
    if probe == ENDPOINT {
        return false;
    }
    let channels = [probe & !1, probe | 1].map(target);
    let suspect = channels
        .iter()
        .any(|channel| state.health(channel).is_some_and(|health| health.suspect()));
    let down = channels
        .iter()
        .filter(|channel| condition(policy, state, channel, now) == Condition::Down)
        .count();
    suspect || down == 1
}
