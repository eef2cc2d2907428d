//! Replaces a file as a whole: after a kill at any moment it is the old one or the new one.
//!
//! Owns: reading with everything needed to put a file back as it was, and the sequence temp file →
//! owner, mode, attributes → fsync ([`stage`]), then rename → fsync of the directory
//! ([`NewText::put`]). Must not know what the bytes mean. Everything here blocks; `super` runs it
//! off the async threads.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, StatxAttributes, StatxFlags, Uid, fchown, fgetxattr, flistxattr, fremovexattr,
    fsetxattr, statx,
};
use rustix::io::Errno;

use crate::effects::error::EffectError;
use crate::effects::whole_file::{self, TempFile, directory_of};

/// Larger files are no app's settings.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Bound on one extended attribute and on the list of their names. Source: xattr(7), Linux limits.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Who else may read and write a file. Source: xattr(7), "Extended system attributes".
const ACL: &[u8] = b"system.posix_acl_access";

/// Attributes that describe the bytes of one file, so that a copy of them would be wrong.
/// Source: kernel documentation, security/IMA and EVM.
const ATTRIBUTES_OF_CONTENT: &[&[u8]] = &[b"security.ima", b"security.evm"];

/// A file as it was read.
#[derive(Debug)]
pub(super) struct FileRead {
    /// As configured.
    path: PathBuf,
    /// Behind all symbolic links: what a rename must replace.
    resolved: PathBuf,
    /// Its bytes.
    pub(super) text: Vec<u8>,
    /// What a new text takes its owner and mode from: this file, or the one that it is made like.
    file: File,
    metadata: fs::Metadata,
    absent: bool,
}

/// Reads the file that `path` leads to. If there is none, it is to be made with the owner and mode
/// of the file `like`, and has no text.
pub(super) fn read_or_absent(path: &Path, like: &Path) -> Result<FileRead, EffectError> {
    if !is_absent(path) {
        return read(path);
    }
    let fail = |error| failure("read", like, error);
    // To open a pipe would wait for somebody who writes into it.
    if !fs::metadata(like).map_err(fail)?.is_file() {
        let what = format!("{} is not a regular file", like.display());
        return Err(EffectError::permanent(what));
    }
    let file = File::open(like).map_err(fail)?;
    Ok(FileRead {
        path: path.to_owned(),
        resolved: where_it_would_be(path).map_err(|error| failure("create", path, error))?,
        text: Vec::new(),
        metadata: file.metadata().map_err(fail)?,
        file,
        absent: true,
    })
}

/// There is nothing by this name, not even a link that leads nowhere.
pub(super) fn is_absent(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn where_it_would_be(path: &Path) -> io::Result<PathBuf> {
    let directory = fs::canonicalize(directory_of(path))?;
    Ok(directory.join(path.file_name().unwrap_or_default()))
}

/// Reads the file that `path` leads to.
pub(super) fn read(path: &Path) -> Result<FileRead, EffectError> {
    let fail = |error| failure("read", path, error);
    let resolved = fs::canonicalize(path).map_err(fail)?;
    let kind = fs::metadata(&resolved).map_err(fail)?;
    if !kind.is_file() {
        return Err(
            EffectError::permanent(format!("{} is not a regular file", path.display()))
                .hint("name the app's settings file in path"),
        );
    }
    let mut file = File::open(&resolved).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let mut text = Vec::new();
    Read::by_ref(&mut file)
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(EffectError::permanent(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes",
            path.display()
        )));
    }
    Ok(FileRead {
        path: path.to_owned(),
        resolved,
        text,
        file,
        metadata,
        absent: false,
    })
}

impl FileRead {
    /// It is not there yet.
    pub(super) fn absent(&self) -> bool {
        self.absent
    }

    /// As configured.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A new text beside the file whose place it is to take; gone when it is dropped before.
#[derive(Debug)]
pub(super) struct NewText {
    old: FileRead,
    temp: TempFile,
}

impl NewText {
    /// Where it waits.
    pub(super) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// As the old file is configured.
    pub(super) fn target(&self) -> &Path {
        &self.old.path
    }

