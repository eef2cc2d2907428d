//! Asking for the lease: one attempt per command.
//!
//! An attempt is: look, unless the cell was seen lately and may be taken; then write the next epoch
//! on the condition that nothing changed in between.

use super::hold::Hold;
use super::{CellContender, Output, Phase, Purpose, Round};
use crate::decision::lease::rules::{BrokenRule, LeaseRules};
use crate::model::Moment;
use crate::model::cell::{Cell, CellReply, CellRequest};
use crate::model::lease::{LeaseChange, Verdict};

/// How often one attempt writes again because the cell had changed and may be taken still.
const REWRITES_MAX: u32 = 3;

/// One attempt under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    step: Step,
    rewrites_left: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Backing off.
    Waiting,
    Looking {
        round: u64,
        sent: Moment,
    },
    Writing {
        round: u64,
        sent: Moment,
    },
}

impl Attempt {
    pub(super) fn waits(&self) -> bool {
        self.step == Step::Waiting
    }

    /// True while a write of its own may still be counted.
    pub(super) fn writes(&self) -> bool {
        matches!(self.step, Step::Writing { .. })
    }

    pub(super) fn wake_at(&self, rules: &LeaseRules, not_before: Moment) -> Moment {
        match self.step {
            Step::Waiting => not_before,
            Step::Looking { sent, .. } | Step::Writing { sent, .. } => sent + rules.request_timeout,
        }
    }

    fn round(&self) -> Option<u64> {
        match self.step {
            Step::Waiting => None,
            Step::Looking { round, .. } | Step::Writing { round, .. } => Some(round),
        }
    }
}

impl CellContender {
    /// The command: one attempt, which ends in a view `Held` or in `NotAcquired`.
    pub(super) fn acquire(&mut self, now: Moment, out: &mut Output) {
        match &self.phase {
            Phase::Holding(_) => self.told = None,
            Phase::Asking(_) => {}
            Phase::Looking => {
                self.phase = Phase::Asking(Attempt {
                    step: Step::Waiting,
                    rewrites_left: REWRITES_MAX,
                });
                self.press_on(now, out);
            }
        }
    }

    /// Moves the attempt on: begins it after the back-off, ends it when nobody answers.
    pub(super) fn press_on(&mut self, now: Moment, out: &mut Output) {
        let Phase::Asking(attempt) = &self.phase else {
            return;
        };
        match attempt.step {
            Step::Waiting if now < self.not_before => {}
            Step::Waiting if self.may_acquire(now) == Verdict::Ok => self.write(now, out),
            Step::Waiting => {
                let round = self.ask_store(Purpose::Look, CellRequest::Look, now, out);
                self.set_step(Step::Looking { round, sent: now });
            }
            Step::Looking { sent, .. } | Step::Writing { sent, .. } => {
                if now.since(sent) >= self.rules.request_timeout {
                    self.lose(Verdict::StoreSilent, now, out);
                }
            }
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Phase::Asking(attempt) = &mut self.phase {
            attempt.step = step;
        }
    }

    fn write(&mut self, now: Moment, out: &mut Output) {
        let (epoch, claim) = (self.epoch_seen.next(), self.random());
        let cell = Box::new(self.own_cell(epoch, claim));
        let request = CellRequest::Write {
            if_revision: self
                .observed
                .as_ref()
                .map_or(0, |observed| observed.seen.revision),
            cell: cell.clone(),
        };
        let round = self.ask_store(Purpose::Acquire(cell), request, now, out);
        self.set_step(Step::Writing { round, sent: now });
    }

    /// The look that an attempt began with has come.
    pub(super) fn take_look(&mut self, number: u64, now: Moment, out: &mut Output) {
        let Phase::Asking(attempt) = &self.phase else {
            return;
        };
        if attempt.round() != Some(number) {
            return;
        }
        let verdict = self.may_acquire(now);
        if verdict == Verdict::Ok {
            self.write(now, out);
        } else {
            self.lose(verdict, now, out);
        }
    }

    /// The store has answered to the write of the next epoch.
    pub(super) fn take_acquired(
        &mut self,
        round: &Round,
        cell: &Cell,
        reply: &CellReply,
        now: Moment,
        out: &mut Output,
    ) {
        let Phase::Asking(attempt) = &mut self.phase else {
            return;
        };
        // An answer that was lost between store and sender shows as the cell itself.
        let applied = reply.seen.cell.as_ref().map(Cell::mark) == Some(cell.mark());
        if reply.written || applied {
            let from_reply = self.rules.breaks(BrokenRule::CountFromReply);
            let sent = if from_reply { now } else { round.sent };
            let hold = Hold::won(&self.rules, cell, reply.seen.revision, sent);
            if hold.fence_at() <= now {
                // Won too late to be of use. It cannot be told from losing.
                self.lose(Verdict::StaleEpoch, now, out);
                return;
            }
            self.give_back = None;
            self.epoch_seen = self.epoch_seen.max(cell.epoch);
            self.phase = Phase::Holding(hold);
            return;
        }
        let again = attempt.rewrites_left > 0;
        attempt.rewrites_left = attempt.rewrites_left.saturating_sub(1);
        let verdict = self.may_acquire(now);
        if verdict != Verdict::Ok {
            self.lose(verdict, now, out);
        } else if again {
            self.write(now, out);
        } else {
            self.lose(Verdict::StaleEpoch, now, out);
        }
    }

    /// The store did not answer to this request.
    pub(super) fn attempt_unanswered(&mut self, number: u64, now: Moment, out: &mut Output) {
        if let Phase::Asking(attempt) = &self.phase
            && attempt.round() == Some(number)
        {
            self.lose(Verdict::StoreSilent, now, out);
        }
    }

    fn lose(&mut self, verdict: Verdict, now: Moment, out: &mut Output) {
        // What was asked for is not waited for any longer: an answer to it is not counted.
        if let Phase::Asking(attempt) = &self.phase
            && let Some(round) = attempt.round()
        {
            self.rounds.remove(&round);
        }
        let every = self.rules.renew_every;
        let pause = every / 32 + self.random_below(every / 32);
        self.not_before = now + pause;
        self.phase = Phase::Looking;
        out.changes.push(LeaseChange::NotAcquired { verdict });
    }
}
