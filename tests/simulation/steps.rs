//! Runs the steps that a loop orders: the mirror of `runtime::executor` and `effects::steps`.
//!
//! A step waits, looks and acts at instants of its own; in between its process may be frozen or
//! killed. What an abandoned step has set going in the node goes on.

use std::time::Duration;

use failover_agent::decision::decide::Order;
use failover_agent::model::event::{Event, Learned, StepFinished};
use failover_agent::model::lease::LeaseView;
use failover_agent::model::observation::{DatabaseSeen, NodeReport};
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::plan::Step;
use failover_agent::model::{Moment, Role};

use crate::agent::Task;
use crate::clock::{MS, Real, US};
use crate::node::Look;
use crate::setup::{Mutation, index};
use crate::world::{Ev, NodeTask, Pointer, World};

/// One attempt under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) order: Order,
    began: Moment,
    deadline: Real,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Begun,
    /// The node was asked to do it, or is waited for.
    Asked {
        /// `standby.signal` was taken away for it.
        removed: bool,
    },
    /// The DNS record was looked at; the change is to be sent.
    Looked,
}

pub(crate) type Ended = Option<Result<Learned, Failure>>;

pub(crate) fn failed(kind: FailureKind, what: &str) -> Ended {
    Some(Err(Failure {
        kind,
        what: what.to_owned(),
        hint: None,
        retry_after: None,
    }))
}

pub(crate) fn learned(node: Option<NodeReport>) -> Ended {
    let note = "simulated".to_owned();
    Some(Ok(Learned { note, node }))
}

fn not_begun(why: &str) -> Failure {
    Failure {
        kind: FailureKind::Retryable,
        what: format!("did not begin: {why}"),
        hint: None,
        retry_after: None,
    }
}

