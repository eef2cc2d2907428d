//! Makes sure that a node cannot commit: no process of its instance is left (S3).
//!
//! Blocking, without an async runtime, and needing next to nothing from a host in trouble: the
//! guard calls it from a thread of its own when everything else has failed. It deletes nothing and
//! writes one file, `standby.signal`, so that nothing can start the node as a primary again by
//! itself (S10). Start reading at [`fence`].
//!
//! Source: PostgreSQL manual 19.5 (SIGINT: fast shutdown, SIGQUIT: immediate shutdown), 27.2.2 and
//! 20.5.4 (`standby.signal`).

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, geteuid};

use super::directory::dir_id;
use super::process::{DirId, Instance, PidFile, Process, attached, find_postmaster, scan};
use super::watch::Handle;
use super::whereabouts;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::Moment;
use crate::model::outcome::FailureKind;

/// How long the postmaster may take for an immediate shutdown before it is frozen (S3).
const IMMEDIATE_SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// How long the disk may take to tell the pid and to take `standby.signal`. A healthy one needs
/// less than a millisecond; a dead one must not hold up the fence.
const DISK_WAIT: Duration = Duration::from_millis(100);

/// How long the end of the fence waits for `standby.signal` to be safe from a power cut, too.
const SYNC_WAIT: Duration = Duration::from_millis(50);

/// After the postmaster of a clean stop is gone, how long its log collector may take to follow.
const CLEAN_TAIL_MAX: Duration = Duration::from_millis(500);

/// Between two looks at `/proc`, and the time that a killed process gets to be gone.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How often a waiting fence looks whether the postmaster was stopped by a signal meanwhile.
const STOPPED_CHECK_EVERY: Duration = Duration::from_millis(20);

const NOFOLLOW: u32 = OFlags::NOFOLLOW.bits();

/// So many pids at most go into an error text.
const LISTED_MAX: usize = 10;

/// What a successful fence did. No process of the instance is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceReport {
    /// How long it took, verification included.
    pub took: Duration,
    /// False if nothing ran any more when the fence began.
    pub was_running: bool,
    /// True if anything harder than a clean stop was needed: the node will need crash recovery.
    pub forced: bool,
    /// How many processes were killed by SIGKILL.
    pub killed: usize,
    /// Why `standby.signal` is not, or not safely, on the disk: then only the gate keeps the node
    /// from starting as a primary.
    pub problem: Option<String>,
}

/// Fences the instance: within `grace` by a clean stop if that is not zero, then by force within
/// `budget`. Doing it again is harmless and quick.
///
/// # Errors
///
/// Permanent if the instance is unknown or this process is not permitted to see or signal it,
/// `OutcomeUnknown` if a process is still there when the budget is used up: then the node may
/// still commit, and nobody else may be promoted.
pub fn fence(
    instance: &Instance,
    grace: Duration,
    budget: Duration,
) -> Result<FenceReport, EffectError> {
    let began = boottime();
    let id = instance.identify()?;
    let inside = through_its_server(instance.data_dir(), id);
    let mut disk = Disk::begin(instance.data_dir(), id, inside);
    let pid_file = disk.wait_written(DISK_WAIT.min(budget / 10));

    let mut stop = Stop {
        instance,
        id,
        pid_file,
        killed: BTreeSet::new(),
    };
    // What fails here for a passing reason is tried again by the last step until the deadline.
    let was_running = or_if_passing(stop.anything_left(), true)?;
    let clean = was_running && !grace.is_zero() && or_if_passing(stop.cleanly(grace), false)?;
    // The wait for the disk is part of the budget; the grace is not.
    let counted_from = if grace.is_zero() { began } else { boottime() };
    let deadline = counted_from + budget;
    let forced = was_running && !clean;
    if forced {
        or_if_passing(stop.immediately(deadline), ())?;
    }
    // Also when nothing ran: only a second look proves that nothing was just being started.
    stop.kill_until_none_left(deadline)?;

    let report = FenceReport {
        was_running,
        forced: forced || !stop.killed.is_empty(),
        killed: stop.killed.len(),
        problem: disk.problem(),
        took: boottime().since(began),
    };
    if whereabouts::moved(instance, &id)? {
        return and_where_it_went(instance, report, deadline);
    }
    Ok(report)
}

