//! The real machines, each distinct state of them kept once, each distinct step computed once.
//!
//! The search walks through hundreds of thousands of worlds, but those are made of a few thousand
//! voters and contenders. A world holds their numbers; this holds the machines.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use failover_agent::decision::lease::{
    BrokenRule, Contender, Input, LeaseRules, Mode, Output, Voter,
};
use failover_agent::model::lease::{LeaseReply, LeaseRequest, StoredVote};
use failover_agent::model::{ClusterName, Member, Moment, SiteName};

pub(crate) const TTL: Duration = Duration::from_millis(3000);
pub(crate) const FENCE_BUDGET: Duration = Duration::from_millis(500);

/// A table of distinct values.
pub(crate) struct Table<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Hash + Eq> Table<T> {
    fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }

    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap();
        let value = Rc::new(value);
        self.values.push(Rc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    pub(crate) fn value(&self, number: u32) -> Rc<T> {
        Rc::clone(&self.values[number as usize])
    }
}

/// What a contender did with an input.
pub(crate) struct ContenderStep {
    pub(crate) next: u32,
    pub(crate) output: Output,
}

/// What a voter did with a request.
pub(crate) struct VoterStep {
    pub(crate) next: u32,
    pub(crate) reply: LeaseReply,
    pub(crate) store: Option<StoredVote>,
}

/// Whether a voter's disk takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Disk {
    Works,
    Refuses,
}

pub(crate) struct Machines {
    pub(crate) voters: Table<Voter>,
    pub(crate) contenders: Table<Contender>,
    pub(crate) disks: Table<Option<StoredVote>>,
    pub(crate) requests: Table<LeaseRequest>,
    pub(crate) inputs: Table<Input>,
    wake_at: HashMap<u32, Moment>,
    contender_steps: HashMap<(u32, u32, u64), Rc<ContenderStep>>,
    voter_steps: HashMap<(u32, u32, u64, Disk), Rc<VoterStep>>,
    broken: Option<BrokenRule>,
    pub(crate) mode: Mode,
}

/// The voters in order: both sites' agents, then the witness.
pub(crate) fn members() -> [Member; 3] {
    [
        Member::Site(site(0)),
        Member::Site(site(1)),
        Member::Witness,
    ]
}

pub(crate) fn site(index: usize) -> SiteName {
    SiteName::new(["a", "b"][index])
}

/// A contender's clock, as slow as allowed: it lags behind real time.
pub(crate) fn slow_clock(real_ms: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(2_000) + Duration::from_micros(real_ms * 995))
}

/// A voter's clock, as fast as allowed.
pub(crate) fn fast_clock(real_ms: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(1_000) + Duration::from_micros(real_ms * 1005))
}

impl Machines {
    pub(crate) fn new(broken: Option<BrokenRule>, mode: Mode) -> Self {
        Self {
            voters: Table::new(),
            contenders: Table::new(),
            disks: Table::new(),
            requests: Table::new(),
            inputs: Table::new(),
            wake_at: HashMap::new(),
            contender_steps: HashMap::new(),
            voter_steps: HashMap::new(),
            broken,
            mode,
        }
    }

    /// The rules as this member knows them. Periods are a little shorter than the search's
    /// instants are apart, so that each instant brings one look or renewal.
    pub(crate) fn rules(&self, me: usize) -> LeaseRules {
        let members = members();
        let me_member = members[me].clone();
        let mut voters = members.to_vec();
        voters.truncate(if self.mode == Mode::Pair { 2 } else { 3 });
        LeaseRules {
            ttl: TTL,
            renew_every: Duration::from_millis(985),
            request_timeout: Duration::from_millis(995),
            fence_budget: FENCE_BUDGET,
            mode: self.mode,
            me: me_member,
            identity: LeaseRules::identity_of(ClusterName::new("search"), &voters),
            voters,
            broken: self.broken,
        }
    }

    pub(crate) fn boot_voter(&mut self, index: usize, disk: u32, real_ms: u64) -> u32 {
        let stored = (*self.disks.value(disk)).clone();
        let voter = Voter::boot(self.rules(index), stored, fast_clock(real_ms));
        self.voters.number(voter)
    }

    pub(crate) fn boot_contender(&mut self, index: usize, seed: u64, real_ms: u64) -> u32 {
        let now = slow_clock(real_ms);
        let contender = Contender::new(self.rules(index), site(index), seed, now);
        let number = self.contenders.number(contender);
        self.wake_at.insert(number, now);
        number
    }

    pub(crate) fn due(&self, contender: u32, real_ms: u64) -> bool {
        self.wake_at[&contender] <= slow_clock(real_ms)
    }

    pub(crate) fn feed(&mut self, contender: u32, input: Input, real_ms: u64) -> Rc<ContenderStep> {
        let key = (contender, self.inputs.number(input), real_ms);
        if let Some(step) = self.contender_steps.get(&key) {
            return Rc::clone(step);
        }
        let mut machine = (*self.contenders.value(contender)).clone();
        let input = (*self.inputs.value(key.1)).clone();
        let output = machine.handle(input, slow_clock(real_ms));
        let next = self.contenders.number(machine);
        self.wake_at.insert(
            next,
            output
                .wake_at
                .expect("a contender always has something to do"),
        );
        let step = Rc::new(ContenderStep { next, output });
        self.contender_steps.insert(key, Rc::clone(&step));
        step
    }

    pub(crate) fn ask(
        &mut self,
        voter: u32,
        request: u32,
        disk: Disk,
        real_ms: u64,
    ) -> Rc<VoterStep> {
        let key = (voter, request, real_ms, disk);
        if let Some(step) = self.voter_steps.get(&key) {
            return Rc::clone(step);
        }
        let mut machine = (*self.voters.value(voter)).clone();
        let identity = self.rules(0).identity;
        let request = self.requests.value(request);
        let now = fast_clock(real_ms);
        let answer = machine.handle(&identity, &request, now);
        let (reply, store) = match (disk, answer.store) {
            (Disk::Refuses, Some(_)) => (machine.not_durable(now), None),
            (_, store) => (answer.reply, store),
        };
        // The reply has left: the way back is closed. A read makes the machine forget it.
        machine.handle(&identity, &LeaseRequest::Read, now);
        let next = self.voters.number(machine);
        let step = Rc::new(VoterStep { next, reply, store });
        self.voter_steps.insert(key, Rc::clone(&step));
        step
    }
}
