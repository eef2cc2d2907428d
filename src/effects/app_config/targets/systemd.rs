//! A systemd unit: restart, and the proof that another run of it is active, with the new values.
//!
//! `EnvironmentFile=` is read right before the program starts, so only a restart brings it in;
//! neither `reload` nor `daemon-reload` does. Source: systemd.exec(5), `EnvironmentFile=`.
//!
//! A unit that somebody has stopped stays so: who stopped it had a reason. One that ran before the
//! change is started, also when it ended with the new file.
//!
//! A unit of `Type=simple` counts as active as soon as its program was started, also if that ends
//! a moment later: so it must stay up for a while, and be the same run all the time.
//! Source: systemd.service(5), `Type=`; systemd.exec(5), `$INVOCATION_ID`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use async_trait::async_trait;

use super::systemd_env::assignments;
use super::{Check, Place, Target, time_to_look};
use crate::config::settings::SystemdTarget;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::model::Moment;

/// What of a unit is looked at. Source: org.freedesktop.systemd1(5).
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,InvocationID,MainPID";

/// Larger environments than any kernel passes on. Source: execve(2), limits on size.
const ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;

/// One change of a file of a unit.
#[derive(Debug)]
pub struct Systemd {
    settings: SystemdTarget,
    place: Place,
    /// The run of the unit right before it was restarted.
    invocation: Option<String>,
    /// Whether it ran before the change, once that is known; `apply` may come more than once.
    ran: Option<bool>,
}

/// A unit as `systemctl show` shows it.
#[derive(Debug)]
struct Unit(BTreeMap<String, String>);

impl Unit {
    fn property(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn is_active(&self) -> bool {
        self.property("ActiveState") == "active"
    }

    /// Somebody stopped it, or never started it. One that failed, or is between two attempts to
    /// start, is another thing. Source: org.freedesktop.systemd1(5), `ActiveState`.
    fn is_stopped(&self) -> bool {
        self.property("ActiveState") == "inactive"
    }

    fn has_failed(&self) -> bool {
        self.property("ActiveState") == "failed"
    }

    fn invocation(&self) -> &str {
        self.property("InvocationID")
    }
}

impl Systemd {
    pub(super) fn new(settings: SystemdTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            invocation: None,
            ran: None,
        }
    }

    fn systemctl(&self, verb: &str, deadline: Moment) -> CommandSpec {
        CommandSpec::new(&self.settings.program, boottime().until(deadline))
            .arg("--no-ask-password")
            .arg(verb)
    }

    async fn show(&self, deadline: Moment) -> Result<Unit, EffectError> {
        let command = self.systemctl("show", deadline).arg(PROPERTIES);
        let command = command.arg("--").arg(&self.settings.unit);
        let shown = self.place.run(command, deadline).await?;
        let pairs = shown.stdout.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(Unit(pairs.collect()))
    }

    /// Waits until another run than `old` is active; its id.
    async fn wait_active(&self, old: &str, deadline: Moment) -> Result<Unit, EffectError> {
        let mut why = None;
        loop {
            match self.show(deadline).await {
                Ok(unit) if unit.is_active() && unit.invocation() != old => return Ok(unit),
                Ok(unit) if unit.has_failed() => {
                    return Err(self.not_up("it failed"));
                }
                Ok(unit) if unit.is_active() => why = Some("it was not started anew".to_owned()),
                Ok(_) => why = Some("it is not active in time".to_owned()),
                Err(error) => why = why.or(Some(error.what)),
            }
            if !time_to_look(deadline).await {
                return Err(self.not_up(&why.unwrap_or_default()));
            }
        }
    }

    fn not_up(&self, why: &str) -> EffectError {
        let unit = &self.settings.unit;
        let what = self
            .place
            .says(format!("unit {unit} is not up again: {why}"));
        EffectError::retryable(what).hint(format!("journalctl --unit {unit}"))
    }

