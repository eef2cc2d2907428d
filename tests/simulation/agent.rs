//! One life of an agent process, and its decision loop: the mirror of `runtime::agent`.
//!
//! The order matters and is the same as there: `armed` first; then the actions in their order,
//! where a journal entry is durable before what follows it; then the report and the pace of the
//! probes. While a flush takes long the loop takes no event, but the keeper goes on.

use std::collections::{BTreeMap, VecDeque};
use std::vec;

use failover_agent::decision::decide::{Action, Order, decide};
use failover_agent::decision::lease::{Contender, Voter};
use failover_agent::decision::resume::resume;
use failover_agent::decision::state::{Inherited, Phase, State};
use failover_agent::model::event::{Answer, Event, StepFinished};
use failover_agent::model::journal::{JournalEntry, JournalLine};
use failover_agent::model::lease::{LeaseChange, LeaseCommand, LeaseReply};
use failover_agent::model::observation::{DatabaseSeen, ProcessSeen};
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::peer::PeerReport;
use failover_agent::model::plan::StepKind;
use failover_agent::model::{Epoch, Moment};

use crate::clock::{MS, Real, SEC};
use crate::keeper::Call;
use crate::links::{Link, Signature};
use crate::net::Packet;
use crate::probes::ProbeRhythm;
use crate::setup::{Mutation, site_name};
use crate::steps::{Fence, Running};
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

/// A verdict that is being carried out.
pub(crate) struct Act {
    state: State,
    actions: vec::IntoIter<Action>,
    next: Option<Option<Action>>,
    entries: Vec<JournalEntry>,
    waited: bool,
    durable: bool,
    epoch: Epoch,
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
    busy: bool,
    pub(crate) timer: Timer,
    pub(crate) keeper_timer: Timer,
    pub(crate) contender: Contender,
    pub(crate) voter: Voter,
    pub(crate) armed: bool,
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
    pub(crate) journal_broken_at: Option<Moment>,
    /// What the disk has refused so far, in order.
    unwritten: Vec<JournalEntry>,
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
        match self.setup.mutation {
            Mutation::VoteLost if here.lives > 1 => here.disk.vote = None,
            Mutation::JournalLost => {
                here.disk.journal.clear();
                here.disk.follower = failover_agent::decision::journal_rules::Follower::default();
            }
            _ => {}
        }
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
        let agent = Agent {
            life: here.lives,
            frozen: false,
            awake_since: now,
            deferred: Vec::new(),
            state: Some(State::new(
                &self.setup.policies[site],
                &resumed,
                inherited,
                moment,
            )),
            inbox: VecDeque::new(),
            act: None,
            busy: false,
            timer: Timer::default(),
            keeper_timer: Timer::default(),
            contender: Contender::new(rules.clone(), site_name(site), seed, moment),
            voter: Voter::boot(rules, here.disk.vote.clone(), moment),
            armed: true,
            news: VecDeque::new(),
            calls: BTreeMap::new(),
            probes: Vec::new(),
            process_told: None,
            links: Default::default(),
            signature: Signature::default(),
            cached: None,
            steps: BTreeMap::new(),
            fences: BTreeMap::new(),
            journal_broken_at: None,
            unwritten: Vec::new(),
            trap: None,
            phase: Phase::Watching,
        };
        let life = agent.life;
        here.agent = Some(agent);
        self.truth.running(site, now);
        self.counts.agent_lives += 1;
        self.note(|| format!("agent {}: life {life} begins, {inherited:?}", name(site)));
        let version = "simulated".to_owned();
        let mut opening = vec![JournalEntry::AgentStarted { version }];
        opening.extend(resumed.unfinished.iter().map(|plan| JournalEntry::Remark {
            text: format!("plan {plan} of a former life was not finished"),
        }));
        self.append(site, opening);
        self.voter_booted(site);
        self.start_links(site);
        self.start_probes(site);
        self.task(site, 0, Task::Keeper);
        self.task(site, 0, Task::Loop);
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

