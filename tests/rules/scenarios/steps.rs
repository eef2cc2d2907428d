//! What the steps of a scenario do to its world.

use failover_agent::decision::decide::Order;
use failover_agent::model::Timeline;
use failover_agent::model::event::Learned;
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::plan::StepKind;

use super::stage::Stage;
use crate::world::nodes::How;

/// How a kind of step ends when it does not simply succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Never, until the scenario says so.
    Hangs,
    Fails(FailureKind),
    /// This often, and succeeds then.
    FailsTimes(u32),
    /// Applying it succeeds, undoing it fails for good.
    UndoFails,
}

/// Applies (or undoes) a step to the stage's own node.
pub(crate) fn effect(stage: &mut Stage, order: &Order) -> Result<Learned, Failure> {
    let kind = order.what.kind();
    let fails = match (stage.fates.get(&kind).copied(), order.undo) {
        (Some(Fate::Fails(failure)), false) => Some(failure),
        (Some(Fate::FailsTimes(times)), false) if order.attempt <= times => {
            Some(FailureKind::Retryable)
        }
        (Some(Fate::UndoFails), true) => Some(FailureKind::Permanent),
        (Some(Fate::UndoFails), false) if kind != StepKind::FenceOwn => {
            Some(FailureKind::Permanent)
        }
        _ => None,
    };
    if let Some(failure) = fails {
        return Err(Failure {
            kind: failure,
            what: format!("{kind} was made to fail"),
            hint: None,
            retry_after: None,
        });
    }
    match (kind, order.undo) {
        (StepKind::FenceOwn, false) | (StepKind::Promote, true) => stage.own.how = How::Gone,
        (StepKind::StartStandby, false) => stage.own.how = How::Standby(false),
        (StepKind::StartOwn, false) | (StepKind::FenceOwn, true) => stage.own.how = How::Primary,
        (StepKind::Promote, false) => {
            stage.own.how = How::Primary;
            stage.own.timeline = Timeline(stage.own.timeline.0 + 1);
        }
        _ => {}
    }
    let looked = matches!(
        (kind, order.undo),
        (
            StepKind::Promote
                | StepKind::VerifyWrites
                | StepKind::StartStandby
                | StepKind::StartOwn,
            false
        ) | (StepKind::FenceOwn, true)
    );
    Ok(Learned {
        note: "done".to_owned(),
        node: looked.then(|| stage.own.report()),
    })
}
