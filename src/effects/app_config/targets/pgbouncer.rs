//! PgBouncer: PAUSE, the new file, RELOAD, what it shows, RESUME.
//!
//! While a database is paused its clients wait instead of failing, and no connection to the old
//! server is left. PAUSE waits for open transactions, so it is bounded; whoever gives it up sends
//! RESUME on another connection. Files change after the promotion (S9): the old server has been
//! fenced by then, so an open transaction there is lost already, and by default what still holds a
//! connection to it is cut off.
//!
//! A pause never outlives its reason, nor `pause_timeout` as a whole: what takes longer goes on
//! without one. `after` resumes, so does dropping this, and a note in the agent's directory,
//! written before PAUSE, makes whoever comes next do it (`pgbouncer_note`).
//!
//! Source: PgBouncer, usage.md, "Process controlling commands": PAUSE, KILL (which pauses), RESUME,
//! RELOAD, WAIT_CLOSE; `SHOW DATABASES`, `SHOW SERVERS`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::SimpleQueryRow;

use super::pgbouncer_console::{Console, ConsoleError};
use super::pgbouncer_ini::{self, Home};
use super::{Check, Place, Target, pgbouncer_note, time_to_look};
use crate::config::settings::{PauseExpired, PgbouncerTarget};
use crate::effects::app_config::memory::MemoryDir;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;

/// What to do when nobody can resume.
const THEY_WAIT: &str = "its clients wait: connect to the console and say RESUME";

/// Bound on resuming when nobody waits for it any more.
const LAST_RESUME: Duration = Duration::from_secs(10);

/// One change of a file of PgBouncer.
#[derive(Debug)]
pub struct Pgbouncer {
    settings: PgbouncerTarget,
    place: Place,
    /// What is paused by this change.
    pause: Option<Pause>,
    /// Kept from one command to the next: a RELOAD that stops at a mistake may leave PgBouncer
    /// without `admin_users`, and then only who is in already can give it the old file back.
    console: Option<Console>,
    /// This is what is left of a change that was dropped: nobody takes it up after this one.
    last: bool,
}

/// A pause of this change.
#[derive(Debug, Clone)]
struct Pause {
    databases: BTreeSet<String>,
    /// When it must be over, however far the change is.
    until: Moment,
}

/// A database as it is shown.
#[derive(Debug)]
struct Shown {
    host: Option<String>,
    port: String,
    paused: bool,
}

impl Pgbouncer {
    pub(super) fn new(settings: PgbouncerTarget, place: Place) -> Self {
        Self {
            settings,
            place,
            pause: None,
            console: None,
            last: false,
        }
    }

    /// Runs one command. A connection that still waits for an answer takes no other.
    async fn run(
        &mut self,
        command: &str,
        deadline: Moment,
    ) -> Result<Vec<SimpleQueryRow>, ConsoleError> {
        let console = match self.console.take() {
            Some(console) => console,
            None => Console::open(&self.settings, &self.place, deadline)
                .await
                .map_err(ConsoleError::Broken)?,
        };
        let ran = console.run(command, deadline).await;
        let usable = match ran {
            Ok(_) | Err(ConsoleError::Refused(_)) => true,
            // What only shows something answers late, but answers.
            Err(ConsoleError::TimedOut(_)) => command.starts_with("SHOW"),
            Err(ConsoleError::Broken(_)) => false,
        };
        self.console = usable.then_some(console);
        ran
    }

    /// The configured databases as they run.
    async fn shown(&mut self, deadline: Moment) -> Result<BTreeMap<String, Shown>, EffectError> {
        let rows = self.run("SHOW DATABASES", deadline).await?;
        let mut shown = BTreeMap::new();
        for row in &rows {
            let field = |name: &str| row.try_get(name).ok().flatten();
            let Some(name) = field("name") else { continue };
            if self.settings.databases.iter().any(|it| it == name) {
                let one = Shown {
                    host: field("host").map(str::to_owned),
                    port: field("port").unwrap_or_default().to_owned(),
                    paused: field("paused") == Some("1"),
                };
                shown.insert(name.to_owned(), one);
            }
        }
        match self
            .settings
            .databases
            .iter()
            .find(|it| !shown.contains_key(*it))
        {
            None => Ok(shown),
            Some(missing) => {
                let what = format!("PgBouncer has no database {missing}");
                Err(EffectError::permanent(self.place.says(what))
                    .hint("databases: names from the section [databases] of its file"))
            }
        }
    }

    /// Pauses what is not paused already: that is somebody else's pause, and stays.
    async fn pause(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let shown = self.shown(deadline).await?;
        let running = shown.iter().filter(|(_, it)| !it.paused);
        let names: BTreeSet<String> = running.map(|(name, _)| name.clone()).collect();
        let bound = deadline.min(boottime() + self.settings.pause_timeout);
        self.note(&names, bound).await?;
        for name in &names {
            let paused = self.run(&format!("PAUSE \"{name}\""), bound).await;
            let Err(error) = paused else { continue };
            self.resume(deadline).await?;
            match (error, self.settings.pause_expired) {
                (ConsoleError::TimedOut(_), PauseExpired::Kill) => return Ok(()),
                (error, PauseExpired::Kill | PauseExpired::Fail) => {
                    return Err(EffectError::from(error)
                        .hint("open transactions hold it up; see SHOW SERVERS, or pause_expired"));
                }
            }
        }
        Ok(())
    }

