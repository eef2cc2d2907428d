//! The files that the rules look at.

use std::fs;
use std::path::Path;

use crate::source::Source;

/// Folders that are read whole.
const FOLDERS: [&str; 8] = [
    "src",
    "tests",
    "benches",
    "fuzz",
    "packaging",
    "docs",
    ".ci",
    ".config",
];

/// Endings of the top-level files that are read; a developer's own notes there are not.
const TOP_LEVEL: [&str; 7] = [
    ".md",
    ".toml",
    ".lock",
    ".example",
    "Makefile",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

/// The repository as text.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Rust files.
    pub(crate) sources: Vec<Source>,
    /// All files, Rust ones too, as (path, text).
    pub(crate) texts: Vec<(String, String)>,
}

impl Tree {
    /// Reads the repository that this test belongs to.
    pub(crate) fn read() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = Vec::new();
        for (name, path) in entries(top) {
            if path.is_file() && TOP_LEVEL.iter().any(|ending| name.ends_with(ending)) {
                texts.extend(read(&path).map(|text| (name, text)));
            }
        }
        for folder in FOLDERS {
            read_folder(&top.join(folder), folder, &mut texts);
        }
        assert!(
            texts.iter().any(|(path, _)| path == "src/lib.rs"),
            "no src/lib.rs under {}: the rules would look at nothing",
            top.display()
        );
        Self::of(texts)
    }

    /// A tree of these files.
    pub(crate) fn of(texts: Vec<(String, String)>) -> Self {
        let sources = texts
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
            .map(|(path, text)| Source::new(path, text))
            .collect();
        Self { sources, texts }
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.texts
            .iter()
            .find(|(own, _)| own == path)
            .map_or("", |(_, text)| text)
    }
}

fn read_folder(folder: &Path, prefix: &str, texts: &mut Vec<(String, String)>) {
    for (name, path) in entries(folder) {
        let own = format!("{prefix}/{name}");
        if path.is_dir() && name != "target" {
            read_folder(&path, &own, texts);
        } else if path.is_file() {
            texts.extend(read(&path).map(|text| (own, text)));
        }
    }
}

/// Name and path of everything in a folder, sorted; nothing where there is no such folder.
fn entries(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    entries.sort();
    entries
}

/// The file's text; nothing for a binary file.
fn read(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(path).ok()?).ok()
}
