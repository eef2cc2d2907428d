//! The decision loop: the mirror of `runtime::agent` and `runtime::journal_writer`.
//!
//! The order matters and is the same as there: decide; make durable what the verdict announces,
//! all or none; and if that cannot be, decide anew, knowing it. Then `armed`, the actions in their
//! order, the report, the pace of the probes. While a flush takes long the loop takes no event,
//! but the keeper goes on.

use failover_agent::decision::decide::{Action, Verdict, decide};
use failover_agent::decision::state::State;
use failover_agent::model::Moment;
use failover_agent::model::event::{Answer, Event};
use failover_agent::model::journal::{JournalEntry, JournalLine};
use failover_agent::model::lease::LeaseCommand;
use failover_agent::model::time::Now;

use crate::agent::{Task, Trap};
use crate::net::Packet;
use crate::setup::Mutation;
use crate::world::{Ev, World, name};

/// Between two attempts to write to a journal that refused.
const RETRY_SECONDS: u64 = 1;

/// A verdict between being decided and being carried out.
pub(crate) enum Act {
    /// What it announces is being flushed.
    Flushing {
        before: Box<State>,
        event: Box<Event>,
        now: Now,
        verdict: Box<Verdict>,
    },
    /// All that it announces is durable, or cannot be.
    Ready(Box<Verdict>),
}

impl Act {
    /// What has not reached the disk yet.
    pub(crate) fn unwritten(self) -> Option<Vec<JournalEntry>> {
        match self {
            Self::Flushing { verdict, .. } => Some(entries(&verdict)),
            Self::Ready(_) => None,
        }
    }
}

/// A journal that refuses, and what it lacks.
#[derive(Debug)]
pub(crate) struct Broken {
    tried: Moment,
    late: Vec<JournalEntry>,
}

fn entries(verdict: &Verdict) -> Vec<JournalEntry> {
    let entries = verdict.actions.iter().filter_map(|action| match action {
        Action::Journal(entry) => Some(entry.clone()),
        _ => None,
    });
    entries.collect()
}