    /// Notes what is about to be paused. Where that is nothing, somebody else's pause stays as it
    /// is.
    async fn note(&mut self, names: &BTreeSet<String>, until: Moment) -> Result<(), EffectError> {
        if names.is_empty() {
            return Ok(());
        }
        pgbouncer_note::write(&self.place, names).await?;
        self.pause = Some(Pause {
            databases: names.clone(),
            until,
        });
        Ok(())
    }

    /// Lets the clients of this change's databases go on, and forgets the note. A database that is
    /// not paused, or not there any more, is fine.
    async fn resume(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let Some(pause) = self.pause.clone() else {
            return Ok(());
        };
        let mut failed = None;
        for name in &pause.databases {
            match self.run(&format!("RESUME \"{name}\""), deadline).await {
                Ok(_) => {}
                // It refuses what is not paused, but also who may not.
                Err(ConsoleError::Refused(error)) => match self.is_paused(name, deadline).await {
                    Ok(false) => {}
                    Ok(true) | Err(_) => failed = failed.or(Some(error)),
                },
                Err(error @ (ConsoleError::TimedOut(_) | ConsoleError::Broken(_))) => {
                    failed = failed.or(Some(error.into()));
                }
            }
        }
        if let Some(error) = failed {
            return Err(error.hint(THEY_WAIT));
        }
        self.pause = None;
        pgbouncer_note::remove(&self.place).await
    }

    /// Whether this database is shown as paused.
    async fn is_paused(&mut self, name: &str, deadline: Moment) -> Result<bool, EffectError> {
        let rows = self.run("SHOW DATABASES", deadline).await?;
        Ok(rows.iter().any(|row| {
            let has = |column: &str, value: &str| row.try_get(column).ok().flatten() == Some(value);
            has("name", name) && has("paused", "1")
        }))
    }

    /// Resumes if the pause has lasted for as long as it may. What is left is done without one.
    async fn resume_in_time(&mut self, deadline: Moment) -> Result<(), EffectError> {
        match &self.pause {
            Some(pause) if boottime() >= pause.until => self.resume(deadline).await,
            Some(_) | None => Ok(()),
        }
    }

    /// When the next command must have ended: nobody is held up by it for too long.
    fn bound(&self, deadline: Moment) -> Moment {
        let pause = self.pause.as_ref();
        pause.map_or(deadline, |pause| deadline.min(pause.until))
    }

