//! The lease on a perfect network: one voter that both agents reach at once, unless cut off.

use std::time::Duration;

use failover_agent::model::lease::{ClusterRecord, LeaseView};
use failover_agent::model::{Epoch, Moment, SiteName};

use crate::world::SITES;

pub(crate) const TTL: Duration = Duration::from_secs(10);
const FENCE_BUDGET: Duration = Duration::from_secs(2);

/// The voter.
#[derive(Debug, Default)]
pub(crate) struct Voters {
    /// Who was granted the newest epoch, and when that was last renewed.
    grant: Option<(usize, Moment)>,
    epoch: u64,
    released: Option<(Option<SiteName>, Moment)>,
    pub record: Option<ClusterRecord>,
}

impl Voters {
    /// Who holds the lease, as long as it is counted here: a little longer than the holder does.
    pub(crate) fn holder(&self, now: Moment) -> Option<usize> {
        self.grant
            .filter(|(_, renewed)| now.since(*renewed) < TTL * 1005 / 1000)
            .map(|(site, _)| site)
    }

    /// When the holder must have begun to fence.
    pub(crate) fn fence_at(renewed: Moment) -> Moment {
        renewed + TTL * 995 / 1000 - FENCE_BUDGET
    }

    /// What an agent sees that does not hold the lease in this life.
    pub(crate) fn look(&self, now: Moment) -> LeaseView {
        let epoch = Epoch(self.epoch);
        match self.holder(now) {
            Some(site) => LeaseView::Other {
                holder: SiteName::new(SITES[site]),
                epoch,
            },
            None => LeaseView::Free {
                epoch,
                released_to: self.successor(now),
            },
        }
    }

    fn successor(&self, now: Moment) -> Option<SiteName> {
        let (to, at) = self.released.as_ref()?;
        to.clone().filter(|_| now.since(*at) < TTL)
    }

    /// Grants the next epoch, if nobody else has it or was promised it.
    pub(crate) fn acquire(&mut self, site: usize, now: Moment) -> Option<Epoch> {
        let free = self.holder(now).is_none_or(|holder| holder == site);
        let mine = self
            .successor(now)
            .is_none_or(|to| to.as_str() == SITES[site]);
        if !free || !mine {
            return None;
        }
        self.epoch += 1;
        self.grant = Some((site, now));
        self.released = None;
        Some(Epoch(self.epoch))
    }

    /// Extends a grant that still runs; says whether it does.
    pub(crate) fn renew(&mut self, site: usize, epoch: Epoch, now: Moment) -> bool {
        let runs = self.holder(now) == Some(site) && epoch.0 == self.epoch;
        if runs {
            self.grant = Some((site, now));
        }
        runs
    }

    pub(crate) fn release(
        &mut self,
        site: usize,
        epoch: Epoch,
        to: Option<&SiteName>,
        now: Moment,
    ) {
        if self.holder(now) == Some(site) && epoch.0 == self.epoch {
            self.grant = None;
            self.released = Some((to.cloned(), now));
        }
    }

    pub(crate) fn keep(&mut self, record: &ClusterRecord) {
        let known = self.record.as_ref().map(ClusterRecord::version);
        if known < Some(record.version()) {
            self.record = Some(record.clone());
        }
    }
}
