//! What the program is built from: `Cargo.toml`, `Cargo.lock` and `deny.toml`.

use toml::{Table, Value};

use crate::Problem;
use crate::tree::Tree;

/// Where every crate must come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that `deny.toml` must go on banning: a second TLS library, and one that needs C headers
/// of the machine it is built on.
const ALWAYS_BANNED: [&str; 4] = ["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl-sys"];

/// The names of the dependencies as written in code, development ones too.
pub(crate) fn dependencies(tree: &Tree) -> Vec<String> {
    let manifest = parse(tree, "Cargo.toml");
    ["dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Banned crates and foreign sources in the lock file. `cargo deny` says more, but is not
/// installed everywhere.
pub(crate) fn lock_file(tree: &Tree) -> Vec<Problem> {
    let bans = bans(&parse(tree, "deny.toml"));
    let mut problems: Vec<Problem> = ALWAYS_BANNED
        .iter()
        .filter(|name| !bans.iter().any(|(banned, _)| banned == *name))
        .map(|name| Problem::new("deny.toml", 1, format!("{name} must stay banned")))
        .collect();
    let lock = parse(tree, "Cargo.lock");
    let packages = lock.get("package").and_then(Value::as_array);
    let packages: Vec<&Table> = packages
        .into_iter()
        .flatten()
        .filter_map(Value::as_table)
        .collect();
    if packages.is_empty() {
        problems.push(Problem::new("Cargo.lock", 1, "no packages could be read"));
    }
    for package in packages {
        let field = |name: &str| package.get(name).and_then(Value::as_str);
        let name = field("name").unwrap_or_default();
        let line = line_of(tree.text("Cargo.lock"), &format!("name = \"{name}\""));
        if let Some((_, reason)) = bans.iter().find(|(banned, _)| banned == name) {
            let what = format!(
                "{name} is banned ({reason}): find what brings it with `cargo tree -i {name}` \
                 and turn that feature off"
            );
            problems.push(Problem::new("Cargo.lock", line, what));
        }
        // The project's own package has no source.
        if field("source").is_some_and(|source| source != CRATES_IO) {
            let what = format!("{name} does not come from crates.io: use a published version");
            problems.push(Problem::new("Cargo.lock", line, what));
        }
    }
    problems
}

/// The crates that `deny.toml` bans, with their reasons.
fn bans(deny: &Table) -> Vec<(String, String)> {
    let entries = deny
        .get("bans")
        .and_then(|bans| bans.get("deny"))
        .and_then(Value::as_array);
    let text = |entry: &Value, key: &str| {
        let value = entry.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    entries
        .into_iter()
        .flatten()
        .map(|entry| (text(entry, "crate"), text(entry, "reason")))
        .collect()
}

fn parse(tree: &Tree, path: &str) -> Table {
    let parsed = toml::from_str(tree.text(path));
    assert!(parsed.is_ok(), "{path} is no TOML: {:?}", parsed.err());
    parsed.unwrap_or_default()
}

fn line_of(text: &str, wanted: &str) -> usize {
    let index = text.lines().position(|line| line == wanted);
    index.map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(lock: &str, deny: &str) -> Tree {
        Tree::of(vec![
            ("Cargo.lock".to_owned(), lock.to_owned()),
            ("deny.toml".to_owned(), deny.to_owned()),
        ])
    }

    fn deny() -> String {
        let entries = ALWAYS_BANNED.map(|name| format!("{{ crate = \"{name}\", reason = \"r\" }}"));
        format!("[bans]\ndeny = [{}]\n", entries.join(", "))
    }

    fn package(name: &str, source: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{source}\"\n")
    }

    #[test]
    fn each_banned_crate_is_seen_in_the_lock_file() {
        for name in ALWAYS_BANNED {
            let lock = format!(
                "{}{}",
                package("serde", CRATES_IO),
                package(name, CRATES_IO)
            );
            let problems = lock_file(&tree(&lock, &deny()));
            assert_eq!(problems.len(), 1);
            assert_eq!(problems.first().map(|problem| problem.line), Some(6));
        }
        let clean = tree(&package("serde", CRATES_IO), &deny());
        assert_eq!(lock_file(&clean), []);
    }

    #[test]
    fn a_foreign_source_an_empty_lock_file_and_a_lifted_ban_are_seen() {
        let foreign = package("serde", "git+https://example.org/serde");
        assert_eq!(lock_file(&tree(&foreign, &deny())).len(), 1);
        assert_eq!(lock_file(&tree("version = 4", &deny())).len(), 1);
        let lifted = lock_file(&tree(&package("serde", CRATES_IO), "[bans]\ndeny = []"));
        assert_eq!(lifted.len(), ALWAYS_BANNED.len());
    }

    #[test]
    fn dependencies_are_read_with_the_names_that_code_uses() {
        let manifest = "[dependencies]\nhyper-util = \"1\"\n[dev-dependencies]\nrcgen = \"1\"\n";
        let tree = Tree::of(vec![("Cargo.toml".to_owned(), manifest.to_owned())]);
        assert_eq!(dependencies(&tree), ["hyper_util", "rcgen"]);
    }
}
