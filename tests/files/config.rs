//! `agent.toml`: what is accepted, what is refused, and in which words.

#![expect(
    clippy::unwrap_used,
    reason = "tests: a broken assumption is a failed test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use failover_agent::config::{
    Config, Loaded, MemberRole, Problems, Severity, describe, grants, load, parse,
};
use tempfile::TempDir;

use crate::golden;

mod arbitrary;
mod example;
mod followers;

const EXAMPLE: &str = include_str!("../../agent.toml.example");

/// Secrets and certificates where the example expects them.
fn example_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["secrets", "tls"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for (file, text) in [
        ("secrets/peer", "0123456789abcdef\n"),
        ("secrets/database", "hunter2\n"),
        ("secrets/etcd", "hunter2"),
        ("secrets/cloudflare", "hunter2"),
        ("secrets/tsig", "aHVudGVyMg==\n"),
        ("secrets/pgbouncer", "hunter2\n"),
        ("secrets/aws", "hunter2\n"),
        ("secrets/webhook", "https://hooks.example.com/hunter2\r\n"),
        ("tls/member.crt", ""),
        ("tls/member.key", ""),
        ("tls/ca.crt", ""),
        ("tls/etcd-ca.crt", ""),
        ("tls/etcd-client.crt", ""),
        ("tls/etcd-client.key", ""),
        ("tls/database-ca.crt", ""),
        ("tls/shop-ca.crt", ""),
    ] {
        let path = dir.path().join(file);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn agent(text: &str, dir: &Path) -> Result<Loaded, Problems> {
    parse(
        text,
        &dir.join("agent.toml"),
        None,
        MemberRole::Agent,
        &no_env,
    )
}

#[test]
fn example_is_accepted_without_a_warning() {
    let dir = example_dir();
    let loaded = agent(EXAMPLE, dir.path()).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.own_site().unwrap().name.as_str(), "fra");
    assert_eq!(config.peer_site().unwrap().name.as_str(), "ams");
    assert_eq!(config.sites[0].name.as_str(), "ams");
    assert_eq!(config.dns[0].contents, [["198.51.100.1"], ["192.0.2.1"]]);
    assert_eq!(config.peer.secret.reveal(), "0123456789abcdef");
    assert_eq!(
        config.notifiers[0].url.reveal(),
        "https://hooks.example.com/hunter2"
    );
    assert_eq!(config.peer.tls.unwrap().ca, dir.path().join("tls/ca.crt"));
}

/// The key that a line sets, and whether the line is switched off.
fn key_of(line: &str) -> Option<(&str, bool)> {
    let (off, line) = match line.strip_prefix('#') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (key, _) = line.split_once(" = ")?;
    let bare = |c: char| c.is_ascii_lowercase() || c == '_';
    (!key.is_empty() && key.chars().all(bare)).then_some((key, off))
}

fn without_lines(drop: impl Fn(usize, &str) -> bool) -> String {
    // An empty line stays, because settings know their lines.
    let lines = EXAMPLE.lines().enumerate();
    let kept = lines.map(|(index, line)| if drop(index, line) { "" } else { line });
    kept.map(|line| format!("{line}\n")).collect()
}

/// What is wrong with a golden file, one line each. Nothing secret may be in it.
fn problems_of(name: &str, role: MemberRole) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/config")
        .join(format!("{name}.toml"));
    let text = fs::read_to_string(path).unwrap();
    let file = Path::new("/etc/agent/agent.toml");
    let shown = match parse(&text, file, None, role, &no_env) {
        Ok(loaded) => {
            let debug = format!("{:?}", loaded.config);
            assert!(!debug.contains("hunter2"), "a secret in Debug: {debug}");
            Problems(loaded.warnings).to_string()
        }
        Err(problems) => problems.to_string(),
    };
    assert!(
        !shown.contains("hunter2"),
        "a secret in a problem:\n{shown}"
    );
    shown.replace("/etc/agent/agent.toml", "agent.toml") + "\n"
}

#[test]
fn broken_file_shows_every_mistake_at_once() {
    let shown = problems_of("broken", MemberRole::Agent);
    let distinct: BTreeSet<_> = shown.lines().collect();
    assert!(distinct.len() >= 25, "{shown}");
    assert_eq!(
        distinct.len(),
        shown.lines().count(),
        "a mistake twice:\n{shown}"
    );
    golden::check("config/broken.txt", &shown);
}

