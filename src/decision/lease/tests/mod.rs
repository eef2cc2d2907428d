//! The rules of the lease one by one, by name. `tests/rules/lease_search.rs` searches their
//! interplay.

mod contending;
mod pair;
mod releasing;
mod voting;

use std::collections::VecDeque;
use std::time::Duration;

use super::{Contender, Input, LeaseRules, Mode, Output, Voter};
use crate::model::lease::{
    ClusterRecord, LeaseChange, LeaseCommand, LeaseReply, LeaseRequest, LeaseView, StoredVote,
};
use crate::model::{ClusterName, Epoch, Lsn, Member, Moment, SiteName, SystemId, Timeline};

pub(super) fn site(name: &str) -> SiteName {
    SiteName::new(name)
}

pub(super) fn member(name: &str) -> Member {
    if name == "witness" {
        Member::Witness
    } else {
        Member::Site(site(name))
    }
}

pub(super) fn at(millis: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
}

pub(super) fn rules(me: &str, mode: Mode) -> LeaseRules {
    let mut voters = vec![member("a"), member("b")];
    voters.extend((mode == Mode::Quorum).then_some(Member::Witness));
    LeaseRules {
        ttl: Duration::from_secs(5),
        renew_every: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        fence_budget: Duration::from_secs(1),
        mode,
        me: member(me),
        identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
        voters,
        broken: None,
    }
}

pub(super) fn record(epoch: u64, revision: u64) -> ClusterRecord {
    ClusterRecord {
        epoch: Epoch(epoch),
        revision,
        primary: site("a"),
        promoting: false,
        system_id: SystemId(7),
        timeline: Timeline(1),
        last_lsn: Lsn(16),
        last_failover: None,
        brakes: Box::default(),
    }
}

/// A vote that remembers everything, and that nothing was ever promised.
pub(super) fn empty_vote(mode: Mode) -> StoredVote {
    StoredVote {
        version: 1,
        identity: rules("a", mode).identity,
        promised: Epoch::NONE,
        granted_to: None,
        released: false,
        released_to: None,
        record: None,
    }
}

/// All voters and both contenders, connected by a network that delivers at once.
pub(super) struct Net {
    mode: Mode,
    pub(super) now: u64,
    names: Vec<&'static str>,
    voters: Vec<Voter>,
    disks: Vec<Option<StoredVote>>,
    contenders: Vec<Contender>,
    /// Who reaches nobody but the own voter, or, for the witness, is reached by nobody.
    pub(super) cut: Vec<&'static str>,
    pub(super) requests: Vec<(SiteName, Member, LeaseRequest)>,
    pub(super) changes: Vec<(SiteName, LeaseChange)>,
    pub(super) fences: Vec<(SiteName, Epoch)>,
}

