//! App config against real files and real reload commands. S8: a file remembers its epoch.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

mod followed;
mod kept;
mod killed;
mod refused;
mod several;
mod template;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::settings::{AppConfig, AppConfigEdit, AppConfigFile, AppConfigValue};
use failover_agent::effects::app_config::{
    Applied, Change, Observed, Surroundings, apply, observe,
};
use failover_agent::effects::error::EffectError;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{ConfigEdit, EditValue, FileEdits, PrimaryAt};
use failover_agent::model::{Epoch, SiteName};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

const BEFORE: &str = "# the app\nDB_HOST=db1\nSECRET='p#w'\n\
                      DATABASE_URL=\"postgres://app:p%40ss%2F@db1:5432/app?sslmode=require\"\n";

struct World {
    dir: tempfile::TempDir,
    state: PathBuf,
    target: AppConfig,
    surroundings: Arc<Surroundings>,
}

fn file(path: PathBuf) -> AppConfigFile {
    AppConfigFile {
        path,
        format: None,
        edits: vec![AppConfigEdit {
            key: "DB_HOST".to_owned(),
            value: AppConfigValue::Text("{host}".to_owned()),
        }],
        template: None,
    }
}

/// A shell command.
fn shell(script: &str) -> Option<Vec<String>> {
    Some(["/bin/sh", "-c", script].map(str::to_owned).into())
}

impl World {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.env");
        fs::write(&path, text).unwrap();
        let target = AppConfig {
            name: "web".to_owned(),
            site: None,
            files: vec![file(path)],
            validate: None,
            validate_timeout: Duration::from_secs(20),
            stage: None,
            reload: None,
            reload_timeout: Duration::from_secs(20),
            verify: None,
            verify_timeout: Duration::from_secs(20),
            target: None,
            keep: 3,
        };
        let state = dir.path().join("state");
        Self {
            dir,
            state,
            target,
            surroundings: template::surroundings(),
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn path(&self) -> &Path {
        &self.target.files[0].path
    }

    fn change(&self, host: &str, epoch: u64) -> Change<'_> {
        let files = self.target.files.iter().map(|file| FileEdits {
            path: file.path.clone(),
            edits: both(host),
        });
        Change {
            target: &self.target,
            files: files.collect(),
            primary: Some(PrimaryAt {
                site: SiteName::new("fra"),
                host: host.to_owned(),
                port: 5433,
            }),
            surroundings: &self.surroundings,
            epoch: Epoch(epoch),
            state_dir: self.state.as_path(),
        }
    }

    /// Counts its runs in a file, and then does `then`.
    fn reload_with(&mut self, then: &str) {
        let count = self.dir.path().join("reloads");
        self.target.reload = shell(&format!("echo run >> '{}'; {then}", count.display()));
    }

    fn reloads(&self) -> usize {
        fs::read_to_string(self.dir.path().join("reloads")).map_or(0, |text| text.lines().count())
    }

    async fn apply(&self, host: &str, epoch: u64) -> Result<Applied, EffectError> {
        apply(&self.change(host, epoch)).await
    }

    async fn observe(&self, host: &str, epoch: u64) -> Result<Observed, EffectError> {
        observe(&self.change(host, epoch)).await
    }

    fn previous(&self) -> Vec<PathBuf> {
        let dir = self.state.join("app_config/web");
        let mut found: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("previous-"))
            .collect();
        found.sort();
        found
    }
}

fn text_edit(key: &str, value: &str) -> ConfigEdit {
    ConfigEdit {
        key: key.to_owned(),
        to: EditValue::Text(value.to_owned()),
    }
}

fn url_edit(key: &str, host: &str) -> ConfigEdit {
    ConfigEdit {
        key: key.to_owned(),
        to: EditValue::UrlAuthority {
            host: host.to_owned(),
            port: 5433,
        },
    }
}

fn both(host: &str) -> Vec<ConfigEdit> {
    vec![text_edit("DB_HOST", host), url_edit("DATABASE_URL", host)]
}

