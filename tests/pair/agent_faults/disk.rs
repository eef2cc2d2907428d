//! Disks that are full or hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use failover_agent::model::journal::JournalEntry;
use failover_agent::model::plan::PlanKind;
use failover_agent::runtime::status::Snapshot;

use super::{SOON, TTL, keep_rows, kill_postmaster, refused, rows_up_to, stays_active, wait_moved};
use crate::support::cluster::{ClusterOptions, TestCluster};
use crate::support::wait_until;
use crate::support::writer::Session;

/// A file system of its own, small and in memory.
pub(super) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, said loudly, where this process may not mount.
    pub(super) fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(path)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self {
                path: path.to_path_buf(),
            });
        }
        println!("SKIPPED: only root in a namespace with CAP_SYS_ADMIN can mount {path:?}");
        None
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let file = fs::File::create(self.path.join("ballast")).unwrap();
        let bytes = vec![0_u8; 4096];
        while std::io::Write::write_all(&mut &file, &bytes).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }

    pub(super) fn read_only(&self, read_only: bool) {
        let how = if read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        let status = Command::new("mount")
            .args(["-o", how])
            .arg(&self.path)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.path).status());
    }
}

/// Fills the journal's last block, so that the next plan needs a new one.
async fn fill_last_block(cluster: &TestCluster) {
    let journal = cluster.state_dir("fra").join("journal");
    for _ in 0..100 {
        if fs::metadata(&journal).unwrap().len() % 4096 > 3700 {
            return;
        }
        refused(cluster.failover(0, "nowhere", false).await);
    }
    panic!("a refused command does not get into the journal");
}

pub(super) fn plans(cluster: &TestCluster, kind: PlanKind) -> usize {
    let entries = cluster.journal(0).into_iter();
    let of_kind = |entry: &JournalEntry| match entry {
        JournalEntry::Planned { plan, .. } => plan.kind == kind,
        _ => false,
    };
    entries.filter(of_kind).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s11_full_disk_under_the_journal_begins_nothing_and_throws_no_primary_away() {
    let mut cluster = TestCluster::prepare(ClusterOptions::default()).await;
    let Some(disk) = SmallDisk::mount(&cluster.state_dir("fra")) else {
        return;
    };
    cluster.start_all().await;
    keep_rows(&cluster, 100).await;
    fill_last_block(&cluster).await;
    disk.fill();

    let reason = refused(cluster.failover(0, "ams", false).await);
    assert!(reason.contains("journal cannot be written"), "{reason}");
    assert!(reason.contains("No space left"), "{reason}");
    stays_active(&cluster, 0, TTL).await;
    let status = cluster.status(0);
    let said = |why: &String| why.contains("journal cannot be written");
    assert!(status.refusals.iter().any(said), "{status:#?}");

    // Not even an outage begins a plan that could not be taken up again after a crash.
    kill_postmaster(&cluster, 0);
    cluster
        .wait_status(0, "the death is seen", SOON, |status| {
            super::shows(status, super::Diagnosis::DatabaseDead)
        })
        .await;
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(cluster.status(0).run.is_none());
        // bounded: by `until`
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cluster.status(0).refusals.iter().any(said));
    assert_eq!(plans(&cluster, PlanKind::GiveUp), 0);
    assert_eq!(plans(&cluster, PlanKind::Restart), 0);
    assert!(!cluster.status(1).active);

    disk.free();
    wait_moved(&cluster).await;
    assert_eq!(plans(&cluster, PlanKind::GiveUp), 1);
    assert_eq!(rows_up_to(&cluster, 1, 100).await, 100);
    cluster.wait_env_names("fra", 1, SOON).await;
    cluster.stop_agent(0).await;
}

/// A file in whose stead a pipe hangs whoever opens it, as a broken disk does.
struct HangingFile(PathBuf);

impl HangingFile {
    fn put(path: PathBuf) -> Self {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        // The file itself may be there for a moment, before it is renamed.
        while rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).is_err() {
            std::thread::yield_now();
        }
        Self(path)
    }
}

impl Drop for HangingFile {
    fn drop(&mut self) {
        use std::os::unix::fs::OpenOptionsExt;
        // A reader lets those go on that hang in opening it.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let reader = fs::File::options()
            .read(true)
            .custom_flags(flags)
            .open(&self.0);
        fs::remove_file(&self.0).ok();
        drop(reader);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s4_state_disk_that_hangs_does_not_hold_up_the_fence() {
    let cluster = TestCluster::start(ClusterOptions {
        relayed: true,
        ..ClusterOptions::default()
    })
    .await;
    let _hangs = HangingFile::put(cluster.state_dir("fra").join("fence-deadline.new"));
    let deadline = |status: &Snapshot| {
        let left = status.lease.fence_in_ms.unwrap_or(0);
        status.at.0 + i64::try_from(left).unwrap()
    };
    let before = deadline(&cluster.status(0));
    cluster
        .wait_status(0, "the lease is renewed all the same", SOON, |status| {
            deadline(status) > before + 1000
        })
        .await;
    let old = Session::open(cluster.node(0)).await;
    wait_until("it commits", SOON, || async { old.commits().len() > 5 }).await;
    let began = Instant::now();
    cluster.network.cut_off("fra");
    wait_moved(&cluster).await;
    assert!(cluster.node(0).processes().is_empty(), "fra is fenced");
    let last = old.commits().last().unwrap().at;
    let last = last.saturating_duration_since(began);
    assert!(last < TTL, "the last commit came {last:?} after the cut");
}
