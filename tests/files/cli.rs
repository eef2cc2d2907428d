//! The command line as people meet it: what each command prints, and its exit code.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "runs the built program, as a shell would, and fails the test when it cannot"
)]

use std::path::Path;
use std::process::{Command, Output};

use crate::golden;

mod config;
mod dsn;

/// Every command.
const COMMANDS: [&str; 18] = [
    "run",
    "witness",
    "check",
    "status",
    "metrics",
    "failover",
    "gate",
    "pause",
    "resume",
    "ack",
    "journal",
    "dns",
    "dsn",
    "config",
    "explain",
    "demo",
    "completions",
    "man",
];

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(arguments)
        // The width of help, and colours, are those of no terminal at all.
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .output()
        .expect("the built program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// What a good end prints.
fn printed(arguments: &[&str]) -> String {
    let output = agent(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

/// Exit code and what was complained about; nothing is on standard output.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = agent(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn help_of_every_command() {
    golden::check("cli/help.txt", &printed(&["--help"]));
    for command in COMMANDS {
        let help = printed(&[command, "--help"]);
        assert!(help.contains("Exit codes:"), "{command}");
        golden::check(&format!("cli/help-{command}.txt"), &help);
    }
    for below in ["plan", "apply", "verify"] {
        let help = printed(&["dns", below, "--help"]);
        assert!(help.contains("Exit codes:"), "{below}");
        golden::check(&format!("cli/help-dns-{below}.txt"), &help);
    }
}

#[test]
fn help_lists_every_command() {
    let help = printed(&["--help"]);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
}

#[test]
fn tables_are_printed_from_the_tables() {
    golden::check("cli/transitions.txt", &printed(&["explain", "transitions"]));
    let mermaid = printed(&["explain", "transitions", "--mermaid"]);
    golden::check("cli/transitions.mmd", &mermaid);
    golden::check("cli/diagnoses.txt", &printed(&["explain", "diagnoses"]));
    let both = printed(&["explain"]);
    assert!(both.contains("wrong_cluster") && both.contains("claim_called"));
}

#[test]
fn json_tables_are_json() {
    for (arguments, key) in [
        (vec!["explain", "transitions", "--json"], "trigger"),
        (vec!["explain", "diagnoses", "--json"], "diagnosis"),
    ] {
        let rows: Vec<serde_json::Value> = serde_json::from_str(&printed(&arguments)).unwrap();
        assert!(rows.len() > 10);
        assert!(rows.iter().all(|row| row.get(key).is_some()));
    }
    let both: serde_json::Value = serde_json::from_str(&printed(&["explain", "--json"])).unwrap();
    assert!(both.get("transitions").is_some() && both.get("diagnoses").is_some());
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH agent 1"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(printed(&["man", "--out", path]), "");
    for command in COMMANDS {
        let page = directory.path().join(format!("agent-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap();
        assert!(page.contains("Exit codes"), "{command}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("failover"), "{shell}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["no-such-command"][..],
        &[],
        &["failover", "--to"],
        &["demo", "--scenario", "earthquake"],
    ] {
        let (code, complaint) = refused(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {complaint}");
    }
}

/// For a program, every command says what it has to say in JSON; whatever goes wrong is one object
/// on standard output, whose code is the process's.
#[test]
fn json_failures_are_one_object() {
    let good = Settings::good();
    let bad = Settings::write("statedir = 1");
    let nowhere = "/does/not/exist";
    for (arguments, code) in [
        (&["no-such-command", "--json"][..], 2),
        (&["explain", "transitions", "--mermaid", "--json"], 2),
        (&["--json", "run", "--config", nowhere], 2),
        (&["--json", "witness", "--config", bad.path()], 2),
        (&["check", "--json", "--grants", "--config", bad.path()], 2),
        (&["status", "--json", "--socket", nowhere], 4),
        (&["metrics", "--json", "--socket", nowhere], 4),
        (&["status", "--json", "--config", good.path()], 4),
        (&["failover", "--json", "--config", good.path()], 4),
        (&["journal", "--json", "--config", good.path()], 1),
        (&["demo", "--json", "--pg-bin", nowhere], 2),
        (&["completions", "--json"], 2),
        (&["man", "--json", "--out", nowhere], 1),
    ] {
        let output = agent(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        assert_eq!(told["exit"], code, "{arguments:?}: {told}");
        assert!(!told["error"].as_str().unwrap().is_empty(), "{told}");
        let problems = told.get("problems").and_then(|all| all.as_array());
        let settings_are_wrong = arguments.contains(&bad.path());
        assert!(!settings_are_wrong || problems.unwrap().len() > 2, "{told}");
    }
}

#[test]
fn json_results_are_json_for_every_command() {
    let good = Settings::good();
    for arguments in [
        &["check", "--json", "--config", good.path()][..],
        &["check", "--grants", "--json", "--config", good.path()],
        &["explain", "--json"],
        &["completions", "bash", "--json"],
        &["man", "--json"],
        &["dsn", "--json", "--config", good.path()],
    ] {
        let output = agent(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let parsed = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        assert!(parsed.is_ok(), "{arguments:?}: {output:?}");
    }
}

/// An operator may use the socket and read the file, but not the agent's secrets; and a mistake
/// that somebody just made in the file must not keep anybody from looking.
#[test]
fn looking_needs_no_secrets_and_no_perfect_settings() {
    let settings = Settings::good();
    let text = std::fs::read_to_string(settings.path()).unwrap();
    let secret = Path::new(settings.path()).with_file_name("peer.secret");
    std::fs::remove_file(secret).unwrap();
    std::fs::write(settings.path(), format!("{text}\n[no_such_section]\n")).unwrap();
    for command in ["status", "metrics", "failover"] {
        let (code, complaint) = refused(&[command, "--config", settings.path()]);
        assert_eq!(code, Some(4), "{complaint}");
        assert!(complaint.contains("agent.sock"), "{complaint}");
    }
    let (code, complaint) = refused(&["journal", "--config", settings.path()]);
    assert_eq!(code, Some(1), "{complaint}");
    // Where it would look must be right, though.
    std::fs::write(settings.path(), "socket = 7\nstate_dir = \"/x\"\n").unwrap();
    let (code, complaint) = refused(&["status", "--config", settings.path()]);
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains(":1: socket"), "{complaint}");
}

#[test]
fn missing_settings_end_with_2_and_are_named() {
    for command in [
        "run", "witness", "check", "status", "metrics", "failover", "journal",
    ] {
        let (code, complaint) = refused(&[command, "--config", "/does/not/exist.toml"]);
        assert_eq!(code, Some(2), "{command}");
        assert!(complaint.contains("/does/not/exist.toml"), "{complaint}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let settings = Settings::write("cluster = 7\nsite = \"fra\"\nstatedir = \"/x\"\n");
    let (code, complaint) = refused(&["check", "--config", settings.path()]);
    assert_eq!(code, Some(2));
    for expected in [":1: cluster", ":3: statedir", "state_dir", "sites"] {
        assert!(complaint.contains(expected), "{expected}: {complaint}");
    }
    let output = agent(&["check", "--json", "--config", settings.path()]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["problems"].as_array().unwrap().len() >= 3);
}

#[test]
fn right_settings_are_described_and_their_grants_printed() {
    let settings = Settings::good();
    let config = ["--config", settings.path()];
    let output = agent(&[&["check"][..], &config].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("Cluster main has the sites ams"));
    let grants = agent(&[&["check", "--grants"][..], &config].concat());
    assert_eq!(grants.status.code(), Some(0), "{grants:?}");
    assert!(text(&grants.stdout).contains("GRANT pg_read_all_stats"));
    let report = agent(&[&["check", "--json"][..], &config].concat());
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["ok"], true);
}

#[test]
fn agent_that_does_not_run_ends_with_4() {
    let settings = Settings::good();
    for command in ["status", "metrics", "failover"] {
        let (code, complaint) = refused(&[command, "--config", settings.path()]);
        assert_eq!(code, Some(4), "{complaint}");
        assert!(complaint.contains("agent.sock"), "{complaint}");
        let (code, _) = refused(&[command, "--socket", "/does/not/exist.sock"]);
        assert_eq!(code, Some(4));
    }
}

#[test]
fn journal_that_does_not_exist_ends_with_1() {
    let settings = Settings::good();
    let (code, complaint) = refused(&["journal", "--config", settings.path()]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(
        complaint.contains("no agent has run here yet"),
        "{complaint}"
    );
}

#[test]
fn journal_of_a_dead_agent_is_read_from_its_directory() {
    use failover_agent::model::journal::JournalEntry;
    use failover_agent::runtime::journal::Journal;

    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _, _) = Journal::open(directory.path()).unwrap();
    let remark = |text: &str| JournalEntry::Remark {
        text: text.to_owned(),
    };
    journal
        .append(&[remark("first"), remark("second"), remark("third")])
        .unwrap();
    let path = directory.path().to_str().unwrap();
    let lines = printed(&["journal", "--state-dir", path]);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.lines().all(|line| line.contains("Z ")));
    let last = printed(&["journal", "--state-dir", path, "-n", "1"]);
    assert!(
        last.ends_with(" third\n") && last.lines().count() == 1,
        "{last}"
    );
    let (code, complaint) = refused(&["journal", "--state-dir", path, "--plan", "fra-9"]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(
        complaint.contains("no plan fra-9, nor any other"),
        "{complaint}"
    );
    let json = printed(&["journal", "--state-dir", path, "--json"]);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1]["number"], 2);
    assert_eq!(lines[1]["entry"]["text"], "second");
}

#[test]
fn colours_are_for_terminals_and_can_be_switched_off() {
    let escape = '\u{1b}';
    let coloured = |variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["explain", "diagnoses"])
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .envs(variables.iter().copied())
            .output()
            .expect("the built program runs");
        text(&output.stdout).contains(escape)
    };
    assert!(!coloured(&[]), "a pipe is no terminal");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    // On a terminal of its own, as a person would see it.
    assert!(on_terminal(&[]).contains(escape));
    assert!(!on_terminal(&[("NO_COLOR", "1")]).contains(escape));
}

/// Runs the program on a pseudo-terminal. Source: script(1) of util-linux.
fn on_terminal(variables: &[(&str, &str)]) -> String {
    let command = format!("{} explain diagnoses", env!("CARGO_BIN_EXE_agent"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .envs(variables.iter().copied())
        .output()
        .expect("script(1) runs");
    let shown = text(&output.stdout);
    assert!(shown.contains("wrong_cluster"), "{output:?}");
    shown
}

#[test]
fn reader_that_goes_away_is_no_failure() {
    let program = env!("CARGO_BIN_EXE_agent");
    let pipe = format!("set -o pipefail; {program} explain | head -n 1");
    let output = Command::new("bash")
        .args(["-c", &pipe])
        .output()
        .expect("bash runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// A settings file in a directory of its own.
struct Settings {
    path: String,
    _directory: tempfile::TempDir,
}

impl Settings {
    fn write(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Self {
            path: path.to_str().unwrap().to_owned(),
            _directory: directory,
        }
    }

    /// The smallest file that is right, for a state directory that does not exist yet.
    fn good() -> Self {
        let settings = Self::write("");
        let directory = Path::new(&settings.path).parent().unwrap();
        let secret = directory.join("peer.secret");
        std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
        let place = |name: &str| directory.join(name).display().to_string();
        let text = format!(
            "site = \"fra\"\nstate_dir = \"{}\"\nsocket = \"{}\"\n\
             [peer]\nsecret_file = \"{}\"\n\
             [witness]\naddress = \"127.0.0.3:7400\"\n\
             [database]\ntls = \"off\"\n\
             [sites.fra]\naddress = \"127.0.0.1:7400\"\n\
             [sites.fra.database]\ndata_dir = \"/srv/fra\"\n\
             [sites.ams]\naddress = \"127.0.0.2:7400\"\n\
             [sites.ams.database]\ndata_dir = \"/srv/ams\"\n",
            place("state"),
            place("agent.sock"),
            secret.display(),
        );
        std::fs::write(&settings.path, text).unwrap();
        settings
    }

    fn path(&self) -> &str {
        &self.path
    }
}
