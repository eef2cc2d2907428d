//! While the store is away: the holder goes on only with the other agent's consent, and that agent
//! keeps its word.

use super::{CellContender, Output, Phase, Purpose};
use crate::decision::lease::rules::BrokenRule;
use crate::model::cell::{PeerAsk, PeerWish, PeerWord};
use crate::model::{Epoch, Moment};

/// Not to take over for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Promise {
    /// The holder's epoch.
    pub(super) epoch: Epoch,
    until: Moment,
}

impl CellContender {
    /// The promise that binds at this moment.
    pub(super) fn promise_at(&self, now: Moment) -> Option<Promise> {
        self.promised
            .filter(|promise| now < promise.until)
            .filter(|_| !self.rules.breaks(BrokenRule::PromiseForgotten))
    }

    /// The other agent asks.
    pub(super) fn answer(&mut self, ask: &PeerAsk, now: Moment, out: &mut Output) {
        let known = ask.identity == self.rules.identity && ask.holder == self.peer;
        let accepted = known
            && match ask.wish {
                PeerWish::Consent => self.consent(ask.epoch, now),
                PeerWish::Released => {
                    self.look(now, out);
                    true
                }
            };
        // What another cluster is told must not look like news of its own.
        let epoch = if known { self.epoch_seen } else { Epoch::NONE };
        out.word = Some(PeerWord { accepted, epoch });
    }

    /// No consent while this site holds the lease, or while a write of its own may be counted.
    fn consent(&mut self, epoch: Epoch, now: Moment) -> bool {
        let busy = match &self.phase {
            Phase::Looking => false,
            Phase::Asking(attempt) => attempt.writes(),
            Phase::Holding(_) => true,
        };
        if busy || epoch < self.epoch_seen || epoch == Epoch::NONE {
            return false;
        }
        let until = now + self.rules.grant_span();
        self.promised = Some(Promise { epoch, until });
        true
    }

    /// The other agent has answered, or has not.
    pub(super) fn take_word(
        &mut self,
        number: u64,
        word: Option<PeerWord>,
        now: Moment,
        out: &mut Output,
    ) {
        let Some(word) = word else {
            return;
        };
        self.epoch_seen = self.epoch_seen.max(word.epoch);
        self.yield_to_higher_epoch(now, out);
        let Some(round) = self.rounds.remove(&number) else {
            return;
        };
        let Purpose::Consent(epoch) = round.purpose else {
            return;
        };
        if let Phase::Holding(hold) = &mut self.phase
            && word.accepted
            && hold.epoch() == epoch
        {
            hold.extend(&self.rules, round.sent, now);
            self.consented_at = Some(now);
        }
    }
}