#[test]
fn other_broken_files_are_explained() {
    for name in ["syntax", "empty", "types", "warnings"] {
        let shown = problems_of(name, MemberRole::Agent);
        golden::check(&format!("config/{name}.txt"), &shown);
    }
    let shown = problems_of("empty", MemberRole::Witness);
    golden::check("config/empty-witness.txt", &shown);
}

/// Files of one app config; the first mistake in each is told.
#[test]
fn files_that_change_together_are_checked_together() {
    let one = "path = \"/a/x.env\"\nset = [{ key = \"A\", value = \"{host}\" }]\n";
    let file = |path: &str| {
        format!("[[app_config.file]]\npath = \"{path}\"\nset = [{{ key = \"A\", url = true }}]\n")
    };
    let dir = example_dir();
    let problems = |text: &str| {
        let text = format!("{EXAMPLE}\n[[app_config]]\nname = \"two\"\n{text}");
        agent(&text, dir.path()).map(drop).map_err(|problems| {
            let first = &problems.0[0];
            format!("{}: {}", first.key, first.what)
        })
    };
    let (first, second) = (file("/a/x.env"), file("/a/b/y.env"));
    for (text, told) in [
        (one.to_owned(), Ok(())),
        (format!("{first}{second}"), Ok(())),
        (
            format!("validate = [\"x\", \"{{staged_dir}}\"]\nstage = \"/a\"\n{first}{second}"),
            Ok(()),
        ),
        (
            format!("{one}{first}"),
            Err("app_config[two].path: file is given as well"),
        ),
        (
            "file = []\n".to_owned(),
            Err("app_config[two].file: must not be empty"),
        ),
        (
            format!("{first}{first}"),
            Err("app_config[two].file[2].path: already in this list"),
        ),
        (
            format!("validate = [\"x\"]\nstage = \"/a/b\"\n{first}{second}"),
            Err("app_config[two].stage: /a/x.env is not below it"),
        ),
        (
            format!("stage = \"/a\"\n{one}"),
            Err("app_config[two].stage: has no meaning without validate"),
        ),
        (
            format!("verify_timeout = \"1s\"\n{one}"),
            Err("app_config[two].verify_timeout: has no meaning without verify"),
        ),
        (
            format!("validate = [\"x\", \"{{staged_dir}}\"]\n{one}"),
            Err("app_config[two].validate[2]: unknown variable"),
        ),
        (
            file("/srv/shop/.env"),
            Err("app_config[two].file: app config \"shop-env\" already rewrites this file"),
        ),
    ] {
        match (problems(&text), told) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(told)) => assert!(found.starts_with(told), "{found} for {told}"),
            (found, told) => assert_eq!(found, told.map_err(str::to_owned), "{text}"),
        }
    }
}

#[test]
fn example_in_words_and_its_grants() {
    let dir = example_dir();
    let config = agent(EXAMPLE, dir.path()).unwrap().config;
    golden::check("config/describe.txt", &describe::describe(&config));
    golden::check("config/grants.sql", &grants::sql(&config));
}

