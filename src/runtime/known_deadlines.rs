//! Which deadline those know who would fence the node if this agent were gone: the guard, and the
//! next life of this agent, for which word is left (see [`super::inherited`]).
//!
//! A deadline that they have not heard of yet is an earlier fence, as long as deadlines only move
//! on. At the end of a pinned lease, and only then, a deadline comes nearer: the keeper waits here
//! before anybody else may count on it. So what is told is what they know *at most*: as soon as
//! they are about to be told that there is no deadline, nothing is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::guard::protocol::Term;
use super::inherited;
use super::lease_keeper::Held;
use super::tasks::spawn_named;
use crate::effects::clock::boottime;
use crate::model::{Epoch, Moment};

/// What they know.
#[derive(Debug)]
pub(super) struct KnownDeadlines {
    leave: watch::Sender<Option<Held>>,
    written: Arc<watch::Sender<Held>>,
    /// How often it was said that there is no deadline.
    endless: Arc<AtomicU64>,
    left: watch::Receiver<Held>,
    guard: Option<watch::Receiver<Option<Term>>>,
    state_dir: PathBuf,
    /// Since when something is awaited, and whether that was told.
    waits_since: Option<(Moment, bool)>,
}

/// Between two attempts to write.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The guard answers within milliseconds, and so does a disk.
const WAIT_USUAL: Duration = Duration::from_secs(1);

impl KnownDeadlines {
    /// `guard`: what the guard has confirmed; `None` for a node that has none.
    pub(super) fn new(state_dir: PathBuf, guard: Option<watch::Receiver<Option<Term>>>) -> Self {
        let (leave, wanted) = watch::channel(None);
        let (written, left) = watch::channel(None);
        let (written, endless) = (Arc::new(written), Arc::new(AtomicU64::new(0)));
        let task = leave_deadlines(
            state_dir.clone(),
            wanted,
            Arc::clone(&written),
            Arc::clone(&endless),
        );
        spawn_named("fence deadline", task);
        Self {
            leave,
            written,
            endless,
            left,
            guard,
            state_dir,
            waits_since: None,
        }
    }

    /// Leaves word of a deadline for the next life of this agent.
    pub(super) fn leave(&self, held: Held) {
        // In one, so that whoever reads what is wanted reads how often that was "none", too.
        self.leave.send_modify(|wanted| {
            if is_endless(held) {
                // Whoever else writes the word may do so from now on.
                self.endless.fetch_add(1, Ordering::SeqCst);
                self.written.send_replace(None);
            }
            *wanted = Some(held);
        });
    }

    /// Whether something is awaited, and has come. What does not come for long is told: until then
    /// a pause with the guard off, or its end, is not answered.
    pub(super) fn covers_what_is_awaited(&mut self, awaited: Held, armed: bool) -> bool {
        let Some(held) = awaited else {
            self.waits_since = None;
            return false;
        };
        if self.cover(held, armed) {
            self.waits_since = None;
            return true;
        }
        let now = boottime();
        let (since, told) = self.waits_since.get_or_insert((now, false));
        if !*told && now.since(*since) >= WAIT_USUAL {
            *told = true;
            tracing::warn!(
                state_dir = %self.state_dir.display(),
                "guard or state directory have not taken the new deadline for a second: until they \
                 do, the guard is neither off nor on again for the other site"
            );
        }
        false
    }

    /// Whether all of them know the deadline of this epoch, or an earlier one; of a pinned lease:
    /// that there is none.
    fn cover(&self, (epoch, fence_at): (Epoch, Moment), armed: bool) -> bool {
        let pinned = fence_at == Moment::NEVER;
        let in_time = |(of, at): (Epoch, Moment)| {
            of == epoch && at <= fence_at && (!pinned || at == Moment::NEVER)
        };
        let guard = self.guard.as_ref().is_none_or(|guard| {
            let known = *guard.borrow();
            known.is_some_and(|term| in_time((term.epoch, term.fence_at)))
        });
        let left = *self.left.borrow();
        // A node that takes no writes is armed, and the guard told, before it may begin to.
        (guard || !armed) && left.is_some_and(in_time)
    }

