//! The whole: hosts, network, queue of events. Start reading at [`World::run`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use failover_agent::decision::journal_rules::Follower;
use failover_agent::decision::lease::Voter;
use failover_agent::model::event::Wish;
use failover_agent::model::journal::JournalLine;
use failover_agent::model::lease::StoredVote;
use failover_agent::model::observation::DatabaseSeen;
use failover_agent::model::plan::StepKind;
use failover_agent::model::{Epoch, Moment, Role};

use crate::agent::{Agent, Task};
use crate::checks::{Rule, Truth};
use crate::clock::{HostClock, MS, Real, Rng};
use crate::faults::Fault;
use crate::guard::{Guard, GuardTask};
use crate::net::{Net, Packet, WITNESS};
use crate::node::Node;
use crate::setup::Setup;
use crate::timeline::{Counts, Timeline};

/// Everything that can happen at an instant.
#[derive(Debug)]
pub(crate) enum Ev {
    /// Something inside one life of an agent process.
    Agent(usize, u32, Task),
    /// An agent process is started, if none runs.
    StartAgent(usize),
    /// Something inside one instance of a node.
    Node(usize, u32, NodeTask),
    /// Replication sends what there is.
    Wal(usize),
    Packet(usize, usize, Packet),
    Witness(u32, WitnessTask),
    Guard(usize, u32, GuardTask),
    /// A change that this site's agent has sent reaches the DNS provider.
    Dns(usize, Pointer),
    Fault(Fault),
    /// Everything is well again from here on.
    Heal,
    /// Look whether the schedule has come to its end.
    Poll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeTask {
    Started,
    Promoted,
    OrphansGone,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WitnessTask {
    /// Look at this site's node, through a kept (0) or a fresh (1) connection.
    Look(usize, usize),
    Learn,
}

struct Entry {
    at: Real,
    number: u64,
    what: Ev,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What survives an agent's death; all but the deadline's word also survives a power cut.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) journal: Vec<JournalLine>,
    pub(crate) follower: Follower,
    pub(crate) vote: Option<StoredVote>,
    /// The boot and the deadline, see `runtime::inherited`.
    pub(crate) word: Option<(u64, Moment)>,
    pub(crate) file: Pointer,
    pub(crate) journal_full: bool,
    pub(crate) vote_full: bool,
    /// Each flush takes this long.
    pub(crate) flush: Real,
}

/// An app config file or a DNS record: the site it names, under which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pointer {
    pub(crate) site: usize,
    pub(crate) epoch: Epoch,
}

pub(crate) struct Site {
    pub(crate) clock: HostClock,
    pub(crate) host_up: bool,
    pub(crate) disk: Disk,
    pub(crate) node: Node,
    pub(crate) agent: Option<Agent>,
    pub(crate) guard: Guard,
    pub(crate) lives: u32,
    pub(crate) wal_paused: bool,
    pub(crate) app_down: bool,
    /// The next attempts of steps of this kind fail.
    pub(crate) failing: BTreeMap<StepKind, u32>,
    /// How long a promotion and a start take.
    pub(crate) promote_takes: Real,
    pub(crate) start_takes: Real,
}

pub(crate) struct Witness {
    pub(crate) clock: HostClock,
    pub(crate) life: u32,
    pub(crate) voter: Option<Voter>,
    pub(crate) vote: Option<StoredVote>,
    pub(crate) sightings: BTreeMap<(usize, usize), (Moment, DatabaseSeen)>,
    pub(crate) kept: [Option<u32>; 2],
    pub(crate) started: Real,
}

pub(crate) struct World {
    pub(crate) now: Real,
    number: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) net: Net,
    pub(crate) sites: [Site; 2],
    pub(crate) witness: Witness,
    pub(crate) dns: Pointer,
    pub(crate) truth: Truth,
    pub(crate) timeline: Timeline,
    pub(crate) counts: Counts,
    pub(crate) healed: Option<Real>,
    pub(crate) end: Option<End>,
    pub(crate) next_call: u64,
    /// What operators asked for, until it is answered.
    pub(crate) wishes: BTreeMap<u64, Wish>,
    pub(crate) next_branch: u32,
}

/// How a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// All is well: one primary, and everything names it.
    Well,
    /// Nothing is served, or not everywhere, and the agents say why.
    Explained(String),
    /// Two writers that only `agent gate` could have kept apart.
    NeedsGate,
    Violation(Rule, String),
}

impl World {
    pub(crate) fn at(&mut self, at: Real, what: Ev) {
        self.number += 1;
        let entry = Entry {
            at: at.max(self.now),
            number: self.number,
            what,
        };
        self.queue.push(Reverse(entry));
    }

