//! One life of an agent process: what it consists of, how it begins, and how it ends.

use std::collections::{BTreeMap, VecDeque};

use failover_agent::decision::lease::{Contender, Voter};
use failover_agent::decision::resume::resume;
use failover_agent::decision::state::{Inherited, Phase, State};
use failover_agent::model::event::Event;
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::lease::{LeaseChange, LeaseReply};
use failover_agent::model::observation::{DatabaseSeen, ProcessSeen};
use failover_agent::model::peer::PeerReport;
use failover_agent::model::{Epoch, Moment};

use crate::clock::{MS, Real, SEC};
use crate::fencing::Fence;
use crate::keeper::Call;
use crate::links::{Link, Signature};
use crate::mind::{Act, Broken};
use crate::net::Packet;
use crate::probes::ProbeRhythm;
use crate::setup::{Mutation, site_name};
use crate::steps::Running;
use crate::world::{Ev, World, name};

/// Something inside an agent process.
#[derive(Debug)]
pub(crate) enum Task {
    Loop,
    /// A flush has ended, or the process goes on after a freeze in the middle of an act.
    Act,
    Keeper,
    Poke,
    OwnVote(u64, Box<LeaseReply>),
    Timeout(u64),
    Send(usize, Packet),
    Look(usize, u64),
    Seen(usize, Box<DatabaseSeen>),
    Process,
    ProcessRepeat,
    Report(usize, u64),
    Step(u64),
    StepDeadline(u64),
    Fence(u64),
    /// The time that a node without a lease is given after a start is over.
    Unleased,
    /// The loop hears what the keeper has for it.
    News,
}

/// A timer whose event is queued at most once per due time.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    due: Real,
    queued: Option<Real>,
}

/// What a process does to itself at one of its next flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trap {
    CrashBefore,
    CrashAfter,
    FreezeAfter(Real),
}

pub(crate) struct Agent {
    pub(crate) life: u32,
    pub(crate) frozen: bool,
    /// When it last began to run: was started or thawed.
    pub(crate) awake_since: Real,
    /// What came while it was frozen.
    pub(crate) deferred: Vec<Ev>,
    pub(crate) state: Option<State>,
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) act: Option<Act>,
    /// The loop has taken an event and is not done with it.
    pub(crate) busy: bool,
    /// What waits for the loop is being given to it.
    pub(crate) pumping: bool,
    /// When the loop has to come round at the latest.
    pub(crate) wake_at: Moment,
    pub(crate) timer: Timer,
    pub(crate) keeper_timer: Timer,
    pub(crate) contender: Contender,
    pub(crate) voter: Voter,
    pub(crate) armed: bool,
    /// Fence what the previous life left running at this moment, unless the lease has come.
    pub(crate) unleased: Option<Moment>,
    /// The lease is asked for once the fence at a deadline has ended.
    pub(crate) lease_wanted: bool,
    /// What the keeper has for the loop, in order.
    pub(crate) news: VecDeque<LeaseChange>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) probes: Vec<ProbeRhythm>,
    pub(crate) process_told: Option<ProcessSeen>,
    pub(crate) links: [Link; 3],
    pub(crate) signature: Signature,
    pub(crate) cached: Option<Box<PeerReport>>,
    pub(crate) steps: BTreeMap<u64, Running>,
    pub(crate) fences: BTreeMap<u64, Fence>,
    pub(crate) broken: Option<Broken>,
    pub(crate) trap: Option<(u32, Trap)>,
    pub(crate) phase: Phase,
}

impl Timer {
    /// Sets the due time; says when an event must be queued.
    pub(crate) fn set(&mut self, due: Real) -> Option<Real> {
        self.due = due;
        let earlier = self.queued.is_none_or(|queued| due < queued);
        earlier.then(|| {
            self.queued = Some(due);
            due
        })
    }

    /// An event came: true when it is due, else perhaps when to queue the next.
    pub(crate) fn fired(&mut self, now: Real) -> Result<(), Option<Real>> {
        if self.queued.is_some_and(|queued| queued <= now) {
            self.queued = None;
        }
        if self.due <= now {
            return Ok(());
        }
        Err(self.set(self.due))
    }
}

