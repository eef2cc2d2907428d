//! The journal's files: where they lie, how they are locked, cut, mended and moved aside.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use super::scan::{self, Scan};
use super::{JournalError, Warning};
use crate::model::journal::JournalLine;

/// How many older files are kept: `journal.1` is the newest of them.
const OLDER_FILES: u32 = 3;
/// A file that is longer was not written by us; it is not read into memory.
const READ_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// More torn tails than this have never been seen on a disk that works.
const TORN_FILES_MAX: u32 = 1000;
/// How often, and how far apart, the lock is tried: together 200 ms.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY: Duration = Duration::from_millis(20);

pub(super) fn current(dir: &Path) -> PathBuf {
    dir.join("journal")
}

fn older(dir: &Path, age: u32) -> PathBuf {
    dir.join(format!("journal.{age}"))
}

/// Everything the journal in `dir` says, oldest first, without a lock: for looking at it while the
/// agent runs. A last line that is being written right now is left out.
///
/// # Errors
///
/// The disk, or a damaged file.
pub fn read_all(dir: &Path) -> Result<Vec<JournalLine>, JournalError> {
    // Newest file first: if the agent begins a new file meanwhile, every older one is met later
    // under its next name and lines come twice, never not at all.
    let mut files = Vec::new();
    let mut oldest = u64::MAX;
    for path in std::iter::once(current(dir)).chain((1..=OLDER_FILES).map(|age| older(dir, age))) {
        let bytes = match File::open(&path) {
            Ok(file) => read_bounded(&file, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(JournalError::io("open", path, error)),
        };
        let mut lines = scan::scan(&path, &bytes)?.lines;
        lines.retain(|line| line.number < oldest);
        oldest = lines.first().map_or(oldest, |line| line.number);
        files.push(lines);
    }
    Ok(files.into_iter().rev().flatten().collect())
}

pub(super) fn create_dir(dir: &Path) -> Result<(), JournalError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(|error| JournalError::io("create the state directory", dir, error))?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Takes the site's lock, or says who has it. It goes with the process, however that ends.
pub(super) fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("agent.lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .map_err(|error| JournalError::io("open", &path, error))?;
    match flock_patiently(&file) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let known = Read::take(&file, 20).read_to_string(&mut text).is_ok();
            let holder = match text.trim() {
                pid if known && !pid.is_empty() => format!("process {pid}"),
                _ => "process unknown".to_owned(),
            };
            return Err(JournalError::Locked { path, holder });
        }
        Err(error) => return Err(JournalError::io("lock", path, error.into())),
    }
    // The number is for people; that it cannot be written (disk full) is no reason not to run.
    let pid = format!("{}\n", std::process::id());
    if file.set_len(0).is_ok() && file.write_all_at(pid.as_bytes(), 0).is_err() {
        tracing::debug!("cannot write the process id into the lock file");
    }
    Ok(file)
}

/// A child process holds its parent's lock for the instant between fork and exec: an agent that is
/// started again just then must not give up.
fn flock_patiently(file: &File) -> Result<(), rustix::io::Errno> {
    for _ in 0..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_RETRY),
            decided => return decided,
        }
    }
    Err(rustix::io::Errno::WOULDBLOCK)
}

/// The newest file, created durably if there is none.
pub(super) fn open_current(dir: &Path) -> Result<File, JournalError> {
    let path = current(dir);
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    match opened {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(JournalError::io("open", path, error)),
    }
    let file = create_new(&path)?;
    file.sync_all()
        .map_err(|error| JournalError::io("flush the new", &path, error))?;
    sync_dir(dir)?;
    Ok(file)
}

