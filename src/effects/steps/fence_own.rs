//! `FenceOwn`: no process of the own instance is left (S3).

use std::time::Duration;

use super::{Tools, noted};
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::event::Learned;

pub(super) async fn apply(
    tools: &Tools,
    epoch: Epoch,
    grace: Duration,
    budget: Duration,
) -> Result<Learned, EffectError> {
    let report = tools.node.fence(epoch, grace, budget).await?;
    let how = match (report.was_running, report.forced) {
        (false, _) => "nothing ran",
        (true, false) => "stopped cleanly",
        (true, true) => "stopped by force",
    };
    let problem = report
        .problem
        .map_or_else(String::new, |problem| format!("; but {problem}"));
    Ok(noted(format!(
        "{how}, {} processes killed, proved in {:.1} ms{problem}",
        report.killed,
        report.took.as_secs_f64() * 1000.0
    )))
}