impl World {
    /// What a broken product loses between two lives.
    fn forget(&mut self, site: usize) {
        let here = &mut self.sites[site];
        match self.setup.mutation {
            Mutation::VoteLost if here.lives > 1 => here.disk.vote = None,
            Mutation::JournalLost => {
                here.disk.journal.clear();
                here.disk.follower = failover_agent::decision::journal_rules::Follower::default();
            }
            _ => {}
        }
    }

    pub(crate) fn start_agent(&mut self, site: usize) {
        let now = self.now;
        let here = &mut self.sites[site];
        if here.agent.is_some() || !here.host_up {
            return;
        }
        if here.disk.journal_full {
            // It cannot start without a journal; systemd tries again.
            return self.after(SEC, Ev::StartAgent(site));
        }
        here.lives += 1;
        self.forget(site);
        let here = &mut self.sites[site];
        let moment = here.clock.moment(now);
        let mut resumed = resume(&here.disk.journal);
        if let Some(vote) = &here.disk.vote {
            resumed.was_member = vote.promised > Epoch::NONE;
            resumed.record = vote.record.clone().or(resumed.record);
        }
        let inherited = match here.disk.word {
            _ if !resumed.was_member => Inherited::NeverActive,
            Some((boot, at)) if boot == here.clock.boot => Inherited::FenceAt(at),
            _ => Inherited::NoDeadline,
        };
        let rules = self.setup.rules[site].clone();
        let seed = self.rng.next();
        let state = State::new(&self.setup.policies[site], &resumed, inherited, moment);
        let unleased = state.fence_by;
        let agent = Agent {
            life: here.lives,
            frozen: false,
            awake_since: now,
            deferred: Vec::new(),
            state: Some(state),
            inbox: VecDeque::new(),
            act: None,
            busy: false,
            pumping: false,
            wake_at: moment,
            timer: Timer::default(),
            keeper_timer: Timer::default(),
            contender: Contender::new(rules.clone(), site_name(site), seed, moment),
            voter: Voter::boot(rules, here.disk.vote.clone(), moment),
            armed: true,
            unleased,
            lease_wanted: false,
            news: VecDeque::new(),
            calls: BTreeMap::new(),
            probes: Vec::new(),
            process_told: None,
            links: Default::default(),
            signature: Signature::default(),
            cached: None,
            steps: BTreeMap::new(),
            fences: BTreeMap::new(),
            broken: None,
            trap: None,
            phase: Phase::Watching,
        };
        let life = agent.life;
        here.agent = Some(agent);
        self.truth.running(site, now);
        self.counts.agent_lives += 1;
        self.note(|| format!("agent {}: life {life} begins, {inherited:?}", name(site)));
        self.append(site, opening(&resumed));
        self.voter_booted(site);
        self.start_links(site);
        self.start_probes(site);
        self.task(site, 0, Task::Keeper);
        self.task_at(site, unleased, Task::Unleased);
        self.task(site, 0, Task::Loop);
    }

    fn task_at(&mut self, site: usize, moment: Option<Moment>, task: Task) {
        let (Some(moment), Some(agent)) = (moment, &self.sites[site].agent) else {
            return;
        };
        let (at, life) = (self.clock(site).real(moment), agent.life);
        self.at(at, Ev::Agent(site, life, task));
    }

    /// Queues a task of the present life.
    pub(crate) fn task(&mut self, site: usize, span: Real, task: Task) {
        if let Some(agent) = &self.sites[site].agent {
            let life = agent.life;
            self.after(span, Ev::Agent(site, life, task));
        }
    }

