//! New files that are not valid, and apps that do not take them.

use std::fs;
use std::time::Duration;

use failover_agent::config::settings::AppConfig;
use failover_agent::effects::app_config::{Observed, apply_by_hand};
use failover_agent::model::outcome::{Failure, FailureKind};

use super::{BEFORE, World, moved_to, shell};

/// What the app runs with is what it read at its last reload.
fn app(world: &mut World) {
    let running = world.dir.path().join("running");
    let (from, to) = (world.path().display().to_string(), running.display());
    world.reload_with(&format!("cp '{from}' '{to}'"));
    world.target.verify = shell(&format!("grep -qx 'DB_HOST={{host}}' '{to}'"));
}

fn running(world: &World) -> String {
    fs::read_to_string(world.dir.path().join("running")).unwrap()
}

#[tokio::test]
async fn invalid_files_change_nothing() {
    let mut world = World::new(BEFORE);
    world.reload_with("true");
    let log = world.dir.path().join("validated");
    let script = format!(
        "cat \"$0\" >> '{}'; echo line 2 is wrong >&2; exit 1",
        log.display()
    );
    world.target.validate = shell(&script).map(|mut command| {
        command.push("{staged}".to_owned());
        command
    });
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    assert!(error.to_string().contains("line 2 is wrong"), "{error}");
    assert_eq!(world.text(), BEFORE);
    assert_eq!(world.reloads(), 0);
    assert_eq!(fs::read_to_string(&log).unwrap(), moved_to("db2"));
    assert!(matches!(
        world.observe("db2", 1).await.unwrap(),
        Observed::Needed { .. }
    ));
    world.target.validate = None;
    world.apply("db2", 1).await.unwrap();
    assert_eq!(world.text(), moved_to("db2"));
}

#[tokio::test]
async fn new_files_wait_under_a_name_that_no_include_pattern_matches() {
    let mut world = World::new(BEFORE);
    let names = world.dir.path().join("names");
    // What includes such as `*`, `*.env` and `*.conf` find while the new file waits.
    let script = format!(
        "cd '{}'; ls -d * > '{}'; basename \"$0\" >> '{}'",
        world.dir.path().display(),
        names.display(),
        names.display()
    );
    world.target.validate = shell(&script).map(|mut command| {
        command.push("{staged}".to_owned());
        command
    });
    world.apply("db2", 1).await.unwrap();
    let names = fs::read_to_string(names).unwrap();
    let names: Vec<_> = names.lines().collect();
    assert_eq!(names, ["app.env", "state", ".app.env.agent-tmp"]);
}

#[tokio::test]
async fn hanging_check_is_cut_off() {
    let mut world = World::new(BEFORE);
    world.target.validate = shell("sleep 600");
    world.target.validate_timeout = Duration::from_millis(200);
    let error = world.apply("db2", 1).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable, "{error}");
    assert_eq!(world.text(), BEFORE);
}

#[tokio::test]
async fn files_that_the_app_does_not_take_are_put_back_and_left_alone_for_a_while() {
    let mut world = World::new(BEFORE);
    app(&mut world);
    world.apply("db2", 1).await.unwrap();
    let before = world.text();
    // From now on it does as if it had read its file, and has not.
    let takes = world.target.reload.clone();
    world.reload_with("true");
    world.target.verify_timeout = Duration::from_millis(600);
    let error = world.apply("db3", 2).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Retryable);
    let told = error.to_string();
    assert!(
        told.contains("does not prove") && told.contains("app uses them"),
        "{told}"
    );
    assert!(
        error
            .retry_after
            .is_some_and(|wait| wait > Duration::from_secs(1))
    );
    assert_eq!(world.text(), before);
    assert!(running(&world).contains("DB_HOST=db2"));
    assert_eq!(
        world.reloads(),
        3,
        "once for the new files, once for the old"
    );
    assert!(matches!(
        world.observe("db3", 2).await.unwrap(),
        Observed::Needed { .. }
    ));

    // The same text waits, and nothing is reloaded meanwhile.
    world.target.reload.clone_from(&takes);
    let error = world.apply("db3", 2).await.unwrap_err();
    assert!(
        error.to_string().contains("not changed for another"),
        "{error}"
    );
    assert!(error.retry_after.is_some());
    assert_eq!(world.reloads(), 3);
    assert_eq!(world.text(), before);

    // A person does not wait.
    apply_by_hand(&world.change("db3", 2)).await.unwrap();
    assert!(running(&world).contains("DB_HOST=db3"));

    // Another one does not wait either.
    world.reload_with("true");
    world.apply("db5", 2).await.unwrap_err();
    world.target.reload = takes;
    world.apply("db4", 2).await.unwrap();
    assert!(running(&world).contains("DB_HOST=db4"));
}

