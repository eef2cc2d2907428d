//! Follows a failover through successive pictures: which step did what when, and when it is over.
//!
//! Pure: pictures go in, news come out. Both sites' steps are in one picture, because each agent
//! tells the other what it is doing. Start reading at [`Follow::observe`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::status::step_note;
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
    pub(super) attempt: u32,
    pub(super) retry_in_ms: Option<u64>,
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
        let mut running = Vec::new();
        for (site, _, run) in runs(picture) {
            let mut steps = run.steps.iter();
            let step =
                steps.find(|step| matches!(step.state, StepState::Running | StepState::Retrying));
            running.extend(step.map(
                |step| match step_note(&step.note, step.retry_in_ms).as_str() {
                    "" => format!("{site}: {}", step.step),
                    note => format!("{site}: {} ({note})", step.kind),
                },
            ));
        }
        match (running.is_empty(), self.moved_at) {
            (false, _) => running.join("; and for "),
            (true, Some(_)) => "files and records to follow the primary".to_owned(),
            (true, None) => format!("{} to take over; {}", self.to, picture.lease.words),
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
                attempt: step.attempt,
                retry_in_ms: step.retry_in_ms,
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
                let moves = matches!(
                    run.kind,
                    PlanKind::GiveUp | PlanKind::TakeOver | PlanKind::FinishTakeOver
                );
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
                    true => matches!(run.kind, PlanKind::TakeOver | PlanKind::FinishTakeOver),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A picture of ams's agent, which tells what fra's is doing.
    fn picture(at: i64, primary: &str, epoch: u64, own: &Value, other: &Value) -> Snapshot {
        let picture = json!({
            "cluster": "main", "site": "ams", "version": "1", "at": at, "phase": "watching",
            "active": false, "stopped": null,
            "lease": {
                "view": "other", "holder": "fra", "epoch": epoch, "fence_in_ms": null,
                "reached": [], "words": "standby: the other site holds the lease",
            },
            "record": {
                "epoch": epoch, "revision": 1, "primary": primary, "promoting": false,
                "system_id": 1, "timeline": 1, "last_lsn": "0/1", "last_failover": null,
            },
            "facts": null, "diagnoses": [], "would_do": "nothing", "refusals": [],
            "members": [{
                "member": {"site": "fra"}, "reach": "answers", "version": "1", "heard_ms_ago": 1,
                "clock_ahead_ms": 100_000, "active": false, "doing": other,
            }],
            "targets": [], "run": own, "last_run": null, "counters": [],
        });
        serde_json::from_value(picture).unwrap()
    }

    /// A plan that began at `begun` on its site's clock, with one step.
    fn plan(kind: &str, begun: i64, step: &str, state: &str, ended: Option<&str>) -> Value {
        json!({
            "plan": format!("{kind}-1"), "kind": kind, "ended": ended, "epoch": 2,
            "cause": "operator", "begun": begun, "sequence_done": false,
            "steps": [{
                "step": step, "kind": step, "state": state, "took_ms": 30, "note": "",
                "started": begun,
            }],
        })
    }

    fn follow() -> Follow {
        let before = picture(1_000_000, "fra", 1, &Value::Null, &Value::Null);
        Follow::new(SiteName::new("ams"), &before)
    }

    #[test]
    fn steps_of_both_sites_are_told_once_on_one_clock() {
        let mut follow = follow();
        // The other clock is 100 s behind ours.
        let fence = plan("give_up", 900_050, "fence_own", "done", None);
        let (news, outcome) = follow.observe(&picture(1_000_090, "fra", 1, &Value::Null, &fence));
        assert_eq!(news.len(), 1);
        assert_eq!((news[0].at_ms, news[0].site.as_str()), (80, "fra"));
        assert_eq!(outcome, None);
        let again = follow.observe(&picture(1_000_100, "fra", 1, &Value::Null, &fence));
        assert_eq!(again, (Vec::new(), None));
    }

    #[test]
    fn plans_from_before_the_wish_are_not_told() {
        let mut follow = follow();
        let old = plan("converge", 800_000, "update_dns", "done", Some("completed"));
        let (news, outcome) = follow.observe(&picture(1_000_010, "fra", 1, &old, &old));
        assert_eq!((news, outcome), (Vec::new(), None));
    }

    #[test]
    fn it_is_over_when_the_primary_moved_and_both_sites_files_follow() {
        let mut follow = follow();
        let promoted = plan("take_over", 1_000_100, "promote", "done", None);
        let files = plan("converge", 900_300, "rewrite_app_config", "running", None);
        let (_, outcome) = follow.observe(&picture(1_000_300, "ams", 2, &promoted, &files));
        assert_eq!(outcome, None);
        assert_eq!(follow.moved_after_ms(), Some(300));
        let promoted = plan("take_over", 1_000_100, "promote", "done", Some("completed"));
        let (_, outcome) = follow.observe(&picture(1_000_400, "ams", 2, &promoted, &files));
        assert_eq!(outcome, None, "the other site's files are not right yet");
        let files = plan(
            "converge",
            900_300,
            "rewrite_app_config",
            "done",
            Some("completed"),
        );
        let (_, outcome) = follow.observe(&picture(1_000_500, "ams", 2, &promoted, &files));
        assert_eq!(outcome, Some(Outcome::Converged));
    }

    #[test]
    fn old_site_without_files_holds_nothing_up_for_long() {
        let mut follow = follow();
        let done = plan("take_over", 1_000_100, "promote", "done", Some("completed"));
        let (_, early) = follow.observe(&picture(1_000_300, "ams", 2, &done, &Value::Null));
        assert_eq!(early, None);
        let (_, late) = follow.observe(&picture(1_002_300, "ams", 2, &done, &Value::Null));
        assert_eq!(late, Some(Outcome::Converged));
    }

    #[test]
    fn plan_that_was_undone_before_the_lease_was_released_is_a_failure() {
        let mut follow = follow();
        let undone = plan(
            "give_up",
            900_050,
            "fence_own",
            "undone",
            Some("undone: no"),
        );
        let (_, outcome) = follow.observe(&picture(1_000_100, "fra", 1, &Value::Null, &undone));
        assert!(
            matches!(outcome, Some(Outcome::Failed { .. })),
            "{outcome:?}"
        );
    }

    #[test]
    fn end_of_the_giving_plan_says_nothing_once_the_lease_is_released() {
        let mut follow = follow();
        let released = plan(
            "give_up",
            900_050,
            "hand_over",
            "done",
            Some("superseded: late"),
        );
        let (_, outcome) = follow.observe(&picture(1_000_100, "fra", 1, &Value::Null, &released));
        assert_eq!(outcome, None);
    }

    #[test]
    fn agent_that_stopped_is_a_failure() {
        let mut follow = follow();
        let mut stopped = picture(1_000_100, "fra", 1, &Value::Null, &Value::Null);
        stopped.stopped = Some("look".to_owned());
        let (_, outcome) = follow.observe(&stopped);
        assert!(matches!(outcome, Some(Outcome::Failed { .. })));
    }
}
