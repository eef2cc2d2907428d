//! Which processes belong to one PostgreSQL instance, proved by `/proc`.
//!
//! A backend outlives a killed postmaster and can still commit, so an instance is more than its
//! postmaster: it is every PostgreSQL process that works in the data directory. Directories are
//! compared by device and inode, because paths differ between mount namespaces, and a directory
//! may be renamed or deleted under a running server.
//!
//! Blocking, without an async runtime: the guard calls this, too. Must not: change anything.
//! Start reading at [`Instance::processes`].
//!
//! Source: `src/backend/utils/init/miscinit.c` (`ChangeToDataDir`: every PostgreSQL process works
//! in the data directory; `CreateLockFile`: the lines of `postmaster.pid`), proc(5).

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::geteuid;

pub use super::directory::DirId;
use super::directory::{self, data_dir_id, dir_id};
use super::whereabouts;
use crate::effects::error::EffectError;
use crate::model::observation::{DirectorySeen, ProcessSeen};

/// Names that a PostgreSQL server program goes by: community, old link, EDB Advanced Server.
const SERVER_PROGRAMS: [&str; 3] = ["postgres", "postmaster", "edb-postgres"];

/// What `/proc` shows when the agent may not look.
const VISIBILITY_HINT: &str = "run the agent as the owner of the data directory, or as root with \
                               CAP_SYS_PTRACE and CAP_KILL";

/// The PostgreSQL instance of one data directory.
#[derive(Debug, Clone)]
pub struct Instance {
    data_dir: PathBuf,
    /// What the directory was when it could last be looked at: disks break exactly when a fence
    /// is needed.
    known: Arc<Mutex<Option<Known>>>,
    /// Where it is kept for the next life of this process.
    state_dir: Option<PathBuf>,
    /// That it cannot be kept was said.
    complained: Arc<AtomicBool>,
}

/// The directory of an instance.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: DirId,
    /// A server was seen to work in it.
    served: bool,
    /// The next life of this process will know.
    kept: bool,
}

/// One living process of an instance. Pid and start time together are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its parent's process id.
    pub parent: u32,
    /// Its state as in proc(5), e.g. `S`, `R`, `D`, `T`.
    pub state: char,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// Stopped by a signal or by a debugger: it reacts to nothing but SIGKILL and SIGCONT.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Reads `/proc/<pid>/stat`; `None` if there is no such living process. A zombie is not alive:
    /// it can do nothing any more, and only waits for its parent to take note.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: u32, stat: &str) -> Option<Self> {
        // The name in parentheses may itself contain anything, including parentheses.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 22; the state is field 3.
        let started = fields.nth(22 - 3 - 2)?.parse().ok()?;
        let dead = matches!(state, 'Z' | 'X' | 'x');
        (!dead).then_some(Self {
            pid,
            parent,
            state,
            started,
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (state {})", self.pid, self.state)
    }
}

