//! `systemctl`, `docker` and `kubectl`: strict stand-ins that keep a state, note their arguments
//! and refuse whatever else they are asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use failover_agent::config::settings::{
    AppConfig, AppConfigFile, ComposeTarget, KubectlTarget, SystemdTarget, TargetSettings,
};
use failover_agent::effects::app_config::{Change, Surroundings, apply};
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::{ConfigEdit, EditValue, FileEdits};
use failover_agent::model::{ClusterName, Epoch, SiteName};
use tempfile::TempDir;

use super::change::{File, HEAD, STEP, Server};

/// The program and what it knows; `$S` is its directory.
pub(crate) struct StandIn {
    dir: TempDir,
    program: PathBuf,
}

impl StandIn {
    pub(crate) fn of(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        let text = format!(
            "#!/bin/sh\nS={}\necho \"$*\" >>$S/calls\n{script}\necho \"unexpected: $*\" >&2\nexit 64\n",
            dir.path().display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("calls"), "").unwrap();
        Self { dir, program }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Each different call once, in the order of the first.
    fn calls(&self) -> Vec<String> {
        let mut calls: Vec<String> = Vec::new();
        for call in self.read("calls").lines() {
            if !calls.iter().any(|known| known == call) {
                calls.push(call.to_owned());
            }
        }
        calls
    }

    pub(crate) fn file(&self, text: &str, settings: TargetSettings) -> File {
        let path = self.dir.path().join("app.env");
        fs::write(&path, text).unwrap();
        File {
            path,
            settings,
            state: self.dir.path().join("agent"),
        }
    }
}

/// A unit whose restart is another invocation; `$S/after` says how it fares. It ends at once, and
/// without a complaint, with a file that says so. One that failed has been started too often.
pub(crate) const SYSTEMCTL: &str = r#"
[ "$1" = --no-ask-password ] || exit 64
case "$2 $3 $4 $5" in
"show --property=LoadState,ActiveState,SubState,InvocationID,MainPID -- shop.service")
    cat "$S/unit"
    exit 0 ;;
"reset-failed -- shop.service "*)
    sed -i s/^ActiveState=failed/ActiveState=inactive/ "$S/unit"
    exit 0 ;;
"restart -- shop.service "*)
    if grep -q ^ActiveState=failed "$S/unit"; then
        echo "start request repeated too quickly" >&2
        exit 1
    fi
    sed "s/^InvocationID=two/&$(wc -l <"$S/calls")/" "$S/after" >"$S/unit"
    grep -q ends "$S/app.env" && sed -i s/^Active.*/ActiveState=inactive/ "$S/unit"
    exit 0 ;;
"show "*)
    echo LoadState=not-found
    exit 0 ;;
esac"#;

pub(crate) fn unit(state: &str, invocation: &str, pid: u32) -> String {
    format!(
        "LoadState=loaded\nActiveState={state}\nSubState=running\nInvocationID={invocation}\n\
         MainPID={pid}\n"
    )
}

pub(crate) fn systemd(stand_in: &StandIn, unit: &str) -> TargetSettings {
    TargetSettings::Systemd(SystemdTarget {
        program: stand_in.program.clone(),
        unit: unit.to_owned(),
        environment_file: true,
        settle: Duration::from_millis(200),
    })
}

/// A process with this one variable.
fn process_with(name: &str, value: &str, log: &Path) -> Server {
    let mut command = Command::new("/bin/sleep");
    command.arg("60").env_clear().env(name, value);
    command.stdin(Stdio::null());
    Server::start(&mut command, log)
}

