//! App config: files of other programs that name the primary, kept in line with it.
//!
//! Owns: editing the values of files in place ([`mod@format`], [`dotenv`], [`url`]: pure),
//! changing all files of an app together (`transaction`), what is remembered of it (`memory`,
//! `generations`), and how the app is told and asked (`applier`). Must not decide which values are
//! right: they come in the plan. Start reading at [`apply`].
//!
//! Upholds S8: a file remembers the epoch that wrote it, in a comment and in `state_dir`, and a
//! lower one is refused.

mod applier;
pub mod block;
mod command;
pub mod dotenv;
mod dotenv_scan;
mod draft;
pub mod format;
pub mod formats;
mod generations;
mod memory;
mod ready_made;
mod rendering;
mod replacing;
mod staging;
pub mod targets;
mod transaction;
pub mod upstream;
pub mod url;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::applier::{Applier, applier_of};
use self::draft::{Draft, Hand, Job, Wish};
pub use self::generations::Generation;
use self::memory::{Memory, MemoryDir};
pub use self::rendering::Surroundings;
use self::rendering::{Rendering, names_upstreams, rehearse};
use self::transaction::Transaction;
use super::clock::{boottime, wall};
use super::error::EffectError;
use crate::config::settings::{AppConfig, AppConfigTemplate};
use crate::model::Epoch;
use crate::model::plan::{FileEdits, PrimaryAt};

/// Bound on reading and replacing some small files: only a hanging file system takes longer.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound on one attempt to put right what a killed change left behind: others wait for its lock.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Threads that may hang in the file systems of one target.
const THREADS_MAX: usize = 4;

/// What a target's files shall say.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// Whose files.
    pub target: &'a AppConfig,
    /// Which values, file by file.
    pub files: Vec<FileEdits>,
    /// The primary that the values name, for the command that asks the running app.
    pub primary: Option<PrimaryAt>,
    /// What else templates see.
    pub surroundings: &'a Arc<Surroundings>,
    /// Under which epoch (S8).
    pub epoch: Epoch,
    /// Where the agent keeps its things.
    pub state_dir: &'a Path,
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// True when a value of a file is different now.
    pub changed: bool,
    /// One line for people.
    pub note: String,
}

/// What [`observe`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The files have the wanted values under this epoch, and the app was told.
    AlreadyDone,
    /// Something is left to do.
    Needed {
        /// What, in words.
        what: String,
    },
}

/// What [`look`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The files, and which of their keys have other values than they should.
    pub files: Vec<(PathBuf, Vec<String>)>,
    /// Somebody has changed a file since the agent wrote it, or looked at it.
    pub edited: bool,
    /// The agent wrote them as they are, under this epoch, and not because a person chose a text.
    pub ours: bool,
    /// A change has begun and not ended, or the app was not told of the last one.
    pub unfinished: bool,
    /// What is left to do, if anything.
    pub observed: Observed,
    /// The last change did not hold: why, and for how long it is left alone yet.
    pub failed: Option<(String, Duration)>,
}

impl Looked {
    /// Nothing but these files differs, which follow upstreams, or a change of them has to be
    /// ended, and no other hand or plan is in it: the agent may render them by itself.
    #[must_use]
    pub fn only_upstreams(&self, following: &[PathBuf]) -> bool {
        let mut differ = self.files.iter().filter(|(_, keys)| !keys.is_empty());
        let mut any = false;
        let only = differ.all(|(path, _)| {
            any = true;
            following.contains(path)
        });
        self.ours && self.failed.is_none() && only && (any || self.unfinished)
    }
}

/// Looks at the files and at what is remembered, changing nothing.
///
/// # Errors
/// When a file cannot be read or edited, or when a newer epoch wrote it.
pub async fn look(change: &Change<'_>) -> Result<Looked, EffectError> {
    let job = change.job()?;
    off_thread(&change.target.name, move || {
        let memory = job.memory()?;
        let draft = job.draft()?;
        let written = memory.written_hash.as_ref();
        let edited = written.is_some_and(|written| *written != draft.old_hash());
        let hash = draft.new_hash();
        let failed = memory.failed.as_ref().and_then(|failed| {
            let left = failed.wait(&hash, wall())?;
            Some((failed.why.clone(), left))
        });
        Ok(Looked {
            edited: edited && memory.change.is_none(),
            ours: job.is_ours(&memory, &draft),
            unfinished: memory.change.is_some() || memory.reload_is_due(),
            observed: observed(&job, &memory, &draft),
            files: draft
                .files
                .into_iter()
                .map(|file| (file.path, file.changed))
                .collect(),
            failed,
        })
    })
    .await
}