impl Instance {
    /// The instance of this data directory, which need not exist yet.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            known: Arc::default(),
            state_dir: None,
            complained: Arc::default(),
        }
    }

    /// As [`Instance::new`], with what a former life kept in `state_dir`: a server that it knew and
    /// that still works is this instance's, whatever lies at the path by now.
    #[must_use]
    pub fn remembered(data_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        let data_dir = data_dir.into();
        let known = whereabouts::recall(&state_dir, &data_dir)
            .filter(|id| may_look(geteuid().as_raw(), id).is_ok())
            .and_then(|id| {
                // A look that fails proves nothing; the next one may.
                let works = scan(&id).ok().map(|found| !found.is_empty());
                (works != Some(false)).then_some(Known {
                    id,
                    served: works == Some(true),
                    kept: true,
                })
            });
        Self {
            data_dir,
            known: Arc::new(Mutex::new(known)),
            state_dir: Some(state_dir),
            complained: Arc::default(),
        }
    }

    /// Keeps the directory for the next life, once a server was seen in it. Writes to the disk, so
    /// never on the way of a fence.
    pub fn keep_in_mind(&self) {
        let (Some(state_dir), Some(known)) = (&self.state_dir, self.known()) else {
            return;
        };
        if !known.served || known.kept {
            return;
        }
        match whereabouts::keep(state_dir, &self.data_dir, known.id) {
            Ok(()) => {
                let mut now = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(now) = now.as_mut().filter(|now| now.id.is_same(&known.id)) {
                    now.kept = true;
                }
            }
            // Tried again at the next look; until then a restarted agent knows the path only.
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "cannot keep where the node's server works; trying again");
            }
            Err(_) => {}
        }
    }

    /// The data directory as configured.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Finds out which directory this is, and remembers it for the time when the disk is gone.
    ///
    /// Another one that has taken its place, maybe an old copy below a mount point, is not the
    /// instance's while a server works in the former one, which can still commit; nor later, until
    /// somebody has started a server in it.
    ///
    /// # Errors
    ///
    /// Permanent if it is not, and never was, a data directory that this process may look after.
    pub fn identify(&self) -> Result<DirId, EffectError> {
        let fresh = data_dir_id(&self.data_dir);
        match (fresh, self.known()) {
            (Ok(id), Some(known)) if !known.id.is_same(&id) => {
                // Looked for anew: a guard that started before its server never saw it serve.
                let deserted = scan(&known.id)?.is_empty();
                let moved = deserted && (!known.served || !scan(&id)?.is_empty());
                Ok(if moved { self.adopt(id)? } else { known.id })
            }
            (Ok(id), _) => self.adopt(id),
            (Err(_), Some(known)) => Ok(known.id),
            (Err(error), None) => {
                let what = format!(
                    "{} is not a PostgreSQL data directory",
                    self.data_dir.display()
                );
                Err(EffectError::permanent(what)
                    .hint("set data_dir to the directory that contains PG_VERSION")
                    .caused_by(io::Error::from(error)))
            }
        }
    }

    fn known(&self) -> Option<Known> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt(&self, id: DirId) -> Result<DirId, EffectError> {
        may_look(geteuid().as_raw(), &id)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.filter(|known| known.id.is_same(&id));
        *known = Some(Known {
            id,
            served: same.is_some_and(|known| known.served),
            kept: same.is_some_and(|known| known.kept),
        });
        Ok(id)
    }

    /// Notes that a server works in the directory.
    fn serves(&self, id: &DirId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut().filter(|known| known.id.is_same(id)) {
            known.served = true;
        }
    }

    /// How the data directory is. May hang with its disk.
    #[must_use]
    pub fn look_at_directory(&self) -> DirectorySeen {
        match self.identify() {
            Ok(id) => directory::look(&self.data_dir, &id),
            Err(error) => DirectorySeen::Unknown { why: error.what },
        }
    }

    /// Refuses what must not be done to a directory that has taken the place of the instance's.
    ///
    /// # Errors
    ///
    /// Permanent if the instance's directory is gone.
    pub fn in_place(&self) -> Result<(), EffectError> {
        match self.look_at_directory() {
            DirectorySeen::Gone { why } => Err(EffectError::permanent(format!(
                "the data directory is gone: {why}"
            ))
            .hint("mount or restore it, and start its server by hand")),
            DirectorySeen::Fine
            | DirectorySeen::Full
            | DirectorySeen::ReadOnly
            | DirectorySeen::Unknown { .. } => Ok(()),
        }
    }

    /// Every living process of the instance: the postmaster, its children, and orphans.
    ///
    /// # Errors
    ///
    /// Permanent if the directory is unknown or processes cannot be told apart for lack of
    /// permission, Retryable if `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<Process>, EffectError> {
        let id = self.identify()?;
        let found = scan(&id)?;
        if !found.is_empty() {
            self.serves(&id);
        }
        Ok(found)
    }

    /// What the postmaster looks like right now.
    #[must_use]
    pub fn look(&self) -> ProcessSeen {
        match self.postmaster() {
            Ok(Some(process)) if process.is_stopped() => ProcessSeen::Stopped { pid: process.pid },
            Ok(Some(process)) => ProcessSeen::Running { pid: process.pid },
            Ok(None) => ProcessSeen::Gone,
            Err(error) => ProcessSeen::Unknown { why: error.what },
        }
    }

    /// The process of this number, if it is alive and belongs to the instance.
    ///
    /// # Errors
    ///
    /// As [`Instance::processes`].
    pub fn process(&self, pid: u32) -> Result<Option<Process>, EffectError> {
        member(pid, &self.identify()?)
    }

    /// The living postmaster.
    ///
    /// # Errors
    ///
    /// As [`Instance::processes`].
    pub fn postmaster(&self) -> Result<Option<Process>, EffectError> {
        let id = self.identify()?;
        let pid_file = PidFile::read(&self.data_dir).ok().flatten();
        // The usual case costs one look, not a walk through all of /proc.
        if let Some(file) = &pid_file
            && let Some(process) = member(file.pid, &id)?
        {
            self.serves(&id);
            return Ok(Some(process));
        }
        Ok(find_postmaster(&self.processes()?, pid_file.as_ref()))
    }
}