pub(super) fn read_bounded(mut file: &File, path: &Path) -> Result<Vec<u8>, JournalError> {
    let io = |error| JournalError::io("read", path, error);
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > READ_BYTES_MAX {
        return Err(JournalError::TooBig {
            path: path.to_path_buf(),
            bytes,
        });
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(io)?;
    Ok(content)
}

/// Saves the unfinished last line beside the journal and cuts it off.
pub(super) fn cut_torn_tail(
    dir: &Path,
    file: &File,
    good_bytes: u64,
    torn: &[u8],
) -> Result<Warning, JournalError> {
    let aside = save_torn(dir, torn)?;
    let path = current(dir);
    file.set_len(good_bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| JournalError::io("cut the unfinished last line off", &path, error))?;
    Ok(Warning(format!(
        "the last line of journal {} was unfinished ({} bytes after byte {good_bytes}): the agent \
         or the host stopped while it was written; moved to {}",
        path.display(),
        torn.len(),
        aside.display(),
    )))
}

fn save_torn(dir: &Path, torn: &[u8]) -> Result<PathBuf, JournalError> {
    for number in 1..=TORN_FILES_MAX {
        let path = dir.join(format!("journal.torn-{number}"));
        let mut file = match create_new(&path) {
            Ok(file) => file,
            Err(JournalError::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        file.write_all(torn)
            .and_then(|()| file.sync_all())
            .map_err(|error| JournalError::io("save the unfinished last line to", &path, error))?;
        sync_dir(dir)?;
        return Ok(path);
    }
    Err(JournalError::io(
        "save an unfinished last line: too many journal.torn files in",
        dir,
        io::ErrorKind::AlreadyExists.into(),
    ))
}

/// The lines of the older files that come before `first`; their faults become warnings.
pub(super) fn older_lines(
    dir: &Path,
    first: Option<&JournalLine>,
    warnings: &mut Vec<Warning>,
) -> Vec<JournalLine> {
    let mut oldest = first.map(|line| line.number);
    let mut files = Vec::new();
    for path in (1..=OLDER_FILES).map(|age| older(dir, age)) {
        let read = File::open(&path).map_err(|error| JournalError::io("open", &path, error));
        let bytes = match read.and_then(|file| read_bounded(&file, &path)) {
            Ok(bytes) => bytes,
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => {
                warnings.push(Warning(format!("an older journal is left out: {error}")));
                continue;
            }
        };
        let (mut scan, fault) = scan::scan_readable(&path, &bytes);
        if let Some(fault) = fault {
            warnings.push(Warning(format!(
                "an older journal is read in part: {fault}"
            )));
        }
        // A crash while a new file was begun leaves the same lines under two names.
        scan.lines
            .retain(|line| oldest.is_none_or(|oldest| line.number < oldest));
        if let (Some(last), Some(next)) = (scan.lines.last(), oldest)
            && last.number + 1 != next
        {
            warnings.push(Warning(format!(
                "lines {} to {} of the journal are missing after {}",
                last.number + 1,
                next - 1,
                path.display(),
            )));
        }
        oldest = scan.lines.first().map(|line| line.number).or(oldest);
        files.push(scan.lines);
    }
    files.into_iter().rev().flatten().collect()
}

/// Opens the file afresh, cuts it to the bytes that count, and reads those from the disk.
pub(super) fn reopen(path: &Path, good_bytes: u64) -> Result<(File, Scan), JournalError> {
    let io = |what| move |error| JournalError::io(what, path, error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io("open the journal again at"))?;
    let bytes = file.metadata().map_err(io("look at"))?.len();
    if bytes < good_bytes {
        return Err(JournalError::Changed {
            path: path.to_path_buf(),
        });
    }
    if bytes > good_bytes {
        file.set_len(good_bytes)
            .map_err(io("cut what was not written whole off"))?;
    }
    file.sync_all().map_err(io("flush"))?;
    // Without this the answer comes from the page cache, which is what cannot be trusted now.
    // It is advice: where it is not taken, the reading still proves that the file is whole.
    if fadvise(&file, 0, None, Advice::DontNeed).is_err() {
        tracing::debug!("the page cache of the journal cannot be dropped");
    }
    let scan = scan::scan(path, &read_bounded(&file, path)?)?;
    Ok((file, scan))
}

/// Moves the files one name further and begins a new one with `first_line`. There is a whole
/// `journal` at every instant: the old one keeps its name until the new one takes it. Nothing is
/// moved before all that can fail for want of space or of hard links has been done. The caller
/// flushes the directory: once the new file has its name there is no way back to the old one.
pub(super) fn rotate(dir: &Path, first_line: &str) -> Result<File, JournalError> {
    let (path, fresh, second_name) = (
        current(dir),
        dir.join("journal.new"),
        dir.join("journal.old"),
    );
    remove_if_there(&fresh)?;
    remove_if_there(&second_name)?;
    let mut file = create_new(&fresh)?;
    file.write_all(first_line.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| JournalError::io("begin", &fresh, error))?;
    fs::hard_link(&path, &second_name)
        .map_err(|error| JournalError::io("give a second name to", &path, error))?;
    for age in (1..OLDER_FILES).rev() {
        rename_if_there(&older(dir, age), &older(dir, age + 1))?;
    }
    rename_if_there(&second_name, &older(dir, 1))?;
    fs::rename(&fresh, &path).map_err(|error| JournalError::io("move aside", &path, error))?;
    Ok(file)
}

fn create_new(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| JournalError::io("create", path, error))
}

fn remove_if_there(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn rename_if_there(from: &Path, to: &Path) -> Result<(), JournalError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io("rename", from, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| JournalError::io("flush the directory", dir, error))
}
