//! `Promote`: the own standby leaves recovery. Undo: fence it, so that a promotion that is still
//! under way inside it can never come true later.

use std::time::Duration;

use super::{Tools, noted};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::promote::promote;
use crate::model::event::Learned;
use crate::model::{Epoch, Moment};

pub(super) async fn apply(
    tools: &Tools,
    epoch: Epoch,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    let began = boottime();
    let command = tools.node.promote_command(epoch)?;
    let node = promote(&tools.login, command.as_ref(), deadline).await?;
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
    Ok(noted(
        "the half-promoted node is fenced; a person must look at it and start it again",
    ))
}
