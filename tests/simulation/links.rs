//! Reports between members: the mirror of `runtime::reports`, and the witness's sightings.

use failover_agent::model::diagnosis::Diagnosis;
use failover_agent::model::observation::{Channel, DatabaseSeen, Target};
use failover_agent::model::peer::{PeerReport, Sighting, StepState};
use failover_agent::model::situation::NodeState;
use failover_agent::model::{Epoch, Member, PlanId};
use failover_agent::runtime::reports;

use crate::agent::Task;
use crate::clock::{MS, Real, nanos};
use crate::keeper::Call;
use crate::net::{Packet, WITNESS};
use crate::node::Look;
use crate::setup::site_name;
use crate::world::{Ev, WitnessTask, World};

/// Reports are pushed at news, but not more often than this.
const PUSH_PAUSE: Real = 20 * MS;

/// The exchange with one other member.
#[derive(Debug, Default)]
pub(crate) struct Link {
    number: u64,
    waiting: bool,
    news: bool,
    ready_at: Real,
}

/// What of a report is news.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Signature {
    active: bool,
    epoch: Epoch,
    diagnoses: Vec<Diagnosis>,
    tripped: bool,
    own: Option<NodeState>,
    steps: Option<(PlanId, Vec<StepState>, bool)>,
}

impl World {
    pub(crate) fn start_links(&mut self, site: usize) {
        for to in self.others(site) {
            self.task(site, 0, Task::Report(to, 0));
        }
    }

    fn others(&self, site: usize) -> Vec<usize> {
        if self.setup.pair {
            vec![1 - site]
        } else {
            vec![1 - site, WITNESS]
        }
    }

    /// What this agent says of itself now; while its loop waits for a disk, what it said before.
    pub(crate) fn own_report(&self, site: usize) -> Option<Box<PeerReport>> {
        let agent = self.sites[site].agent.as_ref()?;
        let now = self.clock(site).now(self.now);
        let Some(state) = &agent.state else {
            return agent.cached.clone();
        };
        let policy = &self.setup.policies[site];
        Some(Box::new(reports::own_report(policy, state, now)))
    }

    pub(crate) fn report_due(&mut self, site: usize, to: usize, number: u64) {
        let report = self.own_report(site);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let link = &mut agent.links[to];
        if link.number != number || link.waiting {
            return;
        }
        link.waiting = true;
        link.news = false;
        let call = self.call(site, Call::Report { to });
        if let Some(report) = report {
            self.send(site, to, Packet::Report { call, report });
        }
    }

    /// An exchange has ended; the next one comes at the rhythm, or soon if there is news.
    pub(crate) fn link_free(&mut self, site: usize, to: usize) {
        let every = nanos(self.setup.policies[site].renew_every);
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let link = &mut agent.links[to];
        link.waiting = false;
        link.ready_at = now + PUSH_PAUSE;
        link.number += 1;
        let number = link.number;
        let span = if link.news {
            PUSH_PAUSE
        } else {
            PUSH_PAUSE + every
        };
        self.task(site, span, Task::Report(to, number));
    }

    pub(crate) fn news_for_links(&mut self, site: usize) {
        let now = self.now;
        let others = self.others(site);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(state) = &agent.state else {
            return;
        };
        let run = state.run.as_ref().or(state.last_run.as_ref());
        let signature = Signature {
            active: state.phase == failover_agent::decision::state::Phase::Active
                && state.held_epoch().is_some(),
            epoch: state.epoch(),
            diagnoses: state.diagnoses.clone(),
            tripped: state.facts.is_some_and(|facts| facts.tripped),
            own: state.facts.map(|facts| facts.own),
            steps: run.map(|run| {
                let states = run.steps.iter().map(|step| step.state).collect();
                (run.plan.id.clone(), states, run.ended().is_some())
            }),
        };
        if agent.signature == signature {
            return;
        }
        agent.signature = signature;
        let mut due = Vec::new();
        for to in others {
            let link = &mut agent.links[to];
            if link.waiting {
                link.news = true;
            } else {
                link.number += 1;
                due.push((to, link.number, link.ready_at.saturating_sub(now)));
            }
        }
        for (to, number, span) in due {
            self.task(site, span, Task::Report(to, number));
        }
    }

    pub(crate) fn witness_event(&mut self, life: u32, task: WitnessTask) {
        if self.witness.life != life || self.witness.voter.is_none() {
            return;
        }
        match task {
            WitnessTask::Learn => self.witness_learns(),
            WitnessTask::Look(site, channel) => {
                self.witness_looks(site, channel);
                let every = if channel == 0 {
                    self.setup.probe_every
                } else {
                    self.setup.fresh_every
                };
                self.after(nanos(every), Ev::Witness(life, task));
            }
        }
    }

    fn witness_looks(&mut self, site: usize, channel: usize) {
        self.write(site);
        let now = self.now;
        let there = self.net.carry(WITNESS, site, &mut self.rng);
        let back = self.net.carry(site, WITNESS, &mut self.rng);
        let reached = !there.is_empty() && !back.is_empty() && self.sites[site].host_up;
        let mut kept = self.witness.kept[site].filter(|_| channel == 0);
        let here = &self.sites[site];
        let look = if reached {
            here.node.look(&mut kept, false, &here.clock, now)
        } else {
            kept = None;
            Look::Hangs("connect")
        };
        if channel == 0 {
            self.witness.kept[site] = kept;
        }
        let seen = match look {
            Look::Seen(seen) => seen,
            Look::Hangs(phase) => DatabaseSeen::TimedOut {
                phase: phase.to_owned(),
            },
        };
        let at = self.moment(WITNESS);
        self.witness.sightings.insert((site, channel), (at, seen));
    }

    pub(crate) fn witness_report(&self) -> PeerReport {
        let moment = self.moment(WITNESS);
        let stale_after = (self.setup.fresh_every + self.setup.probe_timeout) * 3;
        let sees = self
            .witness
            .sightings
            .iter()
            .filter(|(_, (at, _))| moment.since(*at) <= stale_after)
            .map(|(&(site, channel), (at, seen))| Sighting {
                site: site_name(site),
                target: Target::PeerDatabase(channel_of(channel)),
                seen: seen.clone(),
                age: Some(moment.since(*at)),
            })
            .collect();
        PeerReport {
            from: Member::Witness,
            version: "simulated".to_owned(),
            clock: self.clock(WITNESS).now(self.now).wall,
            epoch: Epoch::NONE,
            active: false,
            own_database: None,
            sees,
            diagnoses: Vec::new(),
            site_tripped: false,
            observes: false,
            doing: None,
        }
    }
}

pub(crate) fn channel_of(index: usize) -> Channel {
    if index.is_multiple_of(2) {
        Channel::Persistent
    } else {
        Channel::Fresh
    }
}
