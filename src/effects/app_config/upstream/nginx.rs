//! An nginx that is told by a configured command, and for which nobody configured how it is asked.
//!
//! The exit code of such a command says little: nginx answers a reload before it has read its
//! files, and stays with the old ones if it does not like the new ones. So its workers are looked
//! at, if it runs on this host; of any other, the command is believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::applier::{Applier, Proof, StagedPaths};
use super::super::command::ByCommand;
use super::super::off_thread;
use super::super::targets::LOOK_EVERY;
use super::super::targets::nginx_reload::{Before, Look};
use crate::config::settings::AppConfig;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::plan::PrimaryAt;

/// `validate` and `reload` of a target, and a look at the nginx that reads its file.
#[derive(Debug)]
pub(super) struct NginxByCommand {
    by_command: ByCommand,
    file: PathBuf,
    /// It was there right before the change.
    found: bool,
    /// As it was right before it was told; more than one where several read the same directory.
    told: Arc<Vec<Before>>,
    notes: Vec<String>,
}

impl NginxByCommand {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            by_command: ByCommand,
            file,
            found: false,
            told: Arc::default(),
            notes: Vec::new(),
        }
    }

    async fn find(&self, target: &AppConfig) -> Result<Vec<Before>, EffectError> {
        let file = self.file.clone();
        off_thread(&target.name, move || Ok(Before::that_read(&file))).await
    }

    /// `None`: not yet.
    async fn look(&self, target: &AppConfig) -> Result<Option<usize>, EffectError> {
        let (told, file) = (Arc::clone(&self.told), self.file.clone());
        let name = target.name.clone();
        off_thread(&target.name, move || looked(&name, &told, &file)).await
    }
}

fn looked(name: &str, told: &[Before], file: &Path) -> Result<Option<usize>, EffectError> {
    let (mut taken, mut ended) = (None, 0);
    for before in told {
        match before.look() {
            Look::Taken { workers } => taken = Some(workers),
            Look::NotYet => {}
            Look::Ended => ended += 1,
            Look::Refused { line } => {
                let what = format!("app config {name}: nginx keeps the old configuration: {line}");
                return Err(EffectError::permanent(what).hint("run nginx -t by hand"));
            }
        }
    }
    // A command may have started it anew.
    if ended == told.len() && !Before::that_read(file).is_empty() {
        taken = Some(0);
    }
    Ok(taken)
}

#[async_trait]
impl Applier for NginxByCommand {
    async fn begin(&mut self, target: &AppConfig) -> Result<(), EffectError> {
        self.found = !self.find(target).await?.is_empty();
        Ok(())
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn validates(&self, target: &AppConfig) -> bool {
        self.by_command.validates(target)
    }

    fn proves(&self, _target: &AppConfig) -> bool {
        self.found
    }

    async fn validate(
        &mut self,
        target: &AppConfig,
        staged: &StagedPaths,
    ) -> Result<(), EffectError> {
        self.by_command.validate(target, staged).await
    }

    async fn tell(&mut self, target: &AppConfig) -> Result<Option<Duration>, EffectError> {
        self.told = Arc::new(self.find(target).await?);
        self.by_command.tell(target).await
    }

    async fn prove(
        &mut self,
        target: &AppConfig,
        _primary: Option<&PrimaryAt>,
        patience: Duration,
    ) -> Result<Proof, EffectError> {
        if self.told.is_empty() && !self.found {
            return Ok(Proof::NotAsked);
        }
        if self.told.is_empty() {
            // A container in which the file alone is mounted keeps the file that was there.
            return Err(EffectError::retryable(format!(
                "app config {}: the nginx that had {} before the change is gone, or has another \
                 file there now",
                target.name,
                self.file.display()
            ))
            .hint("start it; if it runs in a container, mount the file's directory there"));
        }
        let deadline = boottime() + patience;
        loop {
            if let Some(workers) = self.look(target).await? {
                self.notes.push(match workers {
                    0 => "nginx was started anew".to_owned(),
                    new => format!("nginx has {new} new workers"),
                });
                return Ok(Proof::Given);
            }
            if boottime() >= deadline {
                return Err(EffectError::retryable(format!(
                    "app config {}: nginx has not replaced its workers within {patience:?}: it \
                     keeps the old configuration",
                    target.name
                ))
                .hint("its error log says why; does reload reload the nginx of this file?"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
