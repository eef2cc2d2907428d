//! Whether what was promised was kept: after a take-over, how long writes were away and what may be
//! missing, held against the objectives.
//!
//! Owns the measurement, from pictures of this agent alone, so that one clock measures. It claims
//! bounds, not guesses: writes were away *at most* since the old primary was last seen at work, and
//! commits can be missing *at most* from when the new one is known to have had everything. Must not
//! delay or decide anything (S16): it only looks. Start reading at [`Observer::observe`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::settings::Objectives;
use crate::effects::whole_file::write_private;
use crate::model::alert::{Alert, AlertLevel};
use crate::model::peer::{Progress, StepState};
use crate::model::plan::{PlanKind, StepKind};
use crate::model::{ClusterName, Epoch, Lsn, PlanId, Role, SiteName, Timestamp};
use crate::runtime::outbox::Outbox;
use crate::runtime::status::{Snapshot, WalSeen};
use crate::runtime::tasks::spawn_named;

/// The last recovery, so that a restarted agent still knows it.
const FILE: &str = "last-recovery.json";

/// Sightings of the old primary that are kept: as long as a standby may trail behind, and more.
const SIGHTINGS_MAX: usize = 256;

/// One recovery, measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The plan that took over.
    pub plan: PlanId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The new primary's site.
    pub site: SiteName,
    /// When a write was verified at the new primary.
    pub at: Timestamp,
    /// How long writes were away at most; `None` when the old primary was not seen at work before.
    pub away_ms: Option<u64>,
    /// What was promised.
    pub rto_ms: Option<u64>,
    /// Whether that is proven to be kept; `None` when nothing was promised or measured.
    pub rto_kept: Option<bool>,
    /// Commits of how long a time can be missing at most; `None` when it is not known.
    pub missing_ms: Option<u64>,
    /// What was promised.
    pub rpo_ms: Option<u64>,
    /// Whether that is proven to be kept; `None` when nothing was promised or measured.
    pub rpo_kept: Option<bool>,
    /// The same in words.
    pub words: Vec<String>,
}

impl Recovery {
    fn of(run: &Progress, observer: &Observer, objectives: &Objectives, site: &SiteName) -> Self {
        let at = verified(run).unwrap_or(run.begun);
        let away = observer.seen.back().map(|seen| between(seen.at, at));
        let missing = observer.complete_at().map(|at| between(at, run.begun));
        let kept =
            |measured: Option<Duration>, promised: Option<Duration>| Some(measured? <= promised?);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            plan: run.plan.clone(),
            epoch: run.epoch,
            site: site.clone(),
            at,
            away_ms: away.map(millis),
            rto_ms: objectives.rto.map(millis),
            rto_kept: kept(away, objectives.rto),
            missing_ms: missing.map(millis),
            rpo_ms: objectives.rpo.map(millis),
            rpo_kept: kept(missing, objectives.rpo),
            words: vec![
                away_words(away) + &verdict("RTO", away, objectives.rto),
                missing_words(missing) + &verdict("RPO", missing, objectives.rpo),
            ],
        }
    }

    /// True when something that was promised is not proven to be kept.
    #[must_use]
    pub fn broke_a_promise(&self) -> bool {
        self.rto_kept == Some(false)
            || self.rpo_kept == Some(false)
            || (self.rto_ms.is_some() && self.rto_kept.is_none())
            || (self.rpo_ms.is_some() && self.rpo_kept.is_none())
    }
}

fn away_words(away: Option<Duration>) -> String {
    match away {
        Some(away) => format!(
            "a write committed at the new primary {away:?} after the old one was last seen at work"
        ),
        None => "how long writes were away is not known: this agent had not seen the old primary \
                 at work"
            .to_owned(),
    }
}

fn missing_words(missing: Option<Duration>) -> String {
    match missing {
        Some(missing) => {
            format!("every commit up to {missing:?} before the take-over is known to be there")
        }
        None => "which commits are missing is not known: the new primary was never seen to have \
                 everything"
            .to_owned(),
    }
}

