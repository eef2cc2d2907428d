//! `Promote`: the own standby leaves recovery. Undo: fence it, so that a promotion that is still
//! under way inside it can never come true later. One that had come true already cannot be undone:
//! the node may have told clients of commits that no other node has.

use std::time::Duration;

use super::{Attempt, Tools, noted};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::control_file::{LastState, last_state};
use crate::effects::postgres::promote::promote;
use crate::model::event::Learned;
use crate::model::{Epoch, Moment};

const HINT: &str =
    "if it has the newest commits, remove standby.signal and start it; then start the agent again";

pub(super) async fn apply(tools: &Tools, attempt: Attempt<'_>) -> Result<Learned, EffectError> {
    let began = boottime();
    let command = tools.node.promote_command(attempt.epoch)?;
    let (permit, deadline) = (attempt.permit, attempt.deadline);
    let node = promote(&tools.login, command.as_ref(), permit, deadline).await?;
    let took = boottime().since(began).as_secs_f64() * 1000.0;
    Ok(Learned {
        note: format!("primary on timeline {} after {took:.1} ms", node.timeline),
        node: Some(node),
    })
}

pub(super) async fn undo(
    tools: &Tools,
    epoch: Epoch,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    let budget = boottime().until(deadline);
    tools.node.fence(epoch, Duration::ZERO, budget).await?;
    // After the fence: from here on it cannot change any more.
    let state = match tools.node.instance() {
        Some(instance) => last_state(instance.data_dir())?,
        None => {
            let what = "cannot tell whether the fenced node was promoted before";
            return Err(EffectError::permanent(what).hint(HINT));
        }
    };
    match state {
        LastState::InRecovery => Ok(noted(
            "the half-promoted node is fenced; a person must look at it and start it again",
        )),
        LastState::Primary => {
            let what = "the node was a primary before its fence, and may have taken writes";
            Err(EffectError::permanent(what).hint(HINT))
        }
    }
}
