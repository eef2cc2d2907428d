//! The simulated fence: a clean stop if there is time for one, then force, then proof.

use crate::agent::Task;
use crate::clock::{MS, Real, US, nanos};
use crate::node::Process;
use crate::setup::Mutation;
use crate::steps::{failed, learned};
use crate::world::{Ev, World, name};
use failover_agent::model::Role;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::Step;
use std::time::Duration;

/// A fence under way. Once begun it goes on even if its step is abandoned.
#[derive(Debug)]
pub(crate) struct Fence {
    /// Its step; none when the keeper began it at a deadline.
    pub(crate) token: Option<u64>,
    pub(crate) forced: bool,
    grace_end: Real,
    budget: Duration,
}

impl World {
    pub(crate) fn begin_fence(
        &mut self,
        site: usize,
        token: Option<u64>,
        grace: Duration,
        budget: Duration,
    ) {
        self.write(site);
        let now = self.now;
        let grace_end = self.clock(site).after(now, grace);
        let here = &mut self.sites[site];
        let fence = Fence {
            token,
            forced: false,
            grace_end,
            budget,
        };
        self.next_call += 1;
        let number = self.next_call;
        let node = &mut here.node;
        if !node.disk_full {
            node.signal = true;
        }
        let can_stop = node.process == Process::Up && !node.frozen && !node.postmaster_frozen;
        let cleanly = !grace.is_zero() && can_stop;
        if let Some(agent) = here.agent.as_mut() {
            agent.fences.insert(number, fence);
        }
        self.note(|| format!("node {}: fence begins, cleanly: {cleanly}", name(site)));
        if cleanly {
            self.stop_node(site);
            self.task(site, 10 * MS, Task::Fence(number));
        } else {
            self.force(site, number);
        }
    }

    fn force(&mut self, site: usize, number: u64) {
        let now = self.now;
        let Some(fence) = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.fences.get_mut(&number))
        else {
            return;
        };
        fence.forced = true;
        let budget = fence.budget;
        let all = nanos(budget).saturating_sub(US);
        let span = self.rng.pick(&[2 * MS, 10 * MS, all / 2, all]);
        let at = self.clock(site).after(now, Duration::from_nanos(span));
        if self.setup.mutation == Mutation::FenceUnproved {
            let token = self.sites[site].agent.as_ref();
            let token = token.and_then(|agent| agent.fences.get(&number)?.token);
            if let Some(token) = token {
                self.end_step(site, token, learned(None));
            }
        }
        if let Some(agent) = &self.sites[site].agent {
            let life = agent.life;
            self.at(at, Ev::Agent(site, life, Task::Fence(number)));
        }
    }

    pub(crate) fn fence_on(&mut self, site: usize, number: u64) {
        let now = self.now;
        let Some(fence) = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.fences.get(&number))
        else {
            return;
        };
        let (forced, over) = (fence.forced, now >= fence.grace_end);
        let down = self.sites[site].node.process == Process::Down;
        if !forced && !down {
            return if over {
                self.force(site, number);
            } else {
                self.task(site, 10 * MS, Task::Fence(number));
            };
        }
        let fence = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.fences.remove(&number));
        let was_primary = self.sites[site].node.role == Role::Primary;
        if !down {
            self.note(|| format!("node {}: killed by its fence", name(site)));
            self.node_gone(site);
        }
        let Some(fence) = fence else { return };
        let Some(token) = fence.token else {
            return self.deadline_fence_ended(site, fence.budget);
        };
        let undoes_promotion = self.sites[site]
            .agent
            .as_ref()
            .and_then(|agent| agent.steps.get(&token))
            .is_some_and(|running| matches!(running.order.what, Step::Promote { .. }));
        let ended = if undoes_promotion && was_primary {
            // What has come true cannot be undone.
            failed(FailureKind::Permanent, "it was a primary")
        } else {
            learned(None)
        };
        self.end_step(site, token, ended);
    }
}