#[tokio::test]
async fn what_stands_in_the_arguments_of_a_command_is_in_no_error() {
    type Part = fn(&mut AppConfig) -> &mut Option<Vec<String>>;
    let parts: [Part; 3] = [
        |app| &mut app.validate,
        |app| &mut app.reload,
        |app| &mut app.verify,
    ];
    let scripts = ["false", "sleep 60", "/nowhere/program"];
    for part in parts {
        for script in scripts {
            let mut world = World::new(BEFORE);
            world.target.validate_timeout = Duration::from_millis(300);
            world.target.reload_timeout = Duration::from_millis(300);
            world.target.verify_timeout = Duration::from_millis(300);
            let mut command = match script.starts_with('/') {
                true => vec![script.to_owned()],
                false => shell(script).unwrap(),
            };
            command.extend(["--password=hunter2", "-p", "hunter2"].map(str::to_owned));
            *part(&mut world.target) = Some(command);
            let error = world.apply("db2", 1).await.unwrap_err();
            let shown = Failure::from(error).to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(
                shown.contains("arguments") || script.starts_with('/'),
                "{shown}"
            );
        }
    }
}

#[tokio::test]
async fn after_the_pause_it_is_tried_again() {
    let mut world = World::new(BEFORE);
    app(&mut world);
    world.apply("db2", 1).await.unwrap();
    let takes = world.target.reload.clone();
    world.reload_with("exit 1");
    let error = world.apply("db3", 2).await.unwrap_err();
    assert!(
        error.to_string().contains("previous files are back, but"),
        "{error}"
    );
    world.target.reload = takes;
    // The pause is over.
    let memory = world.state.join("app_config/web/state.json");
    let text = fs::read_to_string(&memory).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["failed"]["retry_at"] = 0.into();
    fs::write(&memory, value.to_string()).unwrap();
    world.apply("db3", 2).await.unwrap();
    assert!(running(&world).contains("DB_HOST=db3"));
    assert_eq!(
        world.observe("db3", 2).await.unwrap(),
        Observed::AlreadyDone
    );
}

#[tokio::test]
async fn an_app_that_was_not_told_of_the_old_files_is_told_during_the_pause() {
    let mut world = World::new(BEFORE);
    app(&mut world);
    world.apply("db2", 1).await.unwrap();
    let takes = world.target.reload.clone();
    world.reload_with("exit 1");
    world.apply("db3", 2).await.unwrap_err();
    fs::remove_file(world.dir.path().join("running")).unwrap();
    world.target.reload = takes;
    world.apply("db3", 2).await.unwrap_err();
    assert!(running(&world).contains("DB_HOST=db2"));
}

#[tokio::test]
async fn an_app_that_takes_its_time_is_asked_again() {
    let mut world = World::new(BEFORE);
    app(&mut world);
    let count = world.dir.path().join("asked").display().to_string();
    let script = format!("echo x >> '{count}'; test \"$(wc -l < '{count}')\" -ge 3");
    world.target.verify = shell(&script);
    let applied = world.apply("db2", 1).await.unwrap();
    assert!(applied.note.contains("uses them"), "{}", applied.note);
    assert_eq!(world.reloads(), 1);
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
