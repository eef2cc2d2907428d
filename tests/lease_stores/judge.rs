//! Watches both contenders all the time: never two sites that may write (S1), and epochs only grow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover_agent::effects::clock::boottime;
use failover_agent::model::Epoch;
use failover_agent::runtime::lease_keeper::Held;
use tokio::sync::watch;

/// The judge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Judge {
    seen: Arc<Mutex<Seen>>,
    /// How long after a deadline a node may still be writing.
    fence_budget: Duration,
    /// Whether a lease runs out; where not, a restarted holder goes on under its epoch.
    runs_out: bool,
}

#[derive(Default)]
struct Seen {
    sites: [Option<Site>; 2],
    /// The highest epoch held so far, and by whom.
    newest: Option<(Epoch, usize)>,
    broken: Vec<String>,
}

struct Site {
    held: watch::Receiver<Held>,
    /// What the life before this one held last, until this one holds.
    before: Held,
    /// The epoch that was seen held last in this life.
    noted: Option<Epoch>,
}

impl Judge {
    pub(crate) fn new(fence_budget: Duration, runs_out: bool) -> Self {
        Self {
            seen: Arc::default(),
            fence_budget,
            runs_out,
        }
    }

    /// Watches a new life of a site.
    pub(crate) fn watch(&self, site: usize, held: watch::Receiver<Held>) {
        let mut changing = held.clone();
        {
            let mut seen = self.lock();
            let before = seen.sites[site].as_ref().and_then(Site::claim);
            seen.sites[site] = Some(Site {
                held,
                before,
                noted: None,
            });
        }
        let judge = self.clone();
        tokio::spawn(async move {
            while changing.changed().await.is_ok() {
                judge.look();
            }
        });
    }

    /// What it saw that must not be.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.look();
        self.lock().broken.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let mut seen = self.lock();
        let seen = &mut *seen;
        for index in 0..2 {
            let Some(site) = &mut seen.sites[index] else {
                continue;
            };
            let held = *site.held.borrow();
            let Some((epoch, _)) = held else { continue };
            site.before = None;
            if site.noted.replace(epoch) == Some(epoch) {
                continue;
            }
            let goes_on = !self.runs_out && seen.newest == Some((epoch, index));
            if seen.newest.is_some_and(|(newest, _)| epoch <= newest) && !goes_on {
                let newest = seen.newest;
                seen.broken
                    .push(format!("site {index} holds {epoch:?} after {newest:?}"));
            }
            seen.newest = seen.newest.max(Some((epoch, index)));
        }
        let [Some(one), Some(other)] = &seen.sites else {
            return;
        };
        // The first once more: what moved between two looks is no overlap.
        let claims = [one.claim(), other.claim(), one.claim()];
        let writes = |claim: &Held| {
            claim.is_some_and(|(_, fence_at)| boottime() < fence_at + self.fence_budget)
        };
        let same = claims[0].map(|claim| claim.0) == claims[2].map(|claim| claim.0);
        if same && claims.iter().all(writes) {
            seen.broken.push(format!("two writers: {claims:?}"));
        }
    }
}

impl Site {
    /// Under what its node may be writing.
    fn claim(&self) -> Held {
        self.held.borrow().or(self.before)
    }
}
