//! What an agent sees and hears: its node, the other site, the witness, the voters.

use std::time::Duration;

use failover_agent::model::event::Event;
use failover_agent::model::lease::{LeaseChange, LeaseCommand, LeaseView, Verdict};
use failover_agent::model::observation::{
    Channel, EndpointResult, EndpointSeen, Observation, Phases, Seen, Target,
};
use failover_agent::model::peer::PeerReport;
use failover_agent::model::{Epoch, Member, ProbeName, SiteName, Timestamp};

use super::pair::Pair;
use super::voters::Voters;
use crate::world::SITES;
use crate::world::nodes::{How, Node};

impl Pair {
    pub(crate) fn probe_peer(&mut self, site: usize) {
        let mut node = self.sites[1 - site].node;
        if self.sites.iter().any(|site| site.cut) {
            node.how = How::Hung;
        }
        self.probe(site, Target::PeerDatabase(Channel::Persistent), node);
    }

    pub(crate) fn probe_endpoint(&mut self, site: usize) {
        let (result, phases) = (EndpointResult::Passed, Phases::default());
        let seen = Seen::Endpoint(EndpointSeen { result, phases });
        self.observe(site, Target::Endpoint(ProbeName::new("web")), seen);
    }

    pub(crate) fn probe(&mut self, site: usize, target: Target, node: Node) {
        if let Some(seen) = node.seen() {
            self.observe(site, target, Seen::Database(seen));
        }
    }

    /// The process watch tells at once.
    pub(crate) fn watch_process(&mut self, site: usize) {
        let seen = Seen::Process(self.sites[site].node.process());
        let agent = self.sites[site].agent.as_ref();
        let known = agent.and_then(|agent| agent.state.health(&Target::OwnProcess)?.last());
        if known.is_none_or(|(_, known)| *known != seen) {
            self.observe(site, Target::OwnProcess, seen);
        }
    }

    pub(crate) fn observe(&mut self, site: usize, target: Target, seen: Seen) {
        let (at, took) = (self.now, Duration::from_millis(1));
        let observation = Observation {
            target,
            at,
            took,
            seen,
        };
        self.feed(site, &Event::Observed(observation));
    }

    pub(crate) fn reports(&mut self, site: usize) {
        let cut = self.sites.iter().any(|site| site.cut);
        let peer = Member::Site(SiteName::new(SITES[1 - site]));
        let there = &self.sites[1 - site];
        let answer = there.agent.is_some() && !cut;
        let report = |from: &Member, own: Option<&Node>| {
            Event::Reported(Box::new(PeerReport {
                from: from.clone(),
                version: "1".to_owned(),
                clock: Timestamp(0),
                epoch: Epoch(0),
                active: there.held.is_some(),
                own_database: own.and_then(Node::seen),
                sees: Vec::new(),
                diagnoses: Vec::new(),
                site_tripped: false,
                observes: false,
                doing: None,
            }))
        };
        let of_peer = if answer {
            report(&peer, Some(&there.node))
        } else {
            Event::ReportMissed { from: peer }
        };
        let of_witness = if self.sites[site].cut {
            let from = Member::Witness;
            Event::ReportMissed { from }
        } else {
            report(&Member::Witness, None)
        };
        self.feed(site, &of_peer);
        self.feed(site, &of_witness);
    }

    pub(crate) fn renew(&mut self, site: usize) {
        if let Some((epoch, _)) = self.sites[site].held
            && !self.sites[site].cut
            && self.voters.renew(site, epoch, self.now)
        {
            self.hold(site, epoch);
        }
        self.tell_view(site);
    }

    pub(crate) fn hold(&mut self, site: usize, epoch: Epoch) {
        self.sites[site].held = Some((epoch, self.now));
        self.sites[site].deadline = Some(Voters::fence_at(self.now));
    }

    pub(crate) fn tell_view(&mut self, site: usize) {
        let here = &self.sites[site];
        let view = match here.held {
            Some((epoch, renewed)) => LeaseView::Held {
                epoch,
                fence_at: Voters::fence_at(renewed),
            },
            None if here.cut => LeaseView::Unknown,
            None => self.voters.look(self.now),
        };
        let me = Member::Site(SiteName::new(SITES[site]));
        let all = || self.policy(site).voters;
        let change = LeaseChange::View {
            view,
            record: self.voters.record.clone().filter(|_| !here.cut),
            reached: if here.cut { vec![me] } else { all() },
        };
        self.feed(site, &Event::Lease(change));
    }

    /// A command reaches the voter, and the answer comes back at once.
    pub(crate) fn lease(&mut self, site: usize, command: LeaseCommand, epoch: Option<Epoch>) {
        let lives = self.sites[site].agent.is_some();
        match command {
            LeaseCommand::Acquire => {
                let cut = self.sites[site].cut;
                let granted = (!cut)
                    .then(|| self.voters.acquire(site, self.now))
                    .flatten();
                match granted {
                    Some(epoch) if lives => {
                        self.hold(site, epoch);
                        self.tell_view(site);
                    }
                    Some(_) => {}
                    None => {
                        let verdict = Verdict::GrantRuns;
                        self.feed(site, &Event::Lease(LeaseChange::NotAcquired { verdict }));
                    }
                }
            }
            LeaseCommand::Release { to } => {
                let Some(epoch) = epoch else { return };
                self.voters.release(site, epoch, to.as_ref(), self.now);
                self.feed(site, &Event::Lease(LeaseChange::Released { epoch, to }));
                self.tell_view(site);
                // The successor's own voter has heard of it and pokes.
                self.tell_view(1 - site);
            }
            LeaseCommand::Keep(record) => {
                let current = epoch.is_some_and(|epoch| self.voters.renew(site, epoch, self.now));
                if !current || self.sites[site].cut {
                    return;
                }
                self.voters.keep(&record);
                let version = record.version();
                if lives {
                    self.hold(site, record.epoch);
                }
                self.feed(site, &Event::Lease(LeaseChange::RecordKept { version }));
                self.tell_view(site);
                self.tell_view(1 - site);
            }
        }
    }
}
