//! Which directory an instance lives in, and whether it is still there.
//!
//! A running server goes on writing to a directory that was renamed or unmounted below it: no path
//! leads to it any more, and another one, maybe an old copy of it, may have taken its place. So a
//! directory is known by device and inode, and stays the instance's as long as a server works in
//! it.
//!
//! Blocking. Asks for what the kernel knows already, where it can: a dead file server must not
//! hang a fence.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, statvfs, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::observation::DirectorySeen;

/// The next file of WAL needs so much room, unless `initdb` was told otherwise.
const WAL_FILE: u64 = 16 << 20;

/// Every data directory has this file, and no running server replaces it.
const VERSION_FILE: &str = "PG_VERSION";

/// A directory, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirId {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// When it was made, where the file system tells: numbers of what was removed are used again.
    #[serde(default)]
    pub(super) born: Option<(i64, u32)>,
    /// The user that owns it, as which the server runs.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl DirId {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let another_life = matches!((self.born, other.born), (Some(a), Some(b)) if a != b);
        (self.device, self.inode) == (other.device, other.inode) && !another_life
    }
}

/// The directory at a path.
pub(super) fn dir_id(path: &Path) -> Result<DirId, Errno> {
    let wanted = StatxFlags::INO | StatxFlags::UID | StatxFlags::GID | StatxFlags::BTIME;
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, wanted)?;
    Ok(DirId {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        born: StatxFlags::from_bits_retain(found.stx_mask)
            .contains(StatxFlags::BTIME)
            .then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        uid: found.stx_uid,
        gid: found.stx_gid,
    })
}

/// The directory at a path, if it is a data directory.
pub(super) fn data_dir_id(path: &Path) -> Result<DirId, Errno> {
    let id = dir_id(path)?;
    dir_id(&path.join(VERSION_FILE))?;
    Ok(id)
}

/// How the data directory at `path` is, that was `known`. Opens a file of it for writing, and
/// writes nothing: a file system that has become read-only is not always marked as such.
pub(super) fn look(path: &Path, known: &DirId) -> DirectorySeen {
    let gone = |why: String| DirectorySeen::Gone { why };
    let shown = path.display();
    match dir_id(path) {
        Ok(found) if !found.is_same(known) => {
            return gone(format!("another directory is at {shown}"));
        }
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return gone(format!("nothing is at {shown}")),
        Err(error) => {
            let why = format!("cannot look at {shown}: {error}");
            return DirectorySeen::Unknown { why };
        }
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path.join(VERSION_FILE));
    let Err(error) = opened else {
        return match statvfs(path) {
            Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < WAL_FILE => {
                DirectorySeen::Full
            }
            Ok(_) | Err(_) => DirectorySeen::Fine,
        };
    };
    match Errno::from_io_error(&error) {
        Some(Errno::ROFS) => DirectorySeen::ReadOnly,
        Some(Errno::NOENT) => gone(format!("{VERSION_FILE} is missing in {shown}")),
        // It is there; whether it could be written is not for this user to know.
        Some(Errno::ACCESS | Errno::PERM) => DirectorySeen::Fine,
        Some(_) | None => DirectorySeen::Unknown {
            why: format!("cannot open {VERSION_FILE} in {shown}: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn directory_is_gone_when_removed_replaced_or_emptied_and_fine_when_it_is_back() {
        let base = tempfile::tempdir().unwrap();
        let (path, aside) = (base.path().join("data"), base.path().join("aside"));
        fs::create_dir(&path).unwrap();
        data_dir_id(&path).unwrap_err();
        fs::write(path.join(VERSION_FILE), "15\n").unwrap();
        let known = data_dir_id(&path).unwrap();
        assert_eq!(look(&path, &known), DirectorySeen::Fine);
        let why = |seen| {
            let DirectorySeen::Gone { why } = seen else {
                panic!("{seen:?}");
            };
            why
        };

        fs::rename(&path, &aside).unwrap();
        assert!(why(look(&path, &known)).starts_with("nothing is at"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(VERSION_FILE), "15\n").unwrap();
        assert!(why(look(&path, &known)).starts_with("another directory"));
        fs::remove_dir_all(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(look(&path, &known), DirectorySeen::Fine);

        fs::remove_file(path.join(VERSION_FILE)).unwrap();
        assert!(why(look(&path, &known)).contains("is missing"));
        // A pipe that nobody reads from: opened for reading it would hang.
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(CWD, path.join(VERSION_FILE), fifo, mode, 0).unwrap();
        let seen = look(&path, &known);
        assert!(matches!(seen, DirectorySeen::Unknown { .. }), "{seen:?}");
    }
}