impl World {
    pub(crate) fn run_step(&mut self, site: usize, order: Order) {
        self.step_begins(site, &order);
        let (now, moment) = (self.now, self.moment(site));
        let deadline = self.clock(site).after(now, order.deadline);
        self.next_call += 1;
        let token = self.next_call;
        let running = Running {
            order,
            began: moment,
            deadline,
            stage: Stage::Begun,
        };
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.steps.insert(token, running);
            let life = agent.life;
            let span = self.rng.within(50 * US, 3 * MS);
            self.after(span, Ev::Agent(site, life, Task::Step(token)));
            self.at(deadline, Ev::Agent(site, life, Task::StepDeadline(token)));
        }
    }

    pub(crate) fn step_overdue(&mut self, site: usize, token: u64) {
        self.end_step(site, token, failed(FailureKind::OutcomeUnknown, "overdue"));
    }

    pub(crate) fn end_step(&mut self, site: usize, token: u64, ended: Ended) {
        let Some(result) = ended else { return };
        let moment = self.moment(site);
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(running) = agent.steps.remove(&token) else {
            return;
        };
        let order = running.order;
        let finished = StepFinished {
            plan: order.plan,
            step: order.step,
            attempt: order.attempt,
            undo: order.undo,
            took: moment.since(running.began),
            result,
        };
        self.tell(site, Event::StepFinished(finished));
    }

    /// The next turn of an attempt.
    pub(crate) fn step_on(&mut self, site: usize, token: u64) {
        let now = self.now;
        let Some(agent) = self.sites[site].agent.as_mut() else {
            return;
        };
        let Some(running) = agent.steps.get(&token) else {
            return;
        };
        let (order, stage, deadline) = (running.order.clone(), running.stage, running.deadline);
        let timed_out = now >= deadline;
        self.write(site);
        let ended = match (&order.what, order.undo) {
            (Step::FenceOwn { grace, budget }, false) => {
                self.begin_fence(site, Some(token), *grace, *budget);
                return;
            }
            (Step::Promote { .. }, true) => {
                let budget = self.setup.rules[site].fence_budget;
                self.begin_fence(site, Some(token), Duration::ZERO, budget);
                return;
            }
            (Step::FenceOwn { .. }, true) | (Step::StartOwn { .. }, false) => {
                self.start_own(site, token, &order, stage, timed_out)
            }
            (Step::StartStandby { .. }, false) => {
                self.start_standby(site, token, &order, stage, timed_out)
            }
            (Step::CheckCandidate { .. }, _) => self.check_candidate(site, &order),
            (Step::Promote { .. }, false) => {
                self.promote_own(site, token, &order, stage, timed_out)
            }
            (Step::VerifyWrites { .. }, _) => self.verify_writes(site, &order, timed_out),
            (Step::RewriteAppConfig { .. }, _) => self.rewrite_app_config(site, &order),
            (Step::UpdateDns { .. }, _) => self.update_dns(site, token, &order, (stage, timed_out)),
            (Step::Notify { .. }, _) => learned(None),
            (
                Step::HandOver { .. }
                | Step::RecordPrimary { .. }
                | Step::StartStandby { .. }
                | Step::StartOwn { .. },
                _,
            ) => failed(FailureKind::Permanent, "no such effect"),
        };
        match ended {
            Some(_) => self.end_step(site, token, ended),
            None => self.task(site, 25 * MS, Task::Step(token)),
        }
    }

    /// Takes one from the failures that were ordained for this kind of step.
    pub(crate) fn fails(&mut self, site: usize, order: &Order) -> bool {
        let left = self.sites[site].failing.get_mut(&order.what.kind());
        let fails = left.as_ref().is_some_and(|left| **left > 0);
        if let Some(left) = left.filter(|left| **left > 0) {
            *left -= 1;
        }
        fails
    }

    pub(crate) fn asked(&mut self, site: usize, token: u64, removed: bool) {
        self.staged(site, token, Stage::Asked { removed });
    }

    pub(crate) fn staged(&mut self, site: usize, token: u64, stage: Stage) {
        let agent = self.sites[site].agent.as_mut();
        if let Some(running) = agent.and_then(|agent| agent.steps.get_mut(&token)) {
            running.stage = stage;
        }
    }

    /// A session on the own node, or why there is none.
    pub(crate) fn session(&self, site: usize) -> Result<NodeReport, Failure> {
        let here = &self.sites[site];
        match here.node.look(&mut None, false, &here.clock, self.now) {
            Look::Seen(DatabaseSeen::Answered(report)) => Ok(report),
            Look::Seen(other) => Err(Failure {
                kind: FailureKind::Retryable,
                what: format!("cannot connect: {other:?}"),
                hint: None,
                retry_after: None,
            }),
            Look::Hangs(phase) => Err(Failure {
                kind: FailureKind::Retryable,
                what: format!("no answer: {phase}"),
                hint: None,
                retry_after: None,
            }),
        }
    }

    fn check_candidate(&mut self, site: usize, order: &Order) -> Ended {
        let Step::CheckCandidate {
            timeline,
            last_lsn,
            lag_max,
            finishes,
            silent,
            ..
        } = &order.what
        else {
            return None;
        };
        let reached = self.net.up(site, 1 - site) && self.net.up(1 - site, site);
        let other = &self.sites[1 - site].node;
        if silent.is_some() && reached && other.writable() && !other.frozen {
            return failed(
                FailureKind::Retryable,
                "the other node answers as a primary",
            );
        }
        match self.session(site) {
            Err(failure) => Some(Err(failure)),
            Ok(report)
                if (report.role != Role::Standby && !finishes)
                    || report.timeline < *timeline
                    || (report.timeline > *timeline && !finishes)
                    || report.lsn.behind(*last_lsn) > *lag_max =>
            {
                failed(FailureKind::Permanent, "not fit to be promoted")
            }
            Ok(report) => learned(Some(report)),
        }
    }

    fn promote_own(
        &mut self,
        site: usize,
        token: u64,
        order: &Order,
        stage: Stage,
        timed_out: bool,
    ) -> Ended {
        let session = self.session(site);
        if let Ok(report) = &session
            && report.role == Role::Primary
        {
            return learned(Some(report.clone()));
        }
        match (stage, session) {
            (Stage::Begun, Err(failure)) => Some(Err(failure)),
            (Stage::Begun, Ok(_)) => {
                if let Some(refused) = self.too_late(site, order) {
                    return Some(Err(refused));
                }
                self.asked(site, token, false);
                self.takes_effect(site, order);
                if !self.fails(site, order) {
                    self.begin_promotion(site);
                }
                None
            }
            (Stage::Asked { .. }, _) if timed_out => failed(
                FailureKind::OutcomeUnknown,
                "asked, but not seen as primary",
            ),
            (Stage::Asked { .. } | Stage::Looked, _) => None,
        }
    }

    /// What cannot be taken back is not begun once the lease may be gone (S2, S8), nor before the
    /// guard knows it.
    pub(crate) fn too_late(&self, site: usize, order: &Order) -> Option<Failure> {
        if self.setup.mutation == Mutation::LateStepRuns {
            return None;
        }
        let unguarded = !self.guard_knows(site, order.epoch);
        self.lease_over(site, order)
            .or_else(|| unguarded.then(|| not_begun("the guard does not know the lease")))
    }

    pub(crate) fn lease_over(&self, site: usize, order: &Order) -> Option<Failure> {
        let agent = self.sites[site].agent.as_ref()?;
        let reserve = self.setup.rules[site].request_timeout;
        let enough = match agent.contender.current_view() {
            LeaseView::Held { epoch, fence_at } => {
                epoch == order.epoch && self.moment(site) + reserve < fence_at
            }
            _ => false,
        };
        (!enough).then(|| not_begun("the lease is over or nearly so"))
    }

    fn begin_promotion(&mut self, site: usize) {
        let takes = self.sites[site].promote_takes;
        let node = &mut self.sites[site].node;
        if !node.promoting {
            node.promoting = true;
            let instance = node.instance;
            self.after(takes, Ev::Node(site, instance, NodeTask::Promoted));
        }
    }

    fn verify_writes(&mut self, site: usize, order: &Order, timed_out: bool) -> Ended {
        let failure = match self.session(site) {
            Ok(report) if self.sites[site].node.writable() => {
                self.takes_effect(site, order);
                let node = &mut self.sites[site].node;
                let newest = node.heartbeat.max(order.epoch);
                node.heartbeat = newest;
                return if newest > order.epoch {
                    failed(FailureKind::Permanent, "a higher epoch was here")
                } else {
                    learned(Some(report))
                };
            }
            Ok(_) => failed(FailureKind::Retryable, "cannot commit"),
            Err(failure) => Some(Err(failure)),
        };
        if timed_out { failure } else { None }
    }

    fn rewrite_app_config(&mut self, site: usize, order: &Order) -> Ended {
        let Step::RewriteAppConfig { edits, .. } = &order.what else {
            return None;
        };
        let primary = edits.iter().find_map(|edit| match &edit.to {
            failover_agent::model::plan::EditValue::Text(text) => Some(text.clone()),
            failover_agent::model::plan::EditValue::UrlAuthority { .. }
            | failover_agent::model::plan::EditValue::Field { .. } => None,
        });
        let named = failover_agent::model::SiteName::new(primary.unwrap_or_default());
        let wanted = Pointer {
            site: index(&named),
            epoch: order.epoch,
        };
        if self.fails(site, order) {
            return failed(FailureKind::Retryable, "the file system is read-only");
        }
        let file = self.sites[site].disk.file;
        if file.epoch > wanted.epoch && self.setup.mutation != Mutation::EpochIgnored {
            return failed(FailureKind::Permanent, "a newer epoch wrote it");
        }
        self.pointed("app config", site, file, wanted);
        self.sites[site].disk.file = wanted;
        learned(None)
    }
}
