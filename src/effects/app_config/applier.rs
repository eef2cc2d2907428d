//! How an app's files are checked before they change, how the app is told, and how it proves that
//! it uses them: a trait and a list. To add a kind of app: a file and a line in [`APPLIERS`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::command::ByCommand;
use crate::config::settings::AppConfig;
use crate::effects::error::EffectError;
use crate::model::plan::PrimaryAt;

/// A kind of app. None of its methods may take longer than the bounds of the target.
#[async_trait]
pub(super) trait Applier: fmt::Debug + Sync {
    /// True for targets of this kind.
    fn serves(&self, target: &AppConfig) -> bool;

    /// True when [`Applier::validate`] does anything.
    fn validates(&self, target: &AppConfig) -> bool;

    /// True when the running app can be asked. Then a change that it does not take is put back;
    /// otherwise a failed reload says nothing against the files, and is run again.
    fn proves(&self, target: &AppConfig) -> bool;

    /// Whether the new files are right; changes nothing.
    ///
    /// # Errors
    /// When they are not, or nobody can tell.
    async fn validate(&self, target: &AppConfig, staged: &StagedPaths) -> Result<(), EffectError>;

    /// Tells the app to read its files; how long it took, or `None` when it need not be told.
    ///
    /// # Errors
    /// When the app was not told.
    async fn tell(&self, target: &AppConfig) -> Result<Option<Duration>, EffectError>;

    /// Whether the running app, and not the file, names this primary: asked until `patience` is
    /// over, at least once. `None`: nobody knows which one; what needs it cannot be asked.
    ///
    /// # Errors
    /// When it does not.
    async fn prove(
        &self,
        target: &AppConfig,
        primary: Option<&PrimaryAt>,
        patience: Duration,
    ) -> Result<Proof, EffectError>;
}

/// What became of a proof that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The running app uses the values.
    Given,
    /// It could not be asked.
    NotAsked,
}

/// Where the new files wait.
#[derive(Debug, Clone)]
pub(super) struct StagedPaths {
    /// The first new file.
    pub(super) first: PathBuf,
    /// The copy of the tree with all new files in it, if there is one.
    pub(super) tree: Option<PathBuf>,
}

/// Every kind, in the order in which they are asked; the last serves every target.
pub(super) const APPLIERS: &[&dyn Applier] = &[&ByCommand];

/// The kind of a target.
pub(super) fn applier_of(target: &AppConfig) -> &'static dyn Applier {
    let found = APPLIERS
        .iter()
        .copied()
        .find(|applier| applier.serves(target));
    found.unwrap_or(&ByCommand)
}
