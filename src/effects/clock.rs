//! The host's clocks, for measuring how long an effect took.
//!
//! Effects measure; they do not decide by time. Deadlines that decide come in as parameters.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Moment;

/// Now, on `CLOCK_BOOTTIME`. Source: clock_gettime(2): counts while the host is suspended.
#[must_use]
pub fn boottime() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    // The kernel keeps both parts non-negative and nanoseconds below 10^9 for this clock.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_boot(Duration::new(seconds, nanos))
}

/// The name of this boot: [`boottime`]'s moments compare within one only.
/// Source: proc_sys_kernel(5), `random/boot_id`.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Now, on the wall clock: for people and for the journal, never for a decision (S2).
///
/// Asked of the C library, as everything else in this process that shows or checks a date does
/// (log lines, certificates): whoever gives the process another wall clock gives it one, not two.
/// [`boottime`] asks the kernel, so that nobody can.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall clock is read"
)]
pub fn wall() -> crate::model::Timestamp {
    let now = SystemTime::now();
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    crate::model::Timestamp(match now.duration_since(UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    })
}
