//! HAProxy: `-c` over its files, the servers' addresses through the runtime socket at once, then a
//! reload by SIGUSR2 with the servers' states kept, and `show servers state` as the proof.
//!
//! The socket comes before the states are saved: after a reload HAProxy takes the port that the
//! state file names, not the one that its configuration names.
//!
//! Source: HAProxy management guide, 3 (SIGUSR2 to the main process), 9.3; configuration manual,
//! `load-server-state-from-file`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::haproxy_state::{Servers, elsewhere, moves, servers_in_file, servers_in_state};
use super::process::Running;
use super::{Check, Place, Target, time_to_look};
use crate::config::settings::HaproxyTarget;
use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::exec::CommandSpec;
use crate::effects::whole_file;
use crate::model::Moment;

/// Bound on one answer: some thousand servers.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Servers that are named at most in one text.
const SERVERS_TOLD_MAX: usize = 5;

/// One change of a file of HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    settings: HaproxyTarget,
    place: Place,
    /// The worker that served right before the reload.
    worker: Option<u32>,
}

impl Haproxy {
    pub(super) fn new(settings: HaproxyTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            worker: None,
        }
    }

    async fn find(&self) -> Result<Running, EffectError> {
        let settings = self.settings.clone();
        let find = move |place: &Place| {
            let program = settings.program.file_name().unwrap_or_default();
            Running::find(place, &settings.pid_file, &program.to_string_lossy())
        };
        self.place.apart(find).await
    }

    /// Its files as they would be: where one of them waits to be replaced, the new one. Names that
    /// lead to the same file are the same file.
    async fn staged_config(&self, files: &[PathBuf]) -> Result<Vec<PathBuf>, EffectError> {
        let configs = self.settings.config.clone();
        let pairs = self.place.files.iter().cloned().zip(files.iter().cloned());
        let pairs: Vec<(PathBuf, PathBuf)> = pairs.collect();
        let same = |one: &Path, other: &Path| {
            let real = |path: &Path| path.canonicalize();
            one == other || matches!((real(one), real(other)), (Ok(a), Ok(b)) if a == b)
        };
        let staged = move |_: &Place| {
            let configs = configs.into_iter().map(|config| {
                let mut pairs = pairs.iter();
                let waits = pairs.find(|(live, _)| same(live, &config));
                waits.map_or(config, |(_, waits)| waits.clone())
            });
            Ok(configs.collect())
        };
        self.place.apart(staged).await
    }

    /// One command, one connection, one answer.
    async fn ask(&self, command: &str, deadline: Moment) -> Result<String, EffectError> {
        let path = &self.settings.socket;
        let failed = |why: &str| {
            let what = format!("cannot ask HAProxy through {}: {why}", path.display());
            EffectError::retryable(self.place.says(what))
                .hint("`stats socket` in its file, level admin, open to the agent's user")
        };
        let asking = async {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream
                .take(ANSWER_BYTES_MAX)
                .read_to_end(&mut answer)
                .await?;
            Ok::<_, std::io::Error>(answer)
        };
        match before(deadline, asking).await {
            None => Err(failed("no answer in time")),
            Some(Err(error)) => Err(failed(&error.to_string())),
            Some(Ok(answer)) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }

    /// The servers that run, and the answer that says so.
    async fn running(&self, deadline: Moment) -> Result<(Servers, String), EffectError> {
        let state = self.ask("show servers state", deadline).await?;
        let Some(servers) = servers_in_state(&state) else {
            let what = format!("HAProxy does not show its servers: {}", first_line(&state));
            return Err(EffectError::permanent(self.place.says(what))
                .hint("give its `stats socket` level admin"));
        };
        Ok((servers, state))
    }

    /// The process that serves. Source: management guide, 9.3 `show info`.
    async fn serving(&self, deadline: Moment) -> Result<u32, EffectError> {
        let info = self.ask("show info", deadline).await?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid: "));
        pid.and_then(|pid| pid.trim().parse().ok()).ok_or_else(|| {
            let what = format!("HAProxy does not tell its number: {}", first_line(&info));
            EffectError::permanent(self.place.says(what))
        })
    }

    async fn servers_in(&self, files: &[PathBuf]) -> Result<Servers, EffectError> {
        let servers = self
            .place
            .read_all(files, |text, _| Ok(servers_in_file(text)));
        Ok(servers.await?.into_iter().flatten().collect())
    }

    async fn wanted(&self) -> Result<Servers, EffectError> {
        self.servers_in(&self.place.files).await
    }

    /// Puts the servers that run where the file says.
    async fn move_servers(&self, deadline: Moment) -> Result<(), EffectError> {
        let (running, _) = self.running(deadline).await?;
        for command in moves(&running, &self.wanted().await?) {
            let answer = self.ask(&command, deadline).await?;
            // A done command that says nothing answers with an empty line.
            let said = answer.trim();
            let done = said.is_empty() || said.contains("changed") || said.contains("no need");
            if !done {
                let what = format!("HAProxy refuses `{command}`: {}", first_line(said));
                return Err(EffectError::permanent(self.place.says(what)));
            }
        }
        Ok(())
    }

    /// Leaves the servers' states where the new worker reads them.
    async fn save_states(&self, path: &Path, deadline: Moment) -> Result<(), EffectError> {
        let (_, state) = self.running(deadline).await?;
        let write = move |path: &PathBuf| whole_file::write_private(path, state.as_bytes());
        let written = self.place.on_file("write", path.to_owned(), write).await;
        written.map_err(|error| {
            error.hint("state_file: a place that the agent may write and HAProxy reads")
        })
    }

    /// Whether a new worker serves everything that the file names; if not, what is missing.
    async fn look(&self, old: u32, deadline: Moment) -> Result<Option<String>, EffectError> {
        if self.serving(deadline).await? == old {
            return Ok(Some("no new worker serves".to_owned()));
        }
        let (running, _) = self.running(deadline).await?;
        let missing = elsewhere(&running, &self.wanted().await?);
        if missing.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = missing
            .iter()
            .take(SERVERS_TOLD_MAX)
            .map(ToString::to_string)
            .collect();
        Ok(Some(format!(
            "{} servers are elsewhere: {}",
            missing.len(),
            names.join(", ")
        )))
    }
}