#[tokio::test]
async fn unit_is_restarted_and_its_process_has_the_new_values() {
    let stand_in = StandIn::of(SYSTEMCTL);
    let log = stand_in.dir.path().join("log");
    let process = process_with("DB_HOST", "ams", &log);
    stand_in.write("unit", &unit("active", "one", 1));
    stand_in.write("after", &unit("active", "two", process.0.id()));
    let file = stand_in.file("DB_HOST=fra\n", systemd(&stand_in, "shop.service"));
    let changed = file.change("DB_HOST='ams'\n", STEP).await.unwrap();
    assert!(changed.contains("with the file's values"), "{changed:?}");
    assert!(
        stand_in
            .calls()
            .contains(&"--no-ask-password restart -- shop.service".to_owned())
    );
}

/// The whole way of a step: the file, the unit, and back when the unit does not take it.
#[tokio::test]
async fn file_of_a_unit_that_does_not_come_up_is_put_back_by_the_step() {
    let stand_in = StandIn::of(SYSTEMCTL);
    stand_in.write("unit", &unit("active", "one", 0));
    stand_in.write("after", &unit("active", "two", 0));
    let file = stand_in.file("DB_HOST=fra\n", systemd(&stand_in, "shop.service"));
    let target = AppConfig {
        name: "worker".to_owned(),
        site: None,
        files: vec![AppConfigFile {
            path: file.path.clone(),
            format: None,
            edits: Vec::new(),
            template: None,
        }],
        validate: None,
        validate_timeout: STEP,
        stage: None,
        reload: None,
        reload_timeout: STEP,
        verify: None,
        verify_timeout: STEP,
        target: Some(file.settings.clone()),
        keep: 1,
    };
    let state_dir = stand_in.dir.path().join("state");
    let surroundings = Arc::new(Surroundings {
        cluster: ClusterName::new("shop"),
        site: SiteName::new("fra"),
        nodes: Vec::new(),
        upstreams: Vec::new(),
    });
    let to = |host: &str, epoch: u64| Change {
        target: &target,
        files: vec![FileEdits {
            path: file.path.clone(),
            edits: vec![ConfigEdit {
                key: "DB_HOST".to_owned(),
                to: EditValue::Text(host.to_owned()),
            }],
        }],
        primary: None,
        surroundings: &surroundings,
        epoch: Epoch(epoch),
        state_dir: &state_dir,
    };
    let applied = apply(&to("ams", 2)).await.unwrap();
    assert!(
        applied.note.contains("the running app uses them"),
        "{applied:?}"
    );
    assert!(
        fs::read_to_string(&file.path)
            .unwrap()
            .contains("DB_HOST=ams")
    );

    stand_in.write("after", &unit("failed", "three", 0));
    let refused = apply(&to("fra", 3)).await.unwrap_err();
    assert!(
        refused.what.contains("unit shop.service is not up again"),
        "{refused}"
    );
    assert!(
        fs::read_to_string(&file.path)
            .unwrap()
            .contains("DB_HOST=ams")
    );
}

#[tokio::test]
async fn unit_that_is_not_up_again_or_has_other_values_is_no_success() {
    let stand_in = StandIn::of(SYSTEMCTL);
    let log = stand_in.dir.path().join("log");
    let process = process_with("DB_HOST", "hunter2", &log);
    let within = Duration::from_millis(500);
    for (state, invocation, pid, said) in [
        ("failed", "two", 0, "it failed"),
        ("activating", "two", 0, "not active in time"),
        ("active", "one", 0, "not started anew"),
        (
            "active",
            "two",
            process.0.id(),
            "without the file's DB_HOST",
        ),
    ] {
        stand_in.write("unit", &unit("active", "one", 1));
        stand_in.write("after", &unit(state, invocation, pid));
        let file = stand_in.file("DB_HOST=ams\n", systemd(&stand_in, "shop.service"));
        let mut target = file.target();
        target.apply(super::change::soon()).await.unwrap();
        let deadline = failover_agent::effects::clock::boottime() + within;
        let refused = target.verify(deadline).await.unwrap_err();
        assert!(refused.what.contains(said), "{refused}");
        assert!(!refused.what.contains("hunter2"), "{refused}");
    }
}

