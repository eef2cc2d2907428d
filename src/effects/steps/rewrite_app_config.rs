//! `RewriteAppConfig`: the files of an app name the new primary, and the app uses it.

use super::{Tools, noted};
use crate::effects::app_config::{self, Change};
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::event::Learned;
use crate::model::plan::{FileEdits, Step};

pub(super) async fn apply(
    tools: &Tools,
    step: &Step,
    epoch: Epoch,
) -> Result<Learned, EffectError> {
    let Step::RewriteAppConfig {
        target: name,
        path,
        edits,
        also,
        primary,
    } = step
    else {
        let what = format!("step '{}' rewrites no app config", step.kind());
        return Err(EffectError::permanent(what));
    };
    let mut known = tools.app_configs.iter();
    let target = known.find(|app| app.name == *name).ok_or_else(|| {
        EffectError::permanent(format!(
            "app config {name} is not in the configuration any more"
        ))
    })?;
    let first = FileEdits {
        path: path.clone(),
        edits: edits.clone(),
    };
    let change = Change {
        target,
        files: std::iter::once(first).chain(also.iter().cloned()).collect(),
        primary: primary.clone(),
        surroundings: &tools.surroundings,
        epoch,
        state_dir: &tools.state_dir,
    };
    let applied = app_config::apply(&change).await?;
    Ok(noted(applied.note))
}
