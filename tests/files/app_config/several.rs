//! Several files that belong together change as one, and the app that reads them is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover_agent::effects::app_config::{
    Change, Observed, apply, generations, look, observe, restore,
};
use failover_agent::model::outcome::FailureKind;

use super::{BEFORE, World, file, moved_to, shell};

/// An app with two files. What it runs with is what it read at its last reload; it refuses hosts.
pub(crate) struct App {
    world: World,
    pub(crate) dir: PathBuf,
}

impl App {
    /// The app of this directory, as it is.
    pub(crate) fn at(dir: &Path) -> Self {
        let mut world = World::new(BEFORE);
        let place = dir.display();
        world.state = dir.join("state");
        world.target.files = vec![file(dir.join("a.env")), file(dir.join("b.env"))];
        world.target.validate = shell("grep -q DB_HOST \"$0\"").map(|mut command| {
            command.push("{staged}".to_owned());
            command
        });
        world.target.reload = shell(&format!(
            "cd '{place}'; if grep -qsFf refused a.env; then echo refused >&2; exit 1; fi; \
             cat a.env b.env > running.new; mv running.new running; echo run >> reloads"
        ));
        world.target.verify = shell(&format!(
            "test \"$(grep -c '^DB_HOST={{host}}$' '{place}/running')\" = 2"
        ));
        Self {
            world,
            dir: dir.to_owned(),
        }
    }

    /// A new app that runs with db1, and was told so by the agent.
    pub(crate) fn settled(dir: &Path) -> Self {
        for name in ["a.env", "b.env"] {
            let text = BEFORE.replace("db1", "db0");
            fs::write(dir.join(name), text).unwrap();
        }
        let app = Self::at(dir);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(apply(&app.change("db1", 1))).unwrap();
        app
    }

    pub(crate) fn change(&self, host: &str, epoch: u64) -> Change<'_> {
        self.world.change(host, epoch)
    }

    /// From now on it does not start with this host.
    pub(crate) fn refuse(&self, host: &str) {
        fs::write(self.dir.join("refused"), format!("DB_HOST={host}\n")).unwrap();
    }

    pub(crate) fn texts(&self) -> [String; 2] {
        ["a.env", "b.env"].map(|name| fs::read_to_string(self.dir.join(name)).unwrap())
    }

    fn reloads(&self) -> usize {
        let text = fs::read_to_string(self.dir.join("reloads")).unwrap();
        text.lines().count()
    }

    /// Both files and the process have this host; the files under this epoch.
    pub(crate) fn assert_runs(&self, host: &str, epoch: u64, point: usize) {
        let text = moved_to(host).replace("epoch=1\n", &format!("epoch={epoch}\n"));
        assert_eq!(self.texts(), [text.clone(), text], "point {point}");
        let running = fs::read_to_string(self.dir.join("running")).unwrap();
        let lines = running.lines().filter(|line| line.starts_with("DB_HOST="));
        let wanted = format!("DB_HOST={host}");
        assert!(
            lines.clone().count() == 2 && lines.into_iter().all(|line| line == wanted),
            "point {point}: the app runs with something else than {host}:\n{running}"
        );
    }

    /// Nothing is left that is not a file of the app, or a thing that the agent remembers.
    pub(crate) fn assert_no_litter(&self, point: usize) {
        let known = ["a.env", "b.env", "state", "running", "reloads", "refused"];
        let remembered = self.dir.join("state/app_config/web");
        for (dir, fine) in [
            (
                &self.dir,
                &(|name: &str| known.contains(&name)) as &dyn Fn(&str) -> bool,
            ),
            (&remembered, &|name| {
                ["lock", "state.json"].contains(&name) || name.starts_with("previous-")
            }),
        ] {
            for entry in fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(
                    fine(&name),
                    "point {point}: {name} is left in {}",
                    dir.display()
                );
            }
        }
    }
}