    /// Puts it into its place, unless somebody else has changed the file since it was read.
    pub(super) fn put(self) -> Result<(), EffectError> {
        let Self { old, temp } = self;
        refuse_changed(&old)?;
        temp.rename_to(&old.resolved)
            .map_err(|error| failure("replace", &old.path, error))
    }
}

/// Removes the temporary file that a crash may have left beside the file of `path`.
pub(super) fn sweep(path: &Path) -> Result<(), EffectError> {
    // A file that is gone is told where it is read.
    let Ok(resolved) = fs::canonicalize(path).or_else(|_| where_it_would_be(path)) else {
        return Ok(());
    };
    whole_file::sweep(&resolved)
        .map(|_| ())
        .map_err(|error| failure("clean up beside", path, error))
}

/// Removes a file that was read, unless somebody else has changed it since, durably.
pub(super) fn remove(now: &FileRead) -> Result<(), EffectError> {
    refuse_changed(now)?;
    let removed = fs::remove_file(&now.resolved);
    let synced = removed.and_then(|()| File::open(directory_of(&now.resolved))?.sync_all());
    synced.map_err(|error| failure("remove", &now.path, error))
}

/// Writes `text` beside what was read, with the same owner, mode and attributes, durably.
pub(super) fn stage(old: FileRead, text: &[u8]) -> Result<NewText, EffectError> {
    let fail = |error| failure("replace", &old.path, error);
    let directory = directory_of(&old.resolved);
    refuse_read_only(&old, directory)?;
    let mut temp = empty_beside(&old)?;
    temp.file.write_all(text).map_err(fail)?;
    keep_owner(&old, &temp.file)?;
    // An ACL before the mode: without it, the mode's group bits would be the group's, not its mask.
    if !old.absent {
        keep_attributes(&old, &temp.file)?;
    }
    temp.file
        .set_permissions(fs::Permissions::from_mode(old.metadata.mode() & 0o7777))
        .map_err(fail)?;
    temp.file.sync_all().map_err(fail)?;
    Ok(NewText { old, temp })
}

/// Writes a private file of the agent's own, whole or not at all.
pub(super) fn write_own(path: &Path, text: &[u8]) -> Result<(), EffectError> {
    whole_file::write_private(path, text).map_err(|error| failure("write", path, error))
}

/// I/O errors that trying again will not mend, with what to do about them.
const HOPELESS: &[(io::ErrorKind, &str)] = &[
    (
        io::ErrorKind::NotFound,
        "the file or its directory does not exist",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "the agent's user needs to read the file and to write its directory",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "the file system is mounted read-only",
    ),
    (io::ErrorKind::ResourceBusy, MOUNTED),
];
const MOUNTED: &str =
    "a file that is mounted by itself cannot be replaced: mount its directory instead";

/// An I/O error on a file, with what can be done about it.
pub(super) fn failure(what: &str, path: &Path, error: io::Error) -> EffectError {
    let what = format!("cannot {what} {}", path.display());
    let hopeless = HOPELESS.iter().find(|(kind, _)| *kind == error.kind());
    match hopeless {
        Some((_, hint)) => EffectError::permanent(what).hint(*hint),
        None => EffectError::retryable(what),
    }
    .caused_by(error)
}

/// A rename needs no permission on the file itself, and root needs none at all; but somebody who
/// took the write permission away did not want it changed.
fn refuse_read_only(old: &FileRead, directory: &Path) -> Result<(), EffectError> {
    let directory_mode = fs::metadata(directory)
        .map_err(|error| failure("look at", directory, error))?
        .mode();
    // That a template is read-only says nothing of what is made from it.
    let own = (!old.absent).then(|| (old.metadata.mode(), old.resolved.as_path()));
    for (mode, path) in own.into_iter().chain([(directory_mode, directory)]) {
        if mode & 0o200 == 0 {
            let what = format!(
                "cannot replace {}: {} is read-only",
                old.path.display(),
                path.display()
            );
            return Err(EffectError::permanent(what)
                .hint("chmod u+w it if the agent is to keep the file up to date"));
        }
    }
    Ok(())
}

/// Refuses to overwrite what somebody else wrote since it was read.
fn refuse_changed(old: &FileRead) -> Result<(), EffectError> {
    let fail = |error| failure("look again at", &old.path, error);
    if old.absent {
        return match is_absent(&old.path) {
            true => Ok(()),
            false => Err(changed_meanwhile(old)),
        };
    }
    let now = fs::metadata(&old.path).map_err(fail)?;
    let resolved = fs::canonicalize(&old.path).map_err(fail)?;
    let identity = |of: &fs::Metadata| (of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec());
    if resolved != old.resolved || identity(&now) != identity(&old.metadata) {
        return Err(changed_meanwhile(old));
    }
    Ok(())
}

fn changed_meanwhile(old: &FileRead) -> EffectError {
    EffectError::retryable(format!(
        "{} was changed by somebody else while it was being edited",
        old.path.display()
    ))
}

fn keep_owner(old: &FileRead, new: &File) -> Result<(), EffectError> {
    let fail = |error: io::Error| {
        EffectError::permanent(format!("cannot keep the owner of {}", old.path.display()))
            .hint("run the agent as the file's owner, or with the capability CAP_CHOWN")
            .caused_by(error)
    };
    let now = new.metadata().map_err(fail)?;
    let (uid, gid) = (old.metadata.uid(), old.metadata.gid());
    if (now.uid(), now.gid()) == (uid, gid) {
        return Ok(());
    }
    let owner = (now.uid() != uid).then(|| Uid::from_raw(uid));
    let group = (now.gid() != gid).then(|| Gid::from_raw(gid));
    fchown(new, owner, group).map_err(|error| fail(error.into()))
}

/// An empty file that only the agent's user may read. A new file inherits the default ACL of its
/// directory, which may let somebody read it who could not read the old one: that goes before there
/// is a text in it, or a mode that opens it up to them. An ACL of the old file's own comes later.
/// Source: acl(5), "OBJECT CREATION AND DEFAULT ACLs".
fn empty_beside(old: &FileRead) -> Result<TempFile, EffectError> {
    let temp = TempFile::beside(&old.resolved);
    let temp = temp.map_err(|error| failure("replace", &old.path, error))?;
    if attribute(&temp.file, ACL).is_err() {
        return Ok(temp);
    }
    match fremovexattr(&temp.file, ACL) {
        Ok(()) => Ok(temp),
        Err(error) => Err(EffectError::permanent(format!(
            "cannot keep the permissions of {}: its directory has a default ACL",
            old.path.display()
        ))
        .hint("remove the default ACL with setfacl -k")
        .caused_by(io::Error::from(error))),
    }
}

/// Refuses a file in whose place no other can be put. Asked whenever it is looked at: nobody is to
/// learn it in the night of a failover.
pub(super) fn refuse_irreplaceable(old: &FileRead) -> Result<(), EffectError> {
    if old.absent {
        return Ok(());
    }
    refuse_mounted(old)?;
    refuse_linked(old)
}

/// A rename over a file that is mounted by itself fails. Source: rename(2), EBUSY; statx(2),
/// `STATX_ATTR_MOUNT_ROOT` (a kernel that does not know it says nothing).
fn refuse_mounted(old: &FileRead) -> Result<(), EffectError> {
    let about = statx(&old.file, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    let root = about.is_ok_and(|about| {
        let attributes = about.stx_attributes & about.stx_attributes_mask;
        attributes.contains(StatxAttributes::MOUNT_ROOT)
    });
    if !root {
        return Ok(());
    }
    let what = format!("{} is mounted by itself (bind mount)", old.path.display());
    Err(EffectError::permanent(format!("{what}: nothing can be put in its place")).hint(MOUNTED))
}

/// Only one of a file's names would lead to a new text.
fn refuse_linked(old: &FileRead) -> Result<(), EffectError> {
    let names = old.metadata.nlink();
    if names <= 1 {
        return Ok(());
    }
    Err(EffectError::permanent(format!(
        "{} is one of {names} names (hard links) of one file: replacing it would leave the others \
         with the old text",
        old.path.display()
    ))
    .hint("keep one of them, and make the others symbolic links to it"))
}

/// Copies ACLs, SELinux labels and the like: without its label a file may be unreadable to its app.
fn keep_attributes(old: &FileRead, new: &File) -> Result<(), EffectError> {
    let mut names = Vec::with_capacity(ATTRIBUTE_BYTES_MAX);
    match flistxattr(&old.file, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        // A file system without attributes has none to keep.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(failure("list attributes of", &old.path, error.into())),
    }
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || ATTRIBUTES_OF_CONTENT.contains(&name) {
            continue;
        }
        let wanted = attribute(&old.file, name);
        if wanted.is_ok() && attribute(new, name) == wanted {
            continue;
        }
        wanted
            .and_then(|value| fsetxattr(new, name, &value, rustix::fs::XattrFlags::empty()))
            .map_err(|error| {
                EffectError::permanent(format!(
                    "cannot keep the attribute {} of {}",
                    String::from_utf8_lossy(name),
                    old.path.display()
                ))
                .hint("run the agent with the rights to set it, or remove it from the file")
                .caused_by(io::Error::from(error))
            })?;
    }
    Ok(())
}

fn attribute(file: &File, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(ATTRIBUTE_BYTES_MAX);
    fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_acl_is_gone_before_there_is_a_text_also_when_the_old_file_has_one() {
        // Source: Linux, include/uapi/linux/posix_acl_xattr.h: the owner, user 65534, the group,
        // the mask, all others.
        let mut acl = 2_u32.to_le_bytes().to_vec();
        for (tag, may, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 65534),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            acl.extend([tag.to_le_bytes(), may.to_le_bytes()].concat());
            acl.extend(id.to_le_bytes());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.env");
        fs::write(&path, "A=1\n").unwrap();
        let set = |path: &Path, name: &str| {
            rustix::fs::setxattr(path, name, &acl, rustix::fs::XattrFlags::empty())
        };
        if set(dir.path(), "system.posix_acl_default").is_err() {
            // This file system has no ACLs.
            return;
        }
        for own in [false, true] {
            if own {
                set(&path, "system.posix_acl_access").unwrap();
            }
            let temp = empty_beside(&read(&path).unwrap()).unwrap();
            assert!(attribute(&temp.file, ACL).is_err(), "{own}");
        }
        let new = stage(read(&path).unwrap(), b"A=2\n").unwrap();
        assert_eq!(attribute(&new.temp.file, ACL), Ok(acl));
    }
}
