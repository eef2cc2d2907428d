//! Whether what was promised was kept: after a take-over, how long writes were away and what may be
//! missing, held against the objectives.
//!
//! Owns the measurement, on this host's `CLOCK_BOOTTIME` alone: neither another host's clock
//! nor a step of this one's wall clock counts. It claims bounds, not guesses: writes were away *at
//! most* since the old primary is proved to have committed, and commits can be missing *at most*
//! from when the new one is known to have had everything. A look that only reads proves no commit
//! (a primary with a full disk answers it), and neither does growing WAL (aborts and checkpoints
//! write it too): the proof is a canary. What was not proved is "not known", and "not known" keeps
//! no promise.
//!
//! Must not delay or decide anything (S16): it only looks. Start reading at [`Observer::observe`].

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
use crate::model::plan::PlanKind;
use crate::model::time::{Now, measured_words};
use crate::model::{ClusterName, Epoch, Lsn, Moment, PlanId, Role, SiteName, Timeline, Timestamp};
use crate::runtime::evidence::{Evidence, Look, RunSeen};
use crate::runtime::outbox::Outbox;
use crate::runtime::status::{self, Snapshot};
use crate::runtime::tasks::spawn_named;

/// The last recovery, so that a restarted agent still knows it.
const FILE: &str = "last-recovery.json";

/// Sightings of a primary that are kept: as long as a standby may trail behind, and more.
const SIGHTINGS_MAX: usize = 256;

