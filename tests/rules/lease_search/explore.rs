//! The search: breadth first, instant by instant, every order of everything that may happen.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use failover_agent::decision::lease::{BrokenRule, Input, Mode};
use failover_agent::model::Moment;
use failover_agent::model::lease::LeaseView;

use super::machines::{Disk, Machines};
use super::world::{Budget, Late, Link, Violation, World};

/// What to search.
pub(crate) struct Search {
    /// Real time of each instant, in milliseconds.
    pub(crate) instants: Vec<u64>,
    pub(crate) broken: Option<BrokenRule>,
    /// What has happened when the search begins, within or before the first instant.
    pub(crate) prefix: Vec<Act>,
    pub(crate) budget: Budget,
    /// Start as on the very first day, with nothing on any disk.
    pub(crate) fresh: bool,
    pub(crate) mode: Mode,
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) states: usize,
    /// States in which somebody held the lease, to show that the search went anywhere.
    pub(crate) held: usize,
    /// The highest number of different epochs held in one world.
    pub(crate) epochs: usize,
    /// States in which a node may write for as long as nobody says otherwise.
    pub(crate) endless: usize,
    /// Worlds in which both sites held the lease, one after the other.
    pub(crate) moved: usize,
    pub(crate) violation: Option<(Violation, Vec<Act>)>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Tick(usize),
    Advance(u64),
    Exchange(usize),
    LoseRequest(usize),
    LoseReply(usize),
    DelayRequest(usize),
    DelayReply(usize),
    Duplicate(usize),
    DiskRefuses(usize),
    ArriveLate(usize),
    Acquire(usize),
    Release(usize),
    Keep(usize),
    Pin(usize),
    GuardKnows(usize),
    RestartAgent(usize, bool),
    RestartWitness(bool),
    Learn(usize),
    SetLink(usize, usize, Link),
    Freeze(usize),
    Thaw(usize),
}

/// How a world came about.
struct Trace {
    act: Act,
    before: Option<Rc<Self>>,
}

type Node = (Rc<World>, Option<Rc<Trace>>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            held,
            epochs,
            moved,
            ..
        } = self;
        write!(
            f,
            "{states} states, {held} with a holder, {moved} after a move, "
        )?;
        write!(f, "up to {epochs} epochs held")?;
        if let Some((violation, acts)) = &self.violation {
            write!(f, "; {violation:?} after {acts:?}")?;
        }
        Ok(())
    }
}

impl Search {
    pub(crate) fn run(&self) -> Found {
        let mut machines = Machines::new(self.broken, self.mode);
        let mut start = World::start(&mut machines, Budget::UNBOUNDED, self.fresh);
        for act in &self.prefix {
            perform(&mut start, &mut machines, *act).expect("the prefix breaks nothing");
        }
        start.budget = self.budget;
        let mut found = Found::default();
        let mut level: Vec<Node> = vec![(Rc::new(start), None)];
        for (index, _) in self.instants.iter().enumerate() {
            let next = self.instants.get(index + 1).copied();
            match explore_instant(&mut machines, level, next, &mut found) {
                Some(later) => level = later,
                None => return found,
            }
        }
        found
    }
}

/// Everything that can happen within one instant. Returns the worlds of the next one; nothing
/// when a property is broken. No world of one instant is a world of another, so what was seen can
/// be forgotten with the instant.
fn explore_instant(
    machines: &mut Machines,
    level: Vec<Node>,
    next: Option<u64>,
    found: &mut Found,
) -> Option<Vec<Node>> {
    let mut seen: HashSet<Rc<World>> = level.iter().map(|(world, _)| Rc::clone(world)).collect();
    let mut seen_later: HashSet<Rc<World>> = HashSet::new();
    let mut todo: VecDeque<Node> = level.into();
    let mut later = Vec::new();
    while let Some((world, trace)) = todo.pop_front() {
        count(&world, machines, found);
        for act in acts(&world, machines, next) {
            let mut after = World::clone(&world);
            let done = perform(&mut after, machines, act).and_then(|()| after.check());
            let trace = Some(Rc::new(Trace {
                act,
                before: trace.clone(),
            }));
            if let Err(violation) = done {
                found.violation = Some((violation, acts_of(trace)));
                return None;
            }
            let after = Rc::new(after);
            if after.real_ms == world.real_ms {
                if seen.insert(Rc::clone(&after)) {
                    todo.push_back((after, trace));
                }
            } else if seen_later.insert(Rc::clone(&after)) {
                later.push((after, trace));
            }
        }
    }
    Some(later)
}

