//! Runs the steps that the decision loop orders: one task per attempt, with a deadline on all of
//! it, and one event when it has ended. Knows neither plans nor retries: whether a step may begin
//! was decided, and journalled, before the order came. Only a step that may start writes looks at
//! the lease once more, right before it does so: what came before may have taken long (S2, see
//! [`LeaseGate`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::decision::decide::Order;
use crate::effects::clock::{self, boottime};
use crate::effects::error::EffectError;
use crate::effects::permit::Permit;
use crate::effects::steps::{self, Attempt, Tools};
use crate::model::event::{Event, Learned, StepFinished};
use crate::model::plan::{Step, StepKind};
use crate::model::time::measured_words;
use crate::model::{Epoch, PlanId};
use crate::runtime::fence_time::FenceTime;
use crate::runtime::guard::protocol::Term;
use crate::runtime::lease_keeper::Held;
use crate::runtime::outbox::Outbox;
use crate::runtime::tasks::spawn_named;
use crate::runtime::{alerts, inherited};

/// What a step that may start writes passes right before it does so.
///
/// The loop has armed the keeper's fence before it ordered the step. So either the lease is seen
/// to be gone here, or the keeper sees that it must fence when it goes.
#[derive(Debug, Clone)]
pub struct LeaseGate {
    /// What the keeper holds.
    pub held: watch::Receiver<Held>,
    /// So much of the lease must be left.
    pub reserve: Duration,
    /// The lease for which the guard has confirmed that it is armed (S4); `None`: a node that no
    /// guard of this host could fence.
    pub guard: Option<watch::Receiver<Option<Term>>>,
    /// Where forced fences are counted.
    pub fence_time: FenceTime,
}

/// How long a step that may start writes waits for the guard to confirm: a round trip on a socket,
/// or a guard that is just being started again.
const GUARD_WAIT: Duration = Duration::from_secs(1);

impl LeaseGate {
    /// Waits for the guard to know the lease of this epoch; the permit says if it does not.
    async fn wait_for_guard(&self, epoch: Epoch) {
        let Some(mut guard) = self.guard.clone() else {
            return;
        };
        let knows = guard.wait_for(|term| term.is_some_and(|term| term.epoch == epoch));
        tokio::time::timeout(GUARD_WAIT, knows).await.ok();
    }

    fn guard_knows(&self, order: &Order) -> bool {
        self.guard.as_ref().is_none_or(|guard| {
            guard.borrow().is_some_and(|term| {
                term.epoch == order.epoch && boottime() + self.reserve < term.fence_at
            })
        })
    }
}

/// Whether the step, or its undo, may make the own node take writes.
fn may_start_writes(order: &Order) -> bool {
    match (order.what.kind(), order.undo) {
        (StepKind::StartStandby | StepKind::StartOwn | StepKind::Promote, false)
        | (StepKind::FenceOwn, true) => true,
        (
            StepKind::StartStandby
            | StepKind::StartOwn
            | StepKind::Promote
            | StepKind::FenceOwn
            | StepKind::HandOver
            | StepKind::CheckCandidate
            | StepKind::RecordPrimary
            | StepKind::VerifyWrites
            | StepKind::RewriteAppConfig
            | StepKind::UpdateDns
            | StepKind::Notify,
            _,
        ) => false,
    }
}

/// Leaves the lease's word where the gate looks for it before the server starts (S10). Without it
/// the start comes out as that of a standby, or not at all.
async fn leave_word(state_dir: PathBuf, held: watch::Receiver<Held>) {
    let leave =
        tokio::task::spawn_blocking(move || inherited::leave(&state_dir, || *held.borrow()));
    let left = tokio::time::timeout(GUARD_WAIT, leave).await;
    if !matches!(left, Ok(Ok(Ok(())))) {
        tracing::warn!("cannot leave the lease's word for the gate");
    }
}

/// The gate for one order; steps that may start writes ask, and those that change DNS.
#[derive(Debug)]
struct OrderPermit<'a> {
    gate: &'a LeaseGate,
    order: &'a Order,
}