/// One recovery, measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The plan that took over, or started the node again.
    pub plan: PlanId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The primary's site from here on.
    pub site: SiteName,
    /// When a write was verified there.
    pub at: Timestamp,
    /// How long writes were away at most; `None` without proof of an earlier commit.
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
    fn of(
        run: &RunSeen,
        verified: Moment,
        observer: &Observer,
        objectives: &Objectives,
        picture: &Snapshot,
    ) -> Self {
        let (committed, complete) = observer.before(run.kind);
        let away = committed.map(|committed| verified.since(committed));
        let missing = complete.map(|complete| run.begun.since(complete));
        let kept =
            |measured: Option<Duration>, promised: Option<Duration>| Some(measured? <= promised?);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let now = Now {
            moment: picture.evidence.now,
            wall: picture.at,
        };
        Self {
            plan: run.plan.clone(),
            epoch: run.epoch,
            site: picture.site.clone(),
            at: status::wall_of(verified, now),
            away_ms: away.map(millis),
            rto_ms: objectives.rto.map(millis),
            rto_kept: kept(away, objectives.rto),
            missing_ms: missing.map(millis),
            rpo_ms: objectives.rpo.map(millis),
            rpo_kept: kept(missing, objectives.rpo),
            words: vec![
                away_words(run.kind, away) + &verdict("RTO", away, objectives.rto),
                missing_words(run.kind, missing) + &verdict("RPO", missing, objectives.rpo),
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

fn away_words(kind: PlanKind, away: Option<Duration>) -> String {
    let (new, old) = match kind {
        PlanKind::Restart => ("the restarted primary", "before it died"),
        PlanKind::TakeOver
        | PlanKind::FinishTakeOver
        | PlanKind::GiveUp
        | PlanKind::Fence
        | PlanKind::Converge => ("the new primary", "at the old one"),
    };
    match away {
        Some(away) => {
            let away = measured_words(away);
            format!("a write committed at {new} {away} after the last proved commit {old}")
        }
        None => format!(
            "how long writes were away is not known: this agent has no proof of a commit {old}"
        ),
    }
}

fn missing_words(kind: PlanKind, missing: Option<Duration>) -> String {
    match (kind, missing) {
        (PlanKind::Restart, Some(missing)) => {
            let missing = measured_words(missing);
            format!("every commit on its disk {missing} before the restart is there")
        }
        (PlanKind::Restart, None) => "which commits are missing is not known: this agent had not \
                                      looked at the node before it died"
            .to_owned(),
        (_, Some(missing)) => {
            let missing = measured_words(missing);
            format!("every commit up to {missing} before the take-over is known to be there")
        }
        (_, None) => "which commits are missing is not known: this agent has not seen the new \
                      primary have everything"
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

/// Watches pictures go by.
#[derive(Debug, Default)]
pub struct Observer {
    own: Track,
    peer: Track,
    /// The most WAL that the own standby was seen to have, in its present history.
    received: Option<(Timeline, Lsn)>,
    /// Plans that were told and may still be in the picture.
    told: Vec<PlanId>,
    /// Looks that began before this moment are of former times.
    forgot: Moment,
}

/// One node as a primary.
#[derive(Debug, Default)]
struct Track {
    /// When the newest look ended: the next one begins later.
    looked: Moment,
    /// Oldest first.
    seen: VecDeque<Sighting>,
    /// A commit is proved at or after this moment.
    committed: Option<Moment>,
}

/// A look at a primary.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// The look began at or after this moment; how long it took is not known.
    since: Moment,
    look: Look,
}

impl Track {
    /// Takes in a look that began after `floor`, and tells it when it is a new one of a primary.
    fn look(&mut self, look: Option<&Look>, floor: Moment) -> Option<Sighting> {
        let look = *look?;
        let since = self.looked;
        if look.at <= since {
            return None;
        }
        self.looked = look.at;
        if look.role != Role::Primary || since <= floor {
            return None;
        }
        if self.seen.len() == SIGHTINGS_MAX {
            self.seen.pop_front();
        }
        let sighting = Sighting { since, look };
        self.seen.push_back(sighting);
        Some(sighting)
    }

    /// When the newest look that fits began.
    fn newest(&self, fits: impl Fn(&Look) -> bool) -> Option<Moment> {
        let mut newest_first = self.seen.iter().rev();
        newest_first
            .find(|sighting| fits(&sighting.look))
            .map(|sighting| sighting.since)
    }
}

impl Observer {
    /// Goes on from what a former life told.
    #[must_use]
    pub fn after(last: Option<&Recovery>) -> Self {
        Self {
            told: last.iter().map(|recovery| recovery.plan.clone()).collect(),
            ..Self::default()
        }
    }

    /// Takes in a picture; tells a recovery once, as soon as its first write is verified.
    pub fn observe(&mut self, picture: &Snapshot, objectives: &Objectives) -> Option<Recovery> {
        let evidence = &picture.evidence;
        let visible = |plan: &PlanId| evidence.runs.iter().any(|run| run.plan == *plan);
        self.told.retain(visible);
        self.receive(evidence.own.as_ref());
        let new: Vec<&RunSeen> = evidence
            .runs
            .iter()
            .filter(|run| recovers(run.kind) && !self.told.contains(&run.plan))
            .collect();
        let proved = new.iter().find_map(|run| Some((run, run.verified?)));
        if let Some((run, verified)) = proved {
            let recovery = Recovery::of(run, verified, self, objectives, picture);
            self.forget(verified);
            self.told.push(run.plan.clone());
            return Some(recovery);
        }
        // What is seen of the old primary from here on proves nothing for the time before.
        let until = new.iter().find(|run| !run.over).map(|run| run.begun);
        self.look(evidence, until);
        None
    }

    /// A new primary begins: what was seen until now says nothing of it. A look that was under way
    /// at `verified` began before.
    fn forget(&mut self, verified: Moment) {
        for track in [&mut self.own, &mut self.peer] {
            *track = Track {
                looked: track.looked,
                ..Track::default()
            };
        }
        self.forgot = verified;
        self.received = None;
    }

    fn receive(&mut self, own: Option<&Look>) {
        let Some(own) = own.filter(|own| own.role == Role::Standby) else {
            return;
        };
        self.received = match self.received {
            Some((timeline, lsn)) if timeline == own.timeline => Some((timeline, lsn.max(own.lsn))),
            Some(_) | None => Some((own.timeline, own.lsn)),
        };
    }

    fn look(&mut self, evidence: &Evidence, until: Option<Moment>) {
        let early = |look: &&Look| until.is_none_or(|until| look.at <= until);
        let own = evidence.own.as_ref().filter(early);
        let own = self.own.look(own, self.forgot);
        if let Some(own) = own.filter(|own| own.look.committed) {
            self.own.committed = Some(own.since);
        }
        self.peer
            .look(evidence.peer.as_ref().filter(early), self.forgot);
        // When its agent committed a canary is known by its own clock only. But a canary that was
        // written beyond a position which was read from here is younger than that look.
        if let Some(theirs) = evidence.reported.filter(|reported| reported.committed) {
            let behind = |look: &Look| look.timeline == theirs.timeline && look.lsn < theirs.lsn;
            self.peer.committed = self.peer.committed.max(self.peer.newest(behind));
        }
    }

    /// When the old primary is last known to have committed, and the last moment of which it is
    /// known that the new one has everything before it.
    fn before(&self, kind: PlanKind) -> (Option<Moment>, Option<Moment>) {
        match kind {
            // It is the same node: what it had flushed is still there.
            PlanKind::Restart => (self.own.committed, self.own.newest(|_| true)),
            PlanKind::TakeOver
            | PlanKind::FinishTakeOver
            | PlanKind::GiveUp
            | PlanKind::Fence
            | PlanKind::Converge => {
                let arrived = |look: &Look| {
                    self.received
                        .is_some_and(|(timeline, lsn)| timeline == look.timeline && look.lsn <= lsn)
                };
                (self.peer.committed, self.peer.newest(arrived))
            }
        }
    }
}

/// The plans that make a primary where there was none.
fn recovers(kind: PlanKind) -> bool {
    match kind {
        PlanKind::TakeOver | PlanKind::FinishTakeOver | PlanKind::Restart => true,
        PlanKind::GiveUp | PlanKind::Fence | PlanKind::Converge => false,
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
mod tests;