fn count(world: &World, machines: &Machines, found: &mut Found) {
    found.states += 1;
    let held = |index| matches!(world.view(machines, index), LeaseView::Held { .. });
    found.held += usize::from(held(0) || held(1));
    found.epochs = found.epochs.max(world.holders.len());
    let endless = |index: usize| world.agents[index].writable_until == Some(Moment::NEVER);
    found.endless += usize::from(endless(0) || endless(1));
    let by = |site| world.holders.iter().any(|(_, holder, _)| *holder == site);
    found.moved += usize::from(by(0) && by(1));
}

fn acts_of(mut trace: Option<Rc<Trace>>) -> Vec<Act> {
    let mut acts = Vec::new();
    while let Some(step) = trace {
        acts.push(step.act);
        trace = step.before.clone();
    }
    acts.reverse();
    acts
}

/// Everything that can happen next.
///
/// Three orders are left out because they lead nowhere new: an agent whose time has come does
/// first what is due; requests of one agent arrive in the order sent unless they come late; and
/// links change, and agents freeze, only when nothing is under way.
fn acts(world: &World, machines: &Machines, next: Option<u64>) -> Vec<Act> {
    let mut acts = Vec::new();
    let budget = &world.budget;
    for (index, late) in world.late.iter().enumerate() {
        let frozen = matches!(late, Late::Reply { to, .. } if world.agents[*to].frozen);
        if !frozen {
            acts.push(Act::ArriveLate(index));
        }
    }
    if let Some(due) = (0..2).find(|index| world.due(machines, *index)) {
        acts.push(Act::Tick(due));
        return acts;
    }
    for index in 0..2 {
        queue_acts(world, index, &mut acts);
        agent_acts(world, machines, index, &mut acts);
    }
    for voter in 0..3 {
        let running = world.agents.get(voter).is_none_or(|agent| !agent.frozen);
        if running && machines.voters.value(world.voters[voter]).listens() {
            acts.push(Act::Learn(voter));
        }
    }
    if budget.witness_restarts > 0 {
        acts.push(Act::RestartWitness(false));
        if budget.disks_lost > 0 {
            acts.push(Act::RestartWitness(true));
        }
    }
    if world.agents.iter().all(|agent| agent.queue.is_empty()) {
        acts.extend(next.map(Act::Advance));
        for index in 0..2 {
            fault_acts(world, index, &mut acts);
        }
    }
    acts
}

fn queue_acts(world: &World, index: usize, acts: &mut Vec<Act>) {
    let Some(first) = world.agents[index].queue.first() else {
        return;
    };
    acts.push(Act::Exchange(index));
    if world.budget.disk_errors > 0 {
        acts.push(Act::DiskRefuses(index));
    }
    // An agent talks to its own voter within one process.
    if first.to == index {
        return;
    }
    if world.budget.losses > 0 {
        acts.extend([Act::LoseRequest(index), Act::LoseReply(index)]);
    }
    if world.budget.lates > 0 {
        acts.extend([Act::DelayRequest(index), Act::DelayReply(index)]);
    }
    if world.budget.duplicates > 0 {
        acts.push(Act::Duplicate(index));
    }
}

fn agent_acts(world: &World, machines: &Machines, index: usize, acts: &mut Vec<Act>) {
    let budget = &world.budget;
    if budget.agent_restarts > 0 {
        acts.push(Act::RestartAgent(index, false));
        if budget.disks_lost > 0 {
            acts.push(Act::RestartAgent(index, true));
        }
    }
    if world.agents[index].frozen {
        return;
    }
    if matches!(world.view(machines, index), LeaseView::Held { .. }) {
        if budget.releases > 0 {
            acts.push(Act::Release(index));
        }
        if budget.keeps > 0 {
            acts.push(Act::Keep(index));
        }
        if budget.pins > 0 {
            acts.push(Act::Pin(index));
        }
        let waits = world.agents[index].awaits_guard;
        if waits || world.guard_lags(machines, index).is_some() {
            acts.push(Act::GuardKnows(index));
        }
    } else if budget.acquires[index] > 0 && world.agents[index].queue.is_empty() {
        acts.push(Act::Acquire(index));
    }
}

fn fault_acts(world: &World, index: usize, acts: &mut Vec<Act>) {
    let agent = &world.agents[index];
    if agent.frozen {
        acts.push(Act::Thaw(index));
        return;
    }
    if world.budget.freezes > 0 {
        acts.push(Act::Freeze(index));
    }
    if world.budget.link_changes > 0 {
        for (link, state) in agent.links.iter().enumerate() {
            let others = [Link::Up, Link::Down, Link::OneWay].into_iter();
            acts.extend(
                others
                    .filter(|other| other != state)
                    .map(|to| Act::SetLink(index, link, to)),
            );
        }
    }
}

