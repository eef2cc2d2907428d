//! A disk for one data directory: a real ext4 in a file, which can fail the way disks do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::processes::is_zombie;
use super::programs::give_to_server_user;
use super::wait_until_blocking;

/// Room for a cluster and some WAL. Holes in the file cost nothing.
const SIZE: u64 = 200 << 20;

/// Bound on the end of processes that got SIGKILL.
const DEATH_MAX: Duration = Duration::from_secs(10);

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct DataDisk {
    /// `/dev/loop…`, which stays its own: mounted again, it is the same disk.
    loop_device: PathBuf,
    at: PathBuf,
    /// As `st_dev` of everything on it.
    device: u64,
}

impl DataDisk {
    /// Mounts a new one over the empty directory `at`; `None`, said loudly, where this process may
    /// not.
    pub fn mount(image: &Path, at: &Path) -> Option<Self> {
        let file = fs::File::create(image).expect("a file for the disk");
        file.set_len(SIZE).expect("a file for the disk");
        let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image));
        let Some(loop_device) = attach(image).filter(|device| made && mount(device, at)) else {
            println!("SKIPPED: only root with loop devices and mkfs.ext4 can mount {at:?}");
            return None;
        };
        // `initdb` wants nothing there.
        fs::remove_dir(at.join("lost+found")).expect("an empty file system");
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).expect("private");
        give_to_server_user(at);
        Some(Self {
            loop_device,
            at: at.to_path_buf(),
            device: fs::metadata(at).expect("it is mounted").dev(),
        })
    }

    /// An error of the disk, upon which ext4 lets nobody write any more.
    pub fn turn_read_only(&self) {
        let name = self.loop_device.file_name().expect("a name");
        let trigger = Path::new("/sys/fs/ext4")
            .join(name)
            .join("trigger_fs_error");
        fs::write(trigger, "1").expect("ext4 takes an error");
    }

    /// Writes a file until nothing more fits.
    pub fn fill(&self) {
        let file = fs::File::create(self.at.join("ballast")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![0_u8; size];
            while std::io::Write::write_all(&mut &file, &bytes).is_ok() {}
        }
    }

    /// Takes it away below whoever uses it: they go on, but no path leads to it.
    pub fn unmount_lazily(&self) {
        let done = succeeds(Command::new("umount").arg("-l").arg(&self.at));
        assert!(done, "{:?} cannot be unmounted", self.at);
    }

    /// Mounts it again where it was.
    pub fn mount_again(&self) {
        assert!(
            mount(&self.loop_device, &self.at),
            "it cannot be mounted again"
        );
    }

    /// Every living process that works on it, wherever it is mounted, if anywhere.
    pub fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").expect("/proc can be listed");
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let works_here = |pid: &u32| {
            let cwd = fs::metadata(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.dev() == self.device) && is_zombie(*pid) == Some(false)
        };
        pids.filter(works_here).collect()
    }
}

impl Drop for DataDisk {
    fn drop(&mut self) {
        for pid in self.processes() {
            succeeds(Command::new("kill").args(["-s", "KILL", &pid.to_string()]));
        }
        if !std::thread::panicking() {
            wait_until_blocking("the disk is not in use", DEATH_MAX, || {
                self.processes().is_empty()
            });
        }
        succeeds(Command::new("umount").arg("-l").arg(&self.at));
        // It goes with its last user.
        succeeds(Command::new("losetup").arg("-d").arg(&self.loop_device));
    }
}

/// Makes a block device of a file.
fn attach(image: &Path) -> Option<PathBuf> {
    let mut attach = Command::new("losetup");
    let shown = attach.args(["--find", "--show"]).arg(image).output().ok()?;
    let device = String::from_utf8(shown.stdout).ok()?;
    shown.status.success().then(|| PathBuf::from(device.trim()))
}

fn mount(device: &Path, at: &Path) -> bool {
    let options = ["-t", "ext4", "-o", "errors=remount-ro"];
    succeeds(Command::new("mount").args(options).arg(device).arg(at))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
