//! App config against real files and real reload commands. S8: a file remembers its epoch.
#![expect(
    clippy::disallowed_methods,
    reason = "one test runs itself as a child process in order to kill it"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover_agent::config::settings::{AppConfig, AppConfigEdit, AppConfigValue};
use failover_agent::effects::app_config::{Applied, Observed, apply, dotenv, format, observe};
use failover_agent::effects::error::EffectError;
use failover_agent::model::Epoch;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{ConfigEdit, EditValue};
use proptest::prelude::*;

use format::EditError;

const BEFORE: &str = "# the app\nDB_HOST=db1\nSECRET='p#w'\n\
                      DATABASE_URL=\"postgres://app:p%40ss%2F@db1:5432/app?sslmode=require\"\n";

struct World {
    dir: tempfile::TempDir,
    target: AppConfig,
}

impl World {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.env");
        fs::write(&path, text).unwrap();
        let target = AppConfig {
            name: "web".to_owned(),
            site: None,
            path,
            edits: vec![AppConfigEdit {
                key: "DB_HOST".to_owned(),
                value: AppConfigValue::Text("{host}".to_owned()),
            }],
            reload: None,
            reload_timeout: Duration::from_secs(20),
            keep: 3,
        };
        Self { dir, target }
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.target.path).unwrap()
    }

    /// Counts its runs in a file, and then does `then`.
    fn reload_with(&mut self, then: &str) {
        let count = self.dir.path().join("reloads");
        self.target.reload = Some(vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            format!("echo run >> '{}'; {then}", count.display()),
        ]);
    }

    fn reloads(&self) -> usize {
        fs::read_to_string(self.dir.path().join("reloads")).map_or(0, |text| text.lines().count())
    }

    async fn apply(&self, host: &str, epoch: u64) -> Result<Applied, EffectError> {
        apply(&self.target, &both(host), Epoch(epoch), &self.state_dir()).await
    }

    async fn observe(&self, host: &str, epoch: u64) -> Result<Observed, EffectError> {
        observe(&self.target, &both(host), Epoch(epoch), &self.state_dir()).await
    }

    fn previous(&self) -> Vec<PathBuf> {
        let dir = self.state_dir().join("app_config/web");
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

fn edited(text: &str, edits: &[ConfigEdit]) -> Result<String, EditError> {
    dotenv::edit(text.as_bytes(), edits).map(|edited| String::from_utf8(edited.text).unwrap())
}

#[test]
fn every_way_of_writing_a_line_keeps_its_form() {
    for (before, after) in [
        ("K=old", "K=new"),
        ("K=old\n", "K=new\n"),
        ("K=\n", "K=new\n"),
        ("K=  \n", "K=new  \n"),
        ("K= # empty\n", "K=new # empty\n"),
        ("K=old # why\n", "K=new # why\n"),
        ("K=a#b\n", "K=new\n"),
        (
            "  export\tK = old  \r\nX=1\r\n",
            "  export\tK = new  \r\nX=1\r\n",
        ),
        ("\u{feff}K='old'\n", "\u{feff}K='new'\n"),
        ("K=\"old\"  # c\n", "K=\"new\"  # c\n"),
        (
            "#K=1\n# K=2\nK=old\nKK=3\nXK=4\n",
            "#K=1\n# K=2\nK=new\nKK=3\nXK=4\n",
        ),
        (
            "PEM=\"a\nK=inside\n\"\nK=old\nS='b\nK=too'\n",
            "PEM=\"a\nK=inside\n\"\nK=new\nS='b\nK=too'\n",
        ),
        (
            "PEM=\"a \\\" b\nK=x\"\nK=old\n",
            "PEM=\"a \\\" b\nK=x\"\nK=new\n",
        ),
        ("Q=it's\nW=C:\\dir\nK=old\n", "Q=it's\nW=C:\\dir\nK=new\n"),
        ("B=`x\nK=y`\nK=old\n", "B=`x\nK=y`\nK=new\n"),
        (
            "not an assignment\nK=old\n=\n",
            "not an assignment\nK=new\n=\n",
        ),
        ("K=old # don't\n", "K=new # don't\n"),
        ("K=#old\n", "K=new\n"),
        ("\nK=old", "\nK=new"),
        ("\r\n\nK=old", "\r\n\nK=new"),
    ] {
        assert_eq!(
            edited(before, &[text_edit("K", "new")]).as_deref(),
            Ok(after),
            "{before:?}"
        );
    }
}

#[test]
fn what_programs_read_differently_is_refused() {
    let key = || "K".to_owned();
    for (text, value, error) in [
        ("X=1\n#K=2\n", "v", EditError::KeyMissing { key: key() }),
        (
            "K=1\nX=1\nexport K=2\n",
            "v",
            EditError::KeyRepeated {
                key: key(),
                first: 1,
                second: 3,
            },
        ),
        (
            "K=1\nK: 2\n",
            "v",
            EditError::KeyRepeated {
                key: key(),
                first: 1,
                second: 2,
            },
        ),
        ("A=\"x\nK=1\n", "v", EditError::UnclosedQuote { line: 1 }),
        (
            "Z=1\nA=\"x\nB=\"y\nK=1\n",
            "v",
            EditError::UnclosedQuote { line: 2 },
        ),
    ] {
        assert_eq!(
            edited(text, &[text_edit("K", value)]),
            Err(error),
            "{text:?}"
        );
    }
}

#[test]
fn new_values_that_programs_read_differently_are_refused() {
    for value in [
        "a b", "a#b", "a$b", "a'b", "a\"b", "a;b", "a&b", "a\\", "a\nb", "`a`", "=a",
    ] {
        let result = edited("K=1\n", &[text_edit("K", value)]);
        assert!(
            matches!(result, Err(EditError::ValueUnwritable { line: 1, .. })),
            "{value}"
        );
    }
    for (text, value) in [
        ("K='1'\n", "a'b"),
        ("K=\"1\"\n", "a$b"),
        ("K=\"1\"\n", "a\nX=1"),
    ] {
        let result = edited(text, &[text_edit("K", value)]);
        assert!(
            matches!(result, Err(EditError::ValueUnwritable { .. })),
            "{text}"
        );
    }
    let twice = [text_edit("K", "a"), text_edit("K", "b")];
    let key = "K".to_owned();
    assert_eq!(edited("K=1\n", &twice), Err(EditError::EditedTwice { key }));
}

#[test]
fn old_values_that_programs_read_differently_are_left_alone() {
    for text in [
        "K=a\"b\"",
        "K=a\\\nX=1",
        "K='a'b",
        "K=\"a\\nb\"",
        "K=\"a\nb\"",
        "X=a\\\nK=1",
        "K=`a`",
    ] {
        let result = edited(text, &[text_edit("K", "v")]);
        assert!(
            matches!(result, Err(EditError::ValueDoubtful { .. })),
            "{text}"
        );
    }
}

#[test]
fn value_with_blanks_is_written_inside_quotes() {
    let edits = [text_edit("K", "a b#c")];
    assert_eq!(edited("K=\"x\"\n", &edits).as_deref(), Ok("K=\"a b#c\"\n"));
    assert_eq!(edited("K='x'\n", &edits).as_deref(), Ok("K='a b#c'\n"));
}

#[test]
fn url_value_keeps_password_and_query_and_takes_ipv6() {
    assert_eq!(
        edited(BEFORE, &[url_edit("DATABASE_URL", "fd00::2")]).unwrap(),
        BEFORE.replace("@db1:5432", "@[fd00::2]:5433")
    );
    let hash = "U=postgres://u:p#w@h/db\n";
    assert!(edited(hash, &[url_edit("U", "h2")]).is_err());
}

#[test]
fn edit_errors_show_no_values() {
    for text in [
        "K=postgres://u:hush@h:x/db",
        "K=postgres://u:hush@a@h/db",
        "K='hush'hush",
        "K=\"hush",
        "K=hush",
    ] {
        let error = edited(text, &[url_edit("K", "h2")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn epoch_comment_is_put_on_top_once_and_then_updated() {
    for (before, after) in [
        ("K=1\n", "# managed-by-agent epoch=7\nK=1\n"),
        (
            "\u{feff}K=1\r\n",
            "\u{feff}# managed-by-agent epoch=7\r\nK=1\r\n",
        ),
        ("", "# managed-by-agent epoch=7\n"),
        (
            "K=1\n#managed-by-agent epoch=3\n",
            "K=1\n#managed-by-agent epoch=7\n",
        ),
        (
            "P=\"\n# managed-by-agent epoch=9\n\"\n",
            "# managed-by-agent epoch=7\nP=\"\n# managed-by-agent epoch=9\n\"\n",
        ),
    ] {
        let text = dotenv::with_epoch(before.as_bytes(), Epoch(7)).unwrap();
        assert_eq!(str::from_utf8(&text), Ok(after));
        assert_eq!(dotenv::epoch(&text), Ok(Some(Epoch(7))));
    }
    assert_eq!(
        dotenv::epoch(b"K=1\n# managed-by-agent epoch=x\n"),
        Err(EditError::EpochUnreadable { line: 2 })
    );
}

#[test]
fn only_formats_that_can_be_edited_are_taken() {
    for (path, known) in [(".env", true), ("app.env", true), ("env.production", true)] {
        assert_eq!(
            format::format_of(Path::new(path)).is_some(),
            known,
            "{path}"
        );
    }
    for path in ["app.json", "config.YAML", "a.toml"] {
        assert!(format::format_of(Path::new(path)).is_none(), "{path}");
    }
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
    let wanted = format!(
        "# managed-by-agent epoch=1\n{}",
        BEFORE
            .replace("=db1", "=db2")
            .replace("@db1:5432", "@db2:5433")
    );
    assert_eq!(world.text(), wanted);
    assert_eq!(
        world.observe("db2", 1).await.unwrap(),
        Observed::AlreadyDone
    );
    let inode = fs::metadata(&world.target.path).unwrap().ino();
    assert!(!world.apply("db2", 1).await.unwrap().changed);
    assert_eq!(fs::metadata(&world.target.path).unwrap().ino(), inode);
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
    fs::remove_dir_all(world.state_dir()).unwrap();
    refused().await;
    assert_eq!(world.text(), written);

    // The comment is lost, the memory still speaks.
    world.apply("db2", 5).await.unwrap();
    let bare = written.replace("# managed-by-agent epoch=5\n", "");
    fs::write(&world.target.path, &bare).unwrap();
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
async fn reload_that_prints_a_gigabyte_gives_a_short_error() {
    let mut world = World::new(BEFORE);
    world.reload_with("head -c 1000000000 /dev/zero; exit 1");
    let error = world.apply("db2", 1).await.unwrap_err();
    assert!(
        error.to_string().len() < 2000,
        "{} bytes",
        error.to_string().len()
    );
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
    fs::write(
        world.state_dir().join("app_config/web/state.json"),
        b"{\"pa",
    )
    .unwrap();
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
    let real = world.target.path.clone();
    let second = world.dir.path().join("second");
    let first = world.dir.path().join("first");
    symlink("app.env", &second).unwrap();
    symlink(&second, &first).unwrap();
    world.target.path.clone_from(&first);
    world.apply("db2", 1).await.unwrap();
    assert!(fs::symlink_metadata(&first).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&real).unwrap().is_file());
    assert!(fs::read_to_string(&real).unwrap().contains("DB_HOST=db2"));
}

#[tokio::test]
async fn mode_owner_and_attributes_are_kept() {
    let world = World::new(BEFORE);
    let path = &world.target.path;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(path, Some(65534), Some(65533)).unwrap();
    }
    let flags = rustix::fs::XattrFlags::empty();
    let attributes = rustix::fs::setxattr(path, "user.agent-test", b"kept", flags).is_ok();
    world.apply("db2", 1).await.unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    if root {
        assert_eq!((after.uid(), after.gid()), (65534, 65533));
    }
    if attributes {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(path, "user.agent-test", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
}

#[tokio::test]
async fn read_only_file_directory_and_missing_file_are_clear_errors() {
    let world = World::new(BEFORE);
    let path = &world.target.path;
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
    fs::rename(&world.target.path, &moved).unwrap();
    world.target.path.clone_from(&moved);
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
        .map(|(path, line)| fs::read_to_string(path).unwrap().contains(line))
        .collect();
    assert_eq!(hosts, [true, true]);
    for path in kept {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    }
    let beside: Vec<_> = fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "state")
        .collect();
    assert_eq!(beside, ["app.env"], "nothing is left beside the app's file");
}

#[tokio::test]
async fn two_writers_at_once_leave_one_whole_file() {
    let world = World::new(BEFORE);
    let (first, second) = tokio::join!(world.apply("db2", 1), world.apply("db2", 1));
    let changed = [first.unwrap().changed, second.unwrap().changed];
    assert!(changed[0] != changed[1], "exactly one of them did it");
    assert_eq!(
        world.observe("db2", 1).await.unwrap(),
        Observed::AlreadyDone
    );
}

const KILLED_CHILD: &str = "AGENT_TEST_APP_CONFIG_DIR";

/// Runs itself as a child that moves the file back and forth, and kills that child at different
/// moments: the file must always be one of the two, whole.
#[test]
fn killed_at_any_moment_the_file_is_old_or_new() {
    if let Ok(dir) = std::env::var(KILLED_CHILD) {
        move_back_and_forth(Path::new(&dir));
        return;
    }
    let world = World::new(BEFORE);
    let padding = "X=0123456789\n".repeat(2_000);
    fs::write(&world.target.path, format!("{BEFORE}{padding}")).unwrap();
    let mut moved = 0;
    for round in 0..25_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_moment_the_file_is_old_or_new"])
            .env(KILLED_CHILD, world.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = world.dir.path().join("begun");
        while !begun.exists() {
            std::thread::sleep(Duration::from_millis(1));
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child ended by itself"
            );
        }
        std::thread::sleep(Duration::from_micros(round * 2_500));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&begun).unwrap();
        let text = world.text();
        let rest = text
            .split_once("SECRET='p#w'\n")
            .map(|(head, rest)| {
                assert!(
                    head.contains("DB_HOST=db1") || head.contains("DB_HOST=db2"),
                    "{head}"
                );
                moved += usize::from(head.contains("epoch="));
                rest
            })
            .unwrap();
        assert!(
            rest.ends_with(&padding),
            "round {round}: {} bytes",
            text.len()
        );
    }
    assert!(moved > 0, "no child ever replaced the file");
}

fn move_back_and_forth(dir: &Path) {
    let world = World::new(BEFORE);
    let mut target = world.target.clone();
    target.path = dir.join("app.env");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    fs::write(dir.join("begun"), b"").unwrap();
    runtime.block_on(async {
        loop {
            for host in ["db2", "db1"] {
                apply(&target, &both(host), Epoch(1), &dir.join("state"))
                    .await
                    .unwrap();
            }
        }
    });
}

/// Lines that say nothing about key `K`.
fn other_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "#[ -~]{0,20}".prop_map(|text| text.replace("managed-by", "")),
        "(export )?[A-J][A-Z_]{0,6}=[a-z0-9:/.@?&$%-]{0,12}( # [ -~]{0,8}[a-z])?",
        "[A-J]{1,4}='[ -&(-~\n=K]{0,16}'",
        "[A-J]{1,4}=\"[ !#-\\[\\]-~\n=K]{0,16}\" *",
    ]
}

fn other_lines() -> impl Strategy<Value = String> {
    (prop::collection::vec(other_line(), 0..6), any::<bool>()).prop_map(|(lines, crlf)| {
        let end = if crlf { "\r\n" } else { "\n" };
        lines.into_iter().map(|line| line + end).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        before in other_lines(),
        after in other_lines(),
        lead in "( {0,2}export )? {0,2}",
        space in "[ \t]{0,2}",
        (quote, old) in prop_oneof![
            ("", "[a-z0-9./:@-]{0,10}"),
            ("'", "[ -&(-\\[\\]-~]{0,10}"),
            ("\"", "[ !#-\\[\\]-~]{0,10}"),
        ],
        new in "[a-z0-9][a-z0-9.-]{0,10}",
        tail in "( {1,2}# [ -!#-&(-\\[\\]-_a-~]{0,9}| {0,2})",
    ) {
        // An empty plain value is written right behind the separator, before any blank.
        let space = if old.is_empty() && quote.is_empty() { String::new() } else { space };
        let line = |value: &str| {
            format!("{before}{lead}K={space}{quote}{value}{quote}{tail}\n{after}")
        };
        let edited = dotenv::edit(line(&old).as_bytes(), &[text_edit("K", &new)]).unwrap();
        prop_assert_eq!(String::from_utf8(edited.text).unwrap(), line(&new));
        prop_assert_eq!(edited.changed.is_empty(), old == new);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_an_edit_is_done_once(
        bytes in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"K=\"'`\\ \t\r\n#$:@/?export".to_vec()),
                1 => any::<u8>(),
            ],
            0..80,
        ),
        url in any::<bool>(),
    ) {
        let edit = if url { url_edit("K", "fd00::9") } else { text_edit("K", "new") };
        if let Ok(first) = dotenv::edit(&bytes, std::slice::from_ref(&edit)) {
            let second = dotenv::edit(&first.text, &[edit]).unwrap();
            prop_assert_eq!(second.changed, Vec::<String>::new());
        }
        if let Ok(noted) = dotenv::with_epoch(&bytes, Epoch(7)) {
            prop_assert_eq!(dotenv::epoch(&noted), Ok(Some(Epoch(7))));
        }
        let text = String::from_utf8_lossy(&bytes);
        drop(failover_agent::effects::app_config::url::replace_authority(&text, "h", 1));
    }
}
