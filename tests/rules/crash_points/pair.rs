//! Both sites on one clock: real decisions, a made-up world that never loses a message.

use std::time::Duration;

use failover_agent::decision::decide::{Action, Order};
use failover_agent::decision::state::{Inherited, Phase};
use failover_agent::model::event::{Command, Event, StepFinished, Wish};
use failover_agent::model::lease::{ClusterRecord, LeaseChange, LeaseCommand};
use failover_agent::model::observation::{Channel, Target};
use failover_agent::model::time::Now;
use failover_agent::model::{Epoch, Moment, SiteName, Timestamp};

use super::site::Site;
use super::voters::Voters;
use crate::world::agent::{Agent, Crash};
use crate::world::nodes::How;
use crate::world::{self, SITES};

const STEP: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
enum Due {
    OwnProbe(Channel),
    PeerProbe,
    Reports,
    Renewal,
    Endpoint,
    Lease(LeaseCommand, Option<Epoch>),
    StepEnds(Box<Order>),
}

/// How an agent dies and comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub down_for: Duration,
    /// The host goes down with it: the node is gone, and no deadline is known afterwards.
    pub host: bool,
}

/// The world.
#[derive(Debug)]
pub(crate) struct Pair {
    pub now: Moment,
    pub sites: [Site; 2],
    pub voters: Voters,
    /// The site that DNS names.
    pub dns: Option<usize>,
    pub death: Death,
    /// Agents that come back, and when.
    pub back: Vec<(usize, Moment)>,
    pub trace: Vec<String>,
    queue: Vec<(Moment, u64, usize, u32, Due)>,
    sequence: u64,
}

impl Pair {
    pub(crate) fn new(own: [How; 2], death: Death) -> Self {
        let now = Moment::from_boot(Duration::from_secs(1000));
        Self {
            now,
            sites: own.map(|how| Site::new(how, now)),
            voters: Voters::default(),
            dns: None,
            death,
            back: Vec::new(),
            trace: Vec::new(),
            queue: Vec::new(),
            sequence: 0,
        }
    }

    fn clocks(&self) -> Now {
        let millis = i64::try_from(self.now.since_boot().as_millis()).unwrap_or(i64::MAX);
        Now {
            moment: self.now,
            wall: Timestamp(1_800_000_000_000 + millis),
        }
    }

    fn at(&mut self, after: Duration, site: usize, due: Due) {
        self.sequence += 1;
        let life = self.sites[site].life;
        let entry = (self.now + after, self.sequence, site, life, due);
        self.queue.push(entry);
    }

    pub(crate) fn note(&mut self, site: usize, what: impl Into<String>) {
        let at = self.now.since_boot().as_secs_f64() - 1000.0;
        self.trace
            .push(format!("{at:8.3}s {} {}", SITES[site], what.into()));
    }

    /// An agent begins to live, with the journal of its former lives.
    pub(crate) fn start(&mut self, site: usize, inherited: Inherited) {
        let lines = std::mem::take(&mut self.sites[site].lines);
        let policy = self.policy(site);
        let agent = Agent::start(policy, lines, inherited, self.clocks());
        let here = &mut self.sites[site];
        here.life += 1;
        here.agent = Some(agent);
        here.held = None;
        here.wake_at = self.now;
        self.note(site, format!("agent starts, {inherited:?}"));
        for due in [
            Due::OwnProbe(Channel::Persistent),
            Due::OwnProbe(Channel::Fresh),
            Due::PeerProbe,
            Due::Reports,
            Due::Renewal,
            Due::Endpoint,
        ] {
            self.at(Duration::ZERO, site, due);
        }
        self.watch_process(site);
    }

    pub(crate) fn policy(&self, site: usize) -> failover_agent::decision::policy::Policy {
        let mut policy = world::policy(SITES[site]);
        policy.trips.clear();
        policy
    }

