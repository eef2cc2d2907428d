//! Follows a failover through successive pictures: which step did what when, and when it is over.
//!
//! Pure: pictures go in, news come out. Both sites' steps are in one picture, because each agent
//! tells the other what it is doing. Start reading at [`Follow::observe`].

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::peer::{Progress, StepProgress, StepState};
use crate::model::plan::{PlanKind, StepKind};
use crate::model::{Epoch, Member, PlanId, SiteName, Timestamp};
use crate::runtime::status::Snapshot;

/// After the primary moved, how long the old site's agent may take to begin with its own files.
const CONVERGE_BEGINS_WITHIN_MS: i64 = 2000;

/// One step changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StepNews {
    /// Milliseconds since the wish.
    pub(super) at_ms: i64,
    pub(super) site: SiteName,
    pub(super) plan: PlanId,
    pub(super) step: String,
    pub(super) kind: StepKind,
    pub(super) state: StepState,
    pub(super) took_ms: u64,
    pub(super) note: String,
}

/// How a failover ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The primary moved, files and records follow it.
    Converged,
    /// It did not move.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is known of a failover that was asked for.
#[derive(Debug)]
pub(super) struct Follow {
    to: SiteName,
    /// When it was asked for, by the clock of the agent that was asked.
    begun: Timestamp,
    /// The epoch before.
    epoch: Epoch,
    seen: BTreeMap<(SiteName, PlanId, usize), StepState>,
    moved_at: Option<Timestamp>,
}

impl Follow {
    /// A failover to `to`, asked for right after `before` was taken.
    pub(super) fn new(to: SiteName, before: &Snapshot) -> Self {
        Self {
            to,
            begun: before.at,
            epoch: before.lease.epoch,
            seen: BTreeMap::new(),
            moved_at: None,
        }
    }

    /// When the primary had moved, in milliseconds since the wish.
    pub(super) fn moved_after_ms(&self) -> Option<i64> {
        self.moved_at.map(|at| at.0 - self.begun.0)
    }

    /// What is new in this picture, and whether it is over.
    pub(super) fn observe(&mut self, picture: &Snapshot) -> (Vec<StepNews>, Option<Outcome>) {
        let mut news = Vec::new();
        for (site, clock_ahead_ms, run) in runs(picture) {
            if run.begun.0 + clock_ahead_ms >= self.begun.0 {
                self.steps(&mut news, site, clock_ahead_ms, run);
            }
        }
        news.sort_by_key(|step| step.at_ms);
        let moved = picture.record.as_ref().is_some_and(|record| {
            record.primary == self.to && !record.promoting && record.epoch > self.epoch
        });
        if moved && self.moved_at.is_none() {
            self.moved_at = Some(picture.at);
        }
        (news, self.outcome(picture))
    }

    /// What is being waited for, for somebody who sees nothing happen.
    pub(super) fn waits_for(&self, picture: &Snapshot) -> String {
        let running = runs(picture).into_iter().find_map(|(site, _, run)| {
            let mut steps = run.steps.iter();
            let step = steps
                .find(|step| matches!(step.state, StepState::Running | StepState::Retrying))?;
            let note = match step.note.as_str() {
                "" => String::new(),
                note => format!(" ({note})"),
            };
            Some(format!("{site}: {}{note}", step.step))
        });
        match (running, self.moved_at) {
            (Some(step), _) => step,
            (None, Some(_)) => "files and records to follow the primary".to_owned(),
            (None, None) => format!("{} to take over; {}", self.to, picture.lease.words),
        }
    }

    fn steps(
        &mut self,
        news: &mut Vec<StepNews>,
        site: &SiteName,
        clock_ahead_ms: i64,
        run: &Progress,
    ) {
        for (index, step) in run.steps.iter().enumerate() {
            let key = (site.clone(), run.plan.clone(), index);
            let known = self.seen.insert(key, step.state);
            if known == Some(step.state) || step.state == StepState::Waiting {
                continue;
            }
            let ended = !matches!(step.state, StepState::Running);
            let at = ended_at(step, ended).map_or(0, |at| at + clock_ahead_ms - self.begun.0);
            news.push(StepNews {
                at_ms: at.max(0),
                site: site.clone(),
                plan: run.plan.clone(),
                step: step.step.clone(),
                kind: step.kind,
                state: step.state,
                took_ms: step.took_ms,
                note: step.note.clone(),
            });
        }
    }

    fn outcome(&self, picture: &Snapshot) -> Option<Outcome> {
        let failed = |why: String| Some(Outcome::Failed { why });
        if let Some(why) = &picture.stopped {
            return failed(format!("the agent stopped and calls a human: {why}"));
        }
        let fresh: Vec<_> = runs(picture)
            .into_iter()
            .filter(|(_, ahead, run)| run.begun.0 + ahead >= self.begun.0)
            .collect();
        let Some(moved_at) = self.moved_at else {
            let stuck = fresh.iter().find_map(|(site, _, run)| {
                let end = run.ended.as_ref()?;
                let moves = matches!(run.kind, PlanKind::GiveUp | PlanKind::TakeOver);
                let handed_over = run
                    .steps
                    .iter()
                    .any(|step| step.kind == StepKind::HandOver && step.state == StepState::Done);
                let done = end == "completed" || handed_over;
                (moves && !done).then(|| format!("{site}: {} {end}", run.kind))
            });
            return stuck.and_then(failed);
        };
        let ended = |site_is_new: bool| {
            fresh.iter().any(|(site, _, run)| {
                let kind = match site_is_new {
                    true => run.kind == PlanKind::TakeOver,
                    false => run.kind == PlanKind::Converge,
                };
                (**site == self.to) == site_is_new && kind && run.ended.is_some()
            })
        };
        let unfinished = fresh.iter().any(|(_, _, run)| run.ended.is_none());
        let others_files = ended(false) || picture.at.0 - moved_at.0 >= CONVERGE_BEGINS_WITHIN_MS;
        (ended(true) && others_files && !unfinished).then_some(Outcome::Converged)
    }
}

/// When a step ended (or began), by the clock of its own site.
fn ended_at(step: &StepProgress, ended: bool) -> Option<i64> {
    let took = match ended {
        true => i64::try_from(step.took_ms).unwrap_or(i64::MAX),
        false => 0,
    };
    Some(step.started?.0.saturating_add(took))
}

/// Every plan in a picture with its site, and how far our clock is ahead of that site's.
fn runs(picture: &Snapshot) -> Vec<(&SiteName, i64, &Progress)> {
    let own = [&picture.last_run, &picture.run];
    let mut runs: Vec<_> = own
        .into_iter()
        .flatten()
        .map(|run| (&picture.site, 0, run))
        .collect();
    for member in &picture.members {
        if let (Member::Site(site), Some(doing)) = (&member.member, &member.doing) {
            runs.push((site, member.clock_ahead_ms.unwrap_or(0), doing));
        }
    }
    runs
}
