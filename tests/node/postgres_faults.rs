//! The probes against disks that are full, read-only or gone, and against TLS that does not fit.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the test's tools fail the test, and run programs beside the code under test"
)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use failover_agent::config::settings::DatabaseTls;
use failover_agent::effects::clock::boottime;
use failover_agent::effects::postgres::process::Instance;
use failover_agent::effects::probes::Probe;
use failover_agent::effects::probes::directory::DirectoryProbe;
use failover_agent::model::observation::{DatabaseSeen, DirectorySeen, DiskFault, Seen};

use crate::support::agent_role::Access;
use crate::support::database::{
    PATIENT, answered, execute, fetch, fresh, look, own, primary, refusal,
};
use crate::support::postgres::{NodeOptions, TestNode};
use crate::support::wait_until;

/// A tmpfs that is unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .status();
        mount
            .is_ok_and(|status| status.success())
            .then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node that still uses it is dropped later.
        let umount = Command::new("umount").arg("-l").arg(self.0.path()).status();
        println!("unmounted: {umount:?}");
    }
}

fn give_to_owner_of(dir: &Path, path: &Path) {
    let owner = std::fs::metadata(dir).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test]
async fn full_disk_cannot_write_and_works_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED full_disk_cannot_write: mounting a tmpfs is not permitted here");
        return;
    };
    let node = primary(NodeOptions::default()).await;
    give_to_owner_of(&node.data_dir, disk.0.path());
    let place = disk.0.path().display();
    execute(
        &node,
        &format!("CREATE TABLESPACE small LOCATION '{place}'"),
    )
    .await;
    execute(&node, "ALTER TABLE agent.heartbeat SET TABLESPACE small").await;
    let mut probe = own(&Access::to(&node));
    execute(&node, "TRUNCATE agent.heartbeat").await;
    let filler = disk.0.path().join("filler");
    // Ends with the error that is wanted: no space left.
    std::fs::write(&filler, vec![0_u8; 2 << 20]).unwrap_err();
    let seen = look(&mut probe).await;
    let DatabaseSeen::CannotWrite { why, fault, .. } = seen else {
        panic!("{seen:?}");
    };
    assert!(why.starts_with("53100"), "{why}");
    assert_eq!(fault, Some(DiskFault::Full));
    std::fs::remove_file(filler).unwrap();
    assert!(answered(look(&mut probe).await).canary.is_some());
}

async fn look_at(directory: &mut DirectoryProbe) -> DirectorySeen {
    let Seen::Directory(seen) = directory.look(boottime() + PATIENT).await else {
        panic!("a probe of directories sees directories");
    };
    seen
}

#[tokio::test]
async fn read_only_file_system_is_told_by_the_server_and_by_its_directory() {
    let node = primary(NodeOptions::default().own_disk()).await;
    let Some(disk) = node.disk() else {
        return;
    };
    let (mut kept, mut new) = (own(&Access::to(&node)), fresh(&Access::to(&node)));
    let mut directory = DirectoryProbe::new(Instance::new(&node.data_dir));
    answered(look(&mut kept).await);
    assert_eq!(look_at(&mut directory).await, DirectorySeen::Fine);

    disk.turn_read_only();
    assert_eq!(look_at(&mut directory).await, DirectorySeen::ReadOnly);
    // A new session opens files for writing: refused with the code of a missing grant.
    let refused = look(&mut new).await;
    println!("a new session: {refused:?}");
    let DatabaseSeen::Unreachable { why } = refused else {
        panic!("{refused:?}");
    };
    assert!(why.ends_with(": Read-only file system"), "{why}");
    // The canary is the first to write WAL: the server tells it why, and is no more.
    let written = look(&mut kept).await;
    println!("a write: {written:?}");
    let DatabaseSeen::CannotWrite { why, fault, .. } = written else {
        panic!("{written:?}");
    };
    assert!(why.starts_with("42501"), "{why}");
    assert_eq!(fault, Some(DiskFault::ReadOnly));
    wait_until("nothing is left of the server", PATIENT, || async {
        node.processes().is_empty()
    })
    .await;
    assert_eq!(look_at(&mut directory).await, DirectorySeen::ReadOnly);
}

/// Gives the node a certificate for 127.0.0.1; returns the authority that signed it, as PEM.
fn turn_on_tls(node: &TestNode) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    for (name, text) in [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let path = node.data_dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        give_to_owner_of(&node.data_dir, &path);
    }
    node.append_setting("ssl", "on");
    node.stop("fast");
    node.start();
    certificate.pem()
}

#[tokio::test]
async fn tls_is_verified_and_never_left_out() {
    let node = primary(NodeOptions::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let stranger = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, stranger.self_signed(&key).unwrap().pem()).unwrap();
    let verify = |ca: &Path| {
        Access::to(&node).tls(DatabaseTls::Verify {
            ca: Some(ca.to_path_buf()),
        })
    };
    let plain = refusal(look(&mut fresh(&verify(&other))).await);
    assert!(plain.contains("TLS"), "{plain}");

    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, turn_on_tls(&node)).unwrap();
    assert!(
        answered(look(&mut own(&verify(&ca))).await)
            .canary
            .is_some()
    );
    refusal(look(&mut fresh(&verify(&other))).await);
    refusal(look(&mut fresh(&verify(&ca).host("localhost"))).await);
    let encrypted = "SELECT coalesce(bool_or(ssl), false)::text FROM pg_stat_ssl \
                     JOIN pg_stat_activity USING (pid) WHERE application_name = 'agent'";
    let mut kept = own(&verify(&ca));
    answered(look(&mut kept).await);
    assert_eq!(fetch(&node, encrypted).await, "true");
}
