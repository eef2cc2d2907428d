//! The processes of a test's servers: finding them by where they run, and leaving none behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every living process whose working directory is `data_dir`.
pub fn processes_in(data_dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir)
            && is_zombie(*pid) == Some(false)
    })
    .collect()
}

/// Whether this process is dead but not reaped; `None` if there is no such process.
pub fn is_zombie(pid: u32) -> Option<bool> {
    state_of(pid).map(|state| matches!(state, 'Z' | 'X'))
}

/// The state letter of a process, as in proc(5).
pub fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Kills every process of the instance in `data_dir`, until none is left.
pub fn kill_all(data_dir: &Path) {
    for _ in 0..2_000 {
        let pids = processes_in(data_dir);
        if pids.is_empty() {
            return;
        }
        let pids = pids.iter().map(ToString::to_string);
        drop(
            Command::new("kill")
                .args(["-s", "KILL"])
                .args(pids)
                .stderr(Stdio::null())
                .status(),
        );
        // bounded: 2000 rounds of 2 ms
        std::thread::sleep(Duration::from_millis(2));
    }
    eprintln!("processes of {} are still there", data_dir.display());
}

/// Removes the shared memory that a killed server of `data_dir` has left: the kernel has room for
/// a few thousand, and keeps them until somebody starts a server there again.
/// Source: `src/include/utils/pidfile.h` (line 7 of `postmaster.pid`: key and id).
pub fn remove_memory(data_dir: &Path) {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap_or_default();
    let id = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id {
        let removed = Command::new("ipcrm")
            .args(["-m", id])
            .stderr(Stdio::null())
            .status();
        drop(removed);
    }
}

/// A shell that cleans up once its standard input ends, which is at the latest when the test
/// process is gone, however it went.
pub fn watch(data_dir: &Path, root: &Path) -> Child {
    let script = r#"cat >/dev/null
        for p in /proc/[0-9]*; do
            [ "$(readlink "$p/cwd")" = "$1" ] && kill -9 "${p#/proc/}"
        done 2>/dev/null
        umount -l "$1" 2>/dev/null
        rm -rf "$2""#;
    Command::new("/bin/sh")
        .args(["-c", script, "watch"])
        .args([data_dir, root])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("shell can be started")
}
