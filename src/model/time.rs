//! Two kinds of time that must never be mixed up.
//!
//! [`Moment`] is for deciding: it only ever compares with moments of the same host and boot.
//! [`Timestamp`] is for people: it is written down and shown, and nothing is decided by it (S2).

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A reading of this host's `CLOCK_BOOTTIME`, which goes on counting while the host is suspended.
/// Source: clock_gettime(2).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(Duration);

impl Moment {
    /// The deadline of a lease that does not run out.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The moment `since_boot` after the clock's zero.
    #[must_use]
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Time since the clock's zero.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time left until `deadline`; zero once it has passed.
    #[must_use]
    pub fn until(self, deadline: Self) -> Duration {
        deadline.0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 UTC. For people only.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// Both clocks at once: one to decide by, one to write down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// To decide by.
    pub moment: Moment,
    /// To write down.
    pub wall: Timestamp,
}

/// A measured span for people: as exact as it is of use, in one unit.
#[must_use]
pub fn measured_words(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        10_000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{}.{} s", span.as_secs(), span.subsec_millis() / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_said_as_exactly_as_it_is_of_use() {
        let said = |micros| measured_words(Duration::from_micros(micros));
        assert_eq!(said(40), "0.0 ms");
        assert_eq!(said(9_950), "9.9 ms");
        assert_eq!(said(562_548), "562 ms");
        assert_eq!(said(9_999_999), "9999 ms");
        assert_eq!(said(13_250_000), "13.2 s");
    }
}