fn verdict(name: &str, measured: Option<Duration>, promised: Option<Duration>) -> String {
    let Some(promised) = promised else {
        return String::new();
    };
    let word = match measured {
        Some(measured) if measured <= promised => "kept",
        Some(_) | None => "not proven to be kept",
    };
    format!(" ({name} {promised:?} {word})")
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

/// When the plan's write was verified.
fn verified(run: &Progress) -> Option<Timestamp> {
    let mut steps = run.steps.iter();
    let step =
        steps.find(|step| step.kind == StepKind::VerifyWrites && step.state == StepState::Done)?;
    let took = i64::try_from(step.took_ms).unwrap_or(i64::MAX);
    Some(Timestamp(step.started?.0.saturating_add(took)))
}

/// Watches pictures go by.
#[derive(Debug, Default)]
pub struct Observer {
    /// The other node as a primary at work, oldest first.
    seen: VecDeque<WalSeen>,
    /// The most WAL that the own standby was seen to have.
    received: Lsn,
    told: Option<PlanId>,
}

impl Observer {
    /// Goes on from what a former life told.
    #[must_use]
    pub fn after(last: Option<&Recovery>) -> Self {
        Self {
            told: last.map(|recovery| recovery.plan.clone()),
            ..Self::default()
        }
    }

    /// Takes in a picture; tells a recovery once, as soon as its first write is verified.
    pub fn observe(&mut self, picture: &Snapshot, objectives: &Objectives) -> Option<Recovery> {
        let mut runs = [&picture.run, &picture.last_run].into_iter().flatten();
        let run = runs
            .find(|run| run.kind == PlanKind::TakeOver && self.told.as_ref() != Some(&run.plan));
        if let Some(own) = &picture.own_wal
            && own.role == Role::Standby
        {
            self.received = self.received.max(own.lsn);
        }
        match run {
            None => self.sighted(picture.peer_wal.as_ref()),
            // What is seen of the old primary from here on proves nothing for the time before.
            Some(run) if verified(run).is_none() => {
                let before = picture.peer_wal.as_ref();
                self.sighted(before.filter(|seen| seen.at <= run.begun));
            }
            Some(run) => {
                let recovery = Recovery::of(run, self, objectives, &picture.site);
                *self = Self::after(Some(&recovery));
                return Some(recovery);
            }
        }
        None
    }

    fn sighted(&mut self, seen: Option<&WalSeen>) {
        let Some(seen) = seen.filter(|seen| seen.role == Role::Primary) else {
            return;
        };
        if self.seen.back().is_some_and(|last| last.at >= seen.at) {
            return;
        }
        if self.seen.len() == SIGHTINGS_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(seen.clone());
    }

    /// The last moment of which it is known that the own standby has everything before it.
    fn complete_at(&self) -> Option<Timestamp> {
        let mut newest_first = self.seen.iter().rev();
        newest_first
            .find(|seen| seen.lsn <= self.received)
            .map(|seen| seen.at)
    }
}

/// Whom a recovery is told.
#[derive(Debug)]
pub struct Audience {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// People.
    pub outbox: Outbox,
    /// Where it is kept.
    pub state_dir: PathBuf,
}

/// Measures for as long as the agent lives, and shows the last recovery. With an audience, it is
/// told and kept, too.
pub fn watch(
    mut status: watch::Receiver<Arc<Snapshot>>,
    objectives: Objectives,
    last: Option<Recovery>,
    audience: Option<Audience>,
    stop: CancellationToken,
) -> watch::Receiver<Option<Recovery>> {
    let mut observer = Observer::after(last.as_ref());
    let (shown, newest) = watch::channel(last);
    let watching = async move {
        while status.changed().await.is_ok() {
            let picture = Arc::clone(&status.borrow_and_update());
            let Some(recovery) = observer.observe(&picture, &objectives) else {
                continue;
            };
            if let Some(audience) = &audience {
                audience.tell(&recovery);
            }
            shown.send_replace(Some(recovery));
        }
    };
    spawn_named("recovery", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = watching => {}
        }
    });
    newest
}

impl Audience {
    fn tell(&self, recovery: &Recovery) {
        let words = recovery.words.join("; ");
        tracing::info!(plan = %recovery.plan, epoch = %recovery.epoch, reason = %words, "recovered");
        let broke = recovery.broke_a_promise();
        let site = &recovery.site;
        self.outbox.push(Alert {
            cluster: self.cluster.clone(),
            site: Some(site.clone()),
            event: "recovery_measured".to_owned(),
            level: if broke {
                AlertLevel::Warn
            } else {
                AlertLevel::Info
            },
            summary: match broke {
                true => format!("site {site} recovered; a promise is not proven to be kept"),
                false => format!("site {site} recovered"),
            },
            details: recovery.words.clone(),
            epoch: Some(recovery.epoch),
            plan: Some(recovery.plan.clone()),
            at: recovery.at,
        });
        let path = self.state_dir.join(FILE);
        let kept = recovery.clone();
        // A disk that hangs must not stop the next one from being seen.
        let writing =
            move || match serde_json::to_vec(&kept).map(|text| write_private(&path, &text)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, path = %path.display(), "cannot keep the last recovery");
                }
                Err(error) => tracing::warn!(%error, "the last recovery has no JSON form"),
            };
        drop(tokio::task::spawn_blocking(writing));
    }
}