/// Runs in a thread of its own: a settled app is made in a runtime of its own.
async fn settled() -> (tempfile::TempDir, App) {
    tokio::task::spawn_blocking(|| {
        let dir = tempfile::tempdir().unwrap();
        let app = App::settled(dir.path());
        (dir, app)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn several_files_change_together_and_the_app_proves_it() {
    let (_dir, app) = settled().await;
    let applied = apply(&app.change("db2", 2)).await.unwrap();
    assert!(applied.changed, "{}", applied.note);
    app.assert_runs("db2", 2, 0);
    assert_eq!(app.reloads(), 2);
    let again = apply(&app.change("db2", 2)).await.unwrap();
    assert!(!again.changed);
    assert_eq!(app.reloads(), 2, "{}", again.note);
    app.assert_no_litter(0);
}

#[tokio::test]
async fn one_file_that_cannot_be_edited_leaves_all_alone() {
    let (_dir, app) = settled().await;
    fs::write(app.dir.join("b.env"), "OTHER=1\n").unwrap();
    let before = app.texts();
    let error = apply(&app.change("db2", 2)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Permanent, "{error}");
    assert_eq!(app.texts(), before);
    assert_eq!(app.reloads(), 1);
}

#[tokio::test]
async fn one_file_that_cannot_be_replaced_puts_the_others_back() {
    let (_dir, app) = settled().await;
    // Nothing else fails as late as this: between the look and the rename, b becomes another file.
    let place = app.dir.display();
    let mut change = app.change("db2", 2);
    let mut target = change.target.clone();
    target.validate = shell(&format!("cd '{place}'; cp b.env other; mv other b.env"));
    change.target = &target;
    let error = apply(&change).await.unwrap_err();
    assert!(
        error.to_string().contains("changed by somebody else"),
        "{error}"
    );
    app.assert_runs("db1", 1, 0);
    app.assert_no_litter(0);
    apply(&app.change("db2", 2)).await.unwrap();
    app.assert_runs("db2", 2, 0);
}

#[tokio::test]
async fn a_running_app_that_lost_the_values_is_told_again() {
    let (_dir, app) = settled().await;
    fs::write(app.dir.join("running"), "DB_HOST=db0\n").unwrap();
    let applied = apply(&app.change("db1", 1)).await.unwrap();
    assert!(!applied.changed);
    app.assert_runs("db1", 1, 0);
}

#[tokio::test]
async fn versions_are_kept_together_and_come_back_together() {
    let (_dir, app) = settled().await;
    apply(&app.change("db2", 2)).await.unwrap();
    let target = &app.world.target;
    let kept = generations(target, &app.world.state).await.unwrap();
    let epochs: Vec<_> = kept.iter().map(|known| known.epoch.0).collect();
    assert_eq!(epochs, [0, 1]);
    let newest = kept.last().unwrap();
    assert_eq!(newest.files.len(), 2);
    let epoch = failover_agent::model::Epoch(2);
    let restored = restore(target, newest.number, epoch, &app.world.state).await;
    assert!(restored.unwrap().changed);
    app.assert_runs("db1", 2, 0);
    let missing = restore(target, 99, epoch, &app.world.state).await;
    assert_eq!(missing.unwrap_err().kind, FailureKind::Permanent);
    let older = failover_agent::model::Epoch(1);
    let stale = restore(target, newest.number, older, &app.world.state).await;
    assert_eq!(stale.unwrap_err().kind, FailureKind::Permanent);
    app.assert_runs("db1", 2, 0);
}

#[tokio::test]
async fn an_edit_by_somebody_else_is_seen_and_put_right() {
    let (_dir, app) = settled().await;
    let change = app.change("db1", 1);
    let looked = look(&change).await.unwrap();
    assert!(!looked.edited && looked.observed == Observed::AlreadyDone);
    let path = app.dir.join("b.env");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("DB_HOST=db1", "DB_HOST=db9")).unwrap();
    let looked = look(&change).await.unwrap();
    assert!(looked.edited && matches!(looked.observed, Observed::Needed { .. }));
    let differing: Vec<_> = looked
        .files
        .iter()
        .map(|(_, keys)| keys.join(","))
        .collect();
    assert_eq!(differing, ["", "DB_HOST"]);
    apply(&change).await.unwrap();
    app.assert_runs("db1", 1, 0);
    assert_eq!(observe(&change).await.unwrap(), Observed::AlreadyDone);
}

/// The files have been right all the time, but nobody has told the app; it cannot be asked.
#[tokio::test]
async fn right_values_that_somebody_else_wrote_are_told_to_the_app() {
    let (_dir, app) = settled().await;
    for (path, text) in app.world.target.files.iter().zip(app.texts()) {
        let text = text.replace("=db1", "=db2").replace("@db1:", "@db2:");
        fs::write(&path.path, text).unwrap();
    }
    let mut target = app.world.target.clone();
    target.verify = None;
    let change = Change {
        target: &target,
        ..app.change("db2", 2)
    };
    assert!(look(&change).await.unwrap().edited);
    let applied = apply(&change).await.unwrap();
    assert!(!applied.changed, "{}", applied.note);
    assert_eq!(app.reloads(), 2, "{}", applied.note);
    app.assert_runs("db2", 2, 0);
    apply(&change).await.unwrap();
    assert_eq!(app.reloads(), 2);
}

#[tokio::test]
async fn a_whole_tree_is_staged_for_the_check() {
    let (_dir, app) = settled().await;
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().join("app");
    fs::create_dir_all(root.join("conf.d")).unwrap();
    for name in ["a.env", "conf.d/b.env"] {
        fs::write(root.join(name), BEFORE).unwrap();
    }
    fs::write(root.join("main"), "stays").unwrap();
    std::os::unix::fs::symlink(root.join("a.env"), root.join("link")).unwrap();
    let mut target = app.world.target.clone();
    let mut change = app.change("db2", 2);
    target.files = vec![file(root.join("a.env")), file(root.join("conf.d/b.env"))];
    for (of, to) in change.files.iter_mut().zip(&target.files) {
        of.path.clone_from(&to.path);
    }
    target.reload = None;
    target.verify = None;
    target.validate_timeout = Duration::from_secs(20);
    target.stage = Some(root.clone());
    let seen = tree.path().join("seen");
    let script = format!(
        "cd \"$1\" && cat a.env conf.d/b.env link main > '{}' && test \"$0\" = \"$1/a.env\"",
        seen.display()
    );
    target.validate = shell(&script).map(|mut command| {
        command.extend(["{staged}", "{staged_dir}"].map(str::to_owned));
        command
    });
    change.target = &target;
    apply(&change).await.unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    assert_eq!(seen.matches("DB_HOST=db2").count(), 3, "{seen}");
    assert!(seen.ends_with("stays"));
    let left: Vec<_> = fs::read_dir(app.world.state.join("app_config/web"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name == "staged")
        .collect();
    assert!(left.is_empty());
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
