//! One state of the whole: three voters with their disks, two contenders, the network between
//! them, and what the properties need to remember. Every act returns the violation it causes.

use std::rc::Rc;

use failover_agent::decision::lease::{Input, Mode};
use failover_agent::model::lease::{
    ClusterRecord, LeaseChange, LeaseCommand, LeaseRequest, LeaseView, StoredVote,
};
use failover_agent::model::{Epoch, Lsn, Moment, SystemId, Timeline};

use super::machines::{Disk, FENCE_BUDGET, Machines, members, site, slow_clock};
use super::pins::{forgot_pause, pause_of};

/// How much may still happen. Everything that can go wrong is counted, so the search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    /// Commands to acquire, for each site.
    pub(crate) acquires: [u8; 2],
    /// Commands to release, naming the other site.
    pub(crate) releases: u8,
    /// Commands to keep a new record.
    pub(crate) keeps: u8,
    /// Commands to keep a record that pins the lease, or that pins it no more, by turns.
    pub(crate) pins: u8,
    /// Requests, or their replies, that get lost on a link that works.
    pub(crate) losses: u8,
    /// Requests or replies that arrive any time later, or never.
    pub(crate) lates: u8,
    /// Requests that arrive now and any time later once more.
    pub(crate) duplicates: u8,
    /// Restarts of a site's agent: contender and voter together.
    pub(crate) agent_restarts: u8,
    /// Restarts of the witness.
    pub(crate) witness_restarts: u8,
    /// How many of those restarts find the disk empty.
    pub(crate) disks_lost: u8,
    /// Changes of a link between up, down and replies lost.
    pub(crate) link_changes: u8,
    /// Writes that a voter's disk refuses.
    pub(crate) disk_errors: u8,
    /// Agents that stop dead, and go on later.
    pub(crate) freezes: u8,
}

impl Budget {
    /// For what has happened before the search begins.
    pub(crate) const UNBOUNDED: Self = Self {
        acquires: [99; 2],
        releases: 99,
        keeps: 99,
        pins: 99,
        losses: 99,
        lates: 99,
        duplicates: 99,
        agent_restarts: 99,
        witness_restarts: 99,
        disks_lost: 99,
        link_changes: 99,
        disk_errors: 99,
        freezes: 99,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Up,
    Down,
    /// Requests arrive, replies do not.
    OneWay,
}

/// A request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) round: u64,
    /// Number of the request in the machines' table.
    pub(crate) what: u32,
}

/// A message that comes late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Late {
    Request(Request),
    /// Number of the input in the machines' table, and whose it is.
    Reply {
        to: usize,
        input: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    pub(crate) contender: u32,
    pub(crate) incarnation: u8,
    pub(crate) frozen: bool,
    /// To the other site's voter, and to the witness.
    pub(crate) links: [Link; 2],
    /// By the guard's clock, which is the contender's: until then the node may be writable.
    pub(crate) writable_until: Option<Moment>,
    /// Its record pins the lease.
    pub(crate) pinned: bool,
    /// It waits until its guard knows a deadline again.
    pub(crate) awaits_guard: bool,
    /// Requests that arrive now, in the order sent.
    pub(crate) queue: Vec<Request>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) real_ms: u64,
    pub(crate) budget: Budget,
    pub(crate) voters: [u32; 3],
    pub(crate) disks: [u32; 3],
    pub(crate) agents: [Agent; 2],
    pub(crate) late: Vec<Late>,
    /// Which incarnation of which site held each epoch.
    pub(crate) holders: Vec<(Epoch, usize, u8)>,
    /// Which incarnation asked other hosts for each epoch.
    pub(crate) asked: Vec<(Epoch, usize, u8)>,
    /// The newest record that a majority was said to keep.
    pub(crate) kept: Option<(Epoch, u64)>,
}

