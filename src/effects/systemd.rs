//! Tells systemd how the agent is: ready, alive, stopping, and one line for `systemctl status`.
//!
//! Outside systemd (no `NOTIFY_SOCKET`) every call does nothing. A failed notification is logged
//! once and never stops anything: systemd's own timeouts are the consequence. Whoever calls
//! [`Systemd::alive`] should be the loop whose hanging is to be noticed.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The link to systemd, if there is one.
#[derive(Debug)]
pub struct Systemd {
    /// How long systemd waits between two signs of life before it kills.
    watchdog: Option<Duration>,
    failed_before: AtomicBool,
}

impl Systemd {
    /// Looks whether systemd started this process and wants signs of life.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
            failed_before: AtomicBool::new(false),
        }
    }

    /// How often [`Systemd::alive`] must be called: half of what systemd allows, as
    /// sd_watchdog_enabled(3) recommends. `None`: no watchdog.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The agent serves.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What the agent is doing, in one line.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&one_line(status))]);
    }

    /// A sign of life.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The agent was told to stop and is doing so.
    pub fn stopping(&self, status: &str) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status(&one_line(status)),
        ]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states)
            && !self.failed_before.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot notify systemd");
        }
    }
}

/// A newline would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