/// The postmaster among the processes of an instance. Without a usable `postmaster.pid` it is the
/// process whose parent is an outsider and which has children inside.
#[must_use]
pub fn find_postmaster(processes: &[Process], pid_file: Option<&PidFile>) -> Option<Process> {
    let named = |process: &&Process| pid_file.is_some_and(|file| file.pid == process.pid);
    if let Some(process) = processes.iter().find(named) {
        return Some(*process);
    }
    let has_children = |pid: u32| processes.iter().any(|process| process.parent == pid);
    let is_inside = |pid: u32| processes.iter().any(|process| process.pid == pid);
    let root = |process: &&Process| !is_inside(process.parent) && has_children(process.pid);
    processes.iter().find(root).copied()
}

/// Every living process of the instance in this directory.
///
/// # Errors
///
/// As [`Instance::processes`].
pub fn scan(id: &DirId) -> Result<Vec<Process>, EffectError> {
    let mut found = Vec::new();
    for pid in all_pids()? {
        found.extend(member(pid, id)?);
    }
    // A backend whose extension changed the working directory is still a child of the postmaster.
    let children: Vec<u32> = found
        .iter()
        .flat_map(|process| children_of(process.pid))
        .collect();
    for pid in children {
        let is_new = found.iter().all(|process| process.pid != pid);
        if is_new && is_server_program(pid) == Ok(true) {
            found.extend(Process::read(pid));
        }
    }
    Ok(found)
}

/// The living processes that have the instance's shared memory attached. It outlives the
/// postmaster as long as any backend does; PostgreSQL itself refuses to start on it.
/// Source: `src/backend/port/sysv_shmem.c`, `PGSharedMemoryIsInUse`; proc(5), `/proc/sysvipc/shm`.
#[must_use]
pub fn attached(memory: SharedMemory) -> Vec<Process> {
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if !segments.lines().any(|line| memory.is_attached_in(line)) {
        return Vec::new();
    }
    let name = format!("/SYSV{:08x}", memory.key);
    let maps_it = |pid: &u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.lines().any(|line| {
            let inode = line
                .split_ascii_whitespace()
                .nth(4)
                .and_then(|text| text.parse().ok());
            line.contains(&name) && inode == Some(memory.id)
        })
    };
    let pids = all_pids().unwrap_or_default();
    pids.into_iter()
        .filter(maps_it)
        .filter_map(Process::read)
        .collect()
}

/// A System V shared memory segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemory {
    key: u32,
    id: u32,
}

impl SharedMemory {
    fn is_attached_in(self, line: &str) -> bool {
        let mut fields = line.split_ascii_whitespace();
        let key = fields.next().and_then(|text| text.parse::<i32>().ok());
        let id = fields.next().and_then(|text| text.parse::<u32>().ok());
        let attached = fields.nth(4).and_then(|text| text.parse::<u64>().ok());
        key.map(i32::cast_unsigned) == Some(self.key)
            && id == Some(self.id)
            && attached.is_some_and(|count| count > 0)
    }
}

/// What `postmaster.pid` says. It may be stale: [`Instance`] checks it against `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// The postmaster's process id (or that of a single-user backend).
    pub pid: u32,
    /// The lock file of its (first) unix socket.
    pub socket_lock: Option<PathBuf>,
    /// The shared memory that all its processes attach.
    pub memory: Option<SharedMemory>,
    /// `starting`, `stopping`, `ready` (accepts connections) or `standby` (accepts no connections,
    /// because it is a standby without `hot_standby`).
    pub status: Option<String>,
}