    /// Waits until one of them has heard something.
    pub(super) async fn changed(&mut self) {
        let guard = async {
            let ended = match &mut self.guard {
                Some(guard) => guard.changed().await.is_err(),
                None => true,
            };
            if ended {
                std::future::pending::<()>().await;
            }
        };
        let left = async {
            if self.left.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = guard => {}
            () = left => {}
        }
    }
}

/// In a task of its own: the keeper must never wait for a disk (S4). What a hanging disk does not
/// take is an older and so an earlier deadline, which is safe.
async fn leave_deadlines(
    state_dir: PathBuf,
    mut wanted: watch::Receiver<Option<Held>>,
    written: Arc<watch::Sender<Held>>,
    endless: Arc<AtomicU64>,
) {
    let mut failed = false;
    loop {
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(RETRY_EVERY), if failed => {}
        }
        let (newest, said) = {
            let wanted = wanted.borrow_and_update();
            (*wanted, endless.load(Ordering::SeqCst))
        };
        let Some(at) = newest else { continue };
        let dir = state_dir.clone();
        let left = tokio::task::spawn_blocking(move || inherited::leave(&dir, || at)).await;
        failed = match left {
            Ok(Ok(())) => {
                // What was said meanwhile may be in the file already.
                written.send_if_modified(|known| {
                    let newest = endless.load(Ordering::SeqCst) == said;
                    if newest {
                        *known = at;
                    }
                    newest
                });
                false
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot leave word of the fence deadline");
                true
            }
            // The runtime is being shut down.
            Err(_) => return,
        };
    }
}

fn is_endless(held: Held) -> bool {
    held.is_some_and(|(_, fence_at)| fence_at == Moment::NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(secs))
    }

    #[tokio::test]
    async fn a_nearer_deadline_counts_once_the_guard_and_the_next_life_know_it() {
        let dir = tempfile::tempdir().unwrap();
        let (confirm, confirmed) = watch::channel(None);
        let mut known = KnownDeadlines::new(dir.path().to_path_buf(), Some(confirmed));
        let term = |epoch, fence_at| Term {
            epoch: Epoch(epoch),
            fence_at,
        };
        let wanted = (Epoch(3), at(9));
        known.leave(Some((Epoch(3), Moment::NEVER)));
        confirm.send_replace(Some(term(3, Moment::NEVER)));
        while *known.left.borrow() != Some((Epoch(3), Moment::NEVER)) {
            known.changed().await;
        }
        assert!(!known.cover(wanted, true), "both know of no deadline");
        assert!(known.cover((Epoch(3), Moment::NEVER), true));
        confirm.send_replace(Some(term(3, at(9))));
        assert!(!known.cover(wanted, true), "the next life does not know");
        known.leave(Some(wanted));
        while *known.left.borrow() != Some(wanted) {
            known.changed().await;
        }
        assert!(known.cover(wanted, true));
        assert!(known.cover((Epoch(3), at(12)), true), "an earlier fence");
        assert!(
            !known.cover((Epoch(3), Moment::NEVER), true),
            "an earlier fence is none that was switched off"
        );
        for other in [
            Some(term(2, at(1))),
            Some(term(3, at(10))),
            Some(term(3, Moment::NEVER)),
            None,
        ] {
            confirm.send_replace(other);
            assert!(!known.cover(wanted, true), "{other:?}");
            assert!(known.cover(wanted, false), "nothing there takes writes");
        }
    }

    #[tokio::test]
    async fn a_word_that_cannot_be_left_covers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = KnownDeadlines::new(dir.path().join("gone"), None);
        known.leave(Some((Epoch(3), at(9))));
        let waited = tokio::time::timeout(Duration::from_millis(100), known.changed()).await;
        assert!(waited.is_err());
        assert!(!known.cover((Epoch(3), at(9)), true));
    }
}