/// Fences the server that was started meanwhile in the directory that is now at the path.
fn and_where_it_went(
    instance: &Instance,
    first: FenceReport,
    deadline: Moment,
) -> Result<FenceReport, EffectError> {
    let left = boottime().until(deadline);
    if left.is_zero() {
        let path = instance.data_dir().display();
        let what = format!("fenced one server, and another one works in {path} by now");
        return Err(EffectError::unknown(what));
    }
    let second = fence(instance, Duration::ZERO, left)?;
    Ok(FenceReport {
        killed: first.killed + second.killed,
        problem: second.problem.or(first.problem),
        took: first.took + second.took,
        was_running: true,
        forced: true,
    })
}

/// As [`fence`], off the async threads. Dropping the future does not stop a fence that has begun.
///
/// # Errors
///
/// As [`fence`].
pub async fn fence_off_thread(
    instance: Instance,
    grace: Duration,
    budget: Duration,
) -> Result<FenceReport, EffectError> {
    let work = tokio::task::spawn_blocking(move || fence(&instance, grace, budget));
    work.await
        .map_err(|error| EffectError::unknown("the fence was cut short").caused_by(error))?
}

/// Whether no process of the instance is left.
///
/// # Errors
///
/// As [`Instance::processes`].
pub fn is_fenced(instance: &Instance) -> Result<bool, EffectError> {
    let memory = PidFile::read(instance.data_dir())
        .ok()
        .flatten()
        .and_then(|file| file.memory);
    Ok(instance.processes()?.is_empty() && memory.is_none_or(|memory| attached(memory).is_empty()))
}

/// Stops the instance by a fast shutdown, which sends all WAL to the standbys first, and touches no
/// file. False if something is still there after `grace`; the shutdown goes on then.
///
/// # Errors
///
/// As [`Instance::processes`], and Permanent if signalling is not permitted.
pub fn stop_cleanly(instance: &Instance, grace: Duration) -> Result<bool, EffectError> {
    let id = instance.identify()?;
    let pid_file = PidFile::read(instance.data_dir()).ok().flatten();
    let stop = Stop {
        instance,
        id,
        pid_file,
        killed: BTreeSet::new(),
    };
    Ok(!stop.anything_left()? || stop.cleanly(grace)?)
}

/// Takes a permanent failure for what it is, and another one for `otherwise`.
fn or_if_passing<T>(result: Result<T, EffectError>, otherwise: T) -> Result<T, EffectError> {
    match result {
        Err(error) if error.kind != FailureKind::Permanent => Ok(otherwise),
        Ok(_) | Err(_) => result,
    }
}

/// One fence in progress.
struct Stop<'a> {
    instance: &'a Instance,
    id: DirId,
    pid_file: Option<PidFile>,
    /// Pid and start time of what got SIGKILL.
    killed: BTreeSet<(u32, u64)>,
}

