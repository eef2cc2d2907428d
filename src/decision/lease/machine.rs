//! Either machine, behind one small interface: the keeper drives both alike, and decision loop,
//! executor and guard see no difference.

use std::time::Duration;

use super::cell::CellContender;
use super::contender::{Contender, Input, Output};
use super::rules::LeaseRules;
use crate::model::lease::{LeaseStore, LeaseView};
use crate::model::{Epoch, Moment, SiteName};

/// One agent's side of the lease, wherever it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaseMachine {
    /// With voters: a quorum, or a pair.
    Votes(Box<Contender>),
    /// In one cell of a store.
    Cell(Box<CellContender>),
}

impl LeaseMachine {
    /// A machine that knows nothing yet. As [`Contender::new`]; `peer` is the other site.
    #[must_use]
    pub fn new(
        store: LeaseStore,
        rules: LeaseRules,
        site: SiteName,
        peer: SiteName,
        seed: u64,
        now: Moment,
    ) -> Self {
        match store {
            LeaseStore::Quorum | LeaseStore::Pair => {
                Self::Votes(Box::new(Contender::new(rules, site, seed, now)))
            }
            LeaseStore::Etcd => {
                Self::Cell(Box::new(CellContender::new(rules, site, peer, seed, now)))
            }
        }
    }

    /// Takes one input, at the time read right before the output is carried out.
    pub fn handle(&mut self, input: Input, now: Moment) -> Output {
        match self {
            Self::Votes(machine) => machine.handle(input, now),
            Self::Cell(machine) => machine.handle(input, now),
        }
    }

    /// An epoch that was seen in a former life: none below it is asked for, also when the store
    /// has lost its memory. Targets remember it, and refuse a lower one (S8). Voters tell it
    /// themselves.
    pub fn remember(&mut self, epoch: Epoch) {
        match self {
            Self::Votes(_) => {}
            Self::Cell(machine) => machine.remember(epoch),
        }
    }

    /// A fence needs so much time on this host: from the next renewal on, it is reserved.
    pub fn reserve(&mut self, fence_budget: Duration) {
        match self {
            Self::Votes(machine) => machine.reserve(fence_budget),
            Self::Cell(machine) => machine.reserve(fence_budget),
        }
    }

    /// What the machine believes now.
    #[must_use]
    pub fn current_view(&self) -> LeaseView {
        match self {
            Self::Votes(machine) => machine.current_view(),
            Self::Cell(machine) => machine.current_view(),
        }
    }
}
