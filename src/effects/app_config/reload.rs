//! Tells the app that its file has changed, by the configured command.

use std::time::Duration;

use crate::effects::error::EffectError;
use crate::effects::exec::{self, CommandSpec};
use crate::model::outcome::FailureKind;

/// Runs the command; how long it took.
///
/// A reload that ran out of time is killed and counts as failed, not as unknown: running a reload
/// twice is harmless, leaving one out is not.
pub(super) async fn run(
    target: &str,
    command: &[String],
    timeout: Duration,
) -> Result<Duration, EffectError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(EffectError::permanent(format!(
            "app config {target}: the reload command is empty"
        ))
        .hint("name a program in reload, or leave reload out"));
    };
    let spec = CommandSpec::new(program, timeout).args(arguments);
    let finished = exec::run(&spec)
        .await
        .map_err(|error| failed(target, error))?;
    if finished.success() {
        return Ok(finished.took);
    }
    Err(EffectError::retryable(format!(
        "app config {target}: the file is written, but {spec} failed: {}",
        finished.complaint()
    ))
    .hint("the app may still use the old values; run the command by hand to see why"))
}

fn failed(target: &str, mut error: EffectError) -> EffectError {
    error.what = format!(
        "app config {target}: the file is written, but not loaded: {}",
        error.what
    );
    if error.kind == FailureKind::OutcomeUnknown {
        error.kind = FailureKind::Retryable;
    }
    error
}
