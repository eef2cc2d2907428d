//! Follows changes until every server of Route 53 has them, for a while, and says how that ended.
//! Nothing waits for it, and it has no say in whether a record can be moved.
//! Source: Amazon Route 53 API Reference, `GetChange`: `PENDING`, then `INSYNC`, as a rule within
//! 60 seconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::api::{Api, Progress};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;

/// How often the servers are asked for while a change is on its way. Changes take about a minute;
/// the account has five requests a second for everything.
const EVERY: Duration = Duration::from_secs(5);
/// After this a change is not followed any more, and a person should look.
const MAX: Duration = Duration::from_secs(600);
/// Newer changes push the oldest out.
const AT_ONCE: usize = 8;

/// Changes that the servers may not have yet, and since when.
#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<Vec<(String, Moment)>>);

impl Followed {
    /// A change that was just accepted.
    pub(super) fn add(&self, id: String) {
        let mut followed = self.followed();
        if followed.len() >= AT_ONCE {
            followed.remove(0);
        }
        followed.push((id, boottime()));
    }

    /// Asks how far the changes are. After how long to ask again; `None`: all have ended.
    pub(super) async fn look(
        &self,
        api: &Api,
        record: &str,
        timeout: Duration,
    ) -> Option<Duration> {
        let followed = self.followed().clone();
        for (id, since) in followed {
            let asked = ("follow a change", boottime() + timeout);
            let progress = api.progress(&id, asked).await;
            let span = boottime().since(since);
            if ended(&progress, (record, &id), span) {
                self.followed().retain(|(other, _)| *other != id);
            }
        }
        (!self.followed().is_empty()).then_some(EVERY)
    }

    fn followed(&self) -> MutexGuard<'_, Vec<(String, Moment)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True when a change is not followed any more; says why.
fn ended(
    progress: &Result<Progress, EffectError>,
    (name, change): (&str, &str),
    span: Duration,
) -> bool {
    let seconds = span.as_secs();
    match progress {
        Ok(Progress::InSync) => {
            tracing::info!(%name, seconds, "every server of route 53 has the change");
        }
        // It forgets changes after a while; the drift look goes on comparing the record itself.
        Ok(Progress::Unknown) => {
            tracing::warn!(%name, %change, "route 53 knows the change no more: not followed");
        }
        Ok(Progress::Pending) if span > MAX => {
            tracing::warn!(%name, %change, seconds, "route 53 has not spread the change: given up");
        }
        Err(error) if span > MAX => {
            tracing::warn!(%name, %change, %error, "the change cannot be followed: given up");
        }
        Ok(Progress::Pending) | Err(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_followed_for_ten_minutes_whatever_is_answered() {
        let after =
            |progress, seconds| ended(&progress, ("shop", "C1"), Duration::from_secs(seconds));
        assert!(after(Ok(Progress::InSync), 0));
        assert!(after(Ok(Progress::Unknown), 0));
        for pending in [false, true] {
            let progress = || match pending {
                true => Ok(Progress::Pending),
                false => Err(EffectError::permanent("refused")),
            };
            assert!(!after(progress(), 600));
            assert!(after(progress(), 601));
        }
    }
}
