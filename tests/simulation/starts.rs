//! The steps that start the own node.

use failover_agent::decision::decide::Order;
use failover_agent::model::Role;
use failover_agent::model::outcome::FailureKind;

use crate::node::Process;
use crate::steps::{Ended, Stage, failed, learned};
use crate::world::World;

impl World {
    pub(crate) fn start_own(
        &mut self,
        site: usize,
        token: u64,
        order: &Order,
        stage: Stage,
        timed_out: bool,
    ) -> Ended {
        let node = &self.sites[site].node;
        match (stage, node.process) {
            (Stage::Begun, Process::Orphans) => failed(FailureKind::Permanent, "fence it first"),
            (Stage::Begun, Process::Down) => self.start_down(site, token, order),
            (Stage::Begun, _) if node.signal => failed(FailureKind::Permanent, "runs as standby"),
            (Stage::Begun, _) => {
                self.asked(site, token, false);
                None
            }
            (Stage::Asked { .. }, Process::Up) => match self.session(site) {
                Ok(report) if report.role == Role::Primary => learned(Some(report)),
                Ok(_) => failed(FailureKind::Permanent, "runs as standby"),
                Err(_) if !timed_out => None,
                Err(failure) => Some(Err(failure)),
            },
            (Stage::Asked { removed }, Process::Down) => {
                if removed {
                    self.sites[site].node.signal = true;
                }
                failed(FailureKind::Retryable, "it did not come up")
            }
            (Stage::Asked { .. }, _) if timed_out => {
                failed(FailureKind::OutcomeUnknown, "not ready in time")
            }
            (Stage::Asked { .. } | Stage::Looked, _) => None,
        }
    }

    /// It is started as a standby, whatever it was before.
    pub(crate) fn start_standby(
        &mut self,
        site: usize,
        token: u64,
        order: &Order,
        stage: Stage,
        timed_out: bool,
    ) -> Ended {
        match (stage, self.sites[site].node.process) {
            (Stage::Begun, Process::Orphans) => failed(FailureKind::Retryable, "orphans"),
            (Stage::Begun, Process::Down) => {
                if self.fails(site, order) || self.sites[site].node.disk_full {
                    return failed(FailureKind::Retryable, "the server did not start");
                }
                self.sites[site].node.signal = true;
                self.asked(site, token, false);
                self.start_node(site);
                None
            }
            (Stage::Begun, _) => {
                self.asked(site, token, false);
                None
            }
            (Stage::Asked { .. }, Process::Up) => match self.session(site) {
                Ok(report) => learned(Some(report)),
                Err(_) if !timed_out => None,
                Err(failure) => Some(Err(failure)),
            },
            (Stage::Asked { .. }, Process::Down) => {
                failed(FailureKind::Retryable, "it did not come up")
            }
            (Stage::Asked { .. }, _) if timed_out => {
                failed(FailureKind::OutcomeUnknown, "not ready in time")
            }
            (Stage::Asked { .. } | Stage::Looked, _) => None,
        }
    }

    fn start_down(&mut self, site: usize, token: u64, order: &Order) -> Ended {
        if let Some(refused) = self.too_late(site, order) {
            return Some(Err(refused));
        }
        self.takes_effect(site, order);
        if self.fails(site, order) || self.sites[site].node.disk_full {
            return failed(FailureKind::Retryable, "the server did not start");
        }
        let removed = self.sites[site].node.signal;
        self.sites[site].node.signal = false;
        self.asked(site, token, removed);
        self.start_node(site);
        None
    }
}