#[tokio::test]
async fn values_follow_the_primary_and_a_second_apply_changes_nothing() {
    let mut world = World::new(BEFORE);
    world.reload_with("true");
    assert!(matches!(
        world.observe("db2", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    assert!(world.apply("db2", 1).await.unwrap().changed);
    assert_eq!(world.text(), moved_to("db2"));
    assert_eq!(
        world.observe("db2", 1).await.unwrap(),
        Observed::AlreadyDone
    );
    let inode = fs::metadata(world.path()).unwrap().ino();
    assert!(!world.apply("db2", 1).await.unwrap().changed);
    assert_eq!(fs::metadata(world.path()).unwrap().ino(), inode);
    assert_eq!(world.reloads(), 1);
}

#[tokio::test]
async fn a_new_epoch_alone_is_noted_without_a_reload() {
    let mut world = World::new(BEFORE);
    world.reload_with("true");
    world.apply("db2", 1).await.unwrap();
    assert!(matches!(
        world.observe("db2", 2).await.unwrap(),
        Observed::Needed { .. }
    ));
    assert!(!world.apply("db2", 2).await.unwrap().changed);
    assert!(world.text().starts_with("# managed-by-agent epoch=2\n"));
    assert_eq!(
        world.observe("db2", 2).await.unwrap(),
        Observed::AlreadyDone
    );
    assert_eq!(world.reloads(), 1);
}

#[tokio::test]
async fn stale_epoch_is_refused_by_the_file_and_by_the_memory() {
    let world = World::new(BEFORE);
    world.apply("db2", 5).await.unwrap();
    let written = world.text();
    let refused = async || {
        let error = world.apply("db1", 4).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent, "{error}");
        assert_eq!(
            world.observe("db1", 4).await.unwrap_err().kind,
            FailureKind::Permanent
        );
    };
    refused().await;
    assert_eq!(world.text(), written);

    // The memory is lost, the comment still speaks.
    fs::remove_dir_all(&world.state).unwrap();
    refused().await;
    assert_eq!(world.text(), written);

    // The comment is lost, the memory still speaks.
    world.apply("db2", 5).await.unwrap();
    let bare = written.replace("# managed-by-agent epoch=5\n", "");
    fs::write(world.path(), &bare).unwrap();
    refused().await;
    assert_eq!(world.text(), bare);
}

#[tokio::test]
async fn failed_reload_is_run_again_and_never_in_sync() {
    let mut world = World::new(BEFORE);
    world.reload_with("echo no such service >&2; exit 3");
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    assert!(error.to_string().contains("no such service"), "{error}");
    assert!(matches!(
        world.observe("db2", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    world.reload_with("true");
    let applied = world.apply("db2", 1).await.unwrap();
    assert!(!applied.changed);
    assert_eq!(world.reloads(), 2);
    assert_eq!(
        world.observe("db2", 1).await.unwrap(),
        Observed::AlreadyDone
    );
}

#[tokio::test]
async fn going_back_after_a_failed_reload_reloads_too() {
    let mut world = World::new(BEFORE);
    world.reload_with("true");
    world.apply("db2", 1).await.unwrap();
    world.reload_with("exit 1");
    world.apply("db3", 2).await.unwrap_err();
    world.reload_with("true");
    world.apply("db2", 3).await.unwrap();
    assert_eq!(world.reloads(), 3);
    assert_eq!(
        world.observe("db2", 3).await.unwrap(),
        Observed::AlreadyDone
    );
}

#[tokio::test]
async fn hanging_reload_is_cut_off_and_run_again() {
    let mut world = World::new(BEFORE);
    world.reload_with("sleep 600");
    world.target.reload_timeout = Duration::from_millis(300);
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    world.reload_with("true");
    world.target.reload_timeout = Duration::from_secs(20);
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.reloads(), 2);
}

#[tokio::test]
async fn crash_between_write_and_reload_ends_with_a_reload() {
    let mut world = World::new(BEFORE);
    world.reload_with("sleep 600");
    {
        let mut work = Box::pin(world.apply("db2", 1));
        while world.reloads() == 0 {
            let step = tokio::time::timeout(Duration::from_millis(20), &mut work).await;
            assert!(step.is_err(), "the reload cannot have ended");
        }
        // Dropped here, as if the agent had died: the file is new, the app was not told.
    }
    assert!(world.text().contains("DB_HOST=db2"));
    world.reload_with("true");
    assert!(matches!(
        world.observe("db2", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    assert!(!world.apply("db2", 1).await.unwrap().changed);
    assert_eq!(world.reloads(), 2);
}

#[tokio::test]
async fn damaged_memory_means_reload_once_more() {
    let mut world = World::new(BEFORE);
    world.reload_with("true");
    world.apply("db2", 1).await.unwrap();
    fs::write(world.state.join("app_config/web/state.json"), b"{\"pa").unwrap();
    assert!(matches!(
        world.observe("db2", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.reloads(), 2);
    assert_eq!(
        world.observe("db2", 1).await.unwrap(),
        Observed::AlreadyDone
    );
}

#[tokio::test]
async fn file_behind_symbolic_links_is_replaced_and_the_links_stay() {
    let mut world = World::new(BEFORE);
    let real = world.path().to_owned();
    let second = world.dir.path().join("second");
    let first = world.dir.path().join("first");
    symlink("app.env", &second).unwrap();
    symlink(&second, &first).unwrap();
    world.target.files[0].path.clone_from(&first);
    world.apply("db2", 1).await.unwrap();
    assert!(fs::symlink_metadata(&first).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&real).unwrap().is_file());
    assert!(fs::read_to_string(&real).unwrap().contains("DB_HOST=db2"));
}

#[tokio::test]
async fn mode_owner_and_attributes_are_kept() {
    let world = World::new(BEFORE);
    let path = world.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(path, Some(65534), Some(65533)).unwrap();
    }
    let attributes = match setxattr(path, "user.agent-test", b"kept", XattrFlags::empty()) {
        Ok(()) => true,
        Err(Errno::NOTSUP) => {
            eprintln!("SKIPPED in part: {path:?} is on a file system without user attributes");
            false
        }
        Err(error) => panic!("cannot set an attribute of {path:?}: {error}"),
    };
    world.apply("db2", 1).await.unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    if root {
        assert_eq!((after.uid(), after.gid()), (65534, 65533));
    }
    if attributes {
        let mut value = [0; 16];
        let length = getxattr(path, "user.agent-test", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
}

#[tokio::test]
async fn read_only_file_directory_and_missing_file_are_clear_errors() {
    let world = World::new(BEFORE);
    let path = world.path().to_owned();
    let path = path.as_path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(
        error.to_string().contains("read-only") && error.hint.is_some(),
        "{error}"
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();

    let inner = world.dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut world = world;
    let moved = inner.join("app.env");
    fs::rename(world.path(), &moved).unwrap();
    world.target.files[0].path.clone_from(&moved);
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let error = world.apply("db2", 1).await.unwrap_err();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    assert_eq!(world.text(), BEFORE);

    fs::remove_file(&moved).unwrap();
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn missing_and_repeated_keys_leave_the_file_alone() {
    for text in ["DB_HOST=a\n", "DB_HOST=a\nDB_HOST=b\nDATABASE_URL=p://h/\n"] {
        let world = World::new(text);
        let error = world.apply("db2", 1).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Permanent);
        assert_eq!(world.text(), text);
    }
}

#[tokio::test]
async fn the_last_versions_are_kept_and_private() {
    let mut world = World::new(BEFORE);
    world.target.keep = 2;
    for (epoch, host) in [(1, "db2"), (2, "db3"), (3, "db4"), (4, "db5")] {
        world.apply(host, epoch).await.unwrap();
    }
    let kept = world.previous();
    let hosts: Vec<bool> = kept
        .iter()
        .zip(["DB_HOST=db3\n", "DB_HOST=db4\n"])
        .map(|(path, line)| fs::read_to_string(path.join("0")).unwrap().contains(line))
        .collect();
    assert_eq!(hosts, [true, true]);
    for path in kept {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let text = fs::metadata(path.join("0")).unwrap();
        assert_eq!(text.mode() & 0o777, 0o600);
    }
    let beside: Vec<_> = fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "state")
        .collect();
    assert_eq!(beside, ["app.env"], "nothing is left beside the app's file");
}

/// [`BEFORE`] as it is under epoch 1 with `host` as the primary.
fn moved_to(host: &str) -> String {
    let text = BEFORE
        .replace("=db1", &format!("={host}"))
        .replace("@db1:5432", &format!("@{host}:5433"));
    format!("# managed-by-agent epoch=1\n{text}")
}
