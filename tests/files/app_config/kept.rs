//! What a new file has from the old one, and what it must not have from anywhere else.
#![expect(clippy::disallowed_methods, reason = "test code: a mount is needed")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use failover_agent::model::outcome::FailureKind;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::{BEFORE, World, moved_to};

/// An ACL as the kernel keeps it: the owner, one more user, the group, the mask, all others.
/// Source: Linux, include/uapi/linux/posix_acl_xattr.h and posix_acl.h.
fn acl(other_user: u32) -> Vec<u8> {
    let nobody = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, nobody),
        (0x02, 4, other_user),
        (0x04, 4, nobody),
        (0x10, 4, nobody),
        (0x20, 0, nobody),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(may.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[tokio::test]
async fn default_acl_of_the_directory_is_not_on_the_new_file_unless_it_was_on_the_old() {
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let world = World::new(BEFORE);
    let path = world.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    match setxattr(world.dir.path(), default, &acl(65534), XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOTSUP) => {
            eprintln!("SKIPPED: {path:?} is on a file system without ACLs");
            return;
        }
        Err(why) => panic!("cannot set an ACL beside {path:?}: {why}"),
    }
    world.apply("db2", 1).await.unwrap();
    let mut value = [0; 128];
    let read = getxattr(path, access, &mut value[..]);
    assert!(read.is_err(), "somebody else may read it now: {value:?}");
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640);

    setxattr(path, access, &acl(65533), XattrFlags::empty()).unwrap();
    world.apply("db3", 1).await.unwrap();
    let length = getxattr(path, access, &mut value[..]).unwrap();
    assert_eq!(&value[..length], acl(65533));
}

/// Over the file itself, until it is dropped.
struct BindMount<'a>(&'a Path);

impl Drop for BindMount<'_> {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg(self.0).status();
        assert!(ended.is_ok_and(|status| status.success()), "unmounted");
    }
}

#[tokio::test]
async fn file_that_is_mounted_by_itself_is_told_of_before_anybody_needs_it() {
    let world = World::new(BEFORE);
    let other = world.dir.path().join("other");
    fs::copy(world.path(), &other).unwrap();
    let mount = Command::new("mount")
        .arg("--bind")
        .args([&other, world.path()])
        .status();
    if !mount.unwrap().success() {
        println!("SKIPPED: this user may not mount");
        return;
    }
    let mounted = BindMount(world.path());
    let looked = world.observe("db2", 1).await.unwrap_err();
    assert_eq!(looked.kind, FailureKind::Permanent);
    assert!(looked.what.contains("bind mount"), "{looked}");
    let hint = looked.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("mount its directory"), "{hint}");
    let applied = world.apply("db2", 1).await.unwrap_err();
    assert!(applied.what.contains("bind mount"), "{applied}");
    assert_eq!(world.text(), BEFORE);
    drop(mounted);
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.text(), moved_to("db2"));
}

/// SELinux's, that of another module of the kernel, and what only the administrator sees.
const LABELS: [(&str, &[u8]); 3] = [
    ("security.selinux", b"system_u:object_r:etc_t:s0\0"),
    ("security.agent-test", b"label"),
    ("trusted.agent-test", b"label"),
];

/// Without its label, a file may be unreadable to its app.
#[tokio::test]
async fn labels_are_carried_over_and_what_describes_the_old_bytes_is_not() {
    let world = World::new(BEFORE);
    let path = world.path();
    let set = |name: &str, value: &[u8]| setxattr(path, name, value, XattrFlags::empty());
    let mut carried = Vec::new();
    for (name, value) in LABELS {
        match set(name, value) {
            Ok(()) => carried.push((name, value)),
            Err(why) => eprintln!("SKIPPED in part: the kernel does not let us set {name}: {why}"),
        }
    }
    // IMA's signature of the old text; its first byte is a type that every kernel knows.
    let signed = set("security.ima", b"\x03signature");
    if let Err(why) = &signed {
        eprintln!("SKIPPED in part: the kernel does not let us set security.ima: {why}");
    }
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.text(), moved_to("db2"));
    let mut read = [0; 64];
    for (name, value) in carried {
        let length = getxattr(path, name, &mut read[..]);
        let length = length.unwrap_or_else(|why| panic!("{name} is lost: {why}"));
        assert_eq!(&read[..length], value, "{name}");
    }
    if signed.is_ok() {
        let kept = getxattr(path, "security.ima", &mut read[..]);
        assert_eq!(kept, Err(Errno::NODATA));
    }
}

#[tokio::test]
async fn file_with_several_names_is_refused_and_all_of_them_stay() {
    let world = World::new(BEFORE);
    let other = world.dir.path().join("other");
    fs::hard_link(world.path(), &other).unwrap();
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(error.what.contains("hard links"), "{error}");
    assert_eq!(
        (world.text(), fs::read_to_string(&other).unwrap()),
        (BEFORE.to_owned(), BEFORE.to_owned())
    );
    let looked = world.observe("db2", 1).await.unwrap_err();
    assert!(looked.what.contains("hard links"), "{looked}");
    fs::remove_file(&other).unwrap();
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.text(), moved_to("db2"));

    // Only the epoch is new: it is not remembered either.
    fs::hard_link(world.path(), &other).unwrap();
    world.observe("db2", 1).await.unwrap_err();
    world.apply("db2", 2).await.unwrap_err();
    fs::remove_file(other).unwrap();
    world.apply("db2", 1).await.unwrap();
}