#[tokio::test]
async fn unit_without_a_name_or_a_file_of_another_dialect_changes_nothing() {
    let stand_in = StandIn::of(SYSTEMCTL);
    stand_in.write("unit", &unit("active", "one", 1));
    let file = stand_in.file("A=1\n", systemd(&stand_in, "nobody.service"));
    let refused = file.change("A=2\n", STEP).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent);
    assert!(refused.what.contains("nobody.service"), "{refused}");
    let file = stand_in.file("A=1\n", systemd(&stand_in, "shop.service"));
    let refused = file.change("export A=2\n", STEP).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent);
    assert_eq!(file.text(), "A=1\n");
    assert!(!stand_in.read("calls").contains("restart"));
}

/// A service whose containers have new ids after they were made anew, unless `$S/stuck`. With a
/// file that says so they end at once.
pub(crate) const DOCKER: &str = r#"
case "$*" in
"compose -f /srv/shop/compose.yml ps --quiet --status running web"|\
"compose -f /srv/shop/compose.yml ps --quiet --status running --status restarting web")
    cat "$S/containers"
    exit 0 ;;
"inspect --format {{.State.StartedAt}} {{.RestartCount}} new-"*)
    [ -e "$S/flaps" ] && echo again >>"$S/starts"
    cat "$S/starts"
    exit 0 ;;
"compose -f /srv/shop/compose.yml config --quiet")
    grep -q bad "$S/app.env" || exit 0
    echo "invalid env file" >&2
    exit 15 ;;
"compose -f /srv/shop/compose.yml up -d --no-deps --force-recreate web")
    [ -e "$S/stuck" ] || echo "new-$(wc -l <"$S/calls")" >"$S/containers"
    grep -q ends "$S/app.env" && : >"$S/containers"
    exit 0 ;;
esac"#;

#[tokio::test]
async fn service_is_made_anew_by_exactly_this_command() {
    let stand_in = StandIn::of(DOCKER);
    stand_in.write("containers", "old\n");
    stand_in.write("starts", "2026-11-26T18:00:00Z 0\n");
    let file = stand_in.file("A=1\n", compose(&stand_in));
    let changed = file.change("A=2\n", STEP).await.unwrap();
    assert!(changed.contains("1 new containers"), "{changed:?}");
    assert_eq!(
        stand_in.calls(),
        [
            "compose -f /srv/shop/compose.yml ps --quiet --status running --status restarting web",
            "compose -f /srv/shop/compose.yml config --quiet",
            "compose -f /srv/shop/compose.yml up -d --no-deps --force-recreate web",
            "compose -f /srv/shop/compose.yml ps --quiet --status running web",
            "inspect --format {{.State.StartedAt}} {{.RestartCount}} new-4",
        ]
    );
    let refused = file.change("A=bad\n", STEP).await.unwrap_err();
    assert!(refused.what.contains("invalid env file"), "{refused}");
    assert_eq!(file.text(), format!("{HEAD}A=2\n"));

    stand_in.write("stuck", "");
    let mut target = file.target();
    target.apply(super::change::soon()).await.unwrap();
    let deadline = failover_agent::effects::clock::boottime() + Duration::from_millis(300);
    let refused = target.verify(deadline).await.unwrap_err();
    assert!(refused.what.contains("old ones"), "{refused}");
}

pub(crate) fn compose(stand_in: &StandIn) -> TargetSettings {
    TargetSettings::Compose(ComposeTarget {
        program: stand_in.program.clone(),
        compose_file: "/srv/shop/compose.yml".into(),
        service: "web".to_owned(),
    })
}

#[tokio::test]
async fn containers_that_are_started_again_and_again_are_no_success() {
    let stand_in = StandIn::of(DOCKER);
    stand_in.write("containers", "old\n");
    stand_in.write("flaps", "");
    let file = stand_in.file("A=1\n", compose(&stand_in));
    let mut target = file.target();
    target.apply(super::change::soon()).await.unwrap();
    let refused = target.verify(super::change::soon()).await.unwrap_err();
    assert!(refused.what.contains("did not stay up"), "{refused}");
}

