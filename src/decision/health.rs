//! Observations → health, with hysteresis: `fall` consecutive failures to be down, `rise`
//! consecutive successes to be up again, and "not lately" is never "down" (S13).

use crate::decision::policy::Thresholds;
use crate::model::Moment;
use crate::model::observation::{
    DatabaseSeen, DirectorySeen, DiskFault, EndpointResult, NodeReport, ProcessSeen, Seen,
};

/// What a single look says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It says nothing about the target: the fault is here, or in the configuration.
    Nothing,
}

/// Whether a target works, after hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Condition {
    /// Not looked at, or not lately, or only with unclear results.
    #[default]
    Unknown,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// The running judgement of one target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    condition: Condition,
    /// Consecutive bad looks.
    bad: u32,
    /// Consecutive good looks.
    good: u32,
    /// When the condition last changed.
    since: Moment,
    /// When the first of the current run of bad looks ended.
    bad_since: Option<Moment>,
    /// The last look.
    last: Option<(Moment, Seen)>,
    /// The last look that said something of the target.
    telling_at: Option<Moment>,
    /// Since when it says that it is starting up or shutting down, without a break.
    between_since: Option<Moment>,
    /// The last good look.
    last_good: Option<(Moment, Seen)>,
    /// What a database last said of itself, also before it became busy.
    last_report: Option<(Moment, NodeReport)>,
    /// What the last bad look told of the disk, until a look is good again. A server that fails
    /// to write its log says why and dies: what it said explains the death.
    fault: Option<DiskFault>,
}

impl Health {
    /// Takes in one look that ended at `at`. A look older than the last one changes nothing.
    pub fn observe(&mut self, thresholds: Thresholds, seen: Seen, at: Moment) {
        if self.last.as_ref().is_some_and(|(last, _)| *last > at) {
            return;
        }
        if let Seen::Database(
            DatabaseSeen::Answered(report) | DatabaseSeen::CannotWrite { report, .. },
        ) = &seen
        {
            self.last_report = Some((at, report.clone()));
        }
        // Neither a server that starts nor a refused connection has tried the disk.
        if let Some(told) = told_of_disk(&seen) {
            self.fault = told;
        }
        if sign(&seen) != Sign::Nothing {
            self.telling_at = Some(at);
        }
        match &seen {
            Seen::Database(DatabaseSeen::StartingUp | DatabaseSeen::ShuttingDown) => {
                self.between_since.get_or_insert(at);
            }
            Seen::Database(_) | Seen::Endpoint(_) | Seen::Process(_) | Seen::Directory(_) => {
                self.between_since = None;
            }
        }
        match sign(&seen) {
            Sign::Good => {
                self.good = self.good.saturating_add(1);
                self.bad = 0;
                self.bad_since = None;
                self.last_good = Some((at, seen.clone()));
                // The first look decides at once: there is nothing to protect from flapping yet.
                if self.condition == Condition::Unknown || self.good >= thresholds.rise {
                    self.turn(Condition::Up, at);
                }
            }
            Sign::Bad => {
                self.bad = self.bad.saturating_add(1);
                self.good = 0;
                self.bad_since.get_or_insert(at);
                if self.bad >= thresholds.fall {
                    self.turn(Condition::Down, at);
                }
            }
            Sign::Nothing => {}
        }
        self.last = Some((at, seen));
    }

    /// Starts the judgement anew, because the thing itself is a new one. The last good look stays
    /// known: it is the newest word on what was there.
    pub fn forget(&mut self) {
        *self = Self {
            last_good: self.last_good.take(),
            last_report: self.last_report.take(),
            fault: self.fault,
            ..Self::default()
        };
    }

    /// What a former postmaster said of itself says nothing of this one.
    pub fn forget_role(&mut self) {
        self.last_good = None;
        self.last_report = None;
        self.fault = None;
    }

    fn turn(&mut self, to: Condition, at: Moment) {
        if self.condition != to {
            self.condition = to;
            self.since = at;
        }
    }

    /// The condition as of `now`: knowledge older than `stale_after` is no knowledge (S13).
    #[must_use]
    pub fn condition(&self, thresholds: Thresholds, now: Moment) -> Condition {
        match self.telling_at {
            Some(at) if now.since(at) <= thresholds.stale_after => self.condition,
            _ => Condition::Unknown,
        }
    }

    /// When the condition last changed.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Since when it says without a break that it is starting up or shutting down.
    #[must_use]
    pub fn between_since(&self) -> Option<Moment> {
        self.between_since
    }

    /// When the current run of bad looks began.
    #[must_use]
    pub fn bad_since(&self) -> Option<Moment> {
        self.bad_since
    }

    /// The last good look and when it ended.
    #[must_use]
    pub fn last_good(&self) -> Option<&(Moment, Seen)> {
        self.last_good.as_ref()
    }

    /// What a database last said of itself, and when.
    #[must_use]
    pub fn last_report(&self) -> Option<&(Moment, NodeReport)> {
        self.last_report.as_ref()
    }

    /// What is wrong with the disk, as last told.
    #[must_use]
    pub fn fault(&self) -> Option<DiskFault> {
        self.fault
    }

    /// The last look and when it ended.
    #[must_use]
    pub fn last(&self) -> Option<&(Moment, Seen)> {
        self.last.as_ref()
    }

    /// True while the next looks should come faster: a first failure, or on the way up again.
    #[must_use]
    pub fn suspect(&self) -> bool {
        match self.condition {
            Condition::Unknown => true,
            Condition::Up => self.bad > 0,
            Condition::Down => self.good > 0,
        }
    }
}

