//! `RewriteAppConfig`: one file of an app names the new primary, and the app was told.

use super::{Tools, noted};
use crate::effects::app_config;
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::event::Learned;
use crate::model::plan::ConfigEdit;

pub(super) async fn apply(
    tools: &Tools,
    target: &str,
    edits: &[ConfigEdit],
    epoch: Epoch,
) -> Result<Learned, EffectError> {
    let settings = tools
        .app_configs
        .iter()
        .find(|app| app.name == target)
        .ok_or_else(|| {
            EffectError::permanent(format!(
                "app config {target} is not in the configuration any more"
            ))
        })?;
    let applied = app_config::apply(settings, edits, epoch, &tools.state_dir).await?;
    Ok(noted(applied.note))
}
