//! The lease keeper, the voters and the calls between members: the mirror of
//! `runtime::lease_keeper`, `runtime::voter_host` and `runtime::peer_service`.

use std::collections::VecDeque;

use failover_agent::decision::lease::contender::Send;
use failover_agent::decision::lease::{Input, Voter};
use failover_agent::model::event::{Command, Event, Wish};
use failover_agent::model::lease::{
    LeaseChange, LeaseCommand, LeaseReply, LeaseRequest, LeaseView,
};
use failover_agent::model::{Moment, Role};

use crate::agent::Task;
use crate::clock::{MS, Real, US, nanos};
use crate::net::{Packet, WITNESS};
use crate::setup::{Mutation, host, member};
use crate::world::{Ev, World, name};

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Lease { to: usize, round: u64 },
    Report { to: usize },
}

impl World {
    pub(crate) fn keeper_tick(&mut self, site: usize) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        match agent.keeper_timer.fired(now) {
            Ok(()) => self.keeper(site, Input::Tick),
            Err(queue) => self.queue_timer(site, queue, Task::Keeper),
        }
    }

    /// One turn of the keeper: fence, send, tell.
    pub(crate) fn keeper(&mut self, site: usize, input: Input) {
        let moment = self.moment(site);
        let renew_every = self.setup.rules[site].renew_every;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let deadline_fence = agent.fences.values().any(|fence| fence.token.is_none());
        let input = match input {
            // What the fence will have done is not known yet.
            Input::Command(LeaseCommand::Acquire) if deadline_fence => {
                agent.lease_wanted = true;
                Input::Tick
            }
            input => input,
        };
        let output = agent.contender.handle(input, moment);
        if matches!(agent.contender.current_view(), LeaseView::Held { .. }) {
            agent.unleased = None;
        }
        let armed = agent.armed;
        if let Some(epoch) = output.fence {
            self.note(|| format!("keeper {}: lease {epoch} gone, armed {armed}", name(site)));
            if armed && self.setup.mutation != Mutation::KeeperNeverFences {
                self.counts.deadline_fences += 1;
                let budget = self.setup.rules[site].fence_budget;
                self.begin_fence(site, None, std::time::Duration::ZERO, budget);
            }
        }
        self.feed_guard(site);
        for send in output.sends {
            self.ask(site, send);
        }
        let awaits_guard = output.awaits_guard.is_some();
        for change in output.changes {
            self.lease_changed(site, &change);
            if let Some(agent) = self.sites[site].agent.as_mut() {
                queue(&mut agent.news, change);
            }
        }
        // The keeper and the loop are two tasks: now and then the loop hears a little later.
        if self.rng.chance(30) {
            let span = self.rng.below(3 * MS);
            self.task(site, span, Task::News);
        } else {
            self.tell_news(site);
        }
        let wake_at = output.wake_at.unwrap_or(moment + renew_every);
        let at = self.clock(site).real(wake_at);
        let queue = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.keeper_timer.set(at));
        self.queue_timer(site, queue, Task::Keeper);
        if awaits_guard && self.guard_is_in_time(site) {
            self.keeper(site, Input::GuardKnows);
        }
    }

    /// No lease has come in time after a start.
    pub(crate) fn unleased(&mut self, site: usize) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let due = agent.unleased.take().is_some();
        let fences = self.setup.mutation != Mutation::KeeperNeverFences;
        let node = &self.sites[site].node;
        if due && fences && node.exists() && node.role == Role::Primary {
            self.note(|| format!("keeper {}: no lease came since the start", name(site)));
            self.counts.deadline_fences += 1;
            let budget = self.setup.rules[site].fence_budget;
            self.begin_fence(site, None, std::time::Duration::ZERO, budget);
        }
    }

    /// The fence at a deadline has ended.
    pub(crate) fn deadline_fence_ended(&mut self, site: usize, took: std::time::Duration) {
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        agent.news.push_back(LeaseChange::Fenced { took });
        let wanted = std::mem::take(&mut agent.lease_wanted);
        self.tell_news(site);
        if wanted {
            self.keeper(site, Input::Command(LeaseCommand::Acquire));
        }
    }

    pub(crate) fn tell_news(&mut self, site: usize) {
        while let Some(change) = self.sites[site]
            .agent
            .as_mut()
            .and_then(|agent| agent.news.pop_front())
        {
            self.tell(site, Event::Lease(change));
        }
    }

    /// Leaves word of the deadline, and keeps the truth about who holds what.
    fn lease_changed(&mut self, site: usize, change: &LeaseChange) {
        let deadline = match change {
            LeaseChange::View {
                view: LeaseView::Held { epoch, fence_at },
                ..
            } => {
                self.held(site, *epoch, *fence_at);
                Some(*fence_at)
            }
            LeaseChange::Lost { epoch } => {
                self.note(|| format!("keeper {}: lost epoch {epoch}", name(site)));
                self.truth.held[site] = None;
                Some(Moment::default())
            }
            LeaseChange::Released { epoch, to } => {
                self.note(|| format!("keeper {}: released {epoch} to {to:?}", name(site)));
                Some(Moment::default())
            }
            LeaseChange::NotAcquired { verdict } => {
                self.note(|| format!("keeper {}: not acquired: {verdict}", name(site)));
                None
            }
            LeaseChange::View { .. } | LeaseChange::Fenced { .. } => None,
            LeaseChange::RecordKept { version } => {
                self.note(|| format!("keeper {}: record {version:?} is kept", name(site)));
                None
            }
        };
        if let Some(at) = deadline {
            let boot = self.sites[site].clock.boot;
            self.sites[site].disk.word = Some((boot, at));
        }
    }

    fn ask(&mut self, site: usize, send: Send) {
        let Send { to, round, request } = send;
        let to = host(&to);
        if to == site {
            let (reply, delay) = self.vote(site, &request);
            let reply = Box::new(reply);
            return self.task(site, delay, Task::OwnVote(round, reply));
        }
        let call = self.call(site, Call::Lease { to, round });
        self.send(site, to, Packet::Lease { call, request });
    }

    pub(crate) fn own_vote(&mut self, site: usize, round: u64, reply: LeaseReply) {
        let from = member(site);
        self.keeper(site, Input::Reply { from, round, reply });
    }

    /// Begins to wait for an answer.
    pub(crate) fn call(&mut self, site: usize, what: Call) -> u64 {
        self.next_call += 1;
        let call = self.next_call;
        let timeout = self.setup.rules[site].request_timeout;
        let now = self.now;
        let at = self.clock(site).after(now, timeout);
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.calls.insert(call, what);
            let life = agent.life;
            self.at(at, Ev::Agent(site, life, Task::Timeout(call)));
        }
        call
    }

    fn called(&mut self, site: usize, call: u64) -> Option<Call> {
        self.sites[site].agent.as_mut()?.calls.remove(&call)
    }

    pub(crate) fn call_timed_out(&mut self, site: usize, call: u64) {
        match self.called(site, call) {
            None => {}
            Some(Call::Lease { to, round }) => {
                let from = member(to);
                self.keeper(site, Input::NoReply { from, round });
            }
            Some(Call::Report { to }) => {
                self.link_free(site, to);
                let from = member(to);
                self.tell(site, Event::ReportMissed { from });
            }
        }
    }

    /// Answers a request to a host's vote: what is said, and how long the promise takes to be on
    /// disk before it may be said.
    pub(crate) fn vote(&mut self, host: usize, request: &LeaseRequest) -> (LeaseReply, Real) {
        let moment = self.moment(host);
        let identity = self.setup.rules[host].identity.clone();
        let quick = self.rng.within(20 * US, 400 * US);
        let (voter, slot, full, flush) = if host == WITNESS {
            let witness = &mut self.witness;
            (witness.voter.as_mut(), &mut witness.vote, false, 0)
        } else {
            let site = &mut self.sites[host];
            let voter = site.agent.as_mut().map(|agent| &mut agent.voter);
            let (full, flush) = (site.disk.vote_full, site.disk.flush);
            (voter, &mut site.disk.vote, full, flush)
        };
        let voter = voter.expect("only a running member is asked");
        let answer = voter.handle(&identity, request, moment);
        let (reply, delay) = match answer.store {
            Some(_) if full => (voter.not_durable(moment), quick),
            Some(vote) => {
                *slot = Some(vote);
                (answer.reply, flush.max(quick))
            }
            None => (answer.reply, quick),
        };
        self.voted(host, request, &reply);
        let for_us = matches!(request, LeaseRequest::Release { to: Some(to), .. }
            if host != WITNESS && *to == crate::setup::site_name(host));
        if for_us && reply.verdict == failover_agent::model::lease::Verdict::Ok {
            self.task(host, delay, Task::Poke);
        }
        (reply, delay)
    }

    /// Lets a voter without memory learn from another's answer.
    fn learn(&mut self, host: usize, reply: &LeaseReply, from: usize) {
        let moment = self.moment(host);
        let from = member(from);
        if host == WITNESS {
            let Some(voter) = self.witness.voter.as_mut() else {
                return;
            };
            if let Some(vote) = voter.learn(reply, &from, moment) {
                self.witness.vote = Some(vote);
            }
            return;
        }
        let site = &mut self.sites[host];
        let Some(agent) = site.agent.as_mut() else {
            return;
        };
        match agent.voter.learn(reply, &from, moment) {
            Some(_) if site.disk.vote_full => drop(agent.voter.not_durable(moment)),
            Some(vote) => site.disk.vote = Some(vote),
            None => {}
        }
    }

    pub(crate) fn arrive_at_agent(&mut self, from: usize, to: usize, packet: Packet) {
        let Some(agent) = self.sites[to].agent.as_mut() else {
            return match packet {
                Packet::Lease { call, .. } | Packet::Report { call, .. } => {
                    self.send(to, from, Packet::Refused { call });
                }
                _ => {}
            };
        };
        if agent.frozen {
            return agent.deferred.push(Ev::Packet(from, to, packet));
        }
        match packet {
            Packet::Lease { call, request } => {
                let (reply, delay) = self.vote(to, &request);
                let reply = Box::new(reply);
                self.task(
                    to,
                    delay,
                    Task::Send(from, Packet::LeaseReply { call, reply }),
                );
            }
            Packet::LeaseReply { call, reply } => {
                if let Some(Call::Lease { round, .. }) = self.called(to, call) {
                    self.learn(to, &reply, from);
                    let (from, reply) = (member(from), *reply);
                    self.keeper(to, Input::Reply { from, round, reply });
                }
            }
            Packet::Report { call, report } => {
                if let Some(report) = self.own_report(to) {
                    self.send(to, from, Packet::ReportReply { call, report });
                }
                self.tell(to, Event::Reported(report));
            }
            Packet::ReportReply { call, report } => {
                if self.called(to, call).is_some() {
                    self.link_free(to, from);
                    self.tell(to, Event::Reported(report));
                }
            }
            Packet::Refused { call } => self.call_timed_out(to, call),
            Packet::Command { wish } => self.wish(to, *wish),
            Packet::Wal(_) | Packet::WalAck { .. } | Packet::WalEnd => {}
        }
    }

    /// An operator asks this agent for something.
    pub(crate) fn wish(&mut self, site: usize, wish: Wish) {
        self.next_call += 1;
        let id = self.next_call;
        self.wishes.insert(id, wish.clone());
        self.tell(site, Event::Command(Command { id, wish }));
    }

    pub(crate) fn arrive_at_witness(&mut self, from: usize, packet: Packet) {
        if self.witness.voter.is_none() {
            return match packet {
                Packet::Lease { call, .. } | Packet::Report { call, .. } => {
                    self.send(WITNESS, from, Packet::Refused { call });
                }
                _ => {}
            };
        }
        match packet {
            Packet::Lease { call, request } => {
                let (reply, _) = self.vote(WITNESS, &request);
                let reply = Box::new(reply);
                self.send(WITNESS, from, Packet::LeaseReply { call, reply });
            }
            Packet::LeaseReply { reply, .. } => self.learn(WITNESS, &reply, from),
            Packet::Report { call, .. } => {
                let report = Box::new(self.witness_report());
                self.send(WITNESS, from, Packet::ReportReply { call, report });
            }
            _ => {}
        }
    }

    /// A witness without memory asks the others what they know.
    pub(crate) fn witness_learns(&mut self) {
        if self.witness.voter.as_ref().is_some_and(Voter::abstains) {
            for to in [0, 1] {
                let request = LeaseRequest::Read;
                self.send(WITNESS, to, Packet::Lease { call: 0, request });
            }
        }
        let every = nanos(self.setup.rules[WITNESS].renew_every);
        let life = self.witness.life;
        let task = crate::world::WitnessTask::Learn;
        self.after(every, Ev::Witness(life, task));
    }
}

/// A view that the loop has not taken is replaced by a newer one, as in the keeper.
fn queue(news: &mut VecDeque<LeaseChange>, change: LeaseChange) {
    let replaces = matches!(change, LeaseChange::View { .. })
        && matches!(news.back(), Some(LeaseChange::View { .. }));
    if replaces {
        news.pop_back();
    }
    news.push_back(change);
}