    pub(crate) fn agent_event(&mut self, site: usize, life: u32, task: Task) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut().filter(|a| a.life == life) else {
            return;
        };
        if agent.frozen {
            return agent.deferred.push(Ev::Agent(site, life, task));
        }
        match task {
            Task::Loop => match agent.timer.fired(now) {
                Ok(()) if agent.inbox.is_empty() && !agent.busy => self.tell(site, Event::Tick),
                Ok(()) => {}
                Err(queue) => self.queue_timer(site, queue, Task::Loop),
            },
            Task::Act => self.act_on(site),
            Task::Keeper => self.keeper_tick(site),
            Task::Unleased => self.unleased(site),
            Task::Poke => self.keeper(site, failover_agent::decision::lease::Input::Poke),
            Task::OwnVote(round, reply) => self.own_vote(site, round, *reply),
            Task::Timeout(call) => self.call_timed_out(site, call),
            Task::Send(to, packet) => self.send(site, to, packet),
            Task::Look(probe, number) => self.look(site, probe, number),
            Task::Seen(probe, seen) => self.look_ended(site, probe, *seen),
            Task::Process => self.process_look(site, false),
            Task::ProcessRepeat => {
                self.process_look(site, true);
                self.task(site, SEC, Task::ProcessRepeat);
            }
            Task::Report(to, number) => self.report_due(site, to, number),
            Task::Step(token) => self.step_on(site, token),
            Task::StepDeadline(token) => self.step_overdue(site, token),
            Task::Fence(fence) => self.fence_on(site, fence),
            Task::News => self.tell_news(site),
        }
    }

    pub(crate) fn queue_timer(&mut self, site: usize, at: Option<Real>, task: Task) {
        if let (Some(at), Some(agent)) = (at, &self.sites[site].agent) {
            let life = agent.life;
            self.at(at, Ev::Agent(site, life, task));
        }
    }

    /// systemd starts a killed agent again.
    pub(crate) fn start_again(&mut self, site: usize) {
        let span = self.rng.pick(&[100 * MS, SEC, 5 * SEC]);
        self.after(span, Ev::StartAgent(site));
    }

    /// Whether the trap of this process springs at this flush.
    pub(crate) fn sprung(&mut self, site: usize) -> Option<Trap> {
        let agent = self.sites[site].agent.as_mut()?;
        let (left, trap) = agent.trap?;
        if left > 0 {
            agent.trap = Some((left - 1, trap));
            return None;
        }
        agent.trap = None;
        Some(trap)
    }

    pub(crate) fn crash_agent(&mut self, site: usize) {
        let Some(mut agent) = self.sites[site].agent.take() else {
            return;
        };
        self.truth.not_running(site, self.now);
        // A flush that was under way may have reached the disk.
        if let Some(entries) = agent.act.take().and_then(Act::unwritten)
            && !self.sites[site].disk.journal_full
            && self.rng.chance(500)
        {
            self.append(site, entries);
        }
        // So may the signal of a fence.
        for fence in agent.fences.values() {
            if fence.forced && self.rng.chance(500) {
                self.after(5 * MS, Ev::Fault(crate::faults::Fault::NodeDies(site)));
            }
        }
    }

    pub(crate) fn freeze_agent(&mut self, site: usize, span: Real) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut().filter(|a| !a.frozen) else {
            return;
        };
        agent.frozen = true;
        let life = agent.life;
        self.truth.not_running(site, now);
        self.note(|| format!("agent {}: frozen", name(site)));
        self.after(span, Ev::Fault(crate::faults::Fault::ThawAgent(site, life)));
    }

    pub(crate) fn thaw_agent(&mut self, site: usize) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut().filter(|a| a.frozen) else {
            return;
        };
        agent.frozen = false;
        agent.awake_since = now;
        let deferred = std::mem::take(&mut agent.deferred);
        self.truth.running(site, now);
        self.note(|| format!("agent {}: thawed", name(site)));
        // Every task of the process wakes at once, in any order.
        for event in deferred {
            let span = self.rng.below(2 * MS);
            self.after(span, event);
        }
    }

    /// Stops the process in order, as for an upgrade: the node goes on under the running grant.
    pub(crate) fn stop_agent(&mut self, site: usize) {
        let idle = self.sites[site]
            .agent
            .as_ref()
            .is_some_and(|agent| !agent.frozen && agent.act.is_none());
        if !idle {
            return;
        }
        self.note(|| format!("agent {}: stopped in order", name(site)));
        if !self.sites[site].disk.journal_full {
            self.append(site, vec![JournalEntry::AgentStopped]);
        }
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.fences.clear();
        }
        self.crash_agent(site);
    }
}

/// What a life writes into its journal first.
fn opening(resumed: &failover_agent::decision::resume::Resumed) -> Vec<JournalEntry> {
    let version = "simulated".to_owned();
    let mut opening = vec![JournalEntry::AgentStarted { version }];
    opening.extend(resumed.unfinished.iter().map(|plan| JournalEntry::Remark {
        text: format!("plan {plan} of a former life was not finished"),
    }));
    opening
}