    /// An agent dies, and its host with it if the death says so.
    pub(crate) fn die(&mut self, site: usize) {
        let death = self.death;
        let back = self.now + death.down_for;
        let here = &mut self.sites[site];
        let Some(agent) = here.agent.take() else {
            return;
        };
        here.lines = agent.lines;
        here.held = None;
        here.crash = Crash::Never;
        if death.host {
            // A standby is started with its host; a primary is not, until the lease is held (S10).
            if here.writable() {
                here.node.how = How::Gone;
            }
            here.deadline = None;
        }
        self.back.push((site, back));
        let last = self.sites[site]
            .lines
            .last()
            .map(|line| format!("{:?}", line.entry));
        self.note(site, format!("DIES after {}", last.unwrap_or_default()));
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        let to = self.now + span;
        while self.step_towards(to) {}
        self.now = to;
    }

    fn step_towards(&mut self, to: Moment) -> bool {
        let next = self.queue.iter().enumerate();
        let next = next.min_by_key(|(_, (at, number, ..))| (*at, *number));
        let next = next.map(|(index, (at, ..))| (*at, index));
        let wakes = (0..2).filter(|site| self.sites[*site].agent.is_some());
        let wake = wakes.map(|site| (self.sites[site].wake_at, site)).min();
        let deadlines = (0..2).filter_map(|site| Some((self.sites[site].deadline?, site)));
        let deadline = deadlines.min();
        let back = self.back.iter().map(|(site, at)| (*at, *site)).min();
        let soonest = [next, wake, deadline, back]
            .into_iter()
            .flatten()
            .map(|(at, _)| at)
            .min();
        let Some(soonest) = soonest.filter(|at| *at <= to) else {
            return false;
        };
        self.now = self.now.max(soonest);
        let due = |event: Option<(Moment, usize)>| {
            event
                .filter(|(at, _)| *at <= self.now)
                .map(|(_, what)| what)
        };
        if let Some(site) = due(deadline) {
            self.deadline_passed(site);
        } else if let Some(site) = due(back) {
            self.back.retain(|(who, _)| *who != site);
            let inherited = match self.sites[site].deadline {
                _ if self.death.host => Inherited::NoDeadline,
                Some(at) => Inherited::FenceAt(at),
                None => Inherited::FenceAt(Moment::default()),
            };
            self.start(site, inherited);
        } else if let Some(index) = due(next) {
            let (_, _, site, life, due) = self.queue.swap_remove(index);
            if self.sites[site].life == life && self.sites[site].agent.is_some() {
                self.happen(site, due);
            } else if let Due::Lease(command, epoch) = due {
                // What was sent arrives, although nobody waits for the answer.
                self.lease(site, command, epoch);
            }
        } else if let Some(site) = due(wake) {
            self.sites[site].wake_at = self.now + Duration::from_hours(1);
            self.feed(site, &Event::Tick);
        }
        self.replicate();
        let writers = self.sites.iter().filter(|site| site.writable()).count();
        assert!(writers <= 1, "S1: two writers\n{}", self.trace.join("\n"));
        true
    }

    /// The keeper, or the guard of a dead agent, fences at the deadline (S2, S4).
    fn deadline_passed(&mut self, site: usize) {
        let here = &mut self.sites[site];
        here.deadline = None;
        let armed = here.agent.as_ref().is_none_or(|agent| agent.state.armed());
        if armed && here.node.may_write() {
            here.node.how = How::Gone;
            self.note(site, "fenced at the deadline");
        }
        if let Some((epoch, _)) = self.sites[site].held.take() {
            self.feed(site, &Event::Lease(LeaseChange::Lost { epoch }));
            self.tell_view(site);
        }
        self.watch_process(site);
    }

    /// A standby streams from a primary that it reaches, and has what it has unless it lags.
    fn replicate(&mut self) {
        let cut = self.sites.iter().any(|site| site.cut);
        for site in 0..2 {
            let primary = &self.sites[1 - site];
            let (streams, lsn) = (primary.writable() && !cut, primary.node.lsn);
            let standby = &mut self.sites[site].node;
            if let How::Standby(_) = standby.how {
                standby.how = How::Standby(streams);
                if streams && standby.lsn.behind(lsn).0 <= 16 << 20 {
                    standby.lsn = lsn;
                }
            }
        }
    }

