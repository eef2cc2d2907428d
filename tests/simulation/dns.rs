//! The DNS provider, and the step that moves its record: the mirror of `effects::dns`.
//!
//! A look and a change are two requests. Between them the process may be frozen, and what is on
//! its way to the provider arrives whatever becomes of whoever sent it.

use failover_agent::decision::decide::Order;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::Step;

use crate::clock::{MS, Real};
use crate::setup::{Mutation, content};
use crate::steps::{Ended, Stage, failed, learned};
use crate::world::{Ev, Pointer, World};

/// How long a request is on its way, at most: less than what a permit keeps in reserve.
const ON_ITS_WAY: Real = 100 * MS;

impl World {
    pub(crate) fn update_dns(
        &mut self,
        site: usize,
        token: u64,
        order: &Order,
        (stage, timed_out): (Stage, bool),
    ) -> Ended {
        let Step::UpdateDns { contents, .. } = &order.what else {
            return None;
        };
        let wanted = Pointer {
            site: usize::from(*contents == [content(1)]),
            epoch: order.epoch,
        };
        match stage {
            Stage::Begun => self.look_up(site, token, wanted),
            Stage::Looked => self.send_change(site, token, order, wanted),
            Stage::Asked { .. } if self.dns == wanted => learned(None),
            Stage::Asked { .. } if timed_out => failed(FailureKind::OutcomeUnknown, "no answer"),
            Stage::Asked { .. } => None,
        }
    }

    fn look_up(&mut self, site: usize, token: u64, wanted: Pointer) -> Ended {
        if self.dns.epoch > wanted.epoch && self.setup.mutation != Mutation::EpochIgnored {
            return failed(FailureKind::Permanent, "a newer epoch moved it");
        }
        if self.dns == wanted {
            return learned(None);
        }
        self.staged(site, token, Stage::Looked);
        None
    }

    fn send_change(&mut self, site: usize, token: u64, order: &Order, wanted: Pointer) -> Ended {
        // S8: between look and change nobody else may have become active.
        if self.setup.mutation != Mutation::EpochIgnored
            && let Some(refused) = self.lease_over(site, order)
        {
            return Some(Err(refused));
        }
        let fails = self.fails(site, order);
        // A provider that answers nothing may have done it all the same.
        if fails && self.rng.chance(500) {
            return failed(FailureKind::Retryable, "429");
        }
        let span = self.rng.within(MS, ON_ITS_WAY);
        self.after(span, Ev::Dns(site, wanted));
        if fails {
            return failed(FailureKind::OutcomeUnknown, "no answer");
        }
        self.asked(site, token, false);
        None
    }

    /// A change reaches the provider, which takes whatever its owner's token may write.
    pub(crate) fn dns_changes(&mut self, site: usize, wanted: Pointer) {
        let before = std::mem::replace(&mut self.dns, wanted);
        self.pointed("DNS", site, before, wanted);
    }
}