    /// The names whose values the program was not started with; `None` if that cannot be seen.
    async fn not_in_environment(&self, unit: &Unit) -> Result<Option<Vec<String>>, EffectError> {
        let path = format!("/proc/{}/environ", unit.property("MainPID"));
        let read = |path: &PathBuf| {
            let mut environment = Vec::new();
            let mut bounded = File::open(path)?.take(ENVIRONMENT_BYTES_MAX);
            bounded.read_to_end(&mut environment).map(|_| environment)
        };
        let environment = self.place.on_file("read", path.into(), read).await;
        let environment = environment.unwrap_or_default();
        if environment.is_empty() {
            return Ok(None);
        }
        let has: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
        let mut wanted = BTreeMap::new();
        for pairs in self.assignments(&self.place.files).await? {
            wanted.extend(pairs);
        }
        let missing = wanted.into_iter().filter(|(name, value)| {
            let entry = format!("{name}={value}");
            !has.contains(&entry.as_bytes())
        });
        Ok(Some(missing.map(|(name, _)| name).collect()))
    }

    async fn assignments(
        &self,
        files: &[PathBuf],
    ) -> Result<Vec<Vec<(String, String)>>, EffectError> {
        let read = self.place.read_all(files, |text, path| {
            assignments(text).map_err(|error| {
                let what = format!("systemd would skip a line of {}", path.display());
                EffectError::permanent(self.place.says(what))
                    .hint("NAME=value lines only, comments on lines of their own")
                    .caused_by(error)
            })
        });
        read.await
    }
}

#[async_trait]
impl Target for Systemd {
    fn check(&self) -> Check {
        Check::Staged
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let unit = self.show(deadline).await?;
        if unit.property("LoadState") == "loaded" {
            self.ran = Some(self.ran() || !unit.is_stopped());
            return Ok(());
        }
        let what = format!("systemd has no unit {}", self.settings.unit);
        Err(EffectError::permanent(self.place.says(what)).hint("its full name, e.g. shop.service"))
    }

    async fn validate(
        &mut self,
        files: &[PathBuf],
        _deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        if self.settings.environment_file {
            self.assignments(files).await?;
        }
        Ok(Vec::new())
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let unit = self.show(deadline).await?;
        if !*self.ran.get_or_insert(!unit.is_stopped()) {
            return Ok(());
        }
        self.invocation = Some(unit.invocation().to_owned());
        if unit.has_failed() {
            // It may have been started too often, and would not be started again. Source:
            // systemctl(1), `reset-failed`. What cannot be reset shows in the restart.
            let reset = self.systemctl("reset-failed", deadline);
            let reset = reset.arg("--").arg(&self.settings.unit);
            self.place.run(reset, deadline).await.ok();
        }
        let command = self.systemctl("restart", deadline);
        let command = command.arg("--").arg(&self.settings.unit);
        self.place.run(command, deadline).await.map(|_finished| ())
    }

    fn ran(&self) -> bool {
        self.ran == Some(true)
    }

    fn must_run(&mut self) {
        self.ran = Some(true);
    }

    fn stopped(&self) -> Option<String> {
        let unit = &self.settings.unit;
        (self.ran == Some(false)).then(|| {
            format!("unit {unit} is stopped, and was not started: it reads the file when it is")
        })
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let Some(old) = self.invocation.clone() else {
            let what = self.place.says("the unit was not restarted");
            return Err(EffectError::permanent(what));
        };
        let unit = self.wait_active(&old, deadline).await?;
        let settled = deadline.min(boottime() + self.settings.settle);
        while time_to_look(settled).await {
            let now = self.show(deadline).await?;
            if !now.is_active() || now.invocation() != unit.invocation() {
                return Err(self.not_up("it did not stay up"));
            }
        }
        let name = &self.settings.unit;
        if !self.settings.environment_file {
            return Ok(format!("unit {name} runs anew"));
        }
        match self.not_in_environment(&unit).await? {
            None => Ok(format!(
                "unit {name} runs anew; its environment cannot be seen"
            )),
            Some(missing) if missing.is_empty() => {
                Ok(format!("unit {name} runs anew, with the file's values"))
            }
            Some(missing) => {
                let what = format!("unit {name} runs without the file's {}", missing.join(", "));
                Err(EffectError::permanent(self.place.says(what))
                    .hint("EnvironmentFile= of the unit names another file, or a later one wins"))
            }
        }
    }
}