impl PidFile {
    /// Reads it; `None` if there is none or it is not complete yet.
    ///
    /// # Errors
    ///
    /// Any other failure to read it.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(data_dir.join("postmaster.pid")) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Source: `src/include/utils/pidfile.h`.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // Negative: a single-user backend, which can commit as well.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.unsigned_abs();
        let port = lines
            .nth(2)
            .and_then(|line| line.trim().parse::<u16>().ok());
        let socket_dir = lines.next().filter(|line| line.starts_with('/'));
        let socket_lock = port
            .zip(socket_dir)
            .map(|(port, dir)| Path::new(dir).join(format!(".s.PGSQL.{port}.lock")));
        let mut memory = lines.nth(1).unwrap_or_default().split_ascii_whitespace();
        let mut number = || memory.next()?.parse::<u64>().ok();
        let memory = number().zip(number()).and_then(|(key, id)| {
            // The key is written as the unsigned long of a signed int.
            let key = u32::try_from(key & 0xFFFF_FFFF).ok()?;
            Some(SharedMemory {
                key,
                id: u32::try_from(id).ok()?,
            })
        });
        let status = lines.next().map(|line| line.trim().to_owned());
        Some(Self {
            pid,
            socket_lock,
            memory,
            status: status.filter(|text| !text.is_empty()),
        })
    }
}

/// The process if it is alive and belongs to the instance in this directory.
fn member(pid: u32, id: &DirId) -> Result<Option<Process>, EffectError> {
    // The start time is read before the rest, so that whoever opens a handle on it later and
    // finds the same start time knows that all of this was about one process.
    let Some(process) = Process::read(pid) else {
        return Ok(None);
    };
    match dir_id(Path::new(&format!("/proc/{pid}/cwd"))) {
        Ok(cwd) if !cwd.is_same(id) => return Ok(None),
        Ok(_) => {}
        Err(Errno::ACCESS | Errno::PERM) => return hidden(process, id),
        // Gone meanwhile, or a thread of the kernel.
        Err(_) => return Ok(None),
    }
    match is_server_program(pid) {
        Ok(true) => Ok(Some(process)),
        // An administrator's shell that happens to be in the data directory.
        Ok(false) => Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => hidden(process, id),
        Err(_) => Ok(None),
    }
}

/// A process that may not be looked at is harmless only if it cannot be a server of this
/// directory: a server runs as the owner of its data directory.
/// Source: `src/backend/utils/init/miscinit.c`, `checkDataDir`.
fn hidden(process: Process, id: &DirId) -> Result<Option<Process>, EffectError> {
    let pid = process.pid;
    let owner = fs::metadata(format!("/proc/{pid}")).map(|metadata| metadata.uid());
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let harmless = owner.is_ok_and(|uid| uid != id.uid && uid != 0)
        || !SERVER_PROGRAMS.contains(&name.trim_end());
    if harmless {
        return Ok(None);
    }
    let what =
        format!("not permitted to see whether process {process} works in the data directory");
    Err(EffectError::permanent(what).hint(VISIBILITY_HINT))
}

/// Refuses to look where looking would show nothing: with `hidepid` other users' processes do not
/// even appear, and "none left" would be a lie.
fn may_look(own: u32, id: &DirId) -> Result<(), EffectError> {
    if own == 0 || own == id.uid {
        return Ok(());
    }
    let what = format!(
        "user {own} cannot control a server that runs as user {}",
        id.uid
    );
    Err(EffectError::permanent(what).hint(VISIBILITY_HINT))
}

fn is_server_program(pid: u32) -> Result<bool, Errno> {
    let exe = rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new())?;
    let path = exe.to_string_lossy();
    // So after a package upgrade under a running server.
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(SERVER_PROGRAMS.contains(&name))
}

fn all_pids() -> Result<Vec<u32>, EffectError> {
    let unreadable = |error| EffectError::retryable("cannot list /proc").caused_by(error);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
