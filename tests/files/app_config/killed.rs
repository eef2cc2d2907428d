//! A writer that is killed at any moment leaves the old file or the new one; of several files, the
//! next attempt makes all of them old or new, and the app runs with those.
#![expect(
    clippy::disallowed_methods,
    reason = "the test runs itself as a child process in order to kill it"
)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use failover_agent::effects::app_config::apply;
use failover_agent::model::outcome::FailureKind;

use super::several::App;
use super::{BEFORE, World, moved_to};
use crate::kill_at::kill_at;

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
    fs::write(world.path(), format!("{BEFORE}{padding}")).unwrap();
    for round in 0..25_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "app_config::killed::killed_at_any_moment_the_file_is_old_or_new",
            ])
            .env(KILLED_CHILD, world.dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = world.dir.path().join("begun");
        for attempt in 0.. {
            if begun.exists() {
                break;
            }
            let ended = child.try_wait().unwrap().is_some();
            assert!(!ended && attempt < 20_000, "the child did not begin");
            // bounded: 20,000 attempts, some 20 seconds.
            std::thread::sleep(Duration::from_millis(1));
        }
        // bounded: not waiting for anything, only killing at another moment each time.
        std::thread::sleep(Duration::from_micros(round * 2_500));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(&begun).unwrap();
        let text = world.text();
        let whole = ["db1", "db2"].map(|host| format!("{}{padding}", moved_to(host)));
        assert!(
            whole.contains(&text),
            "round {round}: {} bytes, neither the old nor the new file",
            text.len()
        );
    }
}

fn move_back_and_forth(dir: &Path) {
    let mut world = World::new(BEFORE);
    world.target.files[0].path = dir.join("app.env");
    world.state = dir.join("state");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        world.apply("db2", 1).await.unwrap();
        fs::write(dir.join("begun"), b"").unwrap();
        loop {
            for host in ["db1", "db2"] {
                world.apply(host, 1).await.unwrap();
            }
        }
    });
}

const POINT_CHILD: &str = "AGENT_TEST_APP_CONFIG_POINT";

/// The child's part: one change to db2, up to the point.
fn change_until(what: &str) {
    let (point, dir) = what.split_once(':').unwrap();
    kill_at(point.parse().unwrap());
    let app = App::at(Path::new(dir));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    drop(runtime.block_on(apply(&app.change("db2", 2))));
}

/// Changes to db2 in a child that is killed at the point; whether it lived to see it.
fn killed_at(test: &str, point: usize, app: &App) -> bool {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("app_config::killed::{test}")])
        .env(POINT_CHILD, format!("{point}:{}", app.dir.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.success() || status.signal() == Some(9),
        "point {point}: {status}"
    );
    !status.success()
}

/// Every point at which a change can be killed, on an app that runs with db1.
fn at_each_point(test: &str, points_min: usize, story: impl Fn(usize, &App)) {
    if let Ok(what) = std::env::var(POINT_CHILD) {
        change_until(&what);
        return;
    }
    for point in 1.. {
        // In memory, where there is such a place: a killed process loses nothing that was written.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let app = App::settled(dir.path());
        story(point, &app);
        if !killed_at(test, point, &app) {
            assert!(point > points_min, "only {point} points");
            return;
        }
        for text in app.texts() {
            let whole = ["db1", "db2"].map(|host| moved_to(host).replace("=1\n", "=2\n"));
            let old = moved_to("db1");
            assert!(
                text == old || whole.contains(&text),
                "point {point}: neither the old nor the new text"
            );
        }
        story(point + KILLED, &app);
        app.assert_no_litter(point);
    }
}

/// Added to the point when the story goes on after the kill.
const KILLED: usize = 1_000;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn killed_at_each_point_the_change_is_finished_by_the_next_attempt() {
    let test = "killed_at_each_point_the_change_is_finished_by_the_next_attempt";
    at_each_point(test, 12, |point, app| {
        if point > KILLED {
            block_on(apply(&app.change("db2", 2))).unwrap();
            app.assert_runs("db2", 2, point);
        }
    });
}

#[test]
fn killed_at_each_point_another_wish_is_fulfilled_as_a_whole() {
    let test = "killed_at_each_point_another_wish_is_fulfilled_as_a_whole";
    at_each_point(test, 12, |point, app| {
        if point > KILLED {
            block_on(apply(&app.change("db3", 3))).unwrap();
            app.assert_runs("db3", 3, point);
        }
    });
}

#[test]
fn killed_at_each_point_of_a_change_that_is_rolled_back_the_app_runs_the_old() {
    let test = "killed_at_each_point_of_a_change_that_is_rolled_back_the_app_runs_the_old";
    at_each_point(test, 16, |point, app| {
        app.refuse("db2");
        if point > KILLED {
            let error = block_on(apply(&app.change("db2", 2))).unwrap_err();
            assert_eq!(error.kind, FailureKind::Retryable, "point {point}: {error}");
            app.assert_runs("db1", 1, point);
            block_on(apply(&app.change("db1", 3))).unwrap();
            app.assert_runs("db1", 3, point);
        }
    });
}
