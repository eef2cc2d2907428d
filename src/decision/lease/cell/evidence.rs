//! When the lease may be taken: what was seen of the cell, and for how long.

use super::CellContender;
use crate::decision::lease::rules::BrokenRule;
use crate::model::Moment;
use crate::model::cell::SeenCell;
use crate::model::lease::{ClusterRecord, Verdict};

/// The cell as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Observed {
    pub(super) seen: SeenCell,
    /// When the first answer that showed it like this was received.
    pub(super) since: Moment,
    /// When the newest one was.
    pub(super) at: Moment,
    /// Whether that was lately.
    pub(super) fresh: bool,
}

impl CellContender {
    /// Takes in what an answer showed. Answers may overtake each other: the time begins anew with
    /// any difference, and whether the cell is still like that is for the store to say.
    pub(super) fn observe(&mut self, seen: &SeenCell, now: Moment) {
        match &mut self.observed {
            Some(observed) if observed.seen == *seen => {
                observed.at = now;
                observed.fresh = true;
            }
            Some(_) | None => {
                self.observed = Some(Observed {
                    seen: seen.clone(),
                    since: now,
                    at: now,
                    fresh: true,
                });
            }
        }
    }

    /// Whether the next epoch may be asked for now.
    pub(super) fn may_acquire(&self, now: Moment) -> Verdict {
        let Some(observed) = self.observed.as_ref().filter(|observed| observed.fresh) else {
            return Verdict::StoreSilent;
        };
        let careless = self.rules.breaks(BrokenRule::GrantIgnored);
        let waited = careless || now >= observed.since + self.rules.grant_span();
        let promise = self.promise_at(now);
        if self.pinned_to_peer() {
            return Verdict::GrantRuns;
        }
        let Some(cell) = &observed.seen.cell else {
            // A new cluster, or a store that lost its memory: those cannot be told apart.
            return verdict_if(waited && promise.is_none(), Verdict::Abstains);
        };
        if cell.identity != self.rules.identity {
            return Verdict::WrongCluster;
        }
        if cell.released {
            // The promise was given to a newer epoch than the one that was released.
            if promise.is_some_and(|promise| promise.epoch > cell.epoch) {
                return Verdict::GrantRuns;
            }
            let mine = cell.released_to.as_ref().is_none_or(|to| *to == self.site);
            return verdict_if(mine || waited, Verdict::ReservedForSuccessor);
        }
        // The own site's node is the only one that its own epoch lets write.
        let own = cell.holder == self.site;
        verdict_if(own || (waited && promise.is_none()), Verdict::GrantRuns)
    }

    /// When the cell will have looked the same for one span; `None` if it need not be waited for.
    pub(super) fn runs_out_at(&self) -> Option<Moment> {
        let observed = self.observed.as_ref()?;
        let released = observed
            .seen
            .cell
            .as_ref()
            .is_some_and(|cell| cell.released);
        let waits = !released && !self.pinned_to_peer();
        waits.then(|| observed.since + self.rules.grant_span())
    }

    /// The newest record, of the cell or of one that is gone, pins the lease to the other site.
    pub(super) fn pinned_to_peer(&self) -> bool {
        let record = self.record.as_ref();
        !self.rules.breaks(BrokenRule::PinIgnored)
            && record.and_then(ClusterRecord::pinned_to) == Some(&self.peer)
    }
}

fn verdict_if(holds: bool, otherwise: Verdict) -> Verdict {
    if holds { Verdict::Ok } else { otherwise }
}