/// What a former life kept; what cannot be read is not known.
#[must_use]
pub fn kept(state_dir: &Path) -> Option<Recovery> {
    let text = std::fs::read(state_dir.join(FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PROMISED: Objectives = Objectives {
        rto: Some(Duration::from_secs(5)),
        rpo: Some(Duration::from_millis(500)),
    };

    fn wal(at: i64, role: &str, lsn: &str) -> Value {
        json!({"at": at, "role": role, "lsn": lsn})
    }

    fn picture(own: &Value, peer: &Value, run: &Value) -> Snapshot {
        let picture = json!({
            "cluster": "main", "site": "ams", "version": "1", "at": 0, "phase": "watching",
            "active": false, "stopped": null,
            "lease": {
                "view": "other", "holder": "fra", "epoch": 1, "fence_in_ms": null,
                "reached": [], "words": "",
            },
            "record": null, "facts": null, "diagnoses": [], "would_do": "", "refusals": [],
            "members": [], "targets": [], "own_wal": own, "peer_wal": peer,
            "run": run, "last_run": null, "counters": [],
        });
        serde_json::from_value(picture).unwrap()
    }

    fn take_over(begun: i64, state: &str) -> Value {
        json!({
            "plan": "ams-2", "kind": "take_over", "ended": null, "epoch": 2, "cause": "silent",
            "begun": begun, "sequence_done": false,
            "steps": [{
                "step": "verify a commit", "kind": "verify_writes", "state": state,
                "took_ms": 40, "note": "", "started": begun + 60,
            }],
        })
    }

    /// The primary was seen at 1000 and at 2000; the standby had what was seen at the first.
    fn observer() -> Observer {
        let mut observer = Observer::default();
        let own = wal(1900, "standby", "0/150");
        for peer in [wal(1000, "primary", "0/100"), wal(2000, "primary", "0/200")] {
            let seen = observer.observe(&picture(&own, &peer, &Value::Null), &PROMISED);
            assert_eq!(seen, None);
        }
        observer
    }

    #[test]
    fn recovery_is_measured_from_the_last_good_sight_and_told_once() {
        let mut observer = observer();
        let gone = &Value::Null;
        let running = picture(gone, gone, &take_over(4000, "running"));
        assert_eq!(observer.observe(&running, &PROMISED), None);
        // The check of the candidate sees what has arrived.
        let checked = picture(
            &wal(4010, "standby", "0/200"),
            gone,
            &take_over(4000, "waiting"),
        );
        assert_eq!(observer.observe(&checked, &PROMISED), None);
        let done = picture(
            &wal(4050, "primary", "0/300"),
            gone,
            &take_over(4000, "done"),
        );
        let told = observer.observe(&done, &PROMISED).unwrap();
        assert_eq!((told.away_ms, told.rto_kept), (Some(2100), Some(true)));
        assert_eq!((told.missing_ms, told.rpo_kept), (Some(2000), Some(false)));
        assert!(told.broke_a_promise());
        assert_eq!(
            told.words,
            [
                "a write committed at the new primary 2.1s after the old one was last seen at \
                 work (RTO 5s kept)",
                "every commit up to 2s before the take-over is known to be there (RPO 500ms not \
                 proven to be kept)",
            ]
        );
        assert_eq!(observer.observe(&done, &PROMISED), None);
    }

    #[test]
    fn standby_that_trails_is_complete_only_up_to_an_older_sight() {
        let done = picture(&Value::Null, &Value::Null, &take_over(4000, "done"));
        let told = observer().observe(&done, &PROMISED).unwrap();
        assert_eq!(told.missing_ms, Some(3000));
    }

    #[test]
    fn what_is_seen_of_the_old_primary_during_the_take_over_proves_nothing() {
        let mut observer = observer();
        let thawed = wal(4020, "primary", "0/100");
        let running = picture(&Value::Null, &thawed, &take_over(4000, "running"));
        assert_eq!(observer.observe(&running, &PROMISED), None);
        let done = picture(&Value::Null, &thawed, &take_over(4000, "done"));
        let told = observer.observe(&done, &PROMISED).unwrap();
        assert_eq!(told.away_ms, Some(2100));
    }

    #[test]
    fn what_was_not_seen_is_not_claimed() {
        let done = picture(&Value::Null, &Value::Null, &take_over(4000, "done"));
        let told = Observer::default().observe(&done, &PROMISED).unwrap();
        assert_eq!((told.away_ms, told.missing_ms), (None, None));
        assert_eq!((told.rto_kept, told.rpo_kept), (None, None));
        assert!(told.broke_a_promise());
        let unpromised = Objectives {
            rto: None,
            rpo: None,
        };
        let told = Observer::default().observe(&done, &unpromised).unwrap();
        assert!(!told.broke_a_promise());
    }

    #[test]
    fn recovery_of_a_former_life_is_not_told_again() {
        let done = picture(&Value::Null, &Value::Null, &take_over(4000, "done"));
        let told = Observer::default().observe(&done, &PROMISED).unwrap();
        assert_eq!(Observer::after(Some(&told)).observe(&done, &PROMISED), None);
    }
}