fn perform(world: &mut World, machines: &mut Machines, act: Act) -> Result<(), Violation> {
    match act {
        Act::Tick(index) => world.feed(machines, index, Input::Tick),
        Act::Advance(to) => {
            world.real_ms = to;
            Ok(())
        }
        Act::Exchange(_)
        | Act::LoseRequest(_)
        | Act::LoseReply(_)
        | Act::DelayRequest(_)
        | Act::DelayReply(_)
        | Act::Duplicate(_)
        | Act::DiskRefuses(_) => transmit(world, machines, act),
        Act::ArriveLate(index) => match world.late.remove(index) {
            Late::Request(request) => world.deliver(machines, request, Disk::Works).map(|_| ()),
            Late::Reply { to, input } => {
                let input = (*machines.inputs.value(input)).clone();
                world.feed(machines, to, input)
            }
        },
        Act::Acquire(_) | Act::Release(_) | Act::Keep(_) | Act::Pin(_) => {
            command(world, machines, act)
        }
        Act::GuardKnows(index) => world.guard_knows(machines, index),
        Act::RestartAgent(index, disk_lost) => {
            world.budget.agent_restarts -= 1;
            world.budget.disks_lost -= u8::from(disk_lost);
            world.restart_agent(machines, index, disk_lost);
            Ok(())
        }
        Act::RestartWitness(disk_lost) => {
            world.budget.witness_restarts -= 1;
            world.budget.disks_lost -= u8::from(disk_lost);
            world.restart_voter(machines, 2, disk_lost);
            Ok(())
        }
        Act::Learn(voter) => world.learn(machines, voter),
        Act::SetLink(index, link, to) => {
            world.budget.link_changes -= 1;
            world.agents[index].links[link] = to;
            Ok(())
        }
        Act::Freeze(index) => {
            world.budget.freezes -= 1;
            world.agents[index].frozen = true;
            Ok(())
        }
        Act::Thaw(index) => {
            world.agents[index].frozen = false;
            Ok(())
        }
    }
}

fn command(world: &mut World, machines: &mut Machines, act: Act) -> Result<(), Violation> {
    use failover_agent::model::lease::LeaseCommand;
    match act {
        Act::Acquire(index) => {
            world.budget.acquires[index] -= 1;
            world.feed(machines, index, Input::Command(LeaseCommand::Acquire))
        }
        Act::Release(index) => {
            world.budget.releases -= 1;
            world.release(machines, index)
        }
        Act::Keep(index) => {
            let LeaseView::Held { epoch, .. } = world.view(machines, index) else {
                return Ok(());
            };
            world.budget.keeps -= 1;
            world.keep(machines, index, epoch)
        }
        Act::Pin(index) => {
            let LeaseView::Held { epoch, .. } = world.view(machines, index) else {
                return Ok(());
            };
            world.budget.pins -= 1;
            world.pin(machines, index, epoch)
        }
        other => unreachable!("{other:?} is no command"),
    }
}

/// The first request of an agent's queue, and what becomes of it and of its reply.
fn transmit(world: &mut World, machines: &mut Machines, act: Act) -> Result<(), Violation> {
    let (Act::Exchange(index)
    | Act::LoseRequest(index)
    | Act::LoseReply(index)
    | Act::DelayRequest(index)
    | Act::DelayReply(index)
    | Act::Duplicate(index)
    | Act::DiskRefuses(index)) = act
    else {
        unreachable!("{act:?} is no message")
    };
    let request = world.agents[index].queue.remove(0);
    let mut disk = Disk::Works;
    match act {
        Act::LoseRequest(_) => {
            world.budget.losses -= 1;
            return Ok(());
        }
        Act::DelayRequest(_) => {
            world.budget.lates -= 1;
            world.add_late(Late::Request(request));
            return Ok(());
        }
        Act::Duplicate(_) => {
            world.budget.duplicates -= 1;
            world.add_late(Late::Request(request));
        }
        Act::LoseReply(_) => world.budget.losses -= 1,
        Act::DelayReply(_) => world.budget.lates -= 1,
        Act::DiskRefuses(_) => {
            world.budget.disk_errors -= 1;
            disk = Disk::Refuses;
        }
        _ => {}
    }
    let one_way = world.link(index, request.to) == Link::OneWay;
    match world.deliver(machines, request, disk)? {
        Some(reply) if act == Act::DelayReply(index) => {
            world.late_reply(machines, index, reply);
            Ok(())
        }
        Some(reply) if act != Act::LoseReply(index) && !one_way => {
            world.feed(machines, index, reply)
        }
        Some(_) | None => Ok(()),
    }
}
