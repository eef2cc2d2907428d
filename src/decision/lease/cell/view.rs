//! What the agent is told about the lease.

use super::{CellContender, Output, Phase};
use crate::model::Member;
use crate::model::lease::{ClusterRecord, LeaseChange, LeaseView};

/// What was told last, so that only news are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Told {
    view: LeaseView,
    record: Option<ClusterRecord>,
    reached: Vec<Member>,
}

impl CellContender {
    pub(super) fn tell(&mut self, out: &mut Output) {
        let told = Told {
            view: self.lease_view(),
            record: self.record.clone(),
            reached: self.reached(),
        };
        if self.told.as_ref() == Some(&told) {
            return;
        }
        self.told = Some(told.clone());
        out.changes.push(LeaseChange::View {
            view: told.view,
            record: told.record,
            reached: told.reached,
        });
    }

    /// Who lets this agent know of the lease: itself when the store answered lately, the other one
    /// when it consented lately.
    fn reached(&self) -> Vec<Member> {
        let store = self.observed.as_ref().is_some_and(|seen| seen.fresh);
        let own = store.then(|| Member::Site(self.site.clone()));
        let peer = self.consented_at.map(|_| Member::Site(self.peer.clone()));
        own.into_iter().chain(peer).collect()
    }

    /// `Free` only when the cell says so, or when it was seen unchanged for one whole span (S5).
    pub(super) fn lease_view(&self) -> LeaseView {
        if let Phase::Holding(hold) = &self.phase {
            return LeaseView::Held {
                epoch: hold.epoch(),
                fence_at: hold.fence_at(),
            };
        }
        let Some(observed) = self.observed.as_ref().filter(|observed| observed.fresh) else {
            return LeaseView::Unknown;
        };
        // Nobody acts under a promise, whatever the cell looks like.
        let ran_out = observed.at >= observed.since + self.rules.grant_span()
            && !self.promised_at_last()
            && !self.pinned_to_peer();
        let free = |released_to| LeaseView::Free {
            epoch: self.epoch_seen,
            released_to,
        };
        match &observed.seen.cell {
            None if ran_out => free(None),
            Some(cell) if cell.identity != self.rules.identity => LeaseView::Unknown,
            Some(cell) if cell.released => free(cell.released_to.clone()),
            Some(_) if ran_out => free(None),
            Some(cell) => LeaseView::Other {
                holder: cell.holder.clone(),
                epoch: cell.epoch,
            },
            None => LeaseView::Unknown,
        }
    }

    /// Whether a promise bound when the cell was last seen.
    fn promised_at_last(&self) -> bool {
        let at = self.observed.as_ref().map(|observed| observed.at);
        at.is_some_and(|at| self.promise_at(at).is_some())
    }
}
