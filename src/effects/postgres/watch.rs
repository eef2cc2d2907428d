//! Handles on processes that cannot be mistaken for another process of the same number.
//!
//! Owns: pidfds. A signal goes through one, so that it never hits a process that took over a
//! number; a death is seen through one at once, without asking again and again.
//! Source: pidfd_open(2) (Linux 5.3), pidfd_send_signal(2).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::process::{Instance, Process};
use crate::effects::error::EffectError;

/// A handle on one process, alive or not.
#[derive(Debug)]
pub struct Handle {
    pid: u32,
    fd: OwnedFd,
}

impl Handle {
    /// Opens a handle; `None` if the process is gone.
    ///
    /// # Errors
    ///
    /// Retryable if the kernel gives no handle: out of file descriptors, or too old.
    pub fn open(process: &Process) -> Result<Option<Self>, EffectError> {
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => {
                let what = format!("cannot open a handle on process {process}");
                let hint = "Linux 5.3 or newer is needed, and free file descriptors";
                return Err(EffectError::retryable(what).hint(hint).caused_by(error));
            }
        };
        // The number may have been taken over between the look at it and the open.
        let same = Process::read(process.pid).is_some_and(|now| now.started == process.started);
        Ok(same.then_some(Self {
            pid: process.pid,
            fd,
        }))
    }

    /// Sends a signal; nothing happens if the process is gone.
    ///
    /// # Errors
    ///
    /// Permanent if that is not permitted.
    pub fn send(&self, signal: Signal) -> Result<(), EffectError> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => {
                let what = format!("cannot send {signal:?} to process {}", self.pid);
                Err(EffectError::permanent(what)
                    .hint(
                        "run the agent as the owner of the data directory, or as root with CAP_KILL",
                    )
                    .caused_by(error))
            }
        }
    }

    /// Waits until the process is dead (reaped or not); false if it still lives after `within`.
    #[must_use]
    pub fn died_within(&self, within: Duration) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // A timeout too long for the kernel's type is as good as none.
        let timeout = Timespec::try_from(within).ok();
        matches!(poll(&mut fds, timeout.as_ref()), Ok(1..))
    }
}

/// Sees the death of a postmaster the moment it happens.
#[derive(Debug)]
pub struct PostmasterWatch {
    pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl PostmasterWatch {
    /// Watches the postmaster that runs now; `None` if none does. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`Instance::postmaster`], and Retryable if the kernel gives no handle.
    #[expect(
        deprecated,
        reason = "its replacement is an unsafe function with the condition that the descriptor \
                  stays the same and open, which an `OwnedFd` inside the `AsyncFd` fulfils"
    )]
    pub fn open(instance: &Instance) -> Result<Option<Self>, EffectError> {
        let Some(process) = instance.postmaster()? else {
            return Ok(None);
        };
        let Some(handle) = Handle::open(&process)? else {
            return Ok(None);
        };
        let fd = AsyncFd::with_interest(handle.fd, Interest::READABLE).map_err(|error| {
            EffectError::retryable(format!("cannot watch process {process}")).caused_by(error)
        })?;
        Ok(Some(Self {
            pid: process.pid,
            fd,
        }))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resolves as soon as the postmaster is dead. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Retryable if the runtime stops watching, e.g. because it shuts down.
    pub async fn died(&self) -> Result<(), EffectError> {
        loop {
            let mut ready = self.fd.readable().await.map_err(|error| {
                EffectError::retryable(format!("cannot watch process {}", self.pid))
                    .caused_by(error)
            })?;
            if is_readable(self.fd.get_ref()) {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}
