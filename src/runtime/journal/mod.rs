//! The journal on disk: append-only, durable before `append` returns (S11), one writer per site.
//!
//! Owns the files `journal`, `journal.1` … `journal.3`, `journal.torn-<n>` and `agent.lock` in the
//! state directory. Knows nothing of what the entries mean, except when a plan is unfinished: it
//! is never split over two files. Start reading at [`Journal::open`], then [`Journal::append`].
//!
//! Everything here blocks on the disk: call it where that is allowed.

mod error;
mod files;
mod scan;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

pub use error::JournalError;
pub use files::read_all;

use crate::effects::clock;
use crate::model::journal::{JournalEntry, JournalLine};
use crate::model::{PlanId, Timestamp};

use super::checked_line;

/// The journal is moved aside once it is longer than this and no plan is unfinished. Large enough
/// for more than a thousand failovers, small enough to be read at once.
pub const ROTATE_ABOVE_BYTES: u64 = 16 * 1024 * 1024;

/// A plan with its steps takes a few KiB; with a hundred app configs, this.
const ROOM_BYTES: u64 = 64 * 1024;

/// After a rotation that failed, this much more is written before the next try.
const ROTATE_RETRY_BYTES: u64 = 1024 * 1024;

/// One line is never longer: a plan for hundreds of app configs is a tenth of this.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Something that was put right or worked around, and that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The open journal of this site. While it lives, no other agent of the site can run.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Everything before this offset is durable and whole; nothing after it counts.
    good_bytes: u64,
    /// The number of the next line.
    next: u64,
    /// The plan that has begun and not ended.
    plan_unfinished: Option<PlanId>,
    /// Set when a write or an fsync failed and the file must be looked at before it is used.
    suspect: bool,
    rotate_above: u64,
    /// Held for its lock alone.
    _lock: File,
    #[cfg(test)]
    fail_syncs: u32,
}

impl Journal {
    /// Opens (or begins) the journal in `dir` and returns all that it says, oldest first.
    ///
    /// A last line that was never finished is moved to `journal.torn-<n>` and told as a warning:
    /// `append` had not returned, so nothing was done on its strength. Anything else that is
    /// wrong in the newest file is an error: to go on would mean to forget what was begun. Older
    /// files are history; their faults are warnings.
    ///
    /// # Errors
    ///
    /// The disk, a running agent of this site, or a damaged journal.
    pub fn open(dir: &Path) -> Result<(Self, Vec<JournalLine>, Vec<Warning>), JournalError> {
        Self::open_rotating_above(dir, ROTATE_ABOVE_BYTES)
    }

