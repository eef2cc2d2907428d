//! The note of a pause of PgBouncer: written before PAUSE, removed after RESUME, so that whoever
//! comes after a kill knows which databases' clients wait. Changed only by who holds the app
//! config's lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Place;
use crate::effects::error::EffectError;
use crate::effects::whole_file;

/// The databases that are, or are about to be, paused; one a line.
const NOTE_FILE: &str = "pgbouncer-paused";

/// Nobody has more app configs, former ones included.
const DIRECTORIES_MAX: usize = 10_000;

/// Whether there is one.
pub(super) async fn is_there(place: &Place) -> Result<bool, EffectError> {
    let path = path(place);
    place
        .on_file("look for", path, |path| path.try_exists())
        .await
}

/// The databases that it names; `None` when there is none.
pub(super) async fn read(place: &Place) -> Result<Option<BTreeSet<String>>, EffectError> {
    if !is_there(place).await? {
        return Ok(None);
    }
    let text = place.read(&path(place)).await?;
    Ok(Some(text.lines().map(str::to_owned).collect()))
}

/// The notes under the directory of all app configs, but for those that are named. Blocks.
pub(in crate::effects::app_config) fn pauses_but(
    dir: &Path,
    named: &[String],
) -> Result<Vec<PathBuf>, EffectError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let what = format!("cannot list {}", dir.display());
            return Err(EffectError::retryable(what).caused_by(error));
        }
    };
    let others = entries.take(DIRECTORIES_MAX).flatten().filter(|entry| {
        let name = entry.file_name();
        !named.iter().any(|known| name == known.as_str())
    });
    let notes = others.map(|entry| entry.path().join(NOTE_FILE));
    Ok(notes.filter(|note| note.exists()).collect())
}

/// Notes these databases.
pub(super) async fn write(place: &Place, names: &BTreeSet<String>) -> Result<(), EffectError> {
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    let dir = place.dir.clone();
    let write = move |path: &PathBuf| {
        fs::create_dir_all(dir)?;
        whole_file::write_private(path, lines.as_bytes())
    };
    place.on_file("write", path(place), write).await
}

/// Forgets them.
pub(super) async fn remove(place: &Place) -> Result<(), EffectError> {
    let remove = |path: &PathBuf| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    place.on_file("remove", path(place), remove).await
}

fn path(place: &Place) -> PathBuf {
    place.dir.join(NOTE_FILE)
}