/// Looks whether the files have the wanted values and whether the app was told, changing nothing.
///
/// # Errors
/// When a file cannot be read or edited, or when a newer epoch wrote it.
pub async fn observe(change: &Change<'_>) -> Result<Observed, EffectError> {
    look(change).await.map(|looked| looked.observed)
}

fn observed(job: &Job, memory: &Memory, draft: &Draft) -> Observed {
    let what = if memory.change.is_some() {
        "an interrupted change to be ended".to_owned()
    } else if draft.changes_values() {
        format!("{} to be changed", draft.changed())
    } else if memory.reload_is_due() {
        "the app to be told".to_owned()
    } else if draft.files.iter().any(draft::DraftFile::differs) || memory.epoch < job.epoch {
        format!("epoch {} to be noted", job.epoch)
    } else {
        return Observed::AlreadyDone;
    };
    Observed::Needed { what }
}

/// Makes the files have the wanted values, all of them or none, and the app use them. Doing it
/// again changes nothing; an attempt that failed or was killed anywhere is ended as a whole first.
///
/// # Errors
/// When a value cannot be edited safely, the new files are not valid, one cannot be replaced, a
/// newer epoch wrote it, or the app did not take them (then the previous ones are back, if the app
/// can be asked; otherwise the next call tells it again).
pub async fn apply(change: &Change<'_>) -> Result<Applied, EffectError> {
    let job = change.job()?;
    let applier = applier_of_change(change.target, change.state_dir)?;
    run(change.target, applier, job, change.primary.clone()).await
}

/// The files of this target whose templates name the upstreams: they follow their health, too.
///
/// # Errors
/// When a template cannot be read.
pub async fn following_upstreams(target: &AppConfig) -> Result<Vec<PathBuf>, EffectError> {
    let files = target.files.clone();
    off_thread(&target.name, move || {
        let mut following = Vec::new();
        for file in files {
            if names_upstreams(&file)? {
                following.push(file.path);
            }
        }
        Ok(following)
    })
    .await
}

/// Tries every template of a target: with each node as the primary, and all upstreams healthy.
/// What is wrong with which of them.
///
/// # Errors
/// When the file system does not answer.
pub async fn try_templates(
    target: &AppConfig,
    surroundings: &Surroundings,
) -> Result<Vec<(AppConfigTemplate, EffectError)>, EffectError> {
    let (files, surroundings) = (target.files.clone(), surroundings.clone());
    let tried = move || {
        let tried = files.into_iter().filter_map(|file| {
            let error = rehearse(&file, &surroundings).err()?;
            Some((file.template?, error))
        });
        Ok(tried.collect())
    };
    off_thread(&target.name, tried).await
}

/// The same between plans, for files that follow upstreams: nothing, if by the time it is this
/// change's turn another hand was in the files, e.g. that of a person who brings a version back.
///
/// # Errors
/// As [`apply`].
pub async fn follow(change: &Change<'_>) -> Result<Applied, EffectError> {
    let applier = applier_of_change(change.target, change.state_dir)?;
    let job = change.job()?.of_hand(Hand::Follower);
    run(change.target, applier, job, change.primary.clone()).await
}

/// The same as [`apply`], by a person, who does not wait for as long as a change that failed is
/// left alone.
///
/// # Errors
/// As [`apply`].
pub async fn apply_by_hand(change: &Change<'_>) -> Result<Applied, EffectError> {
    let applier = applier_of_change(change.target, change.state_dir)?;
    let job = change.job()?.of_hand(Hand::Person);
    run(change.target, applier, job, change.primary.clone()).await
}

/// What [`recover`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was left behind.
    Nothing,
    /// Something may be, but somebody is at work on it.
    Busy,
    /// This was, and is put right.
    Ended {
        /// In words.
        what: String,
    },
}

/// Puts right what a change that was killed left behind at the running app, e.g. a pause. Changes
/// no file, and keeps nobody from a change for longer than a moment.
///
/// # Errors
/// When the app cannot be asked.
pub async fn recover(target: &AppConfig, state_dir: &Path) -> Result<Recovered, EffectError> {
    if target.target.is_none() {
        return Ok(Recovered::Nothing);
    }
    let dir = MemoryDir::of(state_dir, &target.name)?;
    let mut applier = applier_of(target, dir.path());
    if !applier.left_behind().await? {
        return Ok(Recovered::Nothing);
    }
    let Some(lock) = dir.try_lock().await? else {
        return Ok(Recovered::Busy);
    };
    let recovered = applier.recover(boottime() + RECOVER_TIMEOUT).await;
    drop(lock);
    Ok(match recovered? {
        Some(what) => Recovered::Ended { what },
        None => Recovered::Nothing,
    })
}

