//! The host's clocks, for measuring how long an effect took.
//!
//! Effects measure; they do not decide by time. Deadlines that decide come in as parameters.

use rustix::time::{ClockId, clock_gettime};

use crate::model::Moment;

/// Now, on `CLOCK_BOOTTIME`. Source: clock_gettime(2): counts while the host is suspended.
#[must_use]
pub fn boottime() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    // The kernel keeps both parts non-negative and nanoseconds below 10^9 for this clock.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_boot(std::time::Duration::new(seconds, nanos))
}

/// Now, on the wall clock: for people and for the journal, never for a decision (S2).
#[must_use]
pub fn wall() -> crate::model::Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    crate::model::Timestamp(
        time.tv_sec
            .saturating_mul(1000)
            .saturating_add(time.tv_nsec / 1_000_000),
    )
}