    /// Waits until no connection to the old server is left; cuts off those that stay too long.
    async fn close_old(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let bound = deadline.min(boottime() + self.settings.close_timeout);
        for name in self.settings.databases.clone() {
            match self.run(&format!("WAIT_CLOSE \"{name}\""), bound).await {
                Ok(_) => {}
                Err(ConsoleError::TimedOut(_)) => return self.kill(deadline).await,
                Err(error @ (ConsoleError::Refused(_) | ConsoleError::Broken(_))) => {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Cuts every connection off, those of clients too, and lets them come back.
    async fn kill(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let shown = self.shown(deadline).await?;
        let running = shown.into_iter().filter(|(_, it)| !it.paused);
        let names: BTreeSet<String> = running.map(|(name, _)| name).collect();
        self.note(&names, deadline).await?;
        for name in &names {
            self.run(&format!("KILL \"{name}\""), deadline).await?;
        }
        self.resume(deadline).await
    }

    async fn wanted(&self, files: &[PathBuf]) -> Result<BTreeMap<String, Home>, EffectError> {
        let read = self.place.read_all(files, |text, path| {
            pgbouncer_ini::databases(text).map_err(|error| {
                let what = format!("PgBouncer would not read {}", path.display());
                EffectError::permanent(self.place.says(what)).caused_by(error)
            })
        });
        let databases = read.await?;
        let databases: BTreeMap<String, Home> = databases.into_iter().flatten().collect();
        let mut names = self.settings.databases.iter();
        match names.find(|name| !databases.contains_key(*name)) {
            None => Ok(databases),
            Some(missing) => {
                let what = format!("the files name no database {missing}");
                Err(EffectError::permanent(self.place.says(what))
                    .hint("databases: names from the section [databases] of those files"))
            }
        }
    }

    /// What of the file PgBouncer does not have yet.
    async fn missing(
        &mut self,
        wanted: &BTreeMap<String, Home>,
        deadline: Moment,
    ) -> Result<Option<String>, EffectError> {
        for (name, shown) in self.shown(deadline).await? {
            let Some(home) = wanted.get(&name) else {
                continue;
            };
            if (&shown.host, &shown.port) != (&home.host, &home.port) {
                return Ok(Some(format!("{name} is still elsewhere")));
            }
        }
        for row in self.run("SHOW SERVERS", deadline).await? {
            let field = |name: &str| row.try_get(name).ok().flatten().unwrap_or_default();
            let Some(home) = wanted.get(field("database")) else {
                continue;
            };
            if !self
                .settings
                .databases
                .iter()
                .any(|it| it == field("database"))
            {
                continue;
            }
            // A name has been looked up by then: only an address can be compared.
            let wanted_ip: Option<IpAddr> = home.host.as_deref().and_then(|it| it.parse().ok());
            let moved = wanted_ip.is_some_and(|ip| field("addr").parse() != Ok(ip));
            if moved || home.host.is_some() && field("port") != home.port {
                let database = field("database");
                return Ok(Some(format!(
                    "{database} has a connection to the old server"
                )));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Target for Pgbouncer {
    fn check(&self) -> Check {
        Check::Staged
    }

    async fn left_behind(&mut self) -> Result<bool, EffectError> {
        pgbouncer_note::is_there(&self.place).await
    }

    async fn recover(&mut self, deadline: Moment) -> Result<Option<String>, EffectError> {
        let Some(databases) = pgbouncer_note::read(&self.place).await? else {
            return Ok(None);
        };
        let names = listed(&databases);
        self.pause = Some(Pause {
            databases,
            until: deadline,
        });
        let resumed = self.resume(deadline).await;
        // The note stays for whoever comes next.
        self.pause = None;
        resumed?;
        // Older agents noted, and left, that they paused nothing.
        Ok((!names.is_empty()).then(|| format!("PgBouncer may go on: {names}")))
    }

    async fn before(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.recover(deadline).await?;
        self.pause(deadline).await
    }

    async fn validate(
        &mut self,
        files: &[PathBuf],
        _deadline: Moment,
    ) -> Result<Vec<String>, EffectError> {
        self.wanted(files).await.map(|_databases| Vec::new())
    }

    async fn apply(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.resume_in_time(deadline).await?;
        if self.pause.is_some() {
            match self.run("RELOAD", self.bound(deadline)).await {
                // PAUSE has closed every connection.
                Ok(_) => return Ok(()),
                Err(ConsoleError::TimedOut(_)) => self.resume(deadline).await?,
                Err(error @ (ConsoleError::Refused(_) | ConsoleError::Broken(_))) => {
                    return Err(error.into());
                }
            }
        }
        self.run("RELOAD", deadline).await?;
        self.close_old(deadline).await
    }

    async fn verify(&mut self, deadline: Moment) -> Result<String, EffectError> {
        // A file system that hangs keeps nobody waiting for longer than the pause may last.
        let reader = Self::new(self.settings.clone(), self.place.clone());
        let mut reading = pin!(reader.wanted(&reader.place.files));
        let read = tokio::select! {
            biased;
            read = &mut reading => Some(read),
            () = self.overstay() => None,
        };
        let wanted = match read {
            Some(read) => read?,
            None => reading.await?,
        };
        let paused = match self.pause {
            None => "without a pause",
            Some(_) => "during a pause",
        };
        let mut missing = None;
        loop {
            self.resume_in_time(deadline).await?;
            match self.missing(&wanted, self.bound(deadline)).await {
                Ok(None) => break,
                Ok(Some(what)) => missing = Some(what),
                Err(error) => missing = missing.or(Some(error.what)),
            }
            if !time_to_look(deadline).await {
                let missing = missing.unwrap_or_default();
                let what = format!("PgBouncer does not have the file: {missing}");
                return Err(EffectError::retryable(self.place.says(what))
                    .hint("its log says why; RELOAD does not"));
            }
        }
        let names: BTreeSet<String> = self.settings.databases.iter().cloned().collect();
        let names = listed(&names);
        Ok(format!(
            "PgBouncer shows the new server for {names}, {paused}"
        ))
    }

    async fn overstay(&mut self) {
        let Some(until) = self.pause.as_ref().map(|pause| pause.until) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(boottime().until(until)).await;
        if let Err(error) = self.resume(boottime() + LAST_RESUME).await {
            // It is tried again before the change goes on.
            tracing::warn!(%error, "cannot resume PgBouncer in time");
        }
    }

    async fn after(&mut self, deadline: Moment) -> Result<(), EffectError> {
        self.resume(deadline).await
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        // What is spawned while the runtime ends is dropped at once.
        if self.pause.is_none() || self.last {
            return;
        }
        let mut rest = Self {
            last: true,
            settings: self.settings.clone(),
            place: self.place.clone(),
            pause: None,
            console: self.console.take(),
        };
        // Without a runtime the process is about to end: the note stays for whoever comes next.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Under the lock: by now another change may have paused for itself, and have noted
                // that. What is noted while nobody is at work is what was left behind.
                let resumed = match MemoryDir::at(&rest.place.dir).lock().await {
                    Ok(lock) => {
                        let resumed = rest.recover(boottime() + LAST_RESUME).await;
                        drop(lock);
                        resumed
                    }
                    Err(error) => Err(error),
                };
                // Once is enough: the note stays.
                if let Err(error) = resumed {
                    tracing::warn!(%error, "cannot resume PgBouncer");
                }
            });
        }
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}