    /// [`Journal::open`] with another size at which the journal is moved aside.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_rotating_above(
        dir: &Path,
        rotate_above: u64,
    ) -> Result<(Self, Vec<JournalLine>, Vec<Warning>), JournalError> {
        files::create_dir(dir)?;
        let lock = files::lock(dir)?;
        let mut warnings = Vec::new();
        let path = files::current(dir);
        let file = files::open_current(dir)?;
        let scan = scan::scan(&path, &files::read_bounded(&file, &path)?)?;
        if let Some(torn) = &scan.torn {
            warnings.push(files::cut_torn_tail(dir, &file, scan.good_bytes, torn)?);
        }
        let mut lines = files::older_lines(dir, scan.lines.first(), &mut warnings);
        let next = match (scan.lines.last(), lines.last()) {
            (Some(last), _) | (None, Some(last)) => last.number + 1,
            (None, None) => 1,
        };
        let mut plan_unfinished = None;
        for line in &scan.lines {
            note_plan(&mut plan_unfinished, &line.entry);
        }
        lines.extend(scan.lines);
        let journal = Self {
            dir: dir.to_path_buf(),
            file,
            good_bytes: scan.good_bytes,
            next,
            plan_unfinished,
            suspect: false,
            rotate_above,
            _lock: lock,
            #[cfg(test)]
            fail_syncs: 0,
        };
        Ok((journal, lines, warnings))
    }

    /// Writes these entries, all or none, and returns once they are durable.
    ///
    /// # Errors
    ///
    /// When the disk is full or broken. Nothing of `entries` is in the journal then, and the next
    /// call begins by looking at the file again.
    pub fn append(&mut self, entries: &[JournalEntry]) -> Result<Vec<JournalLine>, JournalError> {
        self.append_at(clock::wall(), entries)
    }

    /// [`Journal::append`] with the time given by the caller.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn append_at(
        &mut self,
        at: Timestamp,
        entries: &[JournalEntry],
    ) -> Result<Vec<JournalLine>, JournalError> {
        if self.suspect || self.file_was_deleted() {
            self.mend()?;
        }
        if self.good_bytes > self.rotate_above && self.plan_unfinished.is_none() {
            self.rotate(at);
            if self.suspect {
                self.mend()?;
            }
        }
        let (lines, text) = number_lines(self.next, at, entries)?;
        if lines.is_empty() {
            return Ok(lines);
        }
        self.write_durably(text.as_bytes())?;
        for line in &lines {
            self.next = line.number + 1;
            note_plan(&mut self.plan_unfinished, &line.entry);
        }
        Ok(lines)
    }

    /// Makes sure that the disk has room for what a whole plan writes, and keeps that room.
    ///
    /// # Errors
    ///
    /// When the disk is full. A file system that cannot say counts as one with room.
    pub fn ensure_room(&self) -> Result<(), JournalError> {
        let keep = FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, keep, self.good_bytes, ROOM_BYTES) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(JournalError::io(
                "keep room for the journal",
                self.path(),
                error.into(),
            )),
        }
    }

    /// Where the journal lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        files::current(&self.dir)
    }

    fn write_durably(&mut self, text: &[u8]) -> Result<(), JournalError> {
        if let Err(cause) = self.file.write_all_at(text, self.good_bytes) {
            self.take_back();
            return Err(JournalError::io(
                "append to the journal",
                self.path(),
                cause,
            ));
        }
        if let Err(cause) = self.sync() {
            // After a failed fsync the kernel may call the lost pages clean, so that the next
            // fsync succeeds without having written them. Source: fsync(2), NOTES; PostgreSQL
            // wiki, "Fsync Errors". The file is reopened and read back before it is used again.
            self.take_back();
            self.suspect = true;
            return Err(JournalError::io("flush the journal", self.path(), cause));
        }
        self.good_bytes += text.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }

    /// Cuts off what a failed write left behind. If that fails, the next append starts with it.
    fn take_back(&mut self) {
        let cut = self.file.set_len(self.good_bytes);
        if cut.and_then(|()| self.file.sync_data()).is_err() {
            self.suspect = true;
        }
    }

    /// A deleted file can still be written to, durably and in vain.
    fn file_was_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Reopens the file, cuts what does not count, and reads back from the disk what does.
    fn mend(&mut self) -> Result<(), JournalError> {
        let path = self.path();
        let (file, scan) = files::reopen(&path, self.good_bytes)?;
        let last = scan.lines.last().map_or(0, |line| line.number);
        let whole = scan.good_bytes == self.good_bytes && scan.torn.is_none();
        if !whole || (last != 0 && last + 1 != self.next) {
            return Err(JournalError::Changed { path });
        }
        files::sync_dir(&self.dir)?;
        self.file = file;
        self.suspect = false;
        Ok(())
    }

    /// Begins a new file. If it cannot, the old one goes on: a long journal is no reason to stop.
    fn rotate(&mut self, at: Timestamp) {
        let remark = JournalEntry::Remark {
            text: "the journal goes on here; what came before is in journal.1".to_owned(),
        };
        let rotated = number_lines(self.next, at, &[remark])
            .and_then(|(_, text)| files::rotate(&self.dir, &text).map(|file| (file, text.len())));
        match rotated {
            Ok((file, bytes)) => {
                self.file = file;
                self.good_bytes = bytes as u64;
                self.next += 1;
                // Without the directory's flush a crash could bring the old file back under the
                // name of the new one: nothing is written before that is certain.
                self.suspect = files::sync_dir(&self.dir).is_err();
            }
            Err(error) => {
                self.rotate_above = self.good_bytes + ROTATE_RETRY_BYTES;
                tracing::warn!(%error, "cannot begin a new journal file, the old one goes on");
            }
        }
    }
}

fn number_lines(
    first: u64,
    at: Timestamp,
    entries: &[JournalEntry],
) -> Result<(Vec<JournalLine>, String), JournalError> {
    let mut lines = Vec::with_capacity(entries.len());
    let mut text = String::new();
    for (number, entry) in (first..).zip(entries) {
        let line = JournalLine {
            number,
            at,
            entry: entry.clone(),
        };
        let json = serde_json::to_string(&line).map_err(JournalError::NotJson)?;
        if json.len() > LINE_BYTES_MAX {
            return Err(JournalError::TooLong { bytes: json.len() });
        }
        text.push_str(&checked_line::encode(&json));
        lines.push(line);
    }
    Ok((lines, text))
}

fn note_plan(unfinished: &mut Option<PlanId>, entry: &JournalEntry) {
    match entry {
        JournalEntry::Planned { plan, .. } => *unfinished = Some(plan.id.clone()),
        JournalEntry::PlanEnded { plan, .. } => {
            if unfinished.as_ref() == Some(plan) {
                *unfinished = None;
            }
        }
        JournalEntry::AgentStarted { .. }
        | JournalEntry::AgentStopped
        | JournalEntry::StepStarted { .. }
        | JournalEntry::StepDone { .. }
        | JournalEntry::StepFailed { .. }
        | JournalEntry::Remark { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(text: &str) -> JournalEntry {
        JournalEntry::Remark {
            text: text.to_owned(),
        }
    }

    #[test]
    fn failed_fsync_keeps_nothing_and_the_file_is_read_back_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[remark("kept")]).unwrap();
        journal.fail_syncs = 1;
        assert!(journal.append(&[remark("lost")]).is_err());
        assert!(journal.suspect);
        // Somebody damages what was durable: the journal must notice before it goes on.
        let path = journal.path();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"x").unwrap();
        assert!(journal.append(&[remark("on sand")]).is_err());
        std::fs::write(&path, &whole).unwrap();
        let lines = journal.append(&[remark("again")]).unwrap();
        assert_eq!(lines[0].number, 2);
        let texts: Vec<_> = read_all(dir.path()).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[1].entry, remark("again"));
    }

    #[test]
    fn deleted_journal_is_an_error_and_not_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _, _) = Journal::open(dir.path()).unwrap();
        journal.append(&[remark("one")]).unwrap();
        std::fs::remove_file(journal.path()).unwrap();
        assert!(journal.append(&[remark("two")]).is_err());
    }
}
