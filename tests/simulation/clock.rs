//! Chance and time: one seeded generator for a whole schedule, and a clock for each host.

use std::time::Duration;

use failover_agent::model::time::Now;
use failover_agent::model::{Moment, Timestamp};

/// Real time in nanoseconds: what no process in the simulation can read.
pub(crate) type Real = u64;

/// One microsecond of real time.
pub(crate) const US: Real = 1_000;
/// One millisecond of real time.
pub(crate) const MS: Real = 1_000 * US;
/// One second of real time.
pub(crate) const SEC: Real = 1_000 * MS;

/// The only source of chance. Source: splitmix64, S. Vigna, public domain.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x05ee_d0fa_11ea_5ed0)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not including, `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// From `low` up to and including `high`.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True this often in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap()]
    }

    /// One of the two sites.
    pub(crate) fn site(&mut self) -> usize {
        usize::from(self.chance(500))
    }
}

/// The clocks of one host since its boot.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    /// Tells boots apart, as the kernel's `boot_id` does.
    pub(crate) boot: u64,
    booted: Real,
    base: u64,
    /// How much faster than real time it runs, in millionths.
    rate: i64,
    /// Wall clock minus real time, in milliseconds.
    pub(crate) wall: i64,
}

const MILLION: u64 = 1_000_000;

impl HostClock {
    pub(crate) fn boot(rng: &mut Rng, now: Real, rate: i64, wall: i64) -> Self {
        Self {
            boot: rng.next(),
            booted: now,
            base: rng.below(1000) * SEC,
            rate,
            wall,
        }
    }

    fn speed(&self) -> u128 {
        u128::from(MILLION.saturating_add_signed(self.rate))
    }

    pub(crate) fn moment(&self, now: Real) -> Moment {
        let passed = u128::from(now - self.booted) * self.speed() / u128::from(MILLION);
        let nanos = self.base + u64::try_from(passed).unwrap();
        Moment::from_boot(Duration::from_nanos(nanos))
    }

    /// The earliest real time at which this clock shows `at` or more.
    pub(crate) fn real(&self, at: Moment) -> Real {
        let nanos = u64::try_from(at.since_boot().as_nanos()).unwrap_or(u64::MAX);
        let passed = u128::from(nanos.saturating_sub(self.base)) * u128::from(MILLION);
        let real = u64::try_from(passed.div_ceil(self.speed())).unwrap_or(u64::MAX);
        self.booted.saturating_add(real)
    }

    /// The real time at which a span that begins now has passed on this clock.
    pub(crate) fn after(&self, now: Real, span: Duration) -> Real {
        self.real(self.moment(now) + span).max(now)
    }

    pub(crate) fn now(&self, now: Real) -> Now {
        let real = i64::try_from(now / MS).unwrap();
        Now {
            moment: self.moment(now),
            wall: Timestamp(1_800_000_000_000 + real + self.wall),
        }
    }
}

/// Nanoseconds of a configured span.
pub(crate) fn nanos(span: Duration) -> Real {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