#[tokio::test]
async fn what_a_person_has_stopped_gets_its_file_and_is_not_started() {
    let docker = StandIn::of(DOCKER);
    docker.write("containers", "");
    let service = docker.file("A=1\n", compose(&docker));
    let systemctl = StandIn::of(SYSTEMCTL);
    systemctl.write("unit", &unit("inactive", "", 0));
    systemctl.write("after", &unit("active", "two", 0));
    let unit = systemctl.file("A=1\n", systemd(&systemctl, "shop.service"));
    for file in [&service, &unit] {
        let changed = file.change("A=2\n", STEP).await.unwrap();
        assert!(
            changed.contains("started") && !changed.contains("the running app uses them"),
            "{changed}"
        );
        assert_eq!(file.text(), format!("{HEAD}A=2\n"));
    }
    let calls = docker.read("calls") + &systemctl.read("calls");
    assert!(
        !calls.contains(" up ") && !calls.contains("restart --"),
        "{calls}"
    );

    // One that failed is meant to run.
    systemctl.write("unit", &self::unit("failed", "one", 0));
    let changed = unit.change("A=3\n", STEP).await.unwrap();
    assert!(changed.contains("runs anew"), "{changed}");
}

/// A cluster that keeps the last patch, and whose pods come up unless `$S/stuck`.
const KUBECTL: &str = r#"
[ "$1 $2" = "--namespace shop" ] || exit 64
shift 2
case "$*" in
"get deployment/web -o name")
    echo deployment.apps/web
    exit 0 ;;
"patch configmap web-env --type merge --patch-file /dev/stdin --dry-run=server")
    grep -q bad && exit 1
    exit 0 ;;
"patch configmap web-env --type merge --patch-file /dev/stdin")
    cat /dev/stdin >"$S/patch"
    exit 0 ;;
"rollout restart deployment/web")
    exit 0 ;;
"rollout status deployment/web --watch=true --timeout="*s)
    [ -e "$S/stuck" ] || exit 0
    echo "error: timed out waiting for the condition" >&2
    exit 1 ;;
esac"#;

#[tokio::test]
async fn config_map_is_patched_with_nothing_but_the_file_and_the_pods_are_waited_for() {
    let stand_in = StandIn::of(KUBECTL);
    let settings = TargetSettings::Kubectl(KubectlTarget {
        program: stand_in.program.clone(),
        kubeconfig: None,
        namespace: "shop".to_owned(),
        config_map: "web-env".to_owned(),
        workload: "deployment/web".to_owned(),
    });
    let file = stand_in.file("A=1\n", settings);
    // Far more than is kept of outputs that are only shown.
    let text: String = (0..20_000)
        .map(|number| format!("KEY_{number}=value\n"))
        .collect();
    let changed = file.change(&text, STEP).await.unwrap();
    assert!(changed.contains("deployment/web"), "{changed:?}");
    // Nothing else is named: RFC 7396 leaves that alone.
    let patch: serde_json::Value = serde_json::from_str(&stand_in.read("patch")).unwrap();
    let whole = format!("{HEAD}{text}");
    assert!(patch == serde_json::json!({ "data": { "app.env": whole } }));
    let calls = stand_in.calls();
    let order: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.split(' ').nth(2))
        .collect();
    assert_eq!(order, ["patch", "get", "patch", "rollout", "rollout"]);
    let refused = file.change("bad\n", STEP).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Permanent, "{refused}");

    stand_in.write("stuck", "");
    let mut target = file.target();
    target.apply(super::change::soon()).await.unwrap();
    let refused = target.verify(super::change::soon()).await.unwrap_err();
    assert!(refused.what.contains("timed out"), "{refused}");
}