    /// Gives the loop an event.
    pub(crate) fn tell(&mut self, site: usize, event: Event) {
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.inbox.push_back(event);
        }
        self.pump(site);
    }

    fn pump(&mut self, site: usize) {
        while let Some(agent) = self.sites[site].agent.as_mut() {
            if agent.busy || agent.frozen {
                return;
            }
            let Some(event) = agent.inbox.pop_front() else {
                return;
            };
            agent.busy = true;
            self.mend_journal(site);
            self.decide(site, &event);
        }
    }

    fn decide(&mut self, site: usize, event: &Event) {
        let slow = self.sites[site].disk.flush > 0;
        if slow {
            // What the members' link says while the loop waits for its disk.
            let report = self.own_report(site);
            if let Some(agent) = self.sites[site].agent.as_mut() {
                agent.cached = report;
            }
        }
        let clock_now = self.clock(site).now(self.now);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(state) = agent.state.take() else {
            return;
        };
        let verdict = decide(&self.setup.policies[site], state, event, clock_now);
        self.counts.decisions += 1;
        agent.armed = verdict.state.armed();
        let epoch = verdict.state.epoch();
        agent.act = Some(Act {
            state: verdict.state,
            actions: verdict.actions.into_iter(),
            next: None,
            entries: Vec::new(),
            waited: false,
            durable: true,
            epoch,
        });
        let wake_at = self.sites[site].clock.real(verdict.wake_at);
        let queue = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.timer.set(wake_at));
        self.queue_timer(site, queue, Task::Loop);
        self.act_on(site);
    }

    /// Carries the verdict out as far as it goes now.
    fn act_on(&mut self, site: usize) {
        loop {
            let flush = self.sites[site].disk.flush;
            let late = self.setup.mutation == Mutation::JournalLate;
            let Some(agent) = self.sites[site].agent.as_mut() else {
                return;
            };
            if agent.frozen {
                let life = agent.life;
                return agent.deferred.push(Ev::Agent(site, life, Task::Act));
            }
            let Some(act) = agent.act.as_mut() else {
                return;
            };
            while act.next.is_none() {
                match act.actions.next() {
                    Some(Action::Journal(entry)) => act.entries.push(entry),
                    other => act.next = Some(other),
                }
            }
            if !act.entries.is_empty() && !(late && act.next != Some(None)) {
                if flush > 0 && !act.waited {
                    act.waited = true;
                    return self.task(site, flush, Task::Act);
                }
                act.waited = false;
                let entries = std::mem::take(&mut act.entries);
                let durable = self.write_journal(site, entries);
                if let Some(act) = self.sites[site].agent.as_mut().and_then(|a| a.act.as_mut()) {
                    act.durable &= durable;
                }
                continue;
            }
            let (durable, epoch) = (act.durable, act.epoch);
            match act.next.take().flatten() {
                Some(action) => self.perform(site, action, durable, epoch),
                None => return self.publish(site),
            }
        }
    }

    fn perform(&mut self, site: usize, action: Action, durable: bool, _epoch: Epoch) {
        match action {
            Action::Journal(_) => {}
            Action::Lease(command) => {
                self.note(|| format!("agent {}: {}", name(site), in_words(&command)));
                self.commanded(site, &command);
                self.keeper(site, failover_agent::decision::lease::Input::Command(command));
            }
            Action::Run(order) if durable || order.what.kind() == StepKind::FenceOwn => {
                self.run_step(site, *order, durable);
            }
            Action::Run(order) => self.refuse_step(site, *order),
            Action::Abandon(plan) => {
                if self.setup.mutation != Mutation::EpochIgnored
                    && let Some(agent) = self.sites[site].agent.as_mut()
                {
                    agent.steps.retain(|_, running| running.order.plan != plan);
                }
            }
            Action::Tell(telling) => {
                self.note(|| format!("agent {}: tells: {}", name(site), telling.topic));
            }
            Action::Answer { answer, .. } => {
                self.note(|| format!("agent {}: answers {answer:?}", name(site)));
                if let Answer::PassedOn { to } = answer {
                    self.send(site, 1 - site, Packet::Command { to });
                }
            }
        }
    }

    fn refuse_step(&mut self, site: usize, order: Order) {
        let failure = Failure {
            kind: FailureKind::Retryable,
            what: "the journal cannot be written".to_owned(),
            hint: None,
        };
        let finished = StepFinished {
            plan: order.plan,
            step: order.step,
            attempt: order.attempt,
            undo: order.undo,
            took: std::time::Duration::ZERO,
            result: Err(failure),
        };
        self.tell(site, Event::StepFinished(finished));
    }

    fn write_journal(&mut self, site: usize, entries: Vec<JournalEntry>) -> bool {
        let moment = self.moment(site);
        let full = self.sites[site].disk.journal_full;
        let trap = self.sprung(site);
        if trap == Some(Trap::CrashBefore) {
            self.note(|| format!("agent {}: killed before a flush", name(site)));
            self.crash_agent(site);
            self.start_again(site);
            return false;
        }
        if full {
            let Some(agent) = self.sites[site].agent.as_mut() else {
                return false;
            };
            agent.unwritten.extend(entries);
            if agent.journal_broken_at.replace(moment).is_none() {
                let why = "no space left on device".to_owned();
                agent.inbox.push_back(Event::JournalBroken { why });
            }
            return false;
        }
        let all = self.sites[site].agent.as_mut().map(|agent| {
            agent.unwritten.extend(entries);
            std::mem::take(&mut agent.unwritten)
        });
        self.append(site, all.unwrap_or_default());
        match trap {
            Some(Trap::CrashAfter) => {
                self.note(|| format!("agent {}: killed after a flush", name(site)));
                self.crash_agent(site);
                self.start_again(site);
            }
            Some(Trap::FreezeAfter(span)) => self.freeze_agent(site, span),
            Some(Trap::CrashBefore) | None => {}
        }
        true
    }

    /// systemd starts a killed agent again.
    fn start_again(&mut self, site: usize) {
        let span = self.rng.pick(&[100 * MS, SEC, 5 * SEC]);
        self.after(span, Ev::StartAgent(site));
    }

    fn sprung(&mut self, site: usize) -> Option<Trap> {
        let agent = self.sites[site].agent.as_mut()?;
        let (left, trap) = agent.trap?;
        if left > 0 {
            agent.trap = Some((left - 1, trap));
            return None;
        }
        agent.trap = None;
        Some(trap)
    }

    pub(crate) fn append(&mut self, site: usize, entries: Vec<JournalEntry>) {
        let at = self.clock(site).now(self.now).wall;
        for entry in entries {
            self.note(|| format!("agent {}: journal: {}", name(site), brief(&entry)));
            self.journalled(site, &entry);
            let disk = &mut self.sites[site].disk;
            let number = disk.journal.len() as u64 + 1;
            disk.journal.push(JournalLine { number, at, entry });
        }
    }

    fn mend_journal(&mut self, site: usize) {
        let moment = self.moment(site);
        let full = self.sites[site].disk.journal_full;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let due = agent
            .journal_broken_at
            .is_some_and(|at| moment.since(at).as_secs() >= 1);
        if due && full {
            agent.journal_broken_at = Some(moment);
        } else if due {
            agent.journal_broken_at = None;
            agent.inbox.push_back(Event::JournalMended);
            let text = "the journal can be written again".to_owned();
            let mut waiting = std::mem::take(&mut agent.unwritten);
            waiting.push(JournalEntry::Remark { text });
            self.append(site, waiting);
        }
    }

    fn publish(&mut self, site: usize) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(act) = agent.act.take() else {
            return;
        };
        agent.busy = false;
        agent.cached = None;
        let (before, phase) = (agent.phase, act.state.phase);
        agent.phase = phase;
        agent.state = Some(act.state);
        if before != phase {
            self.note(|| format!("agent {}: {before} -> {phase}", name(site)));
        }
        self.news_for_links(site);
        self.set_paces(site);
        // What came meanwhile is next; a caller further up may be doing that already.
        self.pump(site);
    }

    pub(crate) fn crash_agent(&mut self, site: usize) {
        let Some(mut agent) = self.sites[site].agent.take() else {
            return;
        };
        self.truth.not_running(site, self.now);
        // A flush that was under way may have reached the disk.
        let torn = agent.act.as_mut().map(|act| std::mem::take(&mut act.entries));
        if let Some(entries) = torn
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

fn in_words(command: &LeaseCommand) -> String {
    match command {
        LeaseCommand::Acquire => "asks for the lease".to_owned(),
        LeaseCommand::Release { to } => format!("releases the lease to {to:?}"),
        LeaseCommand::Keep(record) => format!(
            "records primary {} promoting {} as {}.{}, timeline {}, {}",
            record.primary,
            record.promoting,
            record.epoch,
            record.revision,
            record.timeline,
            record.last_lsn
        ),
    }
}

fn brief(entry: &JournalEntry) -> String {
    match entry {
        JournalEntry::Planned { plan, .. } => {
            format!("planned {} to {} at epoch {}: {}", plan.id, plan.kind, plan.epoch, plan.cause)
        }
        other => format!("{other:?}"),
    }
}