/// What a look says about its target.
#[must_use]
pub fn sign(seen: &Seen) -> Sign {
    match seen {
        Seen::Database(database) => match database {
            DatabaseSeen::Answered(_)
            | DatabaseSeen::TooManyClients
            | DatabaseSeen::Locked { .. }
            | DatabaseSeen::StartingUp
            | DatabaseSeen::RefusesUs { .. } => Sign::Good,
            DatabaseSeen::LocalFault { .. } => Sign::Nothing,
            DatabaseSeen::ShuttingDown
            | DatabaseSeen::CannotWrite { .. }
            | DatabaseSeen::NothingListens
            | DatabaseSeen::TimedOut { .. }
            | DatabaseSeen::Unreachable { .. } => Sign::Bad,
        },
        Seen::Endpoint(endpoint) => match endpoint.result {
            EndpointResult::Passed => Sign::Good,
            EndpointResult::LocalFault { .. } => Sign::Nothing,
            EndpointResult::Refused
            | EndpointResult::TimedOut { .. }
            | EndpointResult::Tls { .. }
            | EndpointResult::WrongAnswer { .. }
            | EndpointResult::Broken { .. } => Sign::Bad,
        },
        Seen::Process(process) => match process {
            ProcessSeen::Running { .. } => Sign::Good,
            ProcessSeen::Stopped { .. } | ProcessSeen::Gone => Sign::Bad,
            ProcessSeen::Unknown { .. } => Sign::Nothing,
        },
        Seen::Directory(directory) => match directory {
            // What may only be so from here explains a failure, and is none.
            DirectorySeen::Fine | DirectorySeen::Full | DirectorySeen::ReadOnly => Sign::Good,
            DirectorySeen::Gone { .. } => Sign::Bad,
            DirectorySeen::Unknown { .. } => Sign::Nothing,
        },
    }
}

/// What a look tells of the disk; `None` where it tells nothing of it.
fn told_of_disk(seen: &Seen) -> Option<Option<DiskFault>> {
    match seen {
        Seen::Database(DatabaseSeen::CannotWrite { fault, .. }) => Some(*fault),
        Seen::Database(DatabaseSeen::Answered(_)) | Seen::Directory(DirectorySeen::Fine) => {
            Some(None)
        }
        Seen::Directory(DirectorySeen::Full) => Some(Some(DiskFault::Full)),
        Seen::Directory(DirectorySeen::ReadOnly) => Some(Some(DiskFault::ReadOnly)),
        Seen::Directory(DirectorySeen::Gone { .. }) => Some(Some(DiskFault::Gone)),
        Seen::Database(_)
        | Seen::Directory(DirectorySeen::Unknown { .. })
        | Seen::Endpoint(_)
        | Seen::Process(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::observation::{EndpointSeen, Phases};

    const THRESHOLDS: Thresholds = Thresholds {
        fall: 3,
        rise: 2,
        stale_after: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    fn endpoint(result: EndpointResult) -> Seen {
        Seen::Endpoint(EndpointSeen {
            result,
            phases: Phases::default(),
        })
    }

    fn after(looks: &[EndpointResult]) -> Health {
        let mut health = Health::default();
        for (second, result) in (1..).zip(looks) {
            health.observe(THRESHOLDS, endpoint(result.clone()), at(second));
        }
        health
    }

    use EndpointResult::{Passed, Refused};

    #[test]
    fn one_lost_probe_is_not_down() {
        let health = after(&[Passed, Refused]);
        assert_eq!(health.condition(THRESHOLDS, at(2)), Condition::Up);
        assert!(health.suspect());
    }

    #[test]
    fn fall_consecutive_failures_are_down_and_rise_successes_up_again() {
        let mut health = after(&[Passed, Refused, Refused, Refused]);
        assert_eq!(health.condition(THRESHOLDS, at(4)), Condition::Down);
        health.observe(THRESHOLDS, endpoint(Passed), at(5));
        assert_eq!(health.condition(THRESHOLDS, at(5)), Condition::Down);
        health.observe(THRESHOLDS, endpoint(Passed), at(6));
        assert_eq!(health.condition(THRESHOLDS, at(6)), Condition::Up);
    }

    #[test]
    fn s13_silence_is_unknown_and_never_down() {
        let health = after(&[Passed, Refused, Refused, Refused]);
        assert_eq!(health.condition(THRESHOLDS, at(60)), Condition::Unknown);
    }

    #[test]
    fn s13_a_fault_of_our_own_accuses_nobody() {
        let fault = EndpointResult::LocalFault {
            why: "no route".to_owned(),
        };
        let health = after(&[Passed, fault.clone(), fault.clone(), fault.clone(), fault]);
        assert_eq!(health.condition(THRESHOLDS, at(5)), Condition::Up);
    }

    #[test]
    fn s13_a_fault_of_our_own_keeps_nothing_alive() {
        let fault = EndpointResult::LocalFault {
            why: "no descriptor".to_owned(),
        };
        let mut health = after(&[Passed, fault.clone()]);
        health.observe(THRESHOLDS, endpoint(fault), at(12));
        assert_eq!(health.condition(THRESHOLDS, at(12)), Condition::Unknown);
    }

    #[test]
    fn a_late_look_from_before_the_last_one_changes_nothing() {
        let mut health = after(&[Passed, Passed, Passed]);
        health.observe(THRESHOLDS, endpoint(Refused), at(1));
        assert!(!health.suspect());
    }
}
