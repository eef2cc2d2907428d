//! The previous versions of a target's files: each a directory with all texts that belong together,
//! private, whole or not there at all.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::memory::{MemoryDir, hash_of, hash_of_all};
use super::write;
use crate::effects::error::EffectError;
use crate::model::{Epoch, Timestamp};

const PREFIX: &str = "previous-";
const ABOUT_FILE: &str = "about.json";
const UNFINISHED: &str = ".previous.agent-tmp";

/// A kept version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number; grows.
    pub number: u64,
    /// When the agent replaced it.
    pub kept: Timestamp,
    /// The epoch under which it had been written, as far as is known.
    pub epoch: Epoch,
    /// Hash of all its files together.
    pub hash: String,
    /// Its files.
    pub files: Vec<PathBuf>,
}

/// Keeps these texts as the newest of at most `keep` versions; its number. Twice keeps one.
pub(super) fn keep(
    dir: &MemoryDir,
    files: &[(&Path, &[u8])],
    epoch: Epoch,
    now: Timestamp,
    keep: u32,
) -> Result<u64, EffectError> {
    let hash = hash_of_all(files.iter().map(|(path, text)| (*path, hash_of(text))));
    let names = names(dir)?;
    let newest = list(dir)?.pop();
    let same = |known: &Generation| {
        let paths = files.iter().map(|(path, _)| *path);
        known.hash == hash && known.files.iter().map(PathBuf::as_path).eq(paths)
    };
    if let Some(newest) = newest.filter(same) {
        prune(dir, &names, keep)?;
        return Ok(newest.number);
    }
    let number = names
        .last()
        .map_or(1, |(number, _)| number.saturating_add(1));
    let about = Generation {
        number,
        kept: now,
        epoch,
        hash,
        files: files.iter().map(|(path, _)| path.to_path_buf()).collect(),
    };
    write_whole(dir, &about, files)?;
    prune(dir, &self::names(dir)?, keep)?;
    Ok(number)
}

fn write_whole(
    dir: &MemoryDir,
    about: &Generation,
    files: &[(&Path, &[u8])],
) -> Result<(), EffectError> {
    let unfinished = dir.path().join(UNFINISHED);
    remove(&unfinished)?;
    let fail = |error| write::failure("keep a previous version in", &unfinished, error);
    DirBuilder::new()
        .mode(0o700)
        .create(&unfinished)
        .map_err(fail)?;
    for (index, (_, text)) in files.iter().enumerate() {
        write::write_own(&unfinished.join(index.to_string()), text)?;
    }
    let text = serde_json::to_vec_pretty(about).map_err(|error| {
        EffectError::permanent("cannot describe a previous version").caused_by(error)
    })?;
    write::write_own(&unfinished.join(ABOUT_FILE), &text)?;
    let short = about.hash.get(..12).unwrap_or(&about.hash);
    let name = format!("{PREFIX}{:08}-{short}", about.number);
    fs::rename(&unfinished, dir.path().join(name)).map_err(fail)?;
    File::open(dir.path())
        .and_then(|dir| dir.sync_all())
        .map_err(fail)
}

/// Every kept version, oldest first. One that cannot be read is left out.
pub(super) fn list(dir: &MemoryDir) -> Result<Vec<Generation>, EffectError> {
    let read = |name: &String| {
        let text = fs::read(dir.path().join(name).join(ABOUT_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    };
    Ok(names(dir)?
        .iter()
        .filter_map(|(_, name)| read(name))
        .collect())
}

/// The texts of a kept version, with the files whose they were.
pub(super) fn texts(dir: &MemoryDir, number: u64) -> Result<Vec<(PathBuf, Vec<u8>)>, EffectError> {
    let missing = || {
        EffectError::permanent(format!(
            "previous version {number} is not in {} any more",
            dir.path().display()
        ))
        .hint("`agent config restore` lists those that are kept")
    };
    let about = list(dir)?.into_iter().find(|known| known.number == number);
    let about = about.ok_or_else(missing)?;
    let (_, name) = names(dir)?
        .into_iter()
        .find(|(known, _)| *known == number)
        .ok_or_else(missing)?;
    let mut texts = Vec::new();
    for (index, path) in about.files.into_iter().enumerate() {
        let kept = dir.path().join(&name).join(index.to_string());
        let text = fs::read(&kept).map_err(|error| write::failure("read", &kept, error))?;
        texts.push((path, text));
    }
    let hash = hash_of_all(
        texts
            .iter()
            .map(|(path, text)| (path.as_path(), hash_of(text))),
    );
    match hash == about.hash {
        true => Ok(texts),
        false => Err(EffectError::permanent(format!(
            "previous version {number} in {} is damaged",
            dir.path().display()
        ))),
    }
}

/// Numbers and names, oldest first.
fn names(dir: &MemoryDir) -> Result<Vec<(u64, String)>, EffectError> {
    let entries = match fs::read_dir(dir.path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(write::failure("list", dir.path(), error)),
    };
    let mut kept: Vec<(u64, String)> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let number = name.strip_prefix(PREFIX)?.split('-').next()?;
            Some((number.parse().ok()?, name))
        })
        .collect();
    kept.sort();
    Ok(kept)
}

/// The newest one stays whatever `keep` says: a change that is under way may need it.
fn prune(dir: &MemoryDir, names: &[(u64, String)], keep: u32) -> Result<(), EffectError> {
    let surplus = names.len().saturating_sub(keep.max(1) as usize);
    for (_, name) in names.iter().take(surplus) {
        remove(&dir.path().join(name))?;
    }
    Ok(())
}

/// Older agents kept each version as a file of its own.
fn remove(path: &Path) -> Result<(), EffectError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| write::failure("remove", path, error))
}
