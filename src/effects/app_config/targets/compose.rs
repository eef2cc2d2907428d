//! A service of docker compose: a new container, because an old one never reads its files again.
//!
//! `restart` keeps the container, and with it the environment that it was made with; `up` with
//! `--force-recreate` makes another. `--no-deps` leaves the service's database and its like alone.
//! Source: Docker, "docker compose restart" (changes of the environment are not taken), "docker
//! compose up".
//!
//! A service of which nothing ran before the change was stopped by somebody, and stays so. One that
//! is being restarted all the time is meant to run, and one that ended with the new file as well.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::{Check, Place, Target, time_to_look};
use crate::config::settings::ComposeTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::model::Moment;

/// How long the new containers must stay up, and be the same, to count as up.
const SETTLE: Duration = Duration::from_secs(1);

/// States of a container that is meant to run. Source: Docker, "docker compose ps", `--status`.
const MEANT_TO_RUN: [&str; 4] = ["--status", "running", "--status", "restarting"];

/// What changes when a container ends and is started again. Source: Docker, "docker inspect".
const STARTS: &str = "{{.State.StartedAt}} {{.RestartCount}}";

/// One change of a file of a service.
#[derive(Debug)]
pub struct Compose {
    settings: ComposeTarget,
    place: Place,
    /// The containers right before the change; `None` when nothing was applied.
    old: Option<Vec<String>>,
    /// Whether any ran before the change, once that is known; `apply` may come more than once.
    ran: Option<bool>,
}

impl Compose {
    pub(super) fn new(settings: ComposeTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            old: None,
            ran: None,
        }
    }

    fn compose(&self, words: &[&str], deadline: Moment) -> CommandSpec {
        CommandSpec::new(&self.settings.program, boottime().until(deadline))
            .args(["compose", "-f"])
            .arg(&self.settings.compose_file)
            .args(words)
    }

    /// The ids of the service's containers in these states.
    async fn containers(
        &self,
        states: &[&str],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        let words: Vec<&str> = [&["ps", "--quiet"], states, &[&self.settings.service]].concat();
        let shown = self.place.run(self.compose(&words, deadline), deadline);
        let ids = shown.await?.stdout;
        Ok(ids.split_whitespace().map(str::to_owned).collect())
    }

    /// When each of these was started, and how often again.
    async fn starts(&self, ids: &[String], deadline: Moment) -> Result<String, EffectError> {
        let command = CommandSpec::new(&self.settings.program, boottime().until(deadline))
            .args(["inspect", "--format", STARTS])
            .args(ids);
        Ok(self.place.run(command, deadline).await?.stdout)
    }

    /// Waits until only containers run that were not there before; their ids.
    async fn wait_new(&self, old: &[String], deadline: Moment) -> Result<Vec<String>, EffectError> {
        let service = &self.settings.service;
        let mut why = None;
        loop {
            match self.containers(&["--status", "running"], deadline).await {
                Ok(now) => {
                    let left = now.iter().filter(|id| old.contains(id)).count();
                    match (left, now.is_empty()) {
                        (_, true) => why = Some(format!("no container of {service} runs")),
                        (0, false) => return Ok(now),
                        _ => why = Some(format!("{left} containers of {service} are old ones")),
                    }
                }
                Err(error) => why = why.or(Some(error.what)),
            }
            if !time_to_look(deadline).await {
                return Err(self.not_up(why.unwrap_or_default()));
            }
        }
    }

    fn not_up(&self, why: String) -> EffectError {
        let hint = format!("docker compose logs {}", self.settings.service);
        EffectError::retryable(self.place.says(why)).hint(hint)
    }
}

#[async_trait]
impl Target for Compose {
    fn check(&self) -> Check {
        Check::InPlace
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let now = self.containers(&MEANT_TO_RUN, deadline).await?;
        self.ran = Some(self.ran() || !now.is_empty());
        Ok(())
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
        let old = self.containers(&MEANT_TO_RUN, deadline).await?;
        if !*self.ran.get_or_insert(!old.is_empty()) {
            return Ok(());
        }
        self.old = Some(old);
        let service = &self.settings.service;
        let words = ["up", "-d", "--no-deps", "--force-recreate", service];
        let command = self.compose(&words, deadline);
        self.place.run(command, deadline).await.map(|_finished| ())
    }

    fn ran(&self) -> bool {
        self.ran == Some(true)
    }

    fn must_run(&mut self) {
        self.ran = Some(true);
    }

    fn stopped(&self) -> Option<String> {
        let service = &self.settings.service;
        (self.ran == Some(false)).then(|| {
            format!("no container of {service} ran, and none was started: the next reads the file")
        })
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let service = &self.settings.service;
        let Some(old) = &self.old else {
            let what = self.place.says(format!("{service} was not made anew"));
            return Err(EffectError::permanent(what));
        };
        let new = self.wait_new(old, deadline).await?;
        let starts = self.starts(&new, deadline).await?;
        tokio::time::sleep(SETTLE.min(boottime().until(deadline))).await;
        let still = self.containers(&["--status", "running"], deadline).await?;
        if still != new || self.starts(&new, deadline).await? != starts {
            return Err(self.not_up(format!("the new containers of {service} did not stay up")));
        }
        Ok(format!("{} new containers of {service} run", new.len()))
    }
}
