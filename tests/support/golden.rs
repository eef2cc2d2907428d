//! Compares a text with the file that keeps it. `BLESS=1` writes the file instead; the change is
//! then read in review.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "test support: a golden that differs is a failed test, and BLESS is for the developer"
)]

use std::path::Path;

/// Fails unless `actual` is what `tests/golden/<name>` keeps.
pub(crate) fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var("BLESS").is_ok_and(|value| value == "1") {
        let folder = path.parent().unwrap_or(Path::new("."));
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, actual));
        if let Err(error) = written {
            panic!("cannot write golden {name}: {error}");
        }
        return;
    }
    let kept = match std::fs::read_to_string(&path) {
        Ok(kept) => kept,
        Err(error) => panic!("cannot read golden {name}: {error} (BLESS=1 writes it)"),
    };
    if kept == actual {
        return;
    }
    let difference = kept
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None))
        .zip(actual.lines().map(Some).chain(std::iter::repeat(None)))
        .enumerate()
        .take_while(|(_, pair)| *pair != (None, None))
        .find(|(_, (kept, actual))| kept != actual);
    let first = match difference {
        Some((line, (kept, actual))) => format!(
            "line {}\n  kept:   {}\n  actual: {}",
            line + 1,
            kept.unwrap_or("(end)"),
            actual.unwrap_or("(end)")
        ),
        None => "only line ends differ".to_owned(),
    };
    panic!("golden {name} differs (BLESS=1 rewrites it): {first}\n\nall of it:\n{actual}");
}
