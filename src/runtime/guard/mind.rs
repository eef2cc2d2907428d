//! What the guard decides: a small machine without I/O.
//!
//! Whoever pushes a deadline that lies ahead proves that the lease is held until then, whatever
//! came before: the lease machine never moves a deadline that has passed, and a released or lost
//! epoch is never held again. So such a push is taken unless a fence is under way; and a push that
//! comes too late is no reason for anything but the fence.

use std::time::Duration;

use super::protocol::{Term, Verdict};
use crate::model::Moment;

/// Between two attempts to fence a node that could not be fenced; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// After a fence: how often is looked whether something runs again, at first and later. A start
/// that was under way when the lease ran out ends within the first span.
const VIGIL_EVERY: Duration = Duration::from_millis(50);
const VIGIL_LATER: Duration = Duration::from_millis(500);
const VIGIL_CLOSE: Duration = Duration::from_secs(60);

/// The guard's mind.
#[derive(Debug)]
pub struct Mind {
    term: Option<Term>,
    armed: bool,
    stage: Stage,
    fences: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The lease runs, or there is nothing to guard.
    Calm,
    /// A fence is under way.
    Fencing { pause: Duration },
    /// It failed and is tried again.
    Failed { retry_at: Moment, pause: Duration },
    /// It succeeded: nothing that could write may come up again.
    Vigil { since: Moment, look_at: Moment },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Nothing before this moment.
    Wait(Option<Moment>),
    /// Fence now; the machine counts it as begun.
    Fence(Term),
    /// Look whether something runs again; if so: [`Mind::seen_running`].
    Look,
}

impl Mind {
    /// A mind that knows of no lease and guards nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            term: None,
            armed: false,
            stage: Stage::Calm,
            fences: 0,
        }
    }

    /// The lease is held until `term.fence_at`.
    pub fn push(&mut self, term: Term, armed: bool, now: Moment) -> Verdict {
        if matches!(self.stage, Stage::Fencing { .. }) {
            return Verdict::Fencing;
        }
        if self.term.is_some_and(|known| known.epoch > term.epoch) {
            return Verdict::Stale;
        }
        let late = term.fence_at <= now;
        if !late {
            self.term = Some(term);
            self.armed = armed;
            self.stage = Stage::Calm;
            return Verdict::Taken;
        }
        if self.stage == Stage::Calm {
            self.term = Some(term);
            self.armed |= armed;
        }
        Verdict::Late
    }

    /// The node takes no writes. A fence that was called for goes on, and so does the vigil.
    pub fn disarm(&mut self) -> Verdict {
        if matches!(self.stage, Stage::Fencing { .. }) {
            return Verdict::Fencing;
        }
        self.armed = false;
        Verdict::Taken
    }

    /// What is to be done.
    pub fn duty(&mut self, now: Moment) -> Duty {
        let Some(term) = self.term else {
            return Duty::Wait(None);
        };
        match self.stage {
            Stage::Calm if !self.armed => Duty::Wait(None),
            Stage::Calm if now < term.fence_at => Duty::Wait(Some(term.fence_at)),
            Stage::Calm => self.begin(term, PAUSE),
            Stage::Failed { retry_at, .. } if now < retry_at => Duty::Wait(Some(retry_at)),
            Stage::Failed { pause, .. } => self.begin(term, pause),
            Stage::Vigil { look_at, .. } if now < look_at => Duty::Wait(Some(look_at)),
            Stage::Vigil { since, .. } => {
                let every = if now.since(since) < VIGIL_CLOSE {
                    VIGIL_EVERY
                } else {
                    VIGIL_LATER
                };
                let look_at = now + every;
                self.stage = Stage::Vigil { since, look_at };
                Duty::Look
            }
            // The one thread that asks is the one that fences.
            Stage::Fencing { .. } => Duty::Wait(None),
        }
    }

    fn begin(&mut self, term: Term, pause: Duration) -> Duty {
        self.stage = Stage::Fencing { pause };
        Duty::Fence(term)
    }

    /// What was looked at in a vigil may take writes: the fence is called for again.
    pub fn seen_running(&mut self, now: Moment) {
        // A newer lease may have come meanwhile.
        if matches!(self.stage, Stage::Vigil { .. }) {
            self.stage = Stage::Failed {
                retry_at: now,
                pause: PAUSE,
            };
        }
    }

    /// The fence has ended.
    pub fn ended(&mut self, succeeded: bool, now: Moment) {
        let pause = match self.stage {
            Stage::Fencing { pause } => pause,
            Stage::Calm | Stage::Failed { .. } | Stage::Vigil { .. } => PAUSE,
        };
        if succeeded {
            self.fences += 1;
            self.stage = Stage::Vigil {
                since: now,
                look_at: now,
            };
        } else {
            self.stage = Stage::Failed {
                retry_at: now + pause,
                pause: (pause * 2).min(PAUSE_MAX),
            };
        }
    }

    /// What it counts.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// Whether it would fence at the deadline, or has begun to.
    #[must_use]
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// How many fences succeeded.
    #[must_use]
    pub fn fences(&self) -> u64 {
        self.fences
    }

    /// Until when the armed node's lease runs; `None`: nothing runs under a lease.
    #[must_use]
    pub fn writable_until(&self) -> Option<Moment> {
        let calm = self.stage == Stage::Calm && self.armed;
        self.term.filter(|_| calm).map(|term| term.fence_at)
    }

    /// A fence is called for and has not succeeded yet.
    #[must_use]
    pub fn fence_pending(&self) -> bool {
        matches!(self.stage, Stage::Fencing { .. } | Stage::Failed { .. })
    }
}

