//! `RewriteAppConfig`: the files of an app name the new primary, and the app uses it.

use std::path::Path;

use super::{Tools, noted};
use crate::effects::app_config::{self, Change};
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::event::Learned;
use crate::model::plan::{ConfigEdit, FileEdits, PrimaryAt};

/// The step's parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) target: &'a str,
    pub(super) path: &'a Path,
    pub(super) edits: &'a [ConfigEdit],
    pub(super) also: &'a [FileEdits],
    pub(super) primary: Option<&'a PrimaryAt>,
}

pub(super) async fn apply(
    tools: &Tools,
    wanted: Wanted<'_>,
    epoch: Epoch,
) -> Result<Learned, EffectError> {
    let named = |app: &&crate::config::settings::AppConfig| app.name == wanted.target;
    let target = tools.app_configs.iter().find(named).ok_or_else(|| {
        EffectError::permanent(format!(
            "app config {} is not in the configuration any more",
            wanted.target
        ))
    })?;
    let first = FileEdits {
        path: wanted.path.to_owned(),
        edits: wanted.edits.to_vec(),
    };
    let change = Change {
        target,
        files: std::iter::once(first)
            .chain(wanted.also.iter().cloned())
            .collect(),
        primary: wanted.primary.cloned(),
        epoch,
        state_dir: &tools.state_dir,
    };
    let applied = app_config::apply(&change).await?;
    Ok(noted(applied.note))
}
