//! `agent.toml` → [`Config`]. Once a `Config` exists it is valid; nothing else reads settings.
//!
//! Start reading at `file` (the TOML's shape), then `validate` (what is checked across sections),
//! `defaults` (every default with its reason) and `secret`. Every mistake of a file is reported at
//! once, with line and hint: `reader` records a mistake and goes on.
//!
//! [`grants`] and [`describe`] turn a `Config` into text for people; they read nothing.

pub mod app_formats;
pub mod defaults;
pub mod describe;
mod dns;
mod dns_check;
mod dns_edge;
mod dns_keys;
mod file;
pub mod grants;
pub mod keys;
mod lease_store;
mod moves;
mod probes;
pub mod problem;
mod reader;
mod route53;
pub mod secret;
mod secret_source;
pub mod settings;
mod sites;
mod suggest;
mod syntax;
mod targets;
mod units;
mod upstreams;
mod validate;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

pub use problem::{Problem, Problems, Severity};
pub use settings::Config;

use problem::Refusal;
use reader::{Reader, Spot, Table};

/// Largest settings file: a thousand probes are a tenth of it.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the process that reads the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// The agent of a site.
    Agent,
    /// The witness. It runs no step: its `Config` has no app configs, DNS records and notifiers,
    /// and their secrets are not read.
    Witness,
}

/// A usable file, and what somebody should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// In the file's order; all of [`Severity::Warning`].
    pub warnings: Vec<Problem>,
}

/// Reads a settings file for the agent of `site` (the key `site` where that is `None`) or for the
/// witness. `env` looks up environment variables.
///
/// # Errors
///
/// Everything that is wrong with the file, at once, with the warnings among it.
pub fn load(
    path: &Path,
    site: Option<&str>,
    role: MemberRole,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    match read_text(path) {
        Ok(text) => parse(&text, path, site, role, env),
        Err(why) => Err(unreadable(path, &why)),
    }
}

/// Where a settings file puts what is shared with people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Votes, journal and outbox.
    pub state_dir: PathBuf,
    /// Where the operator's commands reach the agent.
    pub socket: PathBuf,
}

/// Reads no more than where things are: whoever looks need not be able to read the agent's secrets,
/// and what is wrong elsewhere in the file is no reason to show nothing.
///
/// # Errors
///
/// What is wrong with the file as a whole, or with these keys.
pub fn load_places(path: &Path) -> Result<Places, Problems> {
    let (state_dir, socket) = load_part(path, &["state_dir", "socket"], file::places)?;
    Ok(Places { state_dir, socket })
}

/// Where the nodes are, as `(host, port)`. Reads no more than that, as [`load_places`].
///
/// # Errors
/// What is wrong with these keys, or that the file cannot be read at all.
pub fn load_nodes(path: &Path) -> Result<[(String, u16); 2], Problems> {
    let nodes = load_part(path, &["sites"], |root| {
        let nodes = sites::read(root)
            .read
            .into_iter()
            .map(|read| read.site.node);
        let nodes: Vec<_> = nodes.map(|node| (node.host, node.port)).collect();
        nodes.try_into().ok()
    })?;
    // Two sites that are understood, or a problem that says why not.
    nodes.ok_or_else(|| Problems(Vec::new()))
}

/// Reads a part of the file; what is wrong outside of `keys` and below is left to others.
fn load_part<T>(
    path: &Path,
    keys: &[&str],
    read: impl FnOnce(&Table<'_>) -> T,
) -> Result<T, Problems> {
    let text = read_text(path).map_err(|why| unreadable(path, &why))?;
    let reader = Reader::new(&text, path, &|_| None);
    let part = open(&reader, &text).map(|table| {
        let root = Table::open(&reader, table.get_ref(), &keys::ROOT, Spot::of_the_file());
        read(&root)
    });
    let mut problems = reader.into_problems();
    let ours = |problem: &Problem| {
        let first = problem.key.split(['.', '[']).next().unwrap_or_default();
        part.is_none() || keys.contains(&first)
    };
    problems.retain(|problem| problem.severity == Severity::Error && ours(problem));
    match part {
        Some(part) if problems.is_empty() => Ok(part),
        _ => Err(Problems(problems)),
    }
}

fn unreadable(path: &Path, why: &str) -> Problems {
    Problems(vec![Problem {
        file: path.display().to_string(),
        line: None,
        key: String::new(),
        what: format!("cannot read the settings: {why}"),
        hint: None,
        severity: Severity::Error,
    }])
}

/// A span of time as settings write it.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text).map_err(|refusal| match refusal.hint {
        Some(hint) => format!("{}: {hint}", refusal.what),
        None => refusal.what,
    })
}

/// The file's text, bounded.
fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    // The default message of this error shows where, not what.
    String::from_utf8(bytes).map_err(|error| error.utf8_error().to_string())
}

/// As [`load`], from text. `file` is named in problems, and its directory is where relative paths
/// begin.
///
/// # Errors
///
/// Everything that is wrong with the text, at once, with the warnings among it.
pub fn parse(
    text: &str,
    file: &Path,
    site: Option<&str>,
    role: MemberRole,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let reader = Reader::new(text, file, env);
    let config = read_with(&reader, text, site, role);
    let problems = reader.into_problems();
    let usable = problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning);
    match config {
        Some(config) if usable => Ok(Loaded {
            config,
            warnings: problems,
        }),
        _ => Err(Problems(problems)),
    }
}

/// Reads the text; `None` only after an error was reported.
fn read_with(
    reader: &Reader<'_>,
    text: &str,
    site: Option<&str>,
    role: MemberRole,
) -> Option<Config> {
    let root = open(reader, text)?;
    let root = Table::open(reader, root.get_ref(), &keys::ROOT, Spot::of_the_file());
    file::read(&root, site, role)
}

/// The text as TOML; `None` only after an error was reported.
fn open<'a>(reader: &Reader<'_>, text: &'a str) -> Option<Spanned<DeTable<'a>>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in errors {
        // Only the message: the error's `Display` prints the line, which may hold a secret.
        let spot = Spot {
            line: error.span().map(|span| reader.line_of(span.start)),
            key: String::new(),
        };
        // After a syntax error, what follows is guesswork; after a second value it is not.
        let duplicate = error.message() == "duplicate key";
        readable &= duplicate;
        let refusal = Refusal::new(if duplicate {
            "this key or table was already given above".to_owned()
        } else {
            format!("not TOML: {}", error.message())
        });
        let refusal = match error.message() {
            // What somebody meets who writes a text as in a shell or in YAML.
            message if message.starts_with("invalid boolean") => {
                refusal.hint("a text is in double quotes: key = \"text\"")
            }
            message if message.starts_with("invalid basic string") => {
                refusal.hint("the closing double quote is missing")
            }
            _ => refusal,
        };
        reader.error(&spot, refusal);
    }
    readable.then_some(root)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A key that is known but never read would be accepted and ignored.
    #[test]
    fn every_known_key_is_read() {
        let text = include_str!("../../agent.toml.example");
        let env = |_: &str| Some("a secret of enough bytes".to_owned());
        let reader = Reader::new(text, Path::new("agent.toml.example"), &env);
        read_with(&reader, text, None, MemberRole::Agent);
        let known: BTreeSet<_> = keys::ALL
            .iter()
            .flat_map(|section| section.keys.iter().map(|key| (section.path, *key)))
            .collect();
        assert_eq!(reader.asked(), known);
    }
}
