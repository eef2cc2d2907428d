//! `Promote`: the own standby leaves recovery. Undo: fence it, so that a promotion that is still
//! under way inside it can never come true later. One that had come true already cannot be undone:
//! the node may have told clients of commits that no other node has.

use std::time::Duration;

use tokio::time::sleep;

use super::{Attempt, Tools, noted};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::control::{NodeControl, NodeProcess};
use crate::effects::postgres::control_file::{LastState, last_state};
use crate::effects::postgres::promote::promote;
use crate::model::event::Learned;
use crate::model::{Epoch, Moment};

/// Between two looks at the node's processes while it is promoted.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many looks in a row must find nothing: one that is being started again is not dead.
const STOPPED_LOOKS: u32 = 2;

const HINT: &str =
    "if it has the newest commits, remove standby.signal and start it; then start the agent again";

pub(super) async fn apply(tools: &Tools, attempt: Attempt<'_>) -> Result<Learned, EffectError> {
    let began = boottime();
    let command = tools.node.promote_command(attempt.epoch)?;
    let (permit, deadline) = (attempt.permit, attempt.deadline);
    let promotion = promote(&tools.login, command.as_ref(), permit, deadline);
    let node = tokio::select! {
        node = promotion => node?,
        () = died(&tools.node) => {
            let what = format!("node {} died while it was promoted", tools.login);
            return Err(EffectError::unknown(what)
                .hint("its log says why; a full disk under its data directory is one reason"));
        }
    };
    let took = boottime().since(began).as_secs_f64() * 1000.0;
    Ok(Learned {
        note: format!("primary on timeline {} after {took:.1} ms", node.timeline),
        node: Some(node),
    })
}

/// Ends when nothing of a node on this host runs any more: to wait for its promotion would hold the
/// other site up for nothing. A standby that cannot write its new timeline shuts itself down.
async fn died(node: &NodeControl) {
    let mut stopped = 0;
    while stopped < STOPPED_LOOKS {
        sleep(LOOK_EVERY).await;
        stopped = match node.status().await {
            NodeProcess::Stopped if node.instance().is_some() => stopped + 1,
            NodeProcess::Stopped | NodeProcess::Running | NodeProcess::Unknown { .. } => 0,
        };
    }
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
        // Only the control file that the fenced server wrote says what it was.
        Some(instance) if instance.in_place().is_ok() => last_state(instance.data_dir())?,
        Some(_) | None => {
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
