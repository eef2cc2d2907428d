//! Runs the steps that the decision loop orders: one task per attempt, with a deadline on all of
//! it, and one event when it has ended. Knows neither plans nor retries nor the lease: whether a
//! step may begin was decided, and journalled, before the order came.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::decision::decide::Order;
use crate::effects::clock::{self, boottime};
use crate::effects::error::EffectError;
use crate::effects::steps::{self, Attempt, Tools};
use crate::model::PlanId;
use crate::model::event::{Event, Learned, StepFinished};
use crate::model::plan::Step;
use crate::runtime::alerts;
use crate::runtime::outbox::Outbox;
use crate::runtime::tasks::spawn_named;

/// Runs steps.
#[derive(Debug)]
pub struct Executor {
    tools: Arc<Tools>,
    outbox: Outbox,
    events: mpsc::Sender<Event>,
    running: BTreeMap<PlanId, Vec<AbortHandle>>,
}

impl Executor {
    /// An executor whose steps use `tools` and report to `events`.
    #[must_use]
    pub fn new(tools: Tools, outbox: Outbox, events: mpsc::Sender<Event>) -> Self {
        Self {
            tools: Arc::new(tools),
            outbox,
            events,
            running: BTreeMap::new(),
        }
    }

    /// Begins an attempt.
    pub fn run(&mut self, order: Order) {
        let (tools, outbox) = (Arc::clone(&self.tools), self.outbox.clone());
        let events = self.events.clone();
        let plan = order.plan.clone();
        let name = format!("step {}", order.what.kind());
        let task = spawn_named(name, async move {
            let began = boottime();
            let result = attempt(&tools, &outbox, &order).await;
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

async fn attempt(tools: &Tools, outbox: &Outbox, order: &Order) -> Result<Learned, EffectError> {
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
    let attempt = Attempt {
        step: &order.what,
        epoch: order.epoch,
        undo: order.undo,
        deadline: boottime() + order.deadline,
    };
    match tokio::time::timeout(order.deadline, steps::run(tools, attempt)).await {
        Ok(result) => result,
        Err(_) => Err(EffectError::unknown(format!(
            "step '{}' did not end within {:?}",
            order.what.kind(),
            order.deadline
        ))),
    }
}
