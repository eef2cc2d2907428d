//! How an app's files are checked before they change, how the app is told, and how it proves that
//! it uses them: a trait and a list. To add a kind of app: a file and a line in [`APPLIERS`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::command::ByCommand;
use super::ready_made::ReadyMade;
use crate::config::settings::AppConfig;
use crate::effects::error::EffectError;
use crate::model::Moment;
use crate::model::plan::PrimaryAt;

/// A kind of app, for one change. No method of it may take longer than the bounds of the target.
#[async_trait]
pub(super) trait Applier: fmt::Debug + Send + Sync {
    /// Whether [`Applier::recover`] has anything to do; asks nobody.
    ///
    /// # Errors
    /// When nobody can tell.
    async fn left_behind(&mut self) -> Result<bool, EffectError> {
        Ok(false)
    }

    /// Puts right what a change that was killed left behind; what that was, if anything.
    ///
    /// # Errors
    /// When the app cannot be asked.
    async fn recover(&mut self, _deadline: Moment) -> Result<Option<String>, EffectError> {
        Ok(None)
    }

    /// Makes the app ready, right before the files change.
    ///
    /// # Errors
    /// When it cannot be; then nothing changes.
    async fn begin(&mut self, _target: &AppConfig) -> Result<(), EffectError> {
        Ok(())
    }

    /// Whether the app is to run after the change: it did before. Known after [`Applier::begin`].
    fn ran(&self) -> bool {
        false
    }

    /// An earlier attempt saw it run: if it does not now, no person has stopped it.
    fn must_run(&mut self) {}

    /// Ends when the app was held up for as long as it may be, and goes on again although the
    /// change is not over.
    async fn overstay(&mut self) {
        std::future::pending::<()>().await;
    }

    /// What is worth telling people of the change, once.
    fn take_notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Lets the app go on, however the change ended.
    ///
    /// # Errors
    /// When it cannot be told; the next change does it first.
    async fn end(&mut self, _target: &AppConfig) -> Result<(), EffectError> {
        Ok(())
    }

    /// True when [`Applier::validate`] does anything.
    fn validates(&self, target: &AppConfig) -> bool;

    /// True when the running app can be asked. Then a change that it does not take is put back;
    /// otherwise a failed reload says nothing against the files, and is run again.
    fn proves(&self, target: &AppConfig) -> bool;

    /// Whether the new files are right; changes nothing.
    ///
    /// # Errors
    /// When they are not, or nobody can tell.
    async fn validate(
        &mut self,
        target: &AppConfig,
        staged: &StagedPaths,
    ) -> Result<(), EffectError>;

    /// Tells the app to read its files; how long it took, or `None` when it need not be told.
    ///
    /// # Errors
    /// When the app was not told.
    async fn tell(&mut self, target: &AppConfig) -> Result<Option<Duration>, EffectError>;

    /// Whether the running app, and not the file, names this primary: asked until `patience` is
    /// over, at least once. `None`: nobody knows which one; what needs it cannot be asked.
    ///
    /// # Errors
    /// When it does not.
    async fn prove(
        &mut self,
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
    /// Somebody has stopped the app: it reads its files when they start it again.
    Stopped,
}

/// Where the new files wait.
#[derive(Debug, Clone)]
pub(super) struct StagedPaths {
    /// The first new file.
    pub(super) first: PathBuf,
    /// Every new file: its future place, and where it waits.
    pub(super) waiting: Vec<(PathBuf, PathBuf)>,
    /// The copy of the tree with all new files in it, if there is one.
    pub(super) tree: Option<PathBuf>,
}

/// Opens a kind for a change of this target, whose things are kept in the directory; `None` for
/// targets of another kind.
type Open = fn(&AppConfig, &Path) -> Option<Box<dyn Applier>>;

/// Every kind, in the order in which they are asked; the last serves every target.
pub(super) const APPLIERS: &[Open] = &[ReadyMade::open, ByCommand::open];

/// The kind of a target, for one change.
pub(super) fn applier_of(target: &AppConfig, dir: &Path) -> Box<dyn Applier> {
    let opened = APPLIERS.iter().find_map(|open| open(target, dir));
    opened.unwrap_or(Box::new(ByCommand))
}