impl Net {
    pub(super) fn new(mode: Mode) -> Self {
        let stored = Some(empty_vote(mode));
        let mut names = vec!["a", "b"];
        names.extend((mode == Mode::Quorum).then_some("witness"));
        let boot = |name: &&str| Voter::boot(rules(name, mode), stored.clone(), at(0));
        let contend = |(seed, name): (usize, &&str)| {
            Contender::new(rules(name, mode), site(name), seed as u64, at(0))
        };
        Self {
            mode,
            now: 0,
            voters: names.iter().map(boot).collect(),
            disks: names.iter().map(|_| stored.clone()).collect(),
            contenders: names.iter().take(2).enumerate().map(contend).collect(),
            names,
            cut: Vec::new(),
            requests: Vec::new(),
            changes: Vec::new(),
            fences: Vec::new(),
        }
    }

    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap()
    }

    pub(super) fn voter(&mut self, name: &str) -> &mut Voter {
        let index = self.index(name);
        &mut self.voters[index]
    }

    /// What is on the disk of a voter, to be put back: as if it had refused every write since.
    pub(super) fn disk(&mut self, name: &str) -> &mut Option<StoredVote> {
        let index = self.index(name);
        &mut self.disks[index]
    }

    pub(super) fn view(&self, name: &str) -> LeaseView {
        self.contenders[self.index(name)].current_view()
    }

    pub(super) fn holds(&self, name: &str) -> Option<Epoch> {
        match self.view(name) {
            LeaseView::Held { epoch, .. } => Some(epoch),
            LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => None,
        }
    }

    pub(super) fn acquire(&mut self, name: &str) {
        self.feed(name, Input::Command(LeaseCommand::Acquire));
    }

    pub(super) fn release(&mut self, name: &str, to: &str) {
        let to = Some(site(to));
        self.feed(name, Input::Command(LeaseCommand::Release { to }));
    }

    pub(super) fn keep(&mut self, name: &str, record: ClusterRecord) {
        self.feed(name, Input::Command(LeaseCommand::Keep(Box::new(record))));
    }

    /// Gives a contender an input, and carries out what it wants until it wants nothing more.
    pub(super) fn feed(&mut self, name: &str, input: Input) -> Output {
        let index = self.index(name);
        let mut inputs = VecDeque::from([input]);
        let mut last = Output::default();
        while let Some(input) = inputs.pop_front() {
            let output = self.contenders[index].handle(input, at(self.now));
            let news = output
                .changes
                .iter()
                .map(|change| (site(name), change.clone()));
            self.changes.extend(news);
            self.fences
                .extend(output.fence.map(|epoch| (site(name), epoch)));
            for send in &output.sends {
                self.requests
                    .push((site(name), send.to.clone(), send.request.clone()));
                let (from, round) = (send.to.clone(), send.round);
                inputs.push_back(match self.ask(name, &send.to, &send.request) {
                    Some(reply) => Input::Reply { from, round, reply },
                    None => Input::NoReply { from, round },
                });
            }
            last = output;
        }
        last
    }

    fn ask(&mut self, from: &str, to: &Member, request: &LeaseRequest) -> Option<LeaseReply> {
        let index = self
            .names
            .iter()
            .position(|name| member(name) == *to)
            .unwrap();
        let cut = |name: &str| self.cut.contains(&name);
        if from != self.names[index] && (cut(from) || cut(self.names[index])) {
            return None;
        }
        let identity = rules("a", self.mode).identity;
        let answer = self.voters[index].handle(&identity, request, at(self.now));
        if answer.store.is_some() {
            self.disks[index] = answer.store;
        }
        Some(answer.reply)
    }

    /// Lets time pass, in steps of 50 ms, with both agents awake.
    pub(super) fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 50 {
            self.now += 50;
            self.feed("a", Input::Tick);
            self.feed("b", Input::Tick);
        }
    }

    /// Restarts an agent: its contender and its voter.
    pub(super) fn restart(&mut self, name: &'static str) {
        let index = self.index(name);
        let rules = rules(name, self.mode);
        self.voters[index] = Voter::boot(rules.clone(), self.disks[index].clone(), at(self.now));
        self.contenders[index] = Contender::new(rules, site(name), 9, at(self.now));
    }

    pub(super) fn told(&self, name: &str, wanted: &LeaseChange) -> bool {
        self.changes.contains(&(site(name), wanted.clone()))
    }
}

/// Both agents up, and site a holding epoch 1 for a while.
pub(super) fn held_by_a(mode: Mode) -> Net {
    let mut net = Net::new(mode);
    net.pass(100);
    net.acquire("a");
    assert_eq!(net.holds("a"), Some(Epoch(1)));
    net.pass(2000);
    net
}

pub(super) fn other(holder: &str, epoch: u64) -> LeaseView {
    LeaseView::Other {
        holder: site(holder),
        epoch: Epoch(epoch),
    }
}

pub(super) fn free(epoch: u64, released_to: Option<&str>) -> LeaseView {
    LeaseView::Free {
        epoch: Epoch(epoch),
        released_to: released_to.map(site),
    }
}