#[async_trait]
impl Target for Haproxy {
    fn check(&self) -> Check {
        Check::Staged
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.find().await?;
        self.serving(deadline).await.map(|_pid| ())
    }

    async fn validate(
        &mut self,
        files: &[PathBuf],
        deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        let mut command = CommandSpec::new(&self.settings.program, boottime().until(deadline));
        command = command.arg("-c");
        for path in self.staged_config(files).await? {
            command = command.arg("-f").arg(path);
        }
        let hint = "run that command by hand as the agent's user";
        self.place.checked(command, deadline, hint).await?;
        let names: Vec<String> = self
            .servers_in(files)
            .await?
            .into_iter()
            .filter(|(_, address)| address.ip.is_none())
            .map(|(name, _)| name.to_string())
            .take(SERVERS_TOLD_MAX)
            .collect();
        Ok(match names.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "HAProxy looks up the names of {}, and does not start while DNS fails: write \
                 addresses, or init-addr last,libc,none",
                names.join(", ")
            )],
        })
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let main = self.find().await?;
        self.worker = Some(self.serving(deadline).await?);
        self.move_servers(deadline).await?;
        if let Some(path) = self.settings.state_file.clone() {
            self.save_states(&path, deadline).await?;
        }
        let tell = move |place: &Place| main.signal(place, Signal::USR2);
        self.place.apart(tell).await
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        let Some(old) = self.worker else {
            let what = self.place.says("HAProxy was not told to reload");
            return Err(EffectError::permanent(what));
        };
        let mut missing = None;
        loop {
            match self.look(old, deadline).await {
                Ok(None) => break,
                Ok(Some(what)) => missing = Some(what),
                // While one worker takes over from another, the socket may refuse for a moment.
                Err(error) => missing = missing.or(Some(error.what)),
            }
            if !time_to_look(deadline).await {
                let missing = missing.unwrap_or_default();
                let what = format!("HAProxy does not have the file: {missing}");
                return Err(EffectError::retryable(self.place.says(what))
                    .hint("its log says why; it must run with -W, and pid_file be its main one"));
            }
        }
        let count = self.wanted().await?.len();
        Ok(format!(
            "a new worker of HAProxy has {count} servers where the file says"
        ))
    }
}

fn first_line(text: &str) -> &str {
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("nothing")
}
