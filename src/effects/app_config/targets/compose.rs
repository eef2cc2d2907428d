//! A service of docker compose: a new container, because an old one never reads its files again.
//!
//! `restart` keeps the container, and with it the environment that it was made with; `up` with
//! `--force-recreate` makes another. `--no-deps` leaves the service's database and its like alone.
//! Source: Docker, "docker compose restart" (changes of the environment are not taken), "docker
//! compose up".

use std::path::PathBuf;

use async_trait::async_trait;

use super::{Check, Place, Target, time_to_look};
use crate::config::settings::ComposeTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::model::Moment;

/// One change of a file of a service.
#[derive(Debug)]
pub struct Compose {
    settings: ComposeTarget,
    place: Place,
    /// The containers right before the change; `None` when nothing was applied.
    old: Option<Vec<String>>,
}

impl Compose {
    pub(super) fn new(settings: ComposeTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            old: None,
        }
    }

    fn compose(&self, words: &[&str], deadline: Moment) -> CommandSpec {
        CommandSpec::new(&self.settings.program, boottime().until(deadline))
            .args(["compose", "-f"])
            .arg(&self.settings.compose_file)
            .args(words)
    }

    /// The ids of the service's containers that run.
    async fn containers(&self, deadline: Moment) -> Result<Vec<String>, EffectError> {
        let words = [
            "ps",
            "--quiet",
            "--status",
            "running",
            &self.settings.service,
        ];
        let shown = self.place.run(self.compose(&words, deadline), deadline);
        let ids = shown.await?.stdout;
        Ok(ids.split_whitespace().map(str::to_owned).collect())
    }
}

#[async_trait]
impl Target for Compose {
    fn check(&self) -> Check {
        Check::InPlace
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.containers(deadline).await.map(|_ids| ())
    }

    async fn validate(
        &mut self,
        _files: &[PathBuf],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        // It reads the env files as well, and prints nothing of them.
        let command = self.compose(&["config", "--quiet"], deadline);
        let hint = "run that command by hand as the agent's user";
        self.place.checked(command, deadline, hint).await?;
        Ok(Vec::new())
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.old = Some(self.containers(deadline).await?);
        let service = &self.settings.service;
        let words = ["up", "-d", "--no-deps", "--force-recreate", service];
        let command = self.compose(&words, deadline);
        self.place.run(command, deadline).await.map(|_finished| ())
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let service = &self.settings.service;
        let Some(old) = &self.old else {
            let what = self.place.says(format!("{service} was not made anew"));
            return Err(EffectError::permanent(what));
        };
        let mut why = None;
        loop {
            match self.containers(deadline).await {
                Ok(now) => {
                    let left = now.iter().filter(|id| old.contains(id)).count();
                    let count = now.len();
                    match (left, count) {
                        (_, 0) => why = Some(format!("no container of {service} runs")),
                        (0, _) => return Ok(format!("{count} new containers of {service} run")),
                        _ => why = Some(format!("{left} containers of {service} are old ones")),
                    }
                }
                Err(error) => why = why.or(Some(error.what)),
            }
            if !time_to_look(deadline).await {
                let what = self.place.says(why.unwrap_or_default());
                let hint = format!("docker compose logs {service}");
                return Err(EffectError::retryable(what).hint(hint));
            }
        }
    }
}