impl Default for Mind {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(millis))
    }

    fn term(epoch: u64, millis: u64) -> Term {
        Term {
            epoch: Epoch(epoch),
            fence_at: at(millis),
        }
    }

    #[test]
    fn renewed_lease_is_never_fenced() {
        let mut mind = Mind::new();
        for millis in (0..10_000).step_by(500) {
            let push = term(1, millis + 1000);
            assert_eq!(mind.push(push, true, at(millis)), Verdict::Taken);
            assert_eq!(
                mind.duty(at(millis + 499)),
                Duty::Wait(Some(at(millis + 1000)))
            );
        }
    }

    #[test]
    fn s4_armed_node_is_fenced_at_its_deadline_and_not_before() {
        let mut mind = Mind::new();
        mind.push(term(1, 1000), true, at(0));
        assert_eq!(mind.duty(at(999)), Duty::Wait(Some(at(1000))));
        assert_eq!(mind.duty(at(1000)), Duty::Fence(term(1, 1000)));
        assert_eq!(mind.push(term(1, 2000), true, at(1001)), Verdict::Fencing);
        mind.ended(true, at(1100));
        assert_eq!(mind.duty(at(1100)), Duty::Look);
        assert_eq!(mind.fences(), 1);
    }

    #[test]
    fn disarmed_node_is_not_fenced() {
        let mut mind = Mind::new();
        mind.push(term(1, 1000), true, at(0));
        mind.disarm();
        assert_eq!(mind.duty(at(5000)), Duty::Wait(None));
        // An agent that woke up late says nothing that could help its node.
        assert_eq!(mind.push(term(1, 1000), true, at(5000)), Verdict::Late);
        assert_eq!(mind.duty(at(5000)), Duty::Fence(term(1, 1000)));
    }

    #[test]
    fn vigil_ends_with_a_lease_that_lies_ahead_only() {
        let mut mind = Mind::new();
        mind.push(term(2, 1000), true, at(0));
        mind.duty(at(1000));
        mind.ended(true, at(1100));
        mind.disarm();
        assert_eq!(mind.push(term(2, 1050), true, at(1200)), Verdict::Late);
        assert_eq!(mind.push(term(1, 9000), true, at(1200)), Verdict::Stale);
        assert_eq!(mind.duty(at(1200)), Duty::Look);
        mind.seen_running(at(1201));
        assert_eq!(mind.duty(at(1201)), Duty::Fence(term(2, 1000)));
        mind.ended(false, at(1300));
        assert_eq!(mind.duty(at(1300)), Duty::Wait(Some(at(1400))));
        assert_eq!(mind.push(term(3, 9000), true, at(1300)), Verdict::Taken);
        assert_eq!(mind.duty(at(1400)), Duty::Wait(Some(at(9000))));
        mind.seen_running(at(1400));
        assert_eq!(mind.duty(at(1400)), Duty::Wait(Some(at(9000))));
    }
}
