//! All files of a target from the old state to the new one, or back, with the app told of it.
//!
//! Owns the order of things, and what is noted on disk before each of them, so that whoever comes
//! after a kill at any point can go on: `phase` of the open change says where it stopped. Must not
//! know formats or commands. Start reading at [`Transaction::run`].

use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::applier::{Applier, Proof, StagedPaths};
use super::draft::{Draft, Hand, Job};
use super::memory::{ChangePhase, FailedChange, Memory, OpenChange};
use super::replacing::{Prepared, note_epoch, passed, prepare, put_all, put_back};
use super::staging::StagedTree;
use super::write::NewText;
use super::{Applied, off_thread};
use crate::config::settings::AppConfig;
use crate::effects::clock::{boottime, wall};
use crate::effects::error::EffectError;
use crate::model::plan::PrimaryAt;
use crate::model::time::measured_words;

/// One attempt to bring the files of one target, and its app, where they should be.
pub(super) struct Transaction<'a> {
    pub(super) target: &'a AppConfig,
    pub(super) job: Arc<Job>,
    /// Ends with the last of the work on files: if this is dropped, that work goes on.
    pub(super) lock: Arc<File>,
    pub(super) applier: Box<dyn Applier>,
    /// Whom the app shall use.
    pub(super) primary: Option<PrimaryAt>,
    pub(super) notes: Vec<String>,
}

/// How an undo ended: the app runs with the old files again, or why that is not known.
type Undone = Result<Proof, EffectError>;

