//! The processes of a proxy: the one that its pid file names, and its workers.
//!
//! A pid file outlives its program, and numbers are used again: so the program's name is compared,
//! and the start time goes along. Everything here blocks. Source: proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::Place;
use crate::effects::error::EffectError;
use crate::effects::postgres::process::Process;

/// Larger ones are no pid file.
const PID_DIGITS_MAX: usize = 16;

/// Pid and start time: never used twice while the host runs.
pub(in crate::effects::app_config) type Identity = (u32, u64);

/// A program that runs, found by its pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::effects::app_config) struct Running(Identity);

impl Running {
    /// The process that `pid_file` names, if it is `program`.
    pub(super) fn find(place: &Place, pid_file: &Path, program: &str) -> Result<Self, EffectError> {
        let missing = |why: String| {
            EffectError::retryable(place.says(format!("{program} does not run: {why}")))
                .hint("start it, or name its pid file in pid_file")
        };
        let text = fs::read_to_string(pid_file)
            .map_err(|error| missing(format!("{}: {error}", pid_file.display())))?;
        let number = text.lines().next().unwrap_or_default().trim();
        let pid = number.get(..number.len().min(PID_DIGITS_MAX));
        let pid: u32 = pid
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| missing(format!("{} holds no number", pid_file.display())))?;
        let process = Process::read(pid)
            .ok_or_else(|| missing(format!("{} names a dead process", pid_file.display())))?;
        let name = comm(pid);
        if name != program {
            return Err(missing(format!("process {pid} is {name:?}")));
        }
        Ok(Self((process.pid, process.started)))
    }

    /// True while it lives.
    pub(super) fn lives(self) -> bool {
        let (pid, started) = self.0;
        Process::read(pid).is_some_and(|process| process.started == started)
    }

    /// Sends a signal, unless it has died.
    pub(super) fn signal(self, place: &Place, signal: Signal) -> Result<(), EffectError> {
        let (pid, _) = self.0;
        let gone = || EffectError::retryable(place.says(format!("process {pid} has ended")));
        if !self.lives() {
            return Err(gone());
        }
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
        kill_process(target.ok_or_else(gone)?, signal).map_err(|error| {
            let what = place.says(format!("cannot send a signal to process {pid}"));
            EffectError::permanent(what)
                .hint("run the agent as root, as that program's user, or with CAP_KILL")
                .caused_by(std::io::Error::from(error))
        })
    }

    /// Every main process of this program: one that is not a child of another.
    pub(in crate::effects::app_config) fn all(program: &str) -> Vec<Self> {
        let programs = processes().filter(|process| comm(process.pid) == program);
        let mains = programs.filter(|process| comm(process.parent) != program);
        mains
            .map(|process| Self((process.pid, process.started)))
            .collect()
    }

    /// Its children, by what they call themselves. One that was just born has its parent's title.
    pub(super) fn children(self) -> BTreeMap<Identity, String> {
        let (parent, _) = self.0;
        processes()
            .filter(|process| process.parent == parent)
            .map(|process| ((process.pid, process.started), title(process.pid)))
            .collect()
    }

    /// What it calls itself.
    pub(super) fn title(self) -> String {
        title(self.0.0)
    }

    /// Whether it has this very file at this path: one in a container has another, or none. Where
    /// it cannot be told (another user's process), it counts as the same.
    pub(super) fn sees(self, file: &Path) -> bool {
        let (pid, _) = self.0;
        let Ok(relative) = file.strip_prefix("/") else {
            return true;
        };
        let own = fs::metadata(file).map(|file| (file.dev(), file.ino()));
        match (own, inode_seen_by(pid, relative)) {
            (Ok(own), Ok(its)) => own == its,
            (Ok(_), Err(error)) => error != Errno::NOENT,
            (Err(_), Ok(_) | Err(_)) => true,
        }
    }

    /// The files that it has open.
    pub(super) fn open_files(self) -> Vec<PathBuf> {
        let (pid, _) = self.0;
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect()
    }
}

/// Device and number of the file to which this path below its root leads that process: absolute
/// links on the way begin at its root, too. Source: openat2(2), `RESOLVE_IN_ROOT`.
fn inode_seen_by(pid: u32, relative: &Path) -> Result<(u64, u64), Errno> {
    let look = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), look, Mode::empty())?;
    let file = openat2(&root, relative, look, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let about = fstat(&file)?;
    Ok((about.st_dev, about.st_ino))
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
}

/// Its command line, words apart.
fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim_end().to_owned()
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a process in other surroundings is needed"
)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_with_another_file_at_the_same_path_does_not_see_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for place in [&own, &other] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("a.conf"), "").unwrap();
        }
        fs::write(own.join("b.conf"), "").unwrap();
        for place in [&own, &other] {
            symlink(own.join("a.conf"), place.join("link")).unwrap();
        }
        let me = Process::read(std::process::id()).unwrap();
        let me = Running((me.pid, me.started));
        assert!(me.sees(&own.join("a.conf")) && me.sees(&own.join("not there")));

        let script = "mount --bind \"$1\" \"$2\" && echo in && read -r end";
        let mut apart = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .args([&other, &own])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(apart.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        if line.is_empty() {
            apart.wait().unwrap();
            eprintln!("SKIPPED: this host permits no mounts in a namespace");
            return;
        }
        let its = Process::read(apart.id()).unwrap();
        let its = Running((its.pid, its.started));
        assert!(!its.sees(&own.join("a.conf")), "another file");
        assert!(!its.sees(&own.join("b.conf")), "none");
        assert!(!its.sees(&own.join("link")), "another behind the link");
        assert!(its.sees(&other.join("a.conf")), "the very same");
        // At the end of its input it ends.
        drop(apart.stdin.take());
        apart.wait().unwrap();
    }
}
