//! The thread that waits for the deadline and fences. It does nothing else and waits for nobody:
//! not for the agent, not for a log, and for a disk only as long as the fence itself does.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::log::Log;
use super::mind::{Duty, Mind};
use super::protocol::{FenceWord, GuardState, Term, WatchdogSeen};
use super::watchdog::{Dog, WatchdogOptions};
use crate::effects::clock::{boottime, wall};
use crate::effects::postgres::fence::fence;
use crate::effects::postgres::process::Instance;
use crate::model::Moment;
use crate::model::time::measured_words;

/// What the guard's threads share.
#[derive(Debug)]
pub(super) struct Shared {
    mind: Mutex<Mind>,
    watchdog: Mutex<WatchdogSeen>,
    pub(super) stopping: AtomicBool,
    pub(super) resident: bool,
    pub(super) log: Log,
    wake: OwnedFd,
}

impl Shared {
    pub(super) fn new(resident: bool, watchdog: bool, log: Log) -> Result<Self, Errno> {
        let seen = if watchdog {
            WatchdogSeen::Unusable {
                why: "not looked at yet".to_owned(),
            }
        } else {
            WatchdogSeen::Off
        };
        Ok(Self {
            mind: Mutex::default(),
            watchdog: Mutex::new(seen),
            stopping: AtomicBool::new(false),
            resident,
            log,
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    pub(super) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread looks anew at what it waits for.
    pub(super) fn wake(&self) {
        // It fails only when the counter is full: then the thread is awake.
        write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }

    pub(super) fn show(&self, seen: WatchdogSeen) {
        let mut shown = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != seen {
            self.log.say(format!("watchdog: {seen:?}"));
            *shown = seen;
        }
    }

    pub(super) fn state(&self) -> GuardState {
        let mind = self.mind();
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        GuardState {
            term: mind.term(),
            armed: mind.armed(),
            fences: mind.fences(),
            resident: self.resident,
            watchdog: watchdog.clone(),
        }
    }
}

/// The thread's own things.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    instance: Instance,
    budget: Duration,
    timer: OwnedFd,
    dog: Dog,
    /// The last fence could not write `standby.signal`: nothing that runs is taken for a standby.
    signal_missing: bool,
}

impl Watcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        instance: Instance,
        budget: Duration,
        watchdog: Option<WatchdogOptions>,
    ) -> Result<Self, Errno> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let dog = Dog::new(watchdog);
        Ok(Self {
            shared,
            instance,
            budget,
            timer: timerfd_create(TimerfdClockId::Boottime, flags)?,
            dog,
            signal_missing: true,
        })
    }

    /// Runs until the guard is to stop, which it does not while a fence is called for.
    pub(super) fn run(mut self) {
        loop {
            let now = boottime();
            let (duty, until, pending) = {
                let mut mind = self.shared.mind();
                let duty = mind.duty(now);
                (duty, mind.writable_until(), mind.fence_pending())
            };
            match duty {
                Duty::Fence(term) => self.fence(term),
                Duty::Look => self.look(),
                Duty::Wait(at) => {
                    let stopping = self.shared.stopping.load(Ordering::Acquire);
                    if stopping && !pending {
                        self.dog.let_go(&self.shared, now);
                        return;
                    }
                    let end = until.map(|fence_at| fence_at + self.budget);
                    let tend_at = if pending {
                        None
                    } else {
                        self.dog.tend(&self.shared, end, now)
                    };
                    self.wait(at.into_iter().chain(tend_at).min());
                }
            }
        }
    }

    fn fence(&mut self, term: Term) {
        let began = boottime();
        let result = fence(&self.instance, Duration::ZERO, self.budget);
        let now = boottime();
        self.shared.mind().ended(result.is_ok(), now);
        match result {
            Ok(report) => {
                self.signal_missing = report
                    .problem
                    .as_deref()
                    .is_some_and(|problem| !problem.contains("not synced yet"));
                self.shared.log.say(format!(
                    "the lease of epoch {} ran out: fenced within {}, begun {} after the \
                     deadline, {} processes killed{}",
                    term.epoch,
                    measured_words(report.took),
                    measured_words(began.since(term.fence_at)),
                    report.killed,
                    match &report.problem {
                        Some(problem) => format!("; but {problem}"),
                        None => String::new(),
                    }
                ));
                self.shared.log.fenced(FenceWord {
                    epoch: term.epoch,
                    at: wall(),
                    after_deadline: now.since(term.fence_at),
                    took: report.took,
                    killed: report.killed,
                    problem: report.problem,
                });
            }
            Err(error) => self.shared.log.say(format!(
                "the lease of epoch {} ran out and the node cannot be fenced; trying again: \
                 {error}",
                term.epoch
            )),
        }
    }

    /// After a fence: whatever runs must be a standby, which cannot commit. A server looks for
    /// `standby.signal` when it already works in its data directory, where the fence looks for it;
    /// so one that the fence did not see finds the file that the fence wrote before.
    fn look(&mut self) {
        let Ok(processes) = self.instance.processes() else {
            return;
        };
        let signal = self.instance.data_dir().join("standby.signal");
        if processes.is_empty() || (!self.signal_missing && signal.exists()) {
            return;
        }
        self.shared
            .log
            .say("the node was started without a lease: fencing it again");
        self.shared.mind().seen_running(boottime());
    }

    fn wait(&self, until: Option<Moment>) {
        // All zero: no alarm.
        let at = until.map_or(Duration::ZERO, Moment::since_boot);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let alarm = Itimerspec {
            it_interval: zero,
            it_value: Timespec::try_from(at).unwrap_or(zero),
        };
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &alarm);
        let bound = set.is_err().then_some(Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        });
        let mut fds = [
            PollFd::new(&self.timer, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        poll(&mut fds, bound.as_ref()).ok();
        let mut count = [0; 8];
        for fd in [&self.timer, &self.shared.wake] {
            read(fd, &mut count).ok();
        }
    }
}