/// A broken property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// S1.
    TwoWriters,
    /// An epoch was held by two sites, or by one site before and after a restart.
    EpochHeldTwice(Epoch),
    /// An agent held an epoch for which it had asked before it was restarted: whatever it sent
    /// then and is still on its way, a release above all, would now be taken for its own.
    EpochAskedTwice(Epoch),
    /// A voter granted an epoch to the site that had released it.
    ReleasedEpochCameBack(Epoch),
    /// A voter's epoch went down.
    PromiseForgotten,
    /// A voter kept an older record, or a holder did not learn of a kept one.
    RecordWentBack,
    /// A holder's record does not say of a pause what it said when it was kept.
    PauseForgotten,
}

pub(crate) type Done = Result<(), Violation>;

impl World {
    /// Everybody up. `fresh`: nobody ever stored anything; else an empty vote is on every disk.
    pub(crate) fn start(machines: &mut Machines, budget: Budget, fresh: bool) -> Self {
        let empty = StoredVote {
            version: 1,
            identity: machines.rules(0).identity,
            promised: Epoch::NONE,
            granted_to: None,
            released: false,
            released_to: None,
            record: None,
        };
        let disk = machines.disks.number((!fresh).then_some(empty));
        let disks = [disk; 3];
        let voters = [0, 1, 2].map(|index| machines.boot_voter(index, disk, 0));
        let agents = [0, 1].map(|index| Agent {
            contender: machines.boot_contender(index, index as u64, 0),
            incarnation: 0,
            frozen: false,
            links: [Link::Up; 2],
            writable_until: None,
            pinned: false,
            awaits_guard: false,
            queue: Vec::new(),
        });
        let (late, holders, asked) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            real_ms: 0,
            budget,
            voters,
            disks,
            agents,
            late,
            holders,
            asked,
            kept: None,
        }
    }

    pub(crate) fn due(&self, machines: &Machines, index: usize) -> bool {
        let agent = &self.agents[index];
        !agent.frozen && machines.due(agent.contender, self.real_ms)
    }

    pub(crate) fn writable(&self, index: usize) -> bool {
        let now = slow_clock(self.real_ms);
        self.agents[index]
            .writable_until
            .is_some_and(|until| now < until)
    }

    pub(crate) fn view(&self, machines: &Machines, index: usize) -> LeaseView {
        machines
            .contenders
            .value(self.agents[index].contender)
            .current_view()
    }

    pub(crate) fn check(&self) -> Done {
        if self.writable(0) && self.writable(1) {
            Err(Violation::TwoWriters)
        } else {
            Ok(())
        }
    }

    /// Gives the contender an input and carries out what it wants. Reads and pre-votes change no
    /// voter, so they are answered on the spot; everything else goes into the queue.
    pub(crate) fn feed(&mut self, machines: &mut Machines, index: usize, input: Input) -> Done {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let step = machines.feed(self.agents[index].contender, input, self.real_ms);
            self.agents[index].contender = step.next;
            self.agents[index].awaits_guard = step.output.awaits_guard.is_some();
            for change in &step.output.changes {
                self.take_change(machines.mode, index, change)?;
            }
            // The own voter is in the same process: it is the first to answer.
            let mut sends: Vec<_> = step.output.sends.iter().collect();
            sends.sort_by_key(|send| send.to != members()[index]);
            for send in sends {
                let to = members()
                    .iter()
                    .position(|member| *member == send.to)
                    .unwrap();
                let what = machines.requests.number(send.request.clone());
                let request = Request {
                    from: index,
                    to,
                    round: send.round,
                    what,
                };
                self.note_asking(index, to, &send.request);
                match (&send.request, self.link(index, to)) {
                    (LeaseRequest::Read | LeaseRequest::PreVote { .. }, Link::Up) => {
                        inputs.extend(self.deliver(machines, request, Disk::Works)?);
                    }
                    (LeaseRequest::Read | LeaseRequest::PreVote { .. }, _) | (_, Link::Down) => {}
                    (_, Link::Up | Link::OneWay) => self.agents[index].queue.push(request),
                }
            }
        }
        self.check()
    }

    /// Lets a request reach its voter. Returns the contender's input that the reply makes.
    pub(crate) fn deliver(
        &mut self,
        machines: &mut Machines,
        request: Request,
        disk: Disk,
    ) -> Result<Option<Input>, Violation> {
        let to = request.to;
        if self.agents.get(to).is_some_and(|agent| agent.frozen) {
            return Ok(None);
        }
        let step = machines.ask(self.voters[to], request.what, disk, self.real_ms);
        self.voters[to] = step.next;
        if let Some(stored) = &step.store {
            self.store(machines, to, stored)?;
        }
        let reply = step.reply.clone();
        let (from, round) = (members()[to].clone(), request.round);
        Ok(Some(Input::Reply { from, round, reply }))
    }

    /// An agent's voter is down with it; the witness and the agents may be cut from each other.
    pub(crate) fn link(&self, index: usize, voter: usize) -> Link {
        match voter {
            own if own == index => Link::Up,
            2 => self.agents[index].links[1],
            _ => self.agents[index].links[0],
        }
    }

    pub(crate) fn late_reply(&mut self, machines: &mut Machines, to: usize, reply: Input) {
        let input = machines.inputs.number(reply);
        self.add_late(Late::Reply { to, input });
    }

    pub(crate) fn add_late(&mut self, late: Late) {
        self.late.push(late);
        self.late.sort_unstable();
    }

    /// The holder fences its node, and gives the lease to the other site.
    pub(crate) fn release(&mut self, machines: &mut Machines, index: usize) -> Done {
        self.agents[index].writable_until = None;
        let to = Some(site(1 - index));
        self.feed(
            machines,
            index,
            Input::Command(LeaseCommand::Release { to }),
        )
    }

    /// The holder hands in a record that is one newer than any it was told of.
    pub(crate) fn keep(&mut self, machines: &mut Machines, index: usize, epoch: Epoch) -> Done {
        let revision = 100 - u64::from(self.budget.keeps);
        let mut record = record(epoch, revision, index);
        record.brakes.paused = pause_of(record.version());
        self.feed(
            machines,
            index,
            Input::Command(LeaseCommand::Keep(Box::new(record))),
        )
    }

    /// The guard survives the restart, so the node stays writable until its deadline. What was
    /// under way to the old process is gone; requests that are late stay on their way.
    pub(crate) fn restart_agent(&mut self, machines: &mut Machines, index: usize, disk_lost: bool) {
        let incarnation = self.agents[index].incarnation + 1;
        let seed = index as u64 + 10 * u64::from(incarnation);
        let agent = &mut self.agents[index];
        agent.incarnation = incarnation;
        agent.contender = machines.boot_contender(index, seed, self.real_ms);
        agent.queue.clear();
        agent.awaits_guard = false;
        self.late
            .retain(|late| !matches!(late, Late::Reply { to, .. } if *to == index));
        self.restart_voter(machines, index, disk_lost);
    }

    pub(crate) fn restart_voter(&mut self, machines: &mut Machines, index: usize, disk_lost: bool) {
        if disk_lost {
            self.disks[index] = machines.disks.number(None);
            // The agent abstains for more than a ttl now; no request stays on its way that long.
            self.late
                .retain(|late| !matches!(late, Late::Request(it) if it.from == index));
            self.asked.retain(|(_, by, _)| *by != index);
        }
        self.voters[index] = machines.boot_voter(index, self.disks[index], self.real_ms);
    }

    fn take_change(&mut self, mode: Mode, index: usize, change: &LeaseChange) -> Done {
        match change {
            LeaseChange::View {
                view: LeaseView::Held { epoch, fence_at },
                record,
                ..
            } => {
                let agent = &mut self.agents[index];
                let pinned_to = record.as_ref().and_then(ClusterRecord::pinned_to);
                agent.pinned = pinned_to == Some(&site(index));
                // The guard hears of a later deadline with the holder, of a nearer one any time.
                let until = *fence_at + FENCE_BUDGET;
                agent.writable_until = agent.writable_until.max(Some(until));
                let version = record.as_ref().map(ClusterRecord::version);
                if version < self.kept {
                    return Err(Violation::RecordWentBack);
                }
                if record.as_ref().is_some_and(forgot_pause) {
                    return Err(Violation::PauseForgotten);
                }
                self.take_holder(mode, *epoch, index)
            }
            LeaseChange::Lost { .. } => {
                // The guard had its deadline already; a loss by a higher epoch may come sooner.
                let fenced = slow_clock(self.real_ms) + FENCE_BUDGET;
                let until = &mut self.agents[index].writable_until;
                *until = until.map(|until| until.min(fenced));
                Ok(())
            }
            LeaseChange::RecordKept { version } => {
                self.kept = self.kept.max(Some(*version));
                Ok(())
            }
            LeaseChange::View { .. }
            | LeaseChange::NotAcquired { .. }
            | LeaseChange::Fenced { .. }
            | LeaseChange::Released { .. } => Ok(()),
        }
    }

    fn note_asking(&mut self, index: usize, to: usize, request: &LeaseRequest) {
        if let LeaseRequest::Acquire { epoch, .. } = request {
            let asked = (*epoch, index, self.agents[index].incarnation);
            if to != index && !self.asked.contains(&asked) {
                self.asked.push(asked);
                self.asked.sort_unstable();
            }
        }
    }

    fn take_holder(&mut self, mode: Mode, epoch: Epoch, index: usize) -> Done {
        // With two agents alone a restarted holder goes on under its epoch, on purpose.
        let incarnation = match mode {
            Mode::Quorum => self.agents[index].incarnation,
            Mode::Pair => 0,
        };
        let holder = (epoch, index, incarnation);
        let before = |asked: &&(Epoch, usize, u8)| {
            (asked.0, asked.1) == (epoch, index) && asked.2 != holder.2
        };
        if mode == Mode::Quorum && self.asked.iter().any(|asked| before(&asked)) {
            return Err(Violation::EpochAskedTwice(epoch));
        }
        match self.holders.iter().find(|(held, ..)| *held == epoch) {
            Some(known) if *known == holder => Ok(()),
            Some(_) => Err(Violation::EpochHeldTwice(epoch)),
            None => {
                self.holders.push(holder);
                self.holders.sort_unstable();
                Ok(())
            }
        }
    }

    pub(crate) fn store(
        &mut self,
        machines: &mut Machines,
        index: usize,
        stored: &StoredVote,
    ) -> Done {
        let before: Rc<Option<StoredVote>> = machines.disks.value(self.disks[index]);
        if let Some(before) = before.as_ref() {
            let back = before.released
                && !stored.released
                && before.promised == stored.promised
                && before.granted_to == stored.granted_to;
            if back {
                return Err(Violation::ReleasedEpochCameBack(stored.promised));
            }
            if stored.promised < before.promised {
                return Err(Violation::PromiseForgotten);
            }
            let version = |vote: &StoredVote| vote.record.as_ref().map(ClusterRecord::version);
            if version(stored) < version(before) {
                return Err(Violation::RecordWentBack);
            }
        }
        self.disks[index] = machines.disks.number(Some(stored.clone()));
        Ok(())
    }
}

pub(crate) fn record(epoch: Epoch, revision: u64, primary: usize) -> ClusterRecord {
    ClusterRecord {
        epoch,
        revision,
        primary: site(primary),
        promoting: false,
        system_id: SystemId(1),
        timeline: Timeline(1),
        last_lsn: Lsn(0),
        last_failover: None,
        brakes: Box::default(),
    }
}
