//! The guard of each site: the product's own mind, with a fence that needs no agent.

use failover_agent::model::lease::LeaseView;
use failover_agent::runtime::guard::mind::{Duty, Mind};
use failover_agent::runtime::guard::protocol::{Term, Verdict};

use failover_agent::model::{Epoch, Role};

use crate::agent::Timer;
use crate::clock::{MS, US, nanos};
use crate::setup::Mutation;
use crate::world::{Ev, World, name};

/// One guard process. It lives on when its agent dies or freezes, and ends with its host.
pub(crate) struct Guard {
    mind: Mind,
    timer: Timer,
    /// Events of a former one are void.
    life: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardTask {
    Look,
    Fenced,
}

impl Guard {
    pub(crate) fn new(life: u32) -> Self {
        Self {
            mind: Mind::new(),
            timer: Timer::default(),
            life,
        }
    }

    /// The host has lost power.
    pub(crate) fn replaced(&self) -> Self {
        Self::new(self.life + 1)
    }
}

impl World {
    /// Whether this schedule's product has guards at all.
    fn has_guards(&self) -> bool {
        self.setup.mutation != Mutation::KeeperNeverFences
    }

    /// The agent tells its guard what it holds, and whether its node may write.
    pub(crate) fn feed_guard(&mut self, site: usize) {
        if !self.has_guards() {
            return;
        }
        let moment = self.moment(site);
        let here = &mut self.sites[site];
        let Some(agent) = here.agent.as_ref().filter(|agent| !agent.frozen) else {
            return;
        };
        let verdict = match agent.contender.current_view() {
            LeaseView::Held { epoch, fence_at } => {
                let term = Term { epoch, fence_at };
                here.guard.mind.push(term, agent.armed, moment)
            }
            _ if !agent.armed => here.guard.mind.disarm(),
            _ => return,
        };
        if verdict != Verdict::Fencing {
            self.guard_acts(site);
        }
    }

    /// The guard has confirmed the lease of this epoch: a step may let the node write.
    pub(crate) fn guard_knows(&self, site: usize, epoch: Epoch) -> bool {
        let moment = self.moment(site);
        let term = self.sites[site].guard.mind.term();
        !self.has_guards() || term.is_some_and(|it| it.epoch == epoch && moment < it.fence_at)
    }

    /// The guard knows the deadline that the keeper counts on.
    pub(crate) fn guard_is_in_time(&self, site: usize) -> bool {
        let Some(agent) = self.sites[site].agent.as_ref() else {
            return false;
        };
        let LeaseView::Held { fence_at, .. } = agent.contender.current_view() else {
            return false;
        };
        let term = self.sites[site].guard.mind.term();
        !self.has_guards() || !agent.armed || term.is_some_and(|it| it.fence_at <= fence_at)
    }

    pub(crate) fn guard(&mut self, site: usize, life: u32, task: GuardTask) {
        let now = self.now;
        let guard = &mut self.sites[site].guard;
        if guard.life != life {
            return;
        }
        match task {
            GuardTask::Look => match guard.timer.fired(now) {
                Ok(()) => self.guard_acts(site),
                Err(queue) => self.queue_guard(site, queue),
            },
            GuardTask::Fenced => {
                self.note(|| format!("node {}: killed by its guard", name(site)));
                if self.sites[site].node.exists() {
                    self.node_gone(site);
                }
                let moment = self.moment(site);
                self.sites[site].guard.mind.ended(true, moment);
                // What was refused meanwhile is offered again.
                self.feed_guard(site);
                self.guard_acts(site);
            }
        }
    }

    fn guard_acts(&mut self, site: usize) {
        let moment = self.moment(site);
        match self.sites[site].guard.mind.duty(moment) {
            Duty::Wait(None) => {}
            Duty::Wait(Some(at)) => {
                let at = self.clock(site).real(at);
                let queue = self.sites[site].guard.timer.set(at);
                self.queue_guard(site, queue);
            }
            Duty::Fence(term) => self.guard_fences(site, term),
            Duty::Look => {
                let node = &self.sites[site].node;
                if node.exists() && node.role == Role::Primary {
                    self.sites[site].guard.mind.seen_running(moment);
                }
                self.guard_acts(site);
            }
        }
    }

    fn guard_fences(&mut self, site: usize, term: Term) {
        self.note(|| format!("guard {}: lease {} ran out", name(site), term.epoch));
        self.counts.guard_fences += 1;
        self.write(site);
        let (now, budget) = (self.now, self.setup.rules[site].fence_budget);
        let node = &mut self.sites[site].node;
        if !node.disk_full {
            node.signal = true;
        }
        let all = nanos(budget).saturating_sub(US);
        let span = self.rng.pick(&[2 * MS, 10 * MS, all / 2, all]);
        let span = std::time::Duration::from_nanos(span);
        let at = self.clock(site).after(now, span);
        let life = self.sites[site].guard.life;
        self.at(at, Ev::Guard(site, life, GuardTask::Fenced));
    }

    fn queue_guard(&mut self, site: usize, at: Option<crate::clock::Real>) {
        let life = self.sites[site].guard.life;
        if let Some(at) = at {
            self.at(at, Ev::Guard(site, life, GuardTask::Look));
        }
    }
}
