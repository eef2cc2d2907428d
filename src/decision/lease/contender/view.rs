//! What the agent is told about the lease, put together from what the voters said lately.

use super::{Contender, Output, Phase, Seen};
use crate::decision::lease::rules::Mode;
use crate::model::lease::{ClusterRecord, GrantView, LeaseChange, LeaseView};
use crate::model::{Member, Moment};

/// What was told last, so that only news are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Told {
    view: LeaseView,
    record: Option<ClusterRecord>,
    reached: Vec<Member>,
}

impl Contender {
    pub(super) fn tell(&mut self, out: &mut Output) {
        let told = Told {
            view: self.lease_view(),
            record: self.record.clone(),
            reached: self.seen.keys().cloned().collect(),
        };
        if self.told.as_ref() == Some(&told) {
            return;
        }
        let Told {
            view,
            record,
            reached,
        } = told.clone();
        self.told = Some(told);
        out.changes.push(LeaseChange::View {
            view,
            record,
            reached,
        });
    }

    /// `Free` only when a majority of the voters says so (S5). When a majority answered and does
    /// not, somebody's grant runs somewhere, and that is what is told; it may be this site's own,
    /// from before a restart. Voters whose memory is gone do not count.
    pub(super) fn lease_view(&self) -> LeaseView {
        if let Phase::Holding(hold) = &self.phase {
            return LeaseView::Held {
                epoch: hold.epoch(),
                fence_at: hold.fence_at(),
            };
        }
        let voters = || self.seen.values().filter(|seen| !seen.abstains);
        let free = voters().filter(|seen| seen.view.grant.is_none()).count();
        if free >= self.rules.majority() {
            let newest = voters()
                .map(|seen| seen.view.promised)
                .max()
                .unwrap_or_default();
            let released_to = voters()
                .filter(|seen| seen.view.promised == newest)
                .find_map(|seen| seen.view.released_to.clone());
            return LeaseView::Free {
                epoch: self.epoch_seen,
                released_to,
            };
        }
        // With two agents alone one running grant is enough to know: it never runs out, and both
        // voters would have to grant to anybody else.
        let pair = self.rules.mode == Mode::Pair;
        let enough = voters().count() >= self.rules.majority() || pair;
        match voters().filter_map(grant).max_by_key(|grant| grant.epoch) {
            Some(grant) if enough => LeaseView::Other {
                holder: grant.holder.clone(),
                epoch: grant.epoch,
            },
            Some(_) | None => LeaseView::Unknown,
        }
    }

    /// True when a voter says that the newest epoch was released to this site.
    pub(super) fn is_successor(&self) -> bool {
        self.seen.values().any(|seen| {
            seen.view.promised == self.epoch_seen
                && seen.view.released_to.as_ref() == Some(&self.site)
        })
    }

    /// True while some voters know that the lease was released to this site and others, which
    /// answer, do not yet. It ends by itself: at the latest their grants run out.
    pub(super) fn release_is_spreading(&self) -> bool {
        let free = self
            .seen
            .values()
            .filter(|seen| grant(seen).is_none())
            .count();
        self.is_successor()
            && free < self.rules.majority()
            && self.seen.values().any(|seen| grant(seen).is_some())
    }

    /// When a majority's grants will have run out, by what they told; `None` if they have, or if
    /// too few voters told anything, or if the lease is this site's own.
    pub(super) fn free_at(&self) -> Option<Moment> {
        let mut free_at: Vec<Option<Moment>> = self
            .seen
            .values()
            .filter(|seen| !seen.abstains)
            .filter_map(
                |seen| match grant(seen).filter(|grant| grant.holder != self.site) {
                    None => Some(None),
                    Some(grant) => grant.left.map(|left| Some(seen.received + left)),
                },
            )
            .collect();
        free_at.sort_unstable();
        free_at
            .get(self.rules.majority().saturating_sub(1))
            .copied()
            .flatten()
    }
}

fn grant(seen: &Seen) -> Option<&GrantView> {
    seen.view.grant.as_ref()
}
