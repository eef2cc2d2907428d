//! Programs that hang, fail, flood, or leave a daemon behind must not harm who runs them.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests measure that a bound was kept, and fail by panicking also in their helpers"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use failover_agent::effects::error::EffectError;
use failover_agent::effects::exec::{CommandSpec, Finished, OUTPUT_END_MAX, OsUser, run};
use failover_agent::model::outcome::FailureKind;

use crate::support::processes::is_zombie;
use crate::support::wait_until;

/// Far more than any of these programs needs, far less than a hang.
const AMPLE: Duration = Duration::from_secs(20);

fn shell(script: &str, timeout: Duration) -> CommandSpec {
    CommandSpec::new("sh", timeout).args(["-c", script])
}

async fn finish(script: &str) -> Finished {
    run(&shell(script, AMPLE)).await.unwrap()
}

async fn fail(spec: &CommandSpec) -> EffectError {
    run(spec).await.unwrap_err()
}

/// The pid that a script wrote into this file, once it did.
async fn pid_in(file: &Path) -> String {
    let read = || {
        fs::read_to_string(file)
            .ok()
            .filter(|text| text.ends_with('\n'))
    };
    wait_until("the script has written its pid", AMPLE, || async {
        read().is_some()
    })
    .await;
    read().unwrap().trim().to_owned()
}

fn alive(pid: &str) -> bool {
    is_zombie(pid.parse().unwrap()) == Some(false)
}

#[tokio::test]
async fn output_and_exit_code_are_returned() {
    let ended = finish("echo out; echo err >&2; exit 1").await;
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(ended.status.code(), Some(1));
    assert!(!ended.success());
    assert_eq!(ended.complaint(), "exit status: 1: err");
}

#[tokio::test]
async fn hanging_program_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    let began = Instant::now();
    let error = fail(&shell(&script, Duration::from_millis(500))).await;
    assert_eq!(error.kind, FailureKind::OutcomeUnknown);
    assert!(began.elapsed() < AMPLE);
    let child = pid_in(&file).await;
    wait_until("the child is killed", AMPLE, || async { !alive(&child) }).await;
}

#[tokio::test]
async fn program_that_ignores_signals_is_killed_all_the_same() {
    let script = "trap '' TERM INT HUP QUIT; while :; do sleep 1; done";
    let error = fail(&shell(script, Duration::from_millis(300))).await;
    assert!(error.what.contains("was killed"), "{error}");
}

#[tokio::test]
async fn dropped_run_kills_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let spec = shell(
        &format!("sleep 600 & echo $! > {}; wait", file.display()),
        AMPLE,
    );
    let child = tokio::select! {
        ended = run(&spec) => panic!("it cannot end: {ended:?}"),
        child = pid_in(&file) => child,
    };
    wait_until("the child is killed", AMPLE, || async { !alive(&child) }).await;
}

#[tokio::test]
async fn gigabyte_of_output_neither_blocks_nor_fills_memory() {
    let ended =
        finish("printf begin; head -c 1000000000 /dev/zero; printf end; printf no >&2").await;
    assert!(ended.success());
    assert!(ended.stdout.starts_with("begin") && ended.stdout.ends_with("end"));
    assert!(
        ended.stdout.len() < 3 * OUTPUT_END_MAX,
        "{}",
        ended.stdout.len()
    );
    assert_eq!(ended.stderr, "no");
}

#[tokio::test]
async fn daemon_that_keeps_the_output_open_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let began = Instant::now();
    let ended = finish(&format!(
        "echo ok; sleep 600 & echo $! > {}",
        file.display()
    ))
    .await;
    assert!(began.elapsed() < AMPLE, "{:?}", began.elapsed());
    assert!(ended.success());
    assert_eq!(ended.stdout, "ok\n");
    // It was started on purpose, so it lives on.
    let daemon = pid_in(&file).await;
    assert!(alive(&daemon));
    assert!(
        run(&shell(&format!("kill {daemon}"), AMPLE))
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn missing_program_is_a_permanent_failure_with_a_hint() {
    let error = fail(&CommandSpec::new("/no/such/program", AMPLE)).await;
    assert_eq!(error.kind, FailureKind::Permanent);
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn environment_is_fixed_and_input_is_empty() {
    let spec = shell("env | cut -d= -f1; cat", AMPLE).env("GIVEN", "1");
    let ended = run(&spec).await.unwrap();
    let shell_adds = ["PWD", "OLDPWD", "SHLVL", "_"];
    let mut names: Vec<_> = ended
        .stdout
        .lines()
        .filter(|name| !shell_adds.contains(name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "USER"]);
}

#[tokio::test]
async fn other_user_gets_its_own_groups_and_needs_root() {
    let own = finish("id -u").await.stdout.trim().to_owned();
    let user = OsUser::by_name(if own == "0" { "postgres" } else { "root" }).unwrap();
    let uid = user.uid.to_string();
    let name = user.name.clone().unwrap();
    let spec = shell("id -u; id -G", AMPLE).user(user);
    if own != "0" {
        assert_eq!(fail(&spec).await.kind, FailureKind::Permanent);
        return;
    }
    let ended = run(&spec).await.unwrap();
    let groups = finish(&format!("id -G {name}")).await.stdout;
    assert_eq!(ended.stdout, format!("{uid}\n{groups}"));
}
