//! Which files the compiler reaches, and what each of them says first.

use std::collections::{BTreeMap, BTreeSet};

use crate::Problem;
use crate::source::Source;

/// Every file that a `mod` line reaches from a crate's root.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    files: BTreeSet<String>,
    /// Those of them that only tests compile: reached through `#[cfg(test)] mod …;`.
    tests: BTreeSet<String>,
}

impl Reached {
    /// True when only tests compile the file, and a `#[cfg(test)]` says so.
    pub(crate) fn is_test(&self, path: &str) -> bool {
        self.tests.contains(path)
    }
}

/// Follows the `mod` lines from every crate's root.
pub(crate) fn walk(sources: &[Source]) -> Reached {
    let by_path: BTreeMap<&str, &Source> = sources
        .iter()
        .map(|source| (source.path.as_str(), source))
        .collect();
    let mut reached = Reached::default();
    let mut open: Vec<(&Source, bool)> = sources
        .iter()
        .filter(|source| is_root(&source.path))
        .map(|source| (source, false))
        .collect();
    while let Some((source, test)) = open.pop() {
        if !reached.files.insert(source.path.clone()) {
            continue;
        }
        if test {
            reached.tests.insert(source.path.clone());
        }
        for (candidates, test_only) in declared(source) {
            let found = candidates
                .iter()
                .find_map(|path| by_path.get(path.as_str()));
            open.extend(found.map(|found| (*found, test || test_only)));
        }
    }
    reached
}

/// A file that cargo compiles without being told: Cargo reference, "Package Layout".
fn is_root(path: &str) -> bool {
    let Some((folder, rest)) = path.split_once('/') else {
        return path == "build.rs";
    };
    match folder {
        "src" => rest == "lib.rs" || rest == "main.rs" || rest.starts_with("bin/"),
        "tests" | "benches" => !rest.contains('/') || rest.ends_with("/main.rs"),
        "fuzz" => rest.starts_with("fuzz_targets/"),
        _ => false,
    }
}

/// For each `mod name;`: where its file may be, and whether it is for tests only.
fn declared(source: &Source) -> Vec<(Vec<String>, bool)> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = file.trim_end_matches(".rs");
    let own_folder = if is_root(&source.path) || stem == "mod" {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut declared = Vec::new();
    let mut test = false;
    for index in 0..source.tokens.len() {
        if source.is_test_attribute(index) {
            test = true;
        }
        if source.text_at(index) == "mod" && source.text_at(index + 2) == ";" {
            let name = source.text_at(index + 1);
            let candidates = path_attribute(source, index).map_or_else(
                || {
                    vec![
                        format!("{own_folder}/{name}.rs"),
                        format!("{own_folder}/{name}/mod.rs"),
                    ]
                },
                |path| vec![seen_from(folder, path)],
            );
            declared.push((candidates, test));
        }
        if matches!(source.text_at(index), ";" | "}") {
            test = false;
        }
    }
    declared
}

/// The value of the `#[path = "…"]` on the line above the `mod` at `index`.
fn path_attribute(source: &Source, index: usize) -> Option<&str> {
    let above = source.tokens.get(index)?.line.checked_sub(2)?;
    let line = source.text.lines().nth(above)?.trim();
    line.strip_prefix("#[path = \"")?.strip_suffix("\"]")
}

/// What a `#[path]` names in a file of `folder`; it may begin with `../`.
fn seen_from(mut folder: &str, mut path: &str) -> String {
    while let Some(rest) = path.strip_prefix("../") {
        path = rest;
        folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
    }
    format!("{folder}/{path}")
}

/// Files that the compiler never sees.
pub(crate) fn dead(sources: &[Source]) -> Vec<Problem> {
    let reached = walk(sources);
    sources
        .iter()
        .filter(|source| !reached.files.contains(&source.path))
        .map(|source| {
            let what = "no `mod` line reaches this file: declare it in its folder's mod.rs, \
                        or delete it";
            Problem::new(&source.path, 1, what)
        })
        .collect()
}

/// Files that do not begin with their module's documentation.
pub(crate) fn without_head(sources: &[Source]) -> Vec<Problem> {
    sources
        .iter()
        .filter(|source| !source.text.trim_start().starts_with("//! "))
        .map(|source| {
            let what = "begin with `//!`: what the module owns, what it must not do, where to \
                        start reading";
            Problem::new(&source.path, 1, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        let new = |(path, text): &(&str, &str)| Source::new(path, text);
        files.iter().map(new).collect()
    }

    #[test]
    fn a_file_without_a_mod_line_is_dead() {
        let sources = sources(&[
            (
                "src/lib.rs",
                "pub mod a;\n// mod dead;\nmod inline { fn x() {} }",
            ),
            (
                "src/a/mod.rs",
                "mod b;\n#[cfg(test)]\nmod tests;\nmod after;",
            ),
            ("src/a/b.rs", "mod c;"),
            ("src/a/b/c.rs", ""),
            ("src/a/tests.rs", ""),
            ("src/a/after.rs", ""),
            ("src/dead.rs", ""),
            ("src/a/c.rs", ""),
            ("tests/x.rs", "#[path = \"y/z.rs\"]\nmod z;\nmod support;"),
            ("tests/y/z.rs", ""),
            ("tests/y/dead.rs", ""),
            ("tests/support/mod.rs", ""),
            (
                "tests/p/main.rs",
                "#[path = \"../support/q.rs\"]\nmod q;\nmod r;",
            ),
            ("tests/support/q.rs", ""),
            ("tests/p/r.rs", ""),
        ]);
        let files: Vec<String> = dead(&sources).into_iter().map(|p| p.file).collect();
        assert_eq!(files, ["src/dead.rs", "src/a/c.rs", "tests/y/dead.rs"]);
        let reached = walk(&sources);
        assert!(reached.is_test("src/a/tests.rs"));
        assert!(!reached.is_test("src/a/after.rs"));
    }

    #[test]
    fn a_file_without_a_head_is_seen() {
        let sources = sources(&[
            ("src/a.rs", "//! Owns a.\n"),
            ("src/b.rs", "// Owns b.\n"),
            ("src/c.rs", "use std::fmt;\n//! late\n"),
        ]);
        let files: Vec<String> = without_head(&sources).into_iter().map(|p| p.file).collect();
        assert_eq!(files, ["src/b.rs", "src/c.rs"]);
    }
}