    fn happen(&mut self, site: usize, due: Due) {
        let again = match &due {
            Due::OwnProbe(Channel::Persistent) => 500,
            Due::OwnProbe(Channel::Fresh) | Due::Endpoint => 5000,
            Due::PeerProbe | Due::Renewal => 2000,
            Due::Reports => 1000,
            Due::Lease(..) | Due::StepEnds(_) => 0,
        };
        match &due {
            Due::OwnProbe(channel) => {
                self.watch_process(site);
                self.probe(site, Target::OwnDatabase(*channel), self.sites[site].node);
            }
            Due::PeerProbe => self.probe_peer(site),
            Due::Endpoint => self.probe_endpoint(site),
            Due::Reports => self.reports(site),
            Due::Renewal => self.renew(site),
            Due::Lease(command, epoch) => return self.lease(site, command.clone(), *epoch),
            Due::StepEnds(order) => return self.step_ends(site, order),
        }
        // It may have died of what it saw.
        if self.sites[site].agent.is_some() {
            self.at(Duration::from_millis(again), site, due);
        }
    }

    fn step_ends(&mut self, site: usize, order: &Order) {
        let (result, dns) = self.sites[site].apply(order);
        self.dns = dns.or(self.dns);
        let finished = StepFinished {
            plan: order.plan.clone(),
            step: order.step,
            attempt: order.attempt,
            undo: order.undo,
            took: STEP,
            result,
        };
        self.feed(site, &Event::StepFinished(finished));
        self.watch_process(site);
    }

    /// An operator asks at a site.
    pub(crate) fn ask(&mut self, site: usize, to: usize) {
        let (to, dry_run) = (SiteName::new(SITES[to]), false);
        let wish = Wish::Failover { to, dry_run };
        self.feed(site, &Event::Command(Command { id: 1, wish }));
    }

    pub(crate) fn feed(&mut self, site: usize, event: &Event) {
        let (now, crash) = (self.clocks(), self.sites[site].crash);
        let Some(agent) = &mut self.sites[site].agent else {
            return;
        };
        let before = agent.state.phase;
        let fed = agent.feed(event, now, crash);
        let phase = agent.state.phase;
        self.sites[site].wake_at = fed.wake_at;
        if before != phase {
            self.note(site, format!("phase {before} -> {phase}"));
        }
        for action in fed.carried_out {
            self.carry_out(site, action);
        }
        if fed.crashed {
            self.die(site);
        }
    }

    fn carry_out(&mut self, site: usize, action: Action) {
        match action {
            Action::Journal(entry) => self.note(site, format!("writes {entry:?}")),
            Action::Lease(command) => {
                self.note(site, format!("lease {command:?}"));
                let epoch = self.sites[site].held.map(|(epoch, _)| epoch);
                if let LeaseCommand::Release { .. } = command {
                    self.sites[site].held = None;
                    self.sites[site].deadline = None;
                }
                self.at(ROUND, site, Due::Lease(command, epoch));
            }
            Action::Run(order) => self.at(STEP, site, Due::StepEnds(order)),
            Action::Abandon(plan) => self.queue.retain(|(_, _, at, _, due)| {
                !(*at == site && matches!(due, Due::StepEnds(order) if order.plan == plan))
            }),
            Action::Tell(telling) => self.note(site, format!("tells {}", telling.summary)),
            Action::Answer { .. } => {}
        }
    }

    /// The record says who the primary is, and nothing is under way.
    pub(crate) fn recorded(&self) -> Option<usize> {
        let record: &ClusterRecord = self.voters.record.as_ref().filter(|r| !r.promoting)?;
        SITES
            .iter()
            .position(|site| record.primary.as_str() == *site)
    }

    pub(crate) fn phase(&self, site: usize) -> Option<Phase> {
        Some(self.sites[site].agent.as_ref()?.state.phase)
    }
}