    pub(crate) fn after(&mut self, span: Real, what: Ev) {
        self.at(self.now.saturating_add(span), what);
    }

    /// Runs the schedule to its end.
    pub(crate) fn run(&mut self) -> End {
        loop {
            let Some(Reverse(entry)) = self.queue.pop() else {
                return End::Explained("nothing is left to happen".to_owned());
            };
            self.now = entry.at;
            self.counts.events += 1;
            self.dispatch(entry.what);
            self.check();
            if let Some(end) = self.end.take() {
                return end;
            }
        }
    }

    fn dispatch(&mut self, event: Ev) {
        match event {
            Ev::Agent(site, life, task) => self.agent_event(site, life, task),
            Ev::StartAgent(site) => self.start_agent(site),
            Ev::Node(site, instance, task) => self.node_event(site, instance, task),
            Ev::Wal(site) => self.send_wal(site),
            Ev::Packet(from, to, packet) => self.arrive(from, to, packet),
            Ev::Witness(life, task) => self.witness_event(life, task),
            Ev::Guard(site, life, task) => self.guard(site, life, task),
            Ev::Dns(site, wanted) => self.dns_changes(site, wanted),
            Ev::Fault(fault) => self.fault(fault),
            Ev::Heal => self.heal(),
            Ev::Poll => self.poll_end(),
        }
    }

    /// Sends a packet; it may get lost, come late or twice.
    pub(crate) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        for delay in self.net.carry(from, to, &mut self.rng) {
            self.after(delay, Ev::Packet(from, to, packet.clone()));
        }
    }

    fn arrive(&mut self, from: usize, to: usize, packet: Packet) {
        if to == WITNESS {
            return self.arrive_at_witness(from, packet);
        }
        if !self.sites[to].host_up {
            return;
        }
        match packet {
            Packet::Wal(wal) => self.receive_wal(to, &wal),
            Packet::WalAck { instance } => self.wal_received(to, instance),
            Packet::WalEnd => self.sender_gone(to),
            packet => self.arrive_at_agent(from, to, packet),
        }
    }

    pub(crate) fn moment(&self, host: usize) -> Moment {
        self.clock(host).moment(self.now)
    }

    pub(crate) fn clock(&self, host: usize) -> &HostClock {
        if host == WITNESS {
            &self.witness.clock
        } else {
            &self.sites[host].clock
        }
    }

    /// The writer at this node commits up to now.
    pub(crate) fn write(&mut self, site: usize) {
        let now = self.now;
        self.sites[site]
            .node
            .write_until(now, &mut self.truth.acknowledged);
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        self.timeline.note(self.now, text);
    }

    fn node_event(&mut self, site: usize, instance: u32, task: NodeTask) {
        self.write(site);
        let node = &mut self.sites[site].node;
        if node.instance != instance {
            return;
        }
        if node.frozen && task != NodeTask::OrphansGone {
            // It goes on when it is thawed.
            return self.after(20 * MS, Ev::Node(site, instance, task));
        }
        match task {
            NodeTask::Started if node.process == super::node::Process::Starting => {
                node.process = super::node::Process::Up;
                let primary = node.role == Role::Primary;
                self.note(|| format!("node {}: up as {}", name(site), role(primary)));
                if primary {
                    self.began_to_write(site);
                }
            }
            NodeTask::Promoted if node.promoting => self.promoted(site),
            NodeTask::OrphansGone if node.process == super::node::Process::Orphans => {
                self.node_gone(site);
            }
            NodeTask::Stopped if node.process == super::node::Process::Stopping => {
                self.note(|| format!("node {}: stopped cleanly", name(site)));
                self.node_gone(site);
            }
            NodeTask::Started | NodeTask::Promoted | NodeTask::OrphansGone | NodeTask::Stopped => {}
        }
    }
}

pub(crate) fn name(host: usize) -> &'static str {
    ["a", "b", "witness"][host]
}

fn role(primary: bool) -> &'static str {
    if primary { "primary" } else { "standby" }
}

impl World {
    pub(crate) fn assemble(
        rng: Rng,
        setup: Setup,
        net: Net,
        sites: [Site; 2],
        witness: Witness,
        timeline: Timeline,
    ) -> Self {
        Self {
            now: 0,
            number: 0,
            queue: BinaryHeap::new(),
            rng,
            setup,
            net,
            sites,
            witness,
            dns: Pointer::default(),
            truth: Truth::default(),
            timeline,
            counts: Counts::default(),
            healed: None,
            end: None,
            next_call: 0,
            wishes: BTreeMap::new(),
            next_branch: 1,
        }
    }
}
