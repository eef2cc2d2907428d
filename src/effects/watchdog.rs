//! The Linux watchdog device: resets this host unless it is fed.
//!
//! For the guard alone. Blocking. What is fed can be a stand-in of any file type, so that tests
//! can read what was written. Source: Documentation/watchdog/watchdog-api.rst (each write feeds;
//! closing after a written `V` stops it, unless the driver has `nowayout`),
//! Documentation/ABI/testing/sysfs-class-watchdog (`timeout` in seconds, `nowayout`).

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Moment;

/// Where the kernel describes its watchdogs.
pub const SYSFS: &str = "/sys/class/watchdog";

/// Shorter, and a busy host would reset itself although the guard works.
const TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// So long before the last moment at which feeding is right, it is fed for the last time.
const LAST_FEED_BEFORE: Duration = Duration::from_millis(5);

/// A device that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    device: PathBuf,
    timeout: Duration,
    nowayout: bool,
}

impl Watchdog {
    /// Looks whether the device can be used, with a timeout of at most `timeout_max`.
    ///
    /// How a timeout fits the lease: the host must have reset itself by the end of the lease,
    /// `t_sent + ttl·(1 − ρ)`, so nobody feeds it when that would let it run longer (see
    /// [`Running::feed_at`]). A renewal is known here up to `request_timeout` after `t_sent`, and
    /// the next one is due `renew_every` later; the timeout must not be longer than what is left,
    /// or feeding at one renewal would never last until the next.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn find(device: &Path, sysfs: &Path, timeout_max: Duration) -> Result<Self, String> {
        let shown = device.display();
        fs::metadata(device).map_err(|error| format!("{shown}: {error}"))?;
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        // `/dev/watchdog` is the first one by its old name.
        let name = if name == "watchdog" {
            "watchdog0".into()
        } else {
            name
        };
        let about = sysfs.join(name.as_ref());
        let read = |what: &str| {
            let path = about.join(what);
            let text = fs::read_to_string(&path);
            text.map_err(|error| format!("{}: {error}", path.display()))
        };
        let text = read("timeout")?;
        let seconds: u64 = text
            .trim()
            .parse()
            .map_err(|_| format!("{}: not a number: {text:?}", about.display()))?;
        let timeout = Duration::from_secs(seconds);
        if timeout > timeout_max {
            return Err(format!(
                "{shown} resets the host after {seconds} s, but the lease's times allow at most \
                 {} ms: give the driver a shorter timeout, or [lease] a longer ttl",
                timeout_max.as_millis()
            ));
        }
        if timeout < TIMEOUT_MIN {
            return Err(format!(
                "{shown} resets the host after {seconds} s already: give the driver at least {} s",
                TIMEOUT_MIN.as_secs()
            ));
        }
        Ok(Self {
            device: device.to_path_buf(),
            timeout,
            nowayout: read("nowayout").is_ok_and(|text| text.trim() == "1"),
        })
    }

    /// Starts it: from now on it must be fed.
    ///
    /// # Errors
    /// Why not, e.g. because another program has it.
    pub fn start(&self, now: Moment) -> Result<Running, String> {
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(nonblock)
            .open(&self.device)
            .map_err(|error| format!("{}: {error}", self.device.display()))?;
        Ok(Running {
            file,
            timeout: self.timeout,
            nowayout: self.nowayout,
            fed_at: now,
        })
    }
}

/// A device that runs.
#[derive(Debug)]
pub struct Running {
    file: File,
    timeout: Duration,
    nowayout: bool,
    fed_at: Moment,
}

impl Running {
    /// When it is to be fed next, so that it resets this host by `end` if feeding stops; `None`:
    /// not before `end` has moved.
    #[must_use]
    pub fn feed_at(&self, end: Moment) -> Option<Moment> {
        let last = end - self.timeout - LAST_FEED_BEFORE;
        let regular = self.fed_at + self.timeout / 3;
        if regular < last {
            Some(regular)
        } else if self.fed_at < last {
            Some(last)
        } else {
            None
        }
    }

    /// When it is to be fed next while nothing is guarded, because its driver does not let go.
    #[must_use]
    pub fn feed_idle_at(&self) -> Moment {
        self.fed_at + self.timeout / 3
    }

    /// Feeds it.
    ///
    /// # Errors
    /// The device said no.
    pub fn feed(&mut self, now: Moment) -> std::io::Result<()> {
        self.fed_at = now;
        self.file.write_all(b"\0")
    }

    /// Lets go of it, so that it resets nothing. Gives it back when its driver never stops.
    ///
    /// # Errors
    /// The device said no; then it resets this host.
    pub fn let_go(mut self) -> std::io::Result<Option<Self>> {
        if self.nowayout {
            return Ok(Some(self));
        }
        self.file.write_all(b"V")?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(timeout: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("watchdog3");
        fs::write(&device, "").unwrap();
        fs::create_dir_all(dir.path().join("sys/watchdog3")).unwrap();
        fs::write(dir.path().join("sys/watchdog3/timeout"), timeout).unwrap();
        (dir, device)
    }

    fn find(timeout: &str, max: u64) -> Result<Watchdog, String> {
        let (dir, device) = described(timeout);
        Watchdog::find(&device, &dir.path().join("sys"), Duration::from_secs(max))
    }

    #[test]
    fn timeout_that_outlasts_the_lease_is_refused_with_its_number() {
        assert!(find("6\n", 6).is_ok());
        assert!(find("7\n", 6).unwrap_err().contains("after 7 s"));
        assert!(find("1\n", 6).unwrap_err().contains("after 1 s"));
        assert!(find("x\n", 6).unwrap_err().contains("not a number"));
        let nowhere = Path::new("/nonexistent/watchdog");
        assert!(Watchdog::find(nowhere, nowhere, Duration::MAX).is_err());
    }

    #[test]
    fn feeding_never_lets_it_run_beyond_the_end() {
        let (dir, device) = described("6\n");
        let watchdog =
            Watchdog::find(&device, &dir.path().join("sys"), Duration::from_secs(6)).unwrap();
        let at = |millis| Moment::from_boot(Duration::from_millis(millis));
        let mut running = watchdog.start(at(0)).unwrap();
        let end = at(9_500);
        assert_eq!(running.feed_at(end), Some(at(2_000)));
        running.feed(at(2_000)).unwrap();
        assert_eq!(running.feed_at(end), Some(at(3_495)));
        running.feed(at(3_495)).unwrap();
        assert_eq!(running.feed_at(end), None);
        assert!(running.let_go().unwrap().is_none());
        assert_eq!(fs::read(&device).unwrap(), b"\0\0V");
    }
}