impl Stop<'_> {
    /// Every living process of the instance, including those that only its shared memory betrays.
    fn left(&self) -> Result<Vec<Process>, EffectError> {
        let mut left = scan(&self.id)?;
        if left.is_empty()
            && let Some(memory) = self.pid_file.as_ref().and_then(|file| file.memory)
        {
            left = attached(memory);
        }
        Ok(left)
    }

    fn anything_left(&self) -> Result<bool, EffectError> {
        Ok(!self.left()?.is_empty())
    }

    fn postmaster(&self) -> Result<Option<(Process, Handle)>, EffectError> {
        let Some(process) = find_postmaster(&scan(&self.id)?, self.pid_file.as_ref()) else {
            return Ok(None);
        };
        Ok(Handle::open(&process)?.map(|handle| (process, handle)))
    }

    /// Fast shutdown: sends the last WAL to the standbys. True if nothing is left afterwards.
    fn cleanly(&self, grace: Duration) -> Result<bool, EffectError> {
        let deadline = boottime() + grace;
        let Some((process, handle)) = self.postmaster()? else {
            return Ok(false);
        };
        if process.is_stopped() {
            return Ok(false);
        }
        handle.send(Signal::INT)?;
        if !wait_dead(&process, &handle, deadline) {
            return Ok(false);
        }
        let tail = boottime() + CLEAN_TAIL_MAX;
        while self.anything_left()? {
            if boottime() >= tail {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(true)
    }

    /// Immediate shutdown, unless the postmaster cannot react.
    fn immediately(&self, deadline: Moment) -> Result<(), EffectError> {
        let Some((process, handle)) = self.postmaster()? else {
            return Ok(());
        };
        if !process.is_stopped() {
            handle.send(Signal::QUIT)?;
            let now = boottime();
            let patience = IMMEDIATE_SHUTDOWN_MAX.min(now.until(deadline) / 2);
            wait_dead(&process, &handle, now + patience);
        }
        Ok(())
    }

    /// Kills everything, the postmaster last, until two looks in a row find nothing.
    fn kill_until_none_left(&mut self, deadline: Moment) -> Result<(), EffectError> {
        let mut looks_without = 0;
        loop {
            match self.left() {
                Ok(left) if left.is_empty() => looks_without += 1,
                Ok(left) => {
                    looks_without = 0;
                    self.kill_children_first(&left)?;
                    if boottime() >= deadline {
                        return Err(self.survivors(&left));
                    }
                }
                Err(error) if error.kind == FailureKind::Permanent => return Err(error),
                // Out of file descriptors or memory: passes, maybe by the killing itself.
                Err(error) if boottime() >= deadline => {
                    return Err(EffectError::unknown(format!(
                        "cannot prove that no process of {} is left",
                        self.instance.data_dir().display()
                    ))
                    .caused_by(error));
                }
                Err(_) => looks_without = 0,
            }
            if looks_without == 2 {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Freezes the postmaster, so that it starts no new children, kills all others, and the
    /// postmaster once every other one has got its SIGKILL, which nobody can take back.
    fn kill_children_first(&mut self, left: &[Process]) -> Result<(), EffectError> {
        let postmaster = find_postmaster(left, self.pid_file.as_ref());
        if let Some(process) = &postmaster
            && !process.is_stopped()
        {
            or_if_passing(send(process, Signal::STOP).map(drop), ())?;
        }
        let others = left.iter().filter(|process| Some(**process) != postmaster);
        let mut all_got_it = true;
        let mut refused = None;
        for process in others {
            match send(process, Signal::KILL) {
                Ok(true) => drop(self.killed.insert((process.pid, process.started))),
                Ok(false) => {}
                // One that cannot be killed must not save the others.
                Err(error) => {
                    all_got_it = false;
                    refused = Some(error)
                        .filter(|error| error.kind == FailureKind::Permanent)
                        .or(refused);
                }
            }
        }
        if let Some(process) = postmaster.filter(|_| all_got_it)
            && or_if_passing(send(&process, Signal::KILL), false)?
        {
            self.killed.insert((process.pid, process.started));
        }
        refused.map_or(Ok(()), Err)
    }

    fn survivors(&self, left: &[Process]) -> EffectError {
        let mut list: Vec<_> = left
            .iter()
            .take(LISTED_MAX)
            .map(ToString::to_string)
            .collect();
        if left.len() > LISTED_MAX {
            list.push(format!("and {} more", left.len() - LISTED_MAX));
        }
        EffectError::unknown(format!(
            "cannot fence {}: still there after SIGKILL: process {}",
            self.instance.data_dir().display(),
            list.join(", ")
        ))
        .hint(
            "state D waits for the disk inside the kernel and may still commit: \
             cut this host's power or storage before anything else is promoted",
        )
    }
}

/// Sends a signal to exactly this process; false if it is gone.
fn send(process: &Process, signal: Signal) -> Result<bool, EffectError> {
    let Some(handle) = Handle::open(process)? else {
        return Ok(false);
    };
    handle.send(signal)?;
    Ok(true)
}

/// Waits for a death; false at the deadline, or at once when the process is stopped by a signal
/// and so cannot die by itself.
fn wait_dead(process: &Process, handle: &Handle, deadline: Moment) -> bool {
    loop {
        let left = boottime().until(deadline);
        if handle.died_within(left.min(STOPPED_CHECK_EVERY)) {
            return true;
        }
        let stopped = Process::read(process.pid).is_some_and(|now| now.is_stopped());
        if left.is_zero() || stopped {
            return false;
        }
    }
}

/// The fence's dealings with the disk, on a thread of their own because a broken disk may never
/// answer.
struct Disk {
    news: Option<Receiver<DiskNews>>,
    written: Option<Result<(), String>>,
    synced: Option<Result<(), String>>,
}

enum DiskNews {
    Written(Result<(), String>, Option<PidFile>),
    Synced(Result<(), String>),
}

impl Disk {
    fn begin(data_dir: &Path, id: DirId, inside: Option<Place>) -> Self {
        // Room for all news: the thread must never wait for a fence that has gone on.
        let (sender, news) = sync_channel(2);
        let data_dir = data_dir.to_path_buf();
        let work = move || disk_work(&data_dir, id, inside, &sender);
        let thread = std::thread::Builder::new()
            .name("fence-disk".to_owned())
            .spawn(work);
        let written = thread.as_ref().err().map(|error| Err(error.to_string()));
        Self {
            news: thread.is_ok().then_some(news),
            written,
            synced: None,
        }
    }

    fn wait_written(&mut self, within: Duration) -> Option<PidFile> {
        match self.next(within)? {
            DiskNews::Written(result, pid_file) => {
                self.written = Some(result);
                pid_file
            }
            DiskNews::Synced(result) => {
                self.synced = Some(result);
                None
            }
        }
    }

    fn next(&self, within: Duration) -> Option<DiskNews> {
        self.news.as_ref()?.recv_timeout(within).ok()
    }

    /// What is wrong with `standby.signal`, as far as can be known soon.
    fn problem(&mut self) -> Option<String> {
        let until = boottime() + SYNC_WAIT;
        while self.synced.is_none() && !matches!(self.written, Some(Err(_))) {
            match self.next(boottime().until(until)) {
                Some(DiskNews::Written(result, _)) => self.written = Some(result),
                Some(DiskNews::Synced(result)) => self.synced = Some(result),
                None => break,
            }
        }
        match (&self.written, &self.synced) {
            (Some(Ok(())), Some(Ok(()))) => None,
            (Some(Err(why)), _) => Some(format!("cannot write standby.signal: {why}")),
            (_, Some(Err(why))) => Some(format!("cannot sync standby.signal: {why}")),
            (None, _) => Some("the disk does not answer: no standby.signal written".to_owned()),
            (Some(Ok(())), None) => Some("standby.signal is written but not synced yet".to_owned()),
        }
    }
}

fn disk_work(data_dir: &Path, id: DirId, inside: Option<Place>, news: &SyncSender<DiskNews>) {
    let place = inside.map_or_else(|| at_its_path(data_dir, id), Ok);
    let real = place.as_ref().map_or(data_dir.to_path_buf(), Place::path);
    let pid_file = PidFile::read(&real).ok().flatten();
    let file = place.and_then(|dir| {
        let signal = dir.path().join("standby.signal");
        Ok((write_signal_file(&signal, id)?, dir))
    });
    let written = file.as_ref().map(|_| ()).map_err(ToString::to_string);
    // Nobody listens any more once the fence is done; the file is written all the same.
    let _unheard = news.send(DiskNews::Written(written, pid_file));
    if let Ok((file, dir)) = file {
        let synced = file.sync_all().and_then(|()| dir.sync());
        let _unheard = news.send(DiskNews::Synced(synced.map_err(|error| error.to_string())));
    }
}

/// The instance's directory, whatever its path is by now.
struct Place(File);

impl Place {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(self.path())?.sync_all()
    }
}

/// The directory that the server works in, when it was renamed or unmounted below it: through one
/// of its processes, so before any of them is killed. Reads nothing from the disk.
fn through_its_server(data_dir: &Path, id: DirId) -> Option<Place> {
    if dir_id(data_dir).is_ok_and(|found| found.is_same(&id)) {
        return None;
    }
    let open = |process: &Process| {
        let path = format!("/proc/{}/cwd", process.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let place = Place(opened.into());
        dir_id(&place.path())
            .is_ok_and(|found| found.is_same(&id))
            .then_some(place)
    };
    scan(&id).ok()?.iter().find_map(open)
}

/// The directory at its path. What has taken its place is left alone.
fn at_its_path(data_dir: &Path, id: DirId) -> io::Result<Place> {
    if !dir_id(data_dir).is_ok_and(|found| found.is_same(&id)) {
        let what = format!("the data directory is not at {}", data_dir.display());
        return Err(io::Error::other(what));
    }
    File::open(data_dir).map(Place)
}

/// Writes the file that makes the next start a standby; leaves one that is there alone. Never
/// through a link: the directory's owner must not direct a root process to other files.
pub(super) fn write_signal_file(path: &Path, id: DirId) -> io::Result<File> {
    let open = |options: &mut OpenOptions| {
        options
            .write(true)
            .custom_flags(NOFOLLOW.cast_signed())
            .open(path)
    };
    match open(OpenOptions::new().create_new(true)) {
        Ok(file) => {
            // PostgreSQL itself must be able to open and remove it.
            if geteuid().as_raw() != id.uid {
                fchown(&file, Some(id.uid), Some(id.gid))?;
            }
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&mut OpenOptions::new()),
        Err(error) => Err(error),
    }
}
