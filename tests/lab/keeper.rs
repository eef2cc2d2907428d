//! Leaves nothing behind, however the lab ends: processes, mounts, namespaces, files.
//!
//! A shell waits for the end of its input, which is at the latest when the lab's process is gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = r#"cat >/dev/null
for host in fra ams witness; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        pids=$(ip netns pids "$1-$host" 2>/dev/null)
        [ -n "$pids" ] || break
        kill -9 $pids 2>/dev/null
        sleep 0.02
    done
done
awk -v root="$2/" 'index($2, root) == 1 { print $2 }' /proc/self/mounts |
    while read -r mount; do umount -l "$mount"; done
for space in fra ams witness wire; do ip netns del "$1-$space" 2>/dev/null; done
rm -rf "$2""#;

/// The shell, and the directory that it will remove.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
    root: PathBuf,
}

impl Keeper {
    /// Makes the lab's directory and sees to its end.
    pub fn start(tag: &str) -> Self {
        let kept = tempfile::Builder::new().prefix("agent-lab-").tempdir();
        let root = kept.expect("a temporary directory").keep();
        // PostgreSQL's user must be able to pass through.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("its mode");
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "keeper", tag])
            .arg(&root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        Self { shell, root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}