/// Brings a kept version back, in the same careful way, under this epoch; always by a person.
///
/// # Errors
/// As [`apply`], and when that version is not kept.
pub async fn restore(
    target: &AppConfig,
    number: u64,
    epoch: Epoch,
    state_dir: &Path,
) -> Result<Applied, EffectError> {
    let dir = MemoryDir::of(state_dir, &target.name)?;
    let read = move || generations::texts(&dir, number);
    let texts = off_thread(&target.name, read).await?;
    let paths = texts.iter().map(|(path, _)| path);
    if !paths.eq(target.files.iter().map(|file| &file.path)) {
        return Err(EffectError::permanent(format!(
            "app config {}: previous version {number} is one of other files than those of the \
             settings now",
            target.name
        ))
        .hint("copy what is needed by hand"));
    }
    replace(target, texts, epoch, state_dir).await
}

/// Makes the files have these texts, in the same careful way, under this epoch; by a person.
///
/// # Errors
/// As [`apply`].
pub async fn replace(
    target: &AppConfig,
    texts: Vec<(PathBuf, Vec<u8>)>,
    epoch: Epoch,
    state_dir: &Path,
) -> Result<Applied, EffectError> {
    let wishes = texts.into_iter();
    let wishes = wishes.map(|(path, text)| (path, Wish::Text(text)));
    let job = Job::new(target, wishes.collect(), epoch, state_dir)?.of_hand(Hand::Person);
    run(target, applier_of_change(target, state_dir)?, job, None).await
}

/// The kept versions of a target, oldest first.
///
/// # Errors
/// When they cannot be listed.
pub async fn generations(
    target: &AppConfig,
    state_dir: &Path,
) -> Result<Vec<Generation>, EffectError> {
    let dir = MemoryDir::of(state_dir, &target.name)?;
    off_thread(&target.name, move || generations::list(&dir)).await
}

/// The notes of pauses whose app configs are not among `named`: nobody will end those.
///
/// # Errors
/// When the directory cannot be read.
pub async fn pauses_of_nobody(
    state_dir: &Path,
    named: Vec<String>,
) -> Result<Vec<PathBuf>, EffectError> {
    let dir = state_dir.join("app_config");
    off_thread("of former settings", move || {
        targets::pauses_but(&dir, &named)
    })
    .await
}

fn applier_of_change(
    target: &AppConfig,
    state_dir: &Path,
) -> Result<Box<dyn Applier>, EffectError> {
    let dir = MemoryDir::of(state_dir, &target.name)?;
    Ok(applier_of(target, dir.path()))
}

async fn run(
    target: &AppConfig,
    applier: Box<dyn Applier>,
    job: Job,
    primary: Option<PrimaryAt>,
) -> Result<Applied, EffectError> {
    let lock = job.dir.lock().await?;
    let transaction = Transaction {
        target,
        applier,
        job: Arc::new(job),
        lock: Arc::new(lock),
        primary,
        notes: Vec::new(),
    };
    transaction.run().await
}

impl Change<'_> {
    fn job(&self) -> Result<Job, EffectError> {
        let wishes = self.files.iter().cloned().map(|file| {
            let mut settings = self.target.files.iter();
            let rendering = settings
                .find(|known| known.path == file.path)
                .and_then(|it| Rendering::of(it, self.primary.as_ref(), self.surroundings));
            let wish = rendering.map_or_else(|| Wish::Edits(file.edits), Wish::Render);
            (file.path, wish)
        });
        Job::new(self.target, wishes.collect(), self.epoch, self.state_dir)
    }
}

/// Runs file work where it may block.
async fn off_thread<T: Send + 'static>(
    target: &str,
    work: impl FnOnce() -> Result<T, EffectError> + Send + 'static,
) -> Result<T, EffectError> {
    let silent = || {
        EffectError::unknown(format!(
            "app config {target}: a file system did not answer within {FILE_TIMEOUT:?}"
        ))
    };
    // A thread that hangs in a file system cannot be ended. They must not pile up until there is
    // none left for a fence (S3).
    let threads = threads_of(target).acquire_owned();
    let Ok(Ok(thread)) = tokio::time::timeout(FILE_TIMEOUT, threads).await else {
        return Err(silent());
    };
    let task = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(thread);
        done
    });
    match tokio::time::timeout(FILE_TIMEOUT, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(EffectError::unknown(format!(
            "app config {target}: the work on its files was cut off"
        ))
        .caused_by(panic)),
        Err(_) => Err(silent()),
    }
}

/// How many threads may be at work on the files of a target.
fn threads_of(target: &str) -> Arc<Semaphore> {
    static TARGETS: Mutex<BTreeMap<String, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut targets = TARGETS.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(Semaphore::new(THREADS_MAX));
    targets.entry(target.to_owned()).or_insert_with(new).clone()
}
