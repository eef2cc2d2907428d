//! Apps that are checked, told and asked by a ready-made target, see [`super::targets`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::applier::{Applier, Proof, StagedPaths};
use super::targets::{Check, Place, Target, target_of};
use crate::config::settings::AppConfig;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;
use crate::model::plan::PrimaryAt;

/// A ready-made target in the place of `validate`, `reload` and `verify`.
#[derive(Debug)]
pub(super) struct ReadyMade {
    target: Box<dyn Target>,
    files: Vec<PathBuf>,
    told: bool,
    notes: Vec<String>,
}

impl ReadyMade {
    /// For targets that name one.
    pub(super) fn open(target: &AppConfig, dir: &Path) -> Option<Box<dyn Applier>> {
        let settings = target.target.as_ref()?;
        let files: Vec<PathBuf> = target.files.iter().map(|file| file.path.clone()).collect();
        let place = Place {
            name: target.name.clone(),
            files: files.clone(),
            dir: dir.to_owned(),
        };
        Some(Box::new(Self {
            target: target_of(settings, place),
            files,
            told: false,
            notes: Vec::new(),
        }))
    }

    async fn check(&mut self, target: &AppConfig, files: &[PathBuf]) -> Result<(), EffectError> {
        let deadline = boottime() + target.validate_timeout;
        for doubt in self.target.validate(files, deadline).await? {
            tracing::warn!(app_config = target.name, doubt, "the new file is doubtful");
            self.notes.push(doubt);
        }
        Ok(())
    }
}

/// Bound on making the app ready, and on letting it go on.
fn ready_by(target: &AppConfig) -> Moment {
    boottime() + target.reload_timeout
}

#[async_trait]
impl Applier for ReadyMade {
    async fn left_behind(&mut self) -> Result<bool, EffectError> {
        self.target.left_behind().await
    }

    async fn recover(&mut self, deadline: Moment) -> Result<Option<String>, EffectError> {
        self.target.recover(deadline).await
    }

    async fn begin(&mut self, target: &AppConfig) -> Result<(), EffectError> {
        self.target.before(ready_by(target)).await
    }

    fn ran(&self) -> bool {
        self.target.ran()
    }

    fn must_run(&mut self) {
        self.target.must_run();
    }

    async fn overstay(&mut self) {
        self.target.overstay().await;
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    async fn end(&mut self, target: &AppConfig) -> Result<(), EffectError> {
        self.target.after(ready_by(target)).await
    }

    fn validates(&self, _target: &AppConfig) -> bool {
        self.target.check() == Check::Staged
    }

    fn proves(&self, _target: &AppConfig) -> bool {
        true
    }

    async fn validate(
        &mut self,
        target: &AppConfig,
        staged: &StagedPaths,
    ) -> Result<(), EffectError> {
        let now = |live: &PathBuf| {
            let waits = staged.waiting.iter().find(|(place, _)| place == live);
            waits.map_or_else(|| live.clone(), |(_, waits)| waits.clone())
        };
        let files: Vec<PathBuf> = self.files.iter().map(now).collect();
        self.check(target, &files).await
    }

    async fn tell(&mut self, target: &AppConfig) -> Result<Option<Duration>, EffectError> {
        let began = boottime();
        if self.target.check() == Check::InPlace {
            let files = self.files.clone();
            self.check(target, &files).await?;
        }
        self.target
            .apply(boottime() + target.reload_timeout)
            .await?;
        self.told = true;
        Ok(Some(boottime().since(began)))
    }

    /// Most targets prove that something changed: one that was not told has nothing to prove.
    async fn prove(
        &mut self,
        _target: &AppConfig,
        _primary: Option<&PrimaryAt>,
        patience: Duration,
    ) -> Result<Proof, EffectError> {
        if !self.told {
            return Ok(Proof::NotAsked);
        }
        if let Some(why) = self.target.stopped() {
            self.notes.push(why);
            return Ok(Proof::Stopped);
        }
        let proof = self.target.verify(boottime() + patience).await?;
        self.notes.push(proof);
        Ok(Proof::Given)
    }
}
