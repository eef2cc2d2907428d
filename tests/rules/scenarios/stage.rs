//! The world of a scenario: one agent, its node, and what it hears of everything else, on a clock
//! that only the scenario moves.

use std::collections::BTreeMap;
use std::time::Duration;

use failover_agent::decision::decide::{Action, Order};
use failover_agent::decision::policy::Policy;
use failover_agent::decision::state::Inherited;
use failover_agent::model::event::{Event, StepFinished};
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::lease::LeaseChange;
use failover_agent::model::observation::{
    Channel, DatabaseSeen, EndpointResult, EndpointSeen, Observation, Phases, Seen, Target,
};
use failover_agent::model::peer::{PeerReport, Sighting};
use failover_agent::model::plan::StepKind;
use failover_agent::model::time::Now;
use failover_agent::model::{Epoch, Member, Moment, ProbeName, Timestamp};

use super::steps::{Fate, effect};
use super::voters::{Grant, Voters};
use crate::world::agent::{Agent, Crash};
use crate::world::nodes::{How, Node};

/// The wall clock when the stage is set.
const WALL: i64 = 1_800_000_000_000;

/// Something that will happen.
#[derive(Debug, Clone)]
enum Due {
    OwnProbe(Channel),
    PeerProbe(Channel),
    EndpointProbe,
    NeutralProbe,
    Reports,
    Renewal,
    News(LeaseChange),
    StepEnds(Order),
}

/// The world.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that is so or is not"
)]
pub(crate) struct Stage {
    pub agent: Agent,
    pub own: Node,
    pub peer: Node,
    pub peer_agent: bool,
    /// Probes from here reach the other site's node.
    pub link: bool,
    pub witness: bool,
    pub witness_sees_peer: bool,
    pub peer_tripped: bool,
    pub endpoint_up: bool,
    /// The neutral targets can be reached from here.
    pub neutral: bool,
    /// How others see the own node, where that differs.
    pub own_elsewhere: Option<How>,
    /// Commits of the own node take longer than probes wait.
    pub commits_stall: bool,
    /// The other agent only observes.
    pub peer_observes: bool,
    pub voters: Voters,
    pub fates: BTreeMap<StepKind, Fate>,
    /// Steps that were begun and have not ended.
    pub hanging: Vec<Order>,
    /// Everything that was done, and when.
    pub log: Vec<(Moment, Action)>,
    pub trace: Vec<String>,
    /// Where time is counted from in the scenario.
    pub zero: Moment,
    pub now: Moment,
    /// By how much the wall clock is off.
    pub wall_off: i64,
    queue: Vec<(Moment, u64, Due)>,
    sequence: u64,
    wake_at: Moment,
    running: bool,
}

impl Stage {
    /// A quiet world: nothing has been seen, nobody has the lease.
    pub(crate) fn new(policy: Policy) -> Self {
        let now = Moment::from_boot(Duration::from_secs(1000));
        let voters = Voters::new(&policy);
        let agent = Agent::start(policy, Vec::new(), Inherited::NeverActive, wall(now, 0));
        Self {
            agent,
            own: Node::new(How::Primary),
            peer: Node::new(How::Standby(true)),
            peer_agent: true,
            link: true,
            witness: true,
            witness_sees_peer: true,
            peer_tripped: false,
            endpoint_up: true,
            neutral: true,
            own_elsewhere: None,
            commits_stall: false,
            peer_observes: false,
            voters,
            fates: BTreeMap::new(),
            hanging: Vec::new(),
            log: Vec::new(),
            trace: Vec::new(),
            zero: now,
            now,
            wall_off: 0,
            queue: Vec::new(),
            sequence: 0,
            wake_at: now,
            running: false,
        }
    }

    /// Lets the agent begin to look around.
    pub(crate) fn begin(&mut self) {
        self.running = true;
        for due in [
            Due::Renewal,
            Due::Reports,
            Due::OwnProbe(Channel::Persistent),
            Due::OwnProbe(Channel::Fresh),
            Due::PeerProbe(Channel::Persistent),
            Due::PeerProbe(Channel::Fresh),
            Due::EndpointProbe,
            Due::NeutralProbe,
        ] {
            self.plan(Duration::ZERO, due);
        }
    }

    /// What happened so far is forgotten, and time is counted from here.
    pub(crate) fn count_from_here(&mut self) {
        self.zero = self.now;
        self.log.clear();
    }

    pub(crate) fn clocks(&self) -> Now {
        wall(self.now, self.wall_off)
    }

    /// The agent's process ends, and a new one begins with its journal.
    pub(crate) fn restart(&mut self, inherited: Inherited, down_for: Duration) {
        self.running = false;
        self.hanging.clear();
        self.queue
            .retain(|(_, _, due)| !matches!(due, Due::News(_) | Due::StepEnds(_)));
        if self.voters.grant == Grant::Mine {
            self.voters.grant = Grant::Inherited;
        }
        self.advance(self.now + down_for);
        let (policy, lines) = (self.agent.policy.clone(), self.agent.lines.clone());
        self.agent = Agent::start(policy, lines, inherited, self.clocks());
        self.running = true;
        self.look();
    }