impl Transaction<'_> {
    pub(super) async fn run(mut self) -> Result<Applied, EffectError> {
        let done = self.bring_right().await;
        let ended = self.applier.end(self.target).await;
        match (done, ended) {
            (done, Ok(())) => done,
            (Ok(_), Err(left)) => Err(left),
            // Whoever reads of a change that failed must read of clients that still wait, too.
            (Err(error), Err(left)) => Err(EffectError {
                what: format!("{}; moreover, {left}", error.what),
                hint: left.hint.or(error.hint),
                ..error
            }),
        }
    }

    async fn bring_right(&mut self) -> Result<Applied, EffectError> {
        let memory = self
            .on_files(|job| {
                let memory = job.memory()?;
                job.sweep(&memory)?;
                Ok(memory)
            })
            .await?;
        self.passed("begun");
        if self.follows() && !self.job.is_current(&memory) {
            return Ok(self.left_alone());
        }
        if memory.must_run {
            self.applier.must_run();
        }
        let recovered_by = boottime() + self.target.reload_timeout;
        match self.applier.recover(recovered_by).await {
            Ok(recovered) => self.notes.extend(recovered),
            Err(error) => self.notes.push(error.to_string()),
        }
        let (memory, draft) = self.end_interrupted(memory).await?;
        if self.follows() && !self.job.is_ours(&memory, &draft) {
            return Ok(self.left_alone());
        }
        let changed = draft.changes_values();
        if changed {
            self.notes.push(format!("changed {}", draft.changed()));
            self.change(memory, draft).await?;
        } else {
            self.notes.push("values were right already".to_owned());
            self.keep_right(memory, draft).await?;
        }
        self.notes.extend(self.applier.take_notes());
        Ok(Applied {
            changed,
            note: self.notes.join("; "),
        })
    }

    fn follows(&self) -> bool {
        self.job.hand == Hand::Follower
    }

    fn left_alone(&mut self) -> Applied {
        self.notes
            .push("left alone: another hand, or another epoch, was in its files".to_owned());
        Applied {
            changed: false,
            note: self.notes.join("; "),
        }
    }

    fn passed(&self, point: &'static str) {
        passed(&self.target.name, point);
    }

    /// Runs file work where it may block, with the lock held until it has ended.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Job) -> Result<T, EffectError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let (job, lock) = (Arc::clone(&self.job), Arc::clone(&self.lock));
        off_thread(&self.target.name, with_lock(job, lock, work)).await
    }

    /// The same, while the app is held up: it goes on in time, however long a disk takes.
    async fn on_files_in_time<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Job) -> Result<T, EffectError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let (job, lock) = (Arc::clone(&self.job), Arc::clone(&self.lock));
        let name = &self.target.name;
        let mut done = pin!(off_thread(name, with_lock(job, lock, work)));
        tokio::select! {
            biased;
            done = &mut done => return done,
            () = self.applier.overstay() => {}
        }
        done.await
    }

    /// As soon as the app has the new files, and before anything is undone: its clients wait for
    /// nothing else. If it fails, it is tried once more at the end, and told there.
    async fn let_go_on(&mut self) {
        drop(self.applier.end(self.target).await);
    }

    async fn store(&self, memory: Memory) -> Result<Memory, EffectError> {
        self.on_files(move |job| job.dir.store(&memory).map(|()| memory))
            .await
    }

    /// Ends what an earlier attempt has begun, as a whole, and looks at what is to be done then.
    async fn end_interrupted(&mut self, memory: Memory) -> Result<(Memory, Draft), EffectError> {
        let Some(change) = memory.change.clone() else {
            let draft = self.on_files(Job::draft).await?;
            return Ok((memory, draft));
        };
        if change.phase == ChangePhase::Telling {
            let draft = self.on_files(Job::draft).await?;
            // The change is still wanted: it goes on where it stopped.
            if !draft.changes_values() {
                let memory = self.finish(memory).await?;
                return Ok((memory, draft));
            }
        }
        self.notes
            .push("put back a change that was interrupted".to_owned());
        let (memory, undone) = self.undo(memory, change).await?;
        if let Err(error) = undone {
            self.notes.push(error.to_string());
        }
        let draft = self.on_files(Job::draft).await?;
        Ok((memory, draft))
    }

    /// Values are to be changed.
    async fn change(&mut self, memory: Memory, draft: Draft) -> Result<Memory, EffectError> {
        self.refuse_too_soon(&memory, &draft.new_hash()).await?;
        let prepared = self
            .on_files(move |job| prepare(job, memory, draft))
            .await?;
        self.passed("staged");
        let mut prepared = self.validate(prepared).await?;
        self.applier.begin(self.target).await?;
        prepared.memory.must_run = self.applier.ran();
        let (keep, proves) = (self.target.keep, self.applier.proves(self.target));
        let (memory, put) = self
            .on_files_in_time(move |job| put_all(job, prepared, keep, proves))
            .await?;
        let Err(mut error) = put else {
            return self.finish(memory).await;
        };
        self.let_go_on().await;
        if let Some(change) = memory.change.clone() {
            let (_, undone) = self.undo(memory, change).await?;
            if let Err(undone) = undone {
                error.what = format!("{}; the previous files are back, but {undone}", error.what);
            }
        }
        Err(error)
    }

    /// A change that the app did not take is left alone for a while; what can be mended is.
    async fn refuse_too_soon(&mut self, memory: &Memory, hash: &str) -> Result<(), EffectError> {
        let Some(failed) = memory
            .failed
            .as_ref()
            .filter(|_| self.job.hand != Hand::Person)
        else {
            return Ok(());
        };
        let Some(wait) = failed.wait(hash, wall()) else {
            return Ok(());
        };
        let mut state = "the previous files are in place";
        if memory.reload_is_due() {
            state = match self.tell_old(memory.clone()).await?.1 {
                Ok(_) => "the app was told of the previous files",
                Err(_) => "the app could not be told of the previous files either",
            };
        }
        let mut error = EffectError::retryable(format!(
            "app config {}: not changed for another {}, because the app did not take it: {}; {state}",
            self.target.name,
            measured_words(wait),
            failed.why,
        ))
        .hint("see why the app does not take it; a different text is tried at once");
        error.retry_after = Some(wait);
        Err(error)
    }

    async fn validate(&mut self, prepared: Prepared) -> Result<Prepared, EffectError> {
        let Some(first) = prepared.waiting.first() else {
            return Ok(prepared);
        };
        if !self.applier.validates(self.target) {
            return Ok(prepared);
        }
        let first = first.path().to_owned();
        let places = |text: &NewText| (text.target().to_owned(), text.path().to_owned());
        let waiting = prepared.waiting.iter().map(places).collect();
        let Some(stage) = self.target.stage.clone() else {
            let staged = StagedPaths {
                first,
                waiting,
                tree: None,
            };
            self.applier.validate(self.target, &staged).await?;
            self.passed("validated");
            return Ok(prepared);
        };
        let (prepared, tree, first) = self
            .on_files(move |job| {
                let texts = prepared.waiting.iter();
                let new = texts.map(|text| (text.target(), text.path()));
                let tree = StagedTree::copy(&stage, job.dir.path(), new)?;
                let first = prepared.kept.first();
                let first = first.map_or(stage.as_path(), |(path, _)| path);
                let first = tree.of(&stage, first).unwrap_or_default();
                Ok((prepared, tree, first))
            })
            .await?;
        let staged = StagedPaths {
            first,
            waiting,
            tree: Some(tree.root().to_owned()),
        };
        let valid = self.applier.validate(self.target, &staged).await;
        // Removing a tree may block.
        self.on_files(move |_| {
            drop(tree);
            Ok(())
        })
        .await?;
        valid?;
        self.passed("validated");
        Ok(prepared)
    }

    /// The files are right: tells the app, and makes sure that it uses them. Otherwise everything
    /// goes back, if the app can be asked; if it cannot, the files stay and it is told again.
    async fn finish(&mut self, memory: Memory) -> Result<Memory, EffectError> {
        match self.tell_and_prove(self.primary.clone()).await {
            Ok((took, proof)) => {
                // Nobody waits for what is noted of it.
                self.let_go_on().await;
                if let Some(took) = took {
                    self.notes
                        .push(format!("reloaded in {} ms", took.as_millis()));
                }
                match proof {
                    Proof::Given => self.notes.push("the running app uses them".to_owned()),
                    // Why not comes from whoever knows the app.
                    Proof::NotAsked | Proof::Stopped => {}
                }
                let memory = Memory {
                    applied_hash: memory.written_hash.clone(),
                    applied_for: self.primary.clone(),
                    change: None,
                    must_run: false,
                    failed: None,
                    ..memory
                };
                let memory = self.store(memory).await?;
                self.passed("noted as applied");
                Ok(memory)
            }
            Err(error) => match memory.change.clone() {
                Some(change) => Err(self.roll_back(memory, change, error).await?),
                None => Err(error),
            },
        }
    }

    async fn tell_and_prove(
        &mut self,
        primary: Option<PrimaryAt>,
    ) -> Result<(Option<Duration>, Proof), EffectError> {
        let took = self.applier.tell(self.target).await?;
        self.passed("told");
        let patience = self.target.verify_timeout;
        let proof = self
            .applier
            .prove(self.target, primary.as_ref(), patience)
            .await?;
        self.passed("proved");
        Ok((took, proof))
    }

    /// The app did not take the new files: the error that tells so, and what runs now.
    async fn roll_back(
        &mut self,
        mut memory: Memory,
        change: OpenChange,
        why: EffectError,
    ) -> Result<EffectError, EffectError> {
        let failed = FailedChange::after(memory.failed.as_ref(), &change.new_hash, &why, wall());
        let wait = failed.wait(&change.new_hash, wall());
        memory.failed = Some(failed);
        self.let_go_on().await;
        let (_, undone) = self.undo(memory, change).await?;
        let state = match undone {
            Ok(Proof::Given) => "the previous files are back, and the app uses them".to_owned(),
            Ok(Proof::NotAsked) => "the previous files are back, and the app was told".to_owned(),
            Ok(Proof::Stopped) => "the previous files are back, and the app is stopped".to_owned(),
            Err(error) => format!("the previous files are back, but {error}"),
        };
        Ok(EffectError {
            what: format!("{}; {state}", why.what),
            retry_after: wait,
            ..why
        })
    }

    /// Puts the old texts back and tells the app. Nothing need be told when nothing was new yet.
    async fn undo(
        &mut self,
        mut memory: Memory,
        mut change: OpenChange,
    ) -> Result<(Memory, Undone), EffectError> {
        if change.phase != ChangePhase::TellingOld {
            let begun = memory;
            let (back, left) = self
                .on_files(move |job| put_back(job, begun, change))
                .await?;
            memory = back;
            for path in left {
                let note = format!("{path} was left as somebody else wrote it meanwhile");
                self.notes.push(note);
            }
            match memory.change.clone() {
                Some(open) => change = open,
                None => return Ok((memory, Ok(Proof::NotAsked))),
            }
        }
        debug_assert_eq!(change.phase, ChangePhase::TellingOld);
        self.passed("back");
        self.tell_old(memory).await
    }

    /// The previous files are in place: tells the app, and ends the change either way. If it could
    /// not be told, that stays due.
    async fn tell_old(&mut self, mut memory: Memory) -> Result<(Memory, Undone), EffectError> {
        let told = self.tell_and_prove(memory.applied_for.clone()).await;
        memory.change = None;
        if told.is_ok() {
            memory.must_run = false;
            memory.applied_hash.clone_from(&memory.written_hash);
        }
        let memory = self.store(memory).await?;
        self.passed("noted as undone");
        Ok((memory, told.map(|(_, proof)| proof)))
    }

    /// No value is to be changed: notes the epoch, and makes sure that the app knows.
    async fn keep_right(&mut self, memory: Memory, draft: Draft) -> Result<Memory, EffectError> {
        let memory = self
            .on_files(move |job| note_epoch(job, &memory, draft))
            .await?;
        if memory.reload_is_due() {
            return self.finish(memory).await;
        }
        let once = Duration::ZERO;
        let (target, primary) = (self.target, self.primary.as_ref());
        if self.applier.prove(target, primary, once).await.is_ok() {
            return Ok(memory);
        }
        self.notes
            .push("the running app did not use them".to_owned());
        self.finish(memory).await
    }
}

/// Work on files that keeps the lock until it has ended, whoever waits for it.
fn with_lock<T>(
    job: Arc<Job>,
    lock: Arc<File>,
    work: impl FnOnce(&Job) -> Result<T, EffectError>,
) -> impl FnOnce() -> Result<T, EffectError> {
    move || {
        let result = work(&job);
        drop(lock);
        result
    }
}
