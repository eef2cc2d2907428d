//! The two sites of the model, their clocks, and the rules that their agents share.

use std::time::Duration;

use failover_agent::decision::lease::rules::BrokenRule;
use failover_agent::decision::lease::{LeaseRules, Mode};
use failover_agent::model::{ClusterName, Member, Moment, SiteName};

use super::{Real, World};

/// In milliseconds.
pub(crate) const TTL: u64 = 2_000;

pub(crate) fn site(index: usize) -> SiteName {
    SiteName::new(["a", "b"].get(index).copied().unwrap_or_default())
}

pub(crate) fn rules(me: usize, broken: Option<BrokenRule>) -> LeaseRules {
    let voters = vec![Member::Site(site(0)), Member::Site(site(1))];
    let ttl = Duration::from_millis(TTL);
    LeaseRules {
        ttl,
        renew_every: ttl / 5,
        request_timeout: ttl / 7,
        fence_budget: ttl / 5,
        mode: Mode::Quorum,
        me: Member::Site(site(me)),
        identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
        voters,
        broken,
    }
}

impl World {
    pub(crate) fn local(&self, index: usize) -> Moment {
        let (rate, start) = self.clocks[index];
        Moment::from_boot(Duration::from_micros(start + self.now * rate / 1000))
    }

    /// When a site's clock shows this, in real time, rounded up.
    pub(crate) fn real(&self, index: usize, local: Moment) -> Real {
        let (rate, _) = self.clocks[index];
        let left = local.since(self.local(index)).as_micros();
        self.now + u64::try_from(left).unwrap_or(u64::MAX / 2000) * 1000 / rate + 1
    }
}
