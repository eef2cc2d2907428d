//! How long fences take on this host, and how much time the lease reserves for one (S2, S3).
//!
//! Owns: the last few measured fences, in memory and in the state directory. A budget that a fence
//! came near to is raised for the next lease, as far as the lease's times allow; the configured one
//! is the least. Never waits for a disk.
//! Start reading at [`FenceTime::measured`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::settings::{CLOCK_ERROR_MAX, Lease};
use crate::model::time::measured_words;

/// So many fences are remembered: a host that has become quicker is believed after as many.
const REMEMBERED: usize = 10;

/// The reserve over the longest fence.
const RESERVE: f64 = 1.5;

/// Measured fences, and the budget that follows. Clones share them.
#[derive(Debug, Clone)]
pub struct FenceTime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    times: Lease,
    /// The newest last.
    fences: Mutex<Vec<Duration>>,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    took_us: Vec<u64>,
}

impl FenceTime {
    /// What was measured in former lives, under the configured `times`.
    #[must_use]
    pub fn open(state_dir: &Path, times: &Lease) -> Self {
        let path = state_dir.join("fence-time.json");
        let kept = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let took_us = kept.map(|kept| kept.took_us).unwrap_or_default();
        let newest = took_us.iter().rev().take(REMEMBERED).rev();
        Self {
            shared: Arc::new(Shared {
                path,
                times: *times,
                fences: Mutex::new(newest.map(|us| Duration::from_micros(*us)).collect()),
            }),
        }
    }

    /// A fence of the own node has ended, and took so long.
    pub fn measured(&self, took: Duration) {
        let before = self.budget();
        let took_us = {
            let mut fences = self.lock();
            fences.push(took);
            let surplus = fences.len().saturating_sub(REMEMBERED);
            fences.drain(..surplus);
            let micros = |took: &Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            fences.iter().map(micros).collect()
        };
        if self.budget() > before {
            tracing::warn!(
                took = %measured_words(took),
                reserved = %measured_words(self.budget()),
                "a fence came near to its budget: more is reserved from the next lease on; make \
                 lease.fence_budget or lease.ttl longer"
            );
        }
        let path = self.shared.path.clone();
        let keep = move || {
            let fresh = path.with_extension("new");
            let kept = serde_json::to_vec(&Kept { took_us }).unwrap_or_default();
            let written = fs::write(&fresh, kept).and_then(|()| fs::rename(&fresh, &path));
            if let Err(error) = written {
                tracing::warn!(%error, path = %path.display(), "cannot keep a fence's time");
            }
        };
        drop(tokio::task::spawn_blocking(keep));
    }

    /// The longest of the remembered fences.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.lock().iter().max().copied()
    }

    /// How much time a fence gets, and a lease reserves for it.
    #[must_use]
    pub fn budget(&self) -> Duration {
        budget(&self.shared.times, self.longest())
    }

    /// In words, for `agent status`; `None`: no fence was measured.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let longest = measured_words(self.longest()?);
        let (budget, configured) = (self.budget(), self.shared.times.fence_budget);
        let reserved = measured_words(budget);
        Some(if budget > configured {
            format!(
                "took up to {longest}; {reserved} are reserved, MORE than lease.fence_budget: make \
                 that or lease.ttl longer"
            )
        } else {
            format!("took up to {longest}; {reserved} are reserved")
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        let fences = &self.shared.fences;
        fences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At least what is configured; at most what leaves time for two lost renewals (the rule of
/// [`Lease`]).
fn budget(times: &Lease, longest: Option<Duration>) -> Duration {
    let sure = times.ttl.mul_f64(1.0 - CLOCK_ERROR_MAX);
    let needed = times.renew_every.saturating_mul(2) + times.request_timeout;
    let most = sure.saturating_sub(needed + Duration::from_millis(1));
    let wanted = longest.unwrap_or_default().mul_f64(RESERVE);
    wanted.min(most).max(times.fence_budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const TIMES: Lease = Lease {
        ttl: ms(2000),
        renew_every: ms(400),
        request_timeout: ms(250),
        fence_budget: ms(400),
    };

    #[test]
    fn s3_a_budget_that_was_come_near_to_is_raised_as_far_as_the_lease_allows() {
        assert_eq!(budget(&TIMES, None), ms(400));
        assert_eq!(budget(&TIMES, Some(ms(200))), ms(400));
        assert_eq!(budget(&TIMES, Some(ms(300))), ms(450));
        // 1990 ms less two renewals and a request.
        assert_eq!(budget(&TIMES, Some(ms(1280))), ms(939));
    }

    #[tokio::test]
    async fn what_was_measured_is_there_in_the_next_life_and_forgotten_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = FenceTime::open(dir.path(), &TIMES);
        assert_eq!((first.longest(), first.words()), (None, None));
        first.measured(ms(500));
        assert_eq!(first.budget(), ms(750));
        assert!(first.words().unwrap().contains("MORE"), "{first:?}");
        let kept = || FenceTime::open(dir.path(), &TIMES).longest();
        while kept() != Some(ms(500)) {
            // bounded: nextest ends a test that hangs
            tokio::time::sleep(ms(1)).await;
        }
        for _ in 0..REMEMBERED {
            first.measured(ms(20));
        }
        assert_eq!(first.budget(), ms(400));
    }
}