impl World {
    /// Gives the loop an event.
    pub(crate) fn tell(&mut self, site: usize, event: Event) {
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.inbox.push_back(event);
        }
        self.pump(site);
    }

    /// Gives the loop what waits for it. A call from within changes nothing: the outer one goes on.
    fn pump(&mut self, site: usize) {
        let Some(agent) = self.sites[site].agent.as_mut().filter(|a| !a.pumping) else {
            return;
        };
        agent.pumping = true;
        let life = agent.life;
        self.pump_all(site);
        if let Some(agent) = self.sites[site].agent.as_mut().filter(|a| a.life == life) {
            agent.pumping = false;
        }
    }

    fn pump_all(&mut self, site: usize) {
        let late_max = self.setup.policies[site].late_max;
        let moment = self.moment(site);
        while let Some(agent) = self.sites[site].agent.as_mut() {
            if agent.busy || agent.frozen {
                return;
            }
            let Some(event) = agent.inbox.pop_front() else {
                return;
            };
            agent.busy = true;
            let late = moment.since(agent.wake_at);
            if late >= late_max {
                agent.inbox.push_front(event);
                self.decide(site, Event::Late { by: late });
                continue;
            }
            let mended = self.mend_journal(site);
            match self.sites[site].agent.as_mut() {
                Some(agent) if mended => {
                    agent.inbox.push_front(event);
                    self.decide(site, Event::JournalMended);
                }
                Some(_) => self.decide(site, event),
                None => return,
            }
        }
    }

    fn decide(&mut self, site: usize, event: Event) {
        let flush = self.sites[site].disk.flush;
        if flush > 0 {
            // What the members' link says while the loop waits for its disk.
            let report = self.own_report(site);
            if let Some(agent) = self.sites[site].agent.as_mut() {
                agent.cached = report;
            }
        }
        let now = self.clock(site).now(self.now);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(state) = agent.state.take() else {
            return;
        };
        self.counts.decisions += 1;
        let before = agent.broken.is_none().then(|| Box::new(state.clone()));
        let verdict = Box::new(decide(&self.setup.policies[site], state, &event, now));
        agent.act = Some(match before {
            None => {
                late(agent.broken.as_mut(), &verdict);
                Act::Ready(verdict)
            }
            Some(before) if verdict.actions.iter().any(is_entry) => Act::Flushing {
                before,
                event: Box::new(event),
                now,
                verdict,
            },
            Some(_) => Act::Ready(verdict),
        });
        let flushing = matches!(agent.act, Some(Act::Flushing { .. }));
        if flushing && flush > 0 {
            return self.task(site, flush, Task::Act);
        }
        self.act_on(site);
    }

    /// Goes on with the verdict: what it announces is written, then it is carried out.
    pub(crate) fn act_on(&mut self, site: usize) {
        let act = self.sites[site].agent.as_mut().and_then(|a| a.act.take());
        let verdict = match act {
            None => return,
            Some(Act::Ready(verdict)) => verdict,
            Some(Act::Flushing {
                before,
                event,
                now,
                verdict,
            }) => {
                let late = self.setup.mutation == Mutation::JournalLate;
                if self.sites[site].disk.journal_full {
                    self.decide_anew(site, *before, &event, now)
                } else if late {
                    self.carry_out(site, *verdict.clone());
                    self.append(site, entries(&verdict));
                    return;
                } else if self.write_journal(site, &verdict) {
                    verdict
                } else {
                    return;
                }
            }
        };
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        if agent.frozen {
            // Frozen between the flush and what follows.
            agent.act = Some(Act::Ready(verdict));
            let life = agent.life;
            return agent.deferred.push(Ev::Agent(site, life, Task::Act));
        }
        self.carry_out(site, *verdict);
    }

    /// Nothing of the first verdict has happened.
    fn decide_anew(&mut self, site: usize, before: State, event: &Event, now: Now) -> Box<Verdict> {
        let policy = &self.setup.policies[site];
        let why = "no space left on device".to_owned();
        let broken = decide(policy, before, &Event::JournalBroken { why }, now);
        let mut verdict = Box::new(decide(policy, broken.state, event, now));
        verdict.actions.splice(0..0, broken.actions);
        if let Some(agent) = self.sites[site].agent.as_mut() {
            let late_now = agent.broken.insert(Broken {
                tried: now.moment,
                late: Vec::new(),
            });
            late(Some(late_now), &verdict);
        }
        verdict
    }

    /// False when the process did not live on.
    fn write_journal(&mut self, site: usize, verdict: &Verdict) -> bool {
        let trap = self.sprung(site);
        if trap == Some(Trap::CrashBefore) {
            self.note(|| format!("agent {}: killed before a flush", name(site)));
            self.crash_agent(site);
            self.start_again(site);
            return false;
        }
        self.append(site, entries(verdict));
        match trap {
            Some(Trap::CrashAfter) => {
                self.note(|| format!("agent {}: killed after a flush", name(site)));
                self.crash_agent(site);
                self.start_again(site);
                return false;
            }
            Some(Trap::FreezeAfter(span)) => self.freeze_agent(site, span),
            Some(Trap::CrashBefore) | None => {}
        }
        true
    }

    fn carry_out(&mut self, site: usize, verdict: Verdict) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        agent.armed = verdict.state.armed();
        agent.wake_at = verdict.wake_at;
        let wake_at = self.sites[site].clock.real(verdict.wake_at);
        let agent = self.sites[site].agent.as_mut();
        let queue = agent.and_then(|agent| agent.timer.set(wake_at));
        self.queue_timer(site, queue, Task::Loop);
        self.feed_guard(site);
        for action in verdict.actions {
            self.perform(site, action);
        }
        self.publish(site, verdict.state);
    }

    fn perform(&mut self, site: usize, action: Action) {
        match action {
            Action::Journal(_) => {}
            Action::Lease(command) => {
                self.note(|| format!("agent {}: {}", name(site), in_words(&command)));
                self.commanded(site, &command);
                self.keeper(
                    site,
                    failover_agent::decision::lease::Input::Command(command),
                );
            }
            Action::Run(order) => self.run_step(site, *order),
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
            Action::Answer { id, answer } => {
                self.note(|| format!("agent {}: answers {answer:?}", name(site)));
                let wish = self.wishes.remove(&id).map(Box::new);
                if let (Answer::PassedOn { .. }, Some(wish)) = (answer, wish) {
                    self.send(site, 1 - site, Packet::Command { wish });
                }
            }
        }
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

    /// Tries a broken journal again, now and then; true if it has just become whole.
    fn mend_journal(&mut self, site: usize) -> bool {
        let moment = self.moment(site);
        let full = self.sites[site].disk.journal_full;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return false;
        };
        let Some(broken) = agent.broken.as_mut() else {
            return false;
        };
        if moment.since(broken.tried).as_secs() < RETRY_SECONDS {
            return false;
        }
        broken.tried = moment;
        if full {
            return false;
        }
        let text = "the journal can be written again".to_owned();
        let mut waiting = vec![JournalEntry::Remark { text }];
        waiting.append(&mut broken.late);
        agent.broken = None;
        self.append(site, waiting);
        true
    }

    fn publish(&mut self, site: usize, state: State) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        agent.busy = false;
        agent.cached = None;
        let (before, phase) = (agent.phase, state.phase);
        agent.phase = phase;
        agent.state = Some(state);
        if before != phase {
            self.note(|| format!("agent {}: {before} -> {phase}", name(site)));
        }
        self.news_for_links(site);
        self.set_paces(site);
        // What came meanwhile is next.
        self.pump(site);
    }
}

fn is_entry(action: &Action) -> bool {
    matches!(action, Action::Journal(_))
}

fn late(broken: Option<&mut Broken>, verdict: &Verdict) {
    if let Some(broken) = broken {
        broken.late.extend(entries(verdict));
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
        JournalEntry::Planned { plan, .. } => format!(
            "planned {} to {} at epoch {}: {}",
            plan.id, plan.kind, plan.epoch, plan.cause
        ),
        other => format!("{other:?}"),
    }
}