/// The example with one line replaced.
fn example_with(line: &str, by: &str) -> String {
    assert_eq!(
        EXAMPLE
            .lines()
            .filter(|other| other.starts_with(line))
            .count(),
        1,
        "{line}"
    );
    EXAMPLE
        .lines()
        .map(|other| if other.starts_with(line) { by } else { other })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn option_overrides_the_key_and_the_witness_needs_neither() {
    let dir = example_dir();
    let file = dir.path().join("agent.toml");
    let site = |text: &str, option, role| {
        parse(text, &file, option, role, &no_env).map(|loaded| loaded.config)
    };
    let ams = site(EXAMPLE, Some("ams"), MemberRole::Agent).unwrap();
    assert_eq!(ams.own_site().unwrap().name.as_str(), "ams");

    let unnamed = EXAMPLE.replacen("\nsite = \"fra\"\n", "\n", 1);
    let problems = site(&unnamed, None, MemberRole::Agent).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    assert_eq!(problems.0[0].key, "site");
    assert!(
        problems.0[0]
            .hint
            .as_ref()
            .unwrap()
            .contains("--site ams or --site fra")
    );

    let problems = site(EXAMPLE, Some("asm"), MemberRole::Agent).unwrap_err();
    assert!(
        problems.to_string().contains("did you mean \"ams\"?"),
        "{problems}"
    );

    let witness = site(&unnamed, None, MemberRole::Witness).unwrap();
    assert_eq!(witness.site, None);
}

#[test]
fn witness_needs_no_secret_but_the_peers() {
    let dir = example_dir();
    for secret in ["database", "cloudflare", "aws", "webhook"] {
        fs::remove_file(dir.path().join("secrets").join(secret)).unwrap();
    }
    let file = dir.path().join("agent.toml");
    let config = parse(EXAMPLE, &file, None, MemberRole::Witness, &no_env)
        .unwrap()
        .config;
    assert!(config.database.password.is_none());
    assert!(config.dns.is_empty() && config.notifiers.is_empty() && config.app_configs.is_empty());
    assert_eq!(config.probes.len(), 2);
    assert_eq!(agent(EXAMPLE, dir.path()).unwrap_err().0.len(), 4);
}

#[test]
fn secret_file_is_checked() {
    let dir = example_dir();
    let path = dir.path().join("secrets/peer");
    for (text, expected) in [
        (&b"\n"[..], "empty"),
        (b"short\n", "shorter than 16 bytes"),
        (b"0123456789abcdef\n0123456789abcdef\n", "line break"),
        (b"0123456789abcdef\xff", "UTF-8"),
        (&[b'x'; 70_000], "larger than"),
    ] {
        fs::write(&path, text).unwrap();
        let problems = agent(EXAMPLE, dir.path()).unwrap_err();
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(problems.0[0].what.contains(expected), "{problems}");
        assert_eq!(problems.0[0].key, "peer.secret_file");
    }
    fs::write(&path, "0123456789abcdef").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = agent(EXAMPLE, dir.path()).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].severity, Severity::Warning);
    assert!(
        warnings[0].what.contains("readable by everybody"),
        "{}",
        warnings[0]
    );
}

/// S2: two lost renewals must be survivable; the error shows the numbers.
#[test]
fn lease_times_that_do_not_fit_are_refused() {
    let dir = example_dir();
    let text = example_with("renew_every = ", "renew_every = \"4s\"");
    let problems = agent(&text, dir.path()).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    for number in [
        "ttl 10s",
        "fence_budget 2s",
        "leaves 7950ms",
        "renew_every 4s",
        "= 9400ms",
    ] {
        assert!(problems.0[0].what.contains(number), "{number}: {problems}");
    }
}

/// The peer link may be plain text only within one host, or on purpose.
#[test]
fn plain_peer_link_between_hosts_is_refused() {
    let dir = example_dir();
    let plain = example_with("tls = { cert", "");
    let problems = agent(&plain, dir.path()).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    assert!(problems.0[0].what.contains("no tls"), "{problems}");

    let meant = plain.replace("insecure = false", "insecure = true");
    assert!(agent(&meant, dir.path()).unwrap().config.peer.insecure);

    let local = plain
        .replace("10.0.0.1:7400", "127.0.0.1:7400")
        .replace("10.1.0.1:7400", "[::1]:7400")
        .replace("10.2.0.1:7400", "localhost:7400");
    assert!(agent(&local, dir.path()).unwrap().config.peer.tls.is_none());
}

#[test]
fn small_ttls_need_nothing_else() {
    let dir = example_dir();
    let drop = ["renew_every", "request_timeout", "fence_budget", "ttl"];
    for ttl in ["2s", "3s", "5s", "30s", "5m"] {
        let text = without_lines(|_, line| drop.iter().any(|key| line.starts_with(key)))
            .replace("[lease]", &format!("[lease]\nttl = \"{ttl}\""));
        let config: Config = agent(&text, dir.path()).unwrap().config;
        assert!(config.lease.fence_budget * 5 <= config.lease.ttl, "{ttl}");
    }
}

#[test]
fn unreadable_file_is_one_problem() {
    let problems = load(
        Path::new("/nowhere/agent.toml"),
        None,
        MemberRole::Agent,
        &no_env,
    )
    .unwrap_err();
    assert_eq!(problems.0.len(), 1);
    assert!(
        problems
            .to_string()
            .starts_with("/nowhere/agent.toml: cannot read")
    );
}
