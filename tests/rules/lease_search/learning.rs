//! Voters that ask the others what they know: without memory, and under a pin.

use failover_agent::model::lease::{LeaseReply, LeaseRequest};

use super::machines::{Disk, Machines, fast_clock, members};
use super::world::{Done, Link, World};

impl World {
    /// A voter that listens asks the others what they know.
    pub(crate) fn learn(&mut self, machines: &mut Machines, index: usize) -> Done {
        for other in (0..3).filter(|other| *other != index) {
            let agent = if index < 2 { index } else { other };
            let cut = self.link(agent, if index < 2 { other } else { 2 }) != Link::Up;
            let frozen = self.agents.get(other).is_some_and(|agent| agent.frozen);
            if cut || frozen {
                continue;
            }
            let read = machines.requests.number(LeaseRequest::Read);
            let reply = machines
                .ask(self.voters[other], read, Disk::Works, self.real_ms)
                .reply
                .clone();
            self.learn_from(machines, index, other, &reply)?;
        }
        Ok(())
    }

    fn learn_from(
        &mut self,
        machines: &mut Machines,
        index: usize,
        from: usize,
        reply: &LeaseReply,
    ) -> Done {
        let mut voter = (*machines.voters.value(self.voters[index])).clone();
        let now = fast_clock(self.real_ms);
        let stored = voter.learn(reply, &members()[from], now);
        let identity = machines.rules(index).identity;
        voter.handle(&identity, &LeaseRequest::Read, now);
        self.voters[index] = machines.voters.number(voter);
        stored.map_or(Ok(()), |stored| self.store(machines, index, &stored))
    }
}
