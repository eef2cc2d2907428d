//! Where a secret comes from: a file, an environment variable, or the settings file itself.
//!
//! Must not: put a secret, or its length, into a problem.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroize as _;

use super::keys::SecretKeys;
use super::problem::Refusal;
use super::reader::Table;
use super::secret::Secret;

/// Largest secret file: a token or a password is far smaller, a wrong path may be far larger.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Permission bit "readable by others". Source: inode(7).
const READABLE_BY_OTHERS: u32 = 0o004;

/// The secret of a table, from the one place that is named; `None` if none is, or if it is bad.
pub(super) fn read(table: &Table<'_>, keys: &SecretKeys) -> Option<Secret> {
    let sources = [keys.file, keys.env, keys.inline];
    let mut named = sources.iter().filter(|key| table.has(key));
    let (first, second) = (named.next(), named.next());
    if let (Some(first), Some(second)) = (first, second) {
        let refusal = Refusal::new(format!("{first} is given as well"));
        table.error(
            second,
            refusal.hint("name one source of the secret, not two"),
        );
        return None;
    }
    let key = *first?;
    let text = if key == keys.file {
        from_file(table, key)
    } else if key == keys.env {
        from_env(table, key)
    } else {
        from_here(table, keys)
    }?;
    checked(table, key, text)
}

/// As [`read`], and reports it missing.
pub(super) fn require(table: &Table<'_>, keys: &SecretKeys) -> Option<Secret> {
    if ![keys.file, keys.env, keys.inline]
        .iter()
        .any(|key| table.has(key))
    {
        let hint = format!("a file that only the agent may read; or {}", keys.env);
        table.error(keys.file, Refusal::new("missing").hint(hint));
    }
    read(table, keys)
}

/// The key that names the secret; problems about it belong there.
pub(super) fn named(table: &Table<'_>, keys: &SecretKeys) -> &'static str {
    let sources = [keys.file, keys.env, keys.inline];
    let named = sources.into_iter().find(|key| table.has(key));
    named.unwrap_or(keys.file)
}

fn from_file(table: &Table<'_>, key: &'static str) -> Option<String> {
    let path = table.path(key)?;
    match read_file(&path) {
        Ok((text, mode)) => {
            if mode & READABLE_BY_OTHERS != 0 {
                let what = format!("{} is readable by everybody", path.display());
                table.warning(key, Refusal::new(what).hint("chmod o= it"));
            }
            Some(text)
        }
        Err(why) => {
            let what = format!("cannot read {}: {why}", path.display());
            table.error(key, Refusal::new(what));
            None
        }
    }
}

/// The file's text and permission bits.
fn read_file(path: &Path) -> Result<(String, u32), String> {
    // Looked at before it is opened: opening a named pipe would wait for somebody to write.
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    match file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read <= SECRET_BYTES_MAX) => {
            Ok((text, metadata.mode()))
        }
        Ok(_) => {
            text.zeroize();
            Err(format!("larger than {SECRET_BYTES_MAX} bytes"))
        }
        Err(error) => {
            text.zeroize();
            Err(error.to_string())
        }
    }
}

fn from_env(table: &Table<'_>, key: &'static str) -> Option<String> {
    // The name is never repeated: somebody may have written the secret itself here.
    let name = table.text(key)?;
    let value = table.reader.env(name);
    if value.is_none() {
        let refusal = Refusal::new("the environment has no variable of this name");
        table.error(
            key,
            refusal.hint("name the variable here, not what it contains"),
        );
    }
    value
}

fn from_here(table: &Table<'_>, keys: &SecretKeys) -> Option<String> {
    let text = table.text(keys.inline)?;
    let hint = format!("put it into a file of its own: {}", keys.file);
    table.warning(
        keys.inline,
        Refusal::new("a secret in plain sight").hint(hint),
    );
    Some(text.to_owned())
}

/// Without its trailing line break; one line, not empty.
fn checked(table: &Table<'_>, key: &'static str, mut text: String) -> Option<Secret> {
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    let refused = if text.trim().is_empty() {
        Some("the secret is empty")
    } else if text.chars().any(char::is_control) {
        Some("the secret has a line break or another control character in it")
    } else {
        None
    };
    if let Some(what) = refused {
        text.zeroize();
        table.error(key, Refusal::new(what));
        return None;
    }
    Some(Secret::new(text))
}