impl Permit for OrderPermit<'_> {
    fn still_held(&self) -> Result<Duration, EffectError> {
        let held = *self.gate.held.borrow();
        let left = held
            .filter(|(epoch, _)| *epoch == self.order.epoch)
            .map(|(_, fence_at)| boottime().until(fence_at))
            .filter(|left| *left > self.gate.reserve);
        if left.is_some() && may_start_writes(self.order) && !self.gate.guard_knows(self.order) {
            let what = format!(
                "did not {}: the guard has not confirmed the lease of epoch {}",
                self.order.what.kind(),
                self.order.epoch
            );
            let hint = "`agent status` shows the guard, the agent's log why there is none";
            return Err(EffectError::retryable(what).hint(hint));
        }
        if let Some(left) = left {
            return Ok(left);
        }
        Err(EffectError::retryable(format!(
            "did not {}: the lease of epoch {} is over, or nearly so",
            self.order.what.kind(),
            self.order.epoch
        ))
        .hint(
            "nothing was done, and nothing need be: a disk, the network or a frozen process held \
             the step up; it is begun anew while the lease is held, else by the site that holds it",
        ))
    }
}

/// Runs steps.
#[derive(Debug)]
pub struct Executor {
    tools: Arc<Tools>,
    gate: LeaseGate,
    outbox: Outbox,
    events: mpsc::Sender<Event>,
    running: BTreeMap<PlanId, Vec<AbortHandle>>,
}

impl Executor {
    /// An executor whose steps use `tools` and report to `events`.
    #[must_use]
    pub fn new(tools: Tools, gate: LeaseGate, outbox: Outbox, events: mpsc::Sender<Event>) -> Self {
        Self {
            tools: Arc::new(tools),
            gate,
            outbox,
            events,
            running: BTreeMap::new(),
        }
    }

    /// Begins an attempt.
    pub fn run(&mut self, order: Order) {
        let (tools, outbox) = (Arc::clone(&self.tools), self.outbox.clone());
        let (gate, events) = (self.gate.clone(), self.events.clone());
        let plan = order.plan.clone();
        let name = format!("step {}", order.what.kind());
        let task = spawn_named(name, async move {
            let began = boottime();
            let result = attempt(&tools, &gate, &outbox, &order).await;
            let finished = StepFinished {
                plan: order.plan,
                step: order.step,
                attempt: order.attempt,
                undo: order.undo,
                took: boottime().since(began),
                result: result.map_err(Into::into),
            };
            // Nobody receives any more once the agent has stopped.
            events.send(Event::StepFinished(finished)).await.ok();
        });
        self.running.retain(|_, handles| {
            handles.retain(|handle| !handle.is_finished());
            !handles.is_empty()
        });
        self.running
            .entry(plan)
            .or_default()
            .push(task.abort_handle());
    }

    /// Stops waiting for the steps of a plan that was dropped. A fence that has begun goes on.
    pub fn abandon(&mut self, plan: &PlanId) {
        for handle in self.running.remove(plan).into_iter().flatten() {
            handle.abort();
        }
    }
}

async fn attempt(
    tools: &Tools,
    gate: &LeaseGate,
    outbox: &Outbox,
    order: &Order,
) -> Result<Learned, EffectError> {
    if let Step::Notify { summary } = &order.what {
        let (cluster, site) = (&tools.cluster, &tools.site);
        let at = clock::wall();
        outbox.push(alerts::from_step(
            cluster,
            site,
            order.epoch,
            &order.plan,
            summary,
            at,
        ));
        return Ok(Learned {
            note: "put into the outbox".to_owned(),
            node: None,
        });
    }
    let began = boottime();
    if may_start_writes(order) {
        gate.wait_for_guard(order.epoch).await;
        leave_word(tools.state_dir.clone(), gate.held.clone()).await;
    }
    let attempt = Attempt {
        step: &order.what,
        epoch: order.epoch,
        undo: order.undo,
        deadline: began + order.deadline,
        permit: &OrderPermit { gate, order },
    };
    match tokio::time::timeout(order.deadline, steps::run(tools, attempt)).await {
        Ok(result) => {
            // A clean stop takes what it takes; by force it must be within the budget.
            let forced = matches!(&order.what, Step::FenceOwn { grace, .. } if grace.is_zero());
            if forced && !order.undo && result.is_ok() {
                gate.fence_time.measured(boottime().since(began));
            }
            result
        }
        Err(_) => Err(EffectError::unknown(format!(
            "step '{}' did not end within {}",
            order.what.kind(),
            measured_words(order.deadline)
        ))),
    }
}
