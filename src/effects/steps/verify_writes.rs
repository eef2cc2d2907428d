//! `VerifyWrites`: a commit on the own node, seen to succeed.

use super::Tools;
use crate::effects::error::EffectError;
use crate::effects::postgres::verify::verify_writes;
use crate::model::event::Learned;
use crate::model::{Epoch, Moment};

pub(super) async fn apply(
    tools: &Tools,
    epoch: Epoch,
    deadline: Moment,
) -> Result<Learned, EffectError> {
    let node = verify_writes(&tools.login, &tools.table, &tools.site, epoch, deadline).await?;
    let note = node.canary.map_or_else(
        || "a write committed".to_owned(),
        |took| format!("a write committed in {:.1} ms", took.as_secs_f64() * 1000.0),
    );
    Ok(Learned {
        note,
        node: Some(node),
    })
}
