//! The watchdog device in the guard's hands: when it runs, is fed, and is let go.

use std::path::PathBuf;
use std::time::Duration;

use super::protocol::WatchdogSeen;
use super::watch::Shared;
use crate::effects::watchdog::{Running, Watchdog};
use crate::model::Moment;

pub use crate::effects::watchdog::SYSFS;

/// Between two looks whether a watchdog device can be used by now.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Where the watchdog is, and what its timeout may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchdogOptions {
    /// The device.
    pub device: PathBuf,
    /// Where the kernel describes it.
    pub sysfs: PathBuf,
    /// The longest timeout that fits the lease.
    pub timeout_max: Duration,
}

/// The watchdog device and what it is doing.
#[derive(Debug)]
pub(super) struct Dog {
    options: Option<WatchdogOptions>,
    found: Option<Watchdog>,
    running: Option<Running>,
    look_at: Moment,
}

impl Dog {
    pub(super) fn new(options: Option<WatchdogOptions>) -> Self {
        Self {
            options,
            found: None,
            running: None,
            look_at: Moment::default(),
        }
    }

    /// Feeds it while the lease runs until `end`, and lets go of it while nothing is guarded: by
    /// then the last backend is gone, or never took writes. Says when to come back.
    pub(super) fn tend(
        &mut self,
        shared: &Shared,
        end: Option<Moment>,
        now: Moment,
    ) -> Option<Moment> {
        self.options.as_ref()?;
        let Some(end) = end else {
            self.let_go(shared, now);
            let look_at = self.find(shared, now);
            return self.running.as_ref().map(Running::feed_idle_at).or(look_at);
        };
        if self.running.is_none() {
            let look_at = self.find(shared, now);
            let Some(found) = &self.found else {
                return look_at;
            };
            match found.start(now) {
                Ok(running) => {
                    self.running = Some(running);
                    shared.show(WatchdogSeen::Running);
                }
                Err(why) => {
                    self.found = None;
                    self.look_at = now + TRY_AGAIN;
                    shared.show(WatchdogSeen::Unusable { why });
                    return Some(self.look_at);
                }
            }
        }
        let running = self.running.as_mut()?;
        if running.feed_at(end).is_some_and(|at| at <= now)
            && let Err(error) = running.feed(now)
        {
            shared.log.say(format!("cannot feed the watchdog: {error}"));
        }
        running.feed_at(end).map(|at| at.max(now))
    }

    /// Looks whether the device can be used, unless that is known.
    fn find(&mut self, shared: &Shared, now: Moment) -> Option<Moment> {
        let options = self.options.as_ref()?;
        if self.found.is_some() {
            return None;
        }
        if now < self.look_at {
            return Some(self.look_at);
        }
        match Watchdog::find(&options.device, &options.sysfs, options.timeout_max) {
            Ok(found) => {
                self.found = Some(found);
                shared.show(WatchdogSeen::Ready);
                None
            }
            Err(why) => {
                self.look_at = now + TRY_AGAIN;
                shared.show(WatchdogSeen::Unusable { why });
                Some(self.look_at)
            }
        }
    }

    pub(super) fn let_go(&mut self, shared: &Shared, now: Moment) {
        let Some(running) = self.running.take() else {
            return;
        };
        match running.let_go() {
            Ok(None) => shared.show(WatchdogSeen::Ready),
            Ok(Some(mut running)) => {
                if running.feed_idle_at() <= now {
                    running.feed(now).ok();
                }
                self.running = Some(running);
            }
            Err(error) => shared
                .log
                .say(format!("the watchdog does not let go: {error}")),
        }
    }
}