    /// Everything is looked at right now, as after news.
    pub(crate) fn look(&mut self) {
        self.watch_process();
        self.report();
        let news = self.voters.news();
        self.feed(&Event::Lease(news));
    }

    fn plan(&mut self, after: Duration, due: Due) {
        self.sequence += 1;
        self.queue.push((self.now + after, self.sequence, due));
    }

    /// Lets time pass up to `to`.
    pub(crate) fn advance(&mut self, to: Moment) {
        while self.step_towards(to) {}
    }

    /// Lets the next thing happen, if it is due before `to`; says whether anything did.
    pub(crate) fn step_towards(&mut self, to: Moment) -> bool {
        let next = self
            .queue
            .iter()
            .enumerate()
            .min_by_key(|(_, (at, number, _))| (*at, *number))
            .map(|(index, (at, _, _))| (index, *at));
        let deadline = self.voters.deadline().filter(|_| self.running);
        let wake_at = self.wake_at;
        let soonest = [next.map(|(_, at)| at), deadline, Some(wake_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(to);
        if soonest > to {
            self.now = self.now.max(to);
            return false;
        }
        self.now = self.now.max(soonest);
        if deadline.is_some_and(|at| at <= self.now) {
            self.deadline_passed(Grant::Free(None));
        } else if let Some((index, _)) = next.filter(|(_, at)| *at <= self.now) {
            let (_, _, due) = self.queue.swap_remove(index);
            self.happen(due);
        } else {
            self.wake_at = self.now + Duration::from_secs(3600);
            self.feed(&Event::Tick);
        }
        true
    }

    /// The keeper fences before anything else, if the node may be taking writes.
    pub(crate) fn deadline_passed(&mut self, to: Grant) {
        if self.agent.state.armed() {
            self.trace("the keeper fences at the deadline");
            self.own.how = How::Gone;
        }
        for change in self.voters.lose(to) {
            self.feed(&Event::Lease(change));
        }
        self.watch_process();
    }

    fn happen(&mut self, due: Due) {
        let every = |due: &Due| match due {
            Due::OwnProbe(Channel::Fresh) | Due::PeerProbe(Channel::Fresh) => 5000,
            Due::OwnProbe(Channel::Persistent) | Due::EndpointProbe => 500,
            Due::Renewal | Due::NeutralProbe => 2000,
            Due::PeerProbe(Channel::Persistent)
            | Due::Reports
            | Due::News(_)
            | Due::StepEnds(_) => 1000,
        };
        let again = Duration::from_millis(every(&due));
        match &due {
            Due::News(change) => {
                let change = change.clone();
                return self.feed(&Event::Lease(change));
            }
            Due::StepEnds(order) => {
                let order = order.clone();
                return self.step_ends(&order);
            }
            Due::OwnProbe(channel) => self.probe(Target::OwnDatabase(*channel), self.own),
            Due::PeerProbe(channel) => {
                let how = if self.link { self.peer.how } else { How::Hung };
                self.probe(Target::PeerDatabase(*channel), Node { how, ..self.peer });
            }
            Due::EndpointProbe => self.probe_endpoint(),
            Due::NeutralProbe => self.probe_neutral(),
            Due::Reports => self.report(),
            Due::Renewal => {
                self.voters.forget_successor(self.now);
                let news = self.voters.renew(self.now);
                self.feed(&Event::Lease(news));
            }
        }
        self.plan(again, due);
    }

    fn probe(&mut self, target: Target, node: Node) {
        // A local node's process and directory are looked at again with every probe.
        if matches!(target, Target::OwnDatabase(_)) {
            self.watch_process();
            self.observe(Target::OwnDirectory, Seen::Directory(self.own.directory()));
        }
        if self.commits_stall && target == Target::OwnDatabase(Channel::Persistent) {
            let phase = "write".to_owned();
            return self.observe(target, Seen::Database(DatabaseSeen::TimedOut { phase }));
        }
        // A new connection writes no canary.
        if node.how == How::LockedOut && target != Target::OwnDatabase(Channel::Persistent) {
            let seen = DatabaseSeen::Answered(node.report());
            return self.observe(target, Seen::Database(seen));
        }
        if let Some(seen) = node.seen() {
            self.observe(target, Seen::Database(seen));
        }
    }

    pub(crate) fn watch_process(&mut self) {
        let seen = Seen::Process(self.own.process());
        let known = self
            .agent
            .state
            .health(&Target::OwnProcess)
            .and_then(|h| h.last());
        if known.is_none_or(|(_, known)| *known != seen) {
            self.observe(Target::OwnProcess, seen);
        }
    }

    fn probe_endpoint(&mut self) {
        let result = if self.endpoint_up {
            EndpointResult::Passed
        } else {
            EndpointResult::Refused
        };
        let phases = Phases::default();
        let seen = Seen::Endpoint(EndpointSeen { result, phases });
        self.observe(Target::Endpoint(ProbeName::new("web")), seen);
    }

    pub(crate) fn observe(&mut self, target: Target, seen: Seen) {
        let observation = Observation {
            target,
            at: self.now,
            took: Duration::from_millis(1),
            seen,
        };
        self.feed(&Event::Observed(observation));
    }

    /// The other agent and the witness report, or do not answer.
    pub(crate) fn report(&mut self) {
        let me = self.agent.policy.me.clone();
        let peer = Member::Site(self.agent.policy.peer.clone());
        let sighting = |site, node: &Node| {
            let target = Target::PeerDatabase(Channel::Fresh);
            let age = Some(Duration::from_millis(10));
            node.seen().map(|seen| Sighting {
                site,
                target,
                seen,
                age,
            })
        };
        let report = |from: &Member, own: Option<&Node>, sees: Vec<Sighting>, tripped| PeerReport {
            from: from.clone(),
            version: "1".to_owned(),
            clock: Timestamp(WALL),
            epoch: Epoch(self.voters.epoch),
            active: self.voters.grant == Grant::Peer,
            own_database: own.and_then(Node::seen),
            sees,
            diagnoses: Vec::new(),
            site_tripped: tripped,
            observes: self.peer_observes && own.is_some(),
            doing: None,
        };
        let of_peer = self.peer_agent.then(|| {
            let sees = sighting(me.clone(), &self.own_for_others())
                .into_iter()
                .collect();
            report(&peer, Some(&self.peer), sees, self.peer_tripped)
        });
        let sees_peer = sighting(self.agent.policy.peer.clone(), &self.peer);
        let sees_own = sighting(me, &self.own_for_others());
        let sees = sees_peer
            .filter(|_| self.witness_sees_peer)
            .into_iter()
            .chain(sees_own)
            .collect();
        let of_witness = self
            .witness
            .then(|| report(&Member::Witness, None, sees, false));
        let mut answers = vec![(peer, of_peer)];
        if self.agent.policy.has_witness() {
            answers.push((Member::Witness, of_witness));
        }
        for (from, report) in answers {
            self.feed(&match report {
                Some(report) => Event::Reported(Box::new(report)),
                None => Event::ReportMissed { from },
            });
        }
    }

    /// One event, and everything that the agent does about it.
    pub(crate) fn feed(&mut self, event: &Event) {
        if !self.running {
            return;
        }
        let (before, told) = (self.agent.state.phase, self.agent.state.diagnoses.clone());
        let now = self.clocks();
        let fed = self.agent.feed(event, now, Crash::Never);
        self.wake_at = fed.wake_at;
        if told != self.agent.state.diagnoses {
            self.trace(format!("diagnoses {:?}", self.agent.state.diagnoses));
        }
        for action in fed.carried_out {
            self.trace(format!("does {action:?}"));
            self.log.push((self.now, action.clone()));
            self.carry_out(action);
        }
        if before != self.agent.state.phase {
            self.trace(format!("phase {before} -> {}", self.agent.state.phase));
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Lease(command) => {
                for (after, change) in self.voters.take(&command, self.now) {
                    self.plan(after, Due::News(change));
                }
            }
            Action::Run(order) => {
                let hangs = self.fates.get(&order.what.kind()) == Some(&Fate::Hangs);
                if hangs {
                    self.hanging.push(*order);
                } else {
                    self.plan(Duration::from_millis(50), Due::StepEnds(*order));
                }
            }
            Action::Abandon(plan) => {
                let ours = |due: &Due| matches!(due, Due::StepEnds(order) if order.plan == plan);
                self.queue.retain(|(_, _, due)| !ours(due));
            }
            Action::Journal(_) | Action::Tell(_) | Action::Answer { .. } => {}
        }
    }

    /// A step ends as its fate says, and the node is as it left it.
    pub(crate) fn step_ends(&mut self, order: &Order) {
        let result = effect(self, order);
        let finished = StepFinished {
            plan: order.plan.clone(),
            step: order.step,
            attempt: order.attempt,
            undo: order.undo,
            took: Duration::from_millis(50),
            result,
        };
        self.watch_process();
        self.feed(&Event::StepFinished(finished));
    }

    /// One line more for whoever must find out why a scenario failed.
    pub(crate) fn trace(&mut self, what: impl Into<String>) {
        let at = self.now.since_boot().as_secs_f64() - self.zero.since_boot().as_secs_f64();
        self.trace.push(format!("{at:9.3}s {}", what.into()));
    }

    /// What was journalled since then.
    pub(crate) fn journalled_since(&self, mark: usize) -> impl Iterator<Item = &JournalEntry> {
        self.log
            .iter()
            .skip(mark)
            .filter_map(|(_, action)| match action {
                Action::Journal(entry) => Some(entry),
                _ => None,
            })
    }
}

fn wall(moment: Moment, off: i64) -> Now {
    let millis = i64::try_from(moment.since_boot().as_millis()).unwrap_or(i64::MAX);
    Now {
        moment,
        wall: Timestamp(WALL + millis + off),
    }
}
