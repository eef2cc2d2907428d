//! What is installed for a local node: its version, its programs, its user, its configuration.
//!
//! Only looks; starts nothing but `pg_ctl --version`. Start reading at [`bin_dir`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::DirId;
use crate::config::settings::Node;
use crate::effects::error::EffectError;
use crate::effects::exec::{CommandSpec, OsUser, run};

/// The first version with `standby.signal`.
const VERSION_MIN: u32 = 12;

/// Where distributions put the programs of one version; `{}` is the version.
/// Debian, PGDG's RPMs, Alpine, Gentoo, Arch's old versions.
const VERSIONED_DIRS: [&str; 5] = [
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/usr/libexec/postgresql{}",
    "/usr/lib64/postgresql-{}/bin",
    "/opt/postgresql-{}/bin",
];

/// Where programs of any version may be; the version is asked.
const PLAIN_DIRS: [&str; 4] = [
    "/usr/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/opt/bitnami/postgresql/bin",
];

/// Bound on asking a program for its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// As whom the server runs: the owner of its data directory, who must be the configured user.
pub(super) fn server_user(node: &Node, id: &DirId) -> Result<OsUser, EffectError> {
    let owner = OsUser::by_id(id.uid, id.gid);
    let data_dir = node.data_dir.display();
    if let Some(name) = &node.os_user {
        let wanted = OsUser::by_name(name)?;
        if wanted.uid != owner.uid {
            let what = format!("{data_dir} is owned by user {}, not by {name}", owner.uid);
            return Err(EffectError::permanent(what).hint("change its owner, or set os_user"));
        }
    }
    if owner.uid == 0 {
        let what = format!("{data_dir} is owned by root, as whom PostgreSQL refuses to run");
        return Err(EffectError::permanent(what).hint("give it to the server's own user"));
    }
    Ok(owner)
}

/// The major version of the data directory.
pub(super) fn server_version(data_dir: &Path) -> Result<u32, EffectError> {
    let path = data_dir.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(|error| {
        EffectError::permanent(format!("cannot read {}", path.display())).caused_by(error)
    })?;
    let version = text
        .trim()
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    match version {
        Some(version) if version >= VERSION_MIN => Ok(version),
        Some(_) | None => {
            let said: String = text.trim().chars().take(20).collect();
            let what = format!("{} names version {said:?}", path.display());
            let hint = format!("PostgreSQL {VERSION_MIN} or newer is needed");
            Err(EffectError::permanent(what).hint(hint))
        }
    }
}

/// Where `pg_ctl` of this version is.
pub(super) async fn bin_dir(node: &Node, version: u32) -> Result<PathBuf, EffectError> {
    let has_pg_ctl = |dir: &PathBuf| dir.join("pg_ctl").is_file();
    if let Some(dir) = &node.bin_dir {
        if has_pg_ctl(dir) {
            return Ok(dir.clone());
        }
        let what = format!("no pg_ctl in bin_dir {}", dir.display());
        return Err(
            EffectError::permanent(what).hint("install the server's programs, or correct bin_dir")
        );
    }
    let versioned =
        VERSIONED_DIRS.map(|dir| PathBuf::from(dir.replace("{}", &version.to_string())));
    if let Some(dir) = versioned.into_iter().find(has_pg_ctl) {
        return Ok(dir);
    }
    for dir in PLAIN_DIRS.map(PathBuf::from).into_iter().filter(has_pg_ctl) {
        let ask = CommandSpec::new(dir.join("pg_ctl"), VERSION_TIMEOUT).arg("--version");
        let said = run(&ask).await?.stdout;
        // `pg_ctl (PostgreSQL) 15.3`, `pg_ctl (PostgreSQL) 18beta1`.
        let number = said.split(')').nth(1).unwrap_or_default().trim();
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        if digits == version.to_string() {
            return Ok(dir);
        }
    }
    Err(EffectError::permanent(format!(
        "no pg_ctl of PostgreSQL {version} in the usual places"
    ))
    .hint("set bin_dir to the directory that contains it"))
}

/// The configuration file, where it is not in the data directory (as Debian has it): the one of
/// the last start, else the one under `/etc/postgresql` that names the data directory.
pub(super) fn config_file_elsewhere(
    data_dir: &Path,
    version: u32,
) -> Result<Option<String>, EffectError> {
    if data_dir.join("postgresql.conf").exists() {
        return Ok(None);
    }
    let options = fs::read_to_string(data_dir.join("postmaster.opts")).unwrap_or_default();
    let found = config_file_in(&options).or_else(|| debian_config_file(data_dir, version));
    match found {
        Some(file) if !file.contains('\'') => Ok(Some(file)),
        Some(_) | None => {
            let what = format!("no postgresql.conf for {}", data_dir.display());
            Err(EffectError::permanent(what)
                .hint("start the server once by other means, so that postmaster.opts names it"))
        }
    }
}

/// The `config_file` among quoted arguments. Source: `CreateOptsFile` in `postmaster.c`.
fn config_file_in(options: &str) -> Option<String> {
    let arguments = options.split('"').skip(1).step_by(2);
    let prefixes = ["config_file=", "--config_file=", "--config-file="];
    arguments
        .filter_map(|argument| {
            prefixes
                .iter()
                .find_map(|prefix| argument.strip_prefix(prefix))
        })
        .last()
        .map(str::to_owned)
}

fn debian_config_file(data_dir: &Path, version: u32) -> Option<String> {
    let clusters = fs::read_dir(format!("/etc/postgresql/{version}")).ok()?;
    let names_it = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| {
            let value = line
                .trim()
                .strip_prefix("data_directory")
                .unwrap_or_default();
            let quoted = value.split('\'').nth(1).unwrap_or_default();
            !quoted.is_empty() && Path::new(quoted) == data_dir
        })
    };
    let files = clusters
        .flatten()
        .map(|entry| entry.path().join("postgresql.conf"));
    files
        .into_iter()
        .find(names_it)?
        .to_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_file_is_found_among_the_last_options() {
        let options = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/data\" \
                       \"-c\" \"config_file=/etc/postgresql/15/main/postgresql.conf\"\n";
        let found = config_file_in(options).unwrap();
        assert_eq!(found, "/etc/postgresql/15/main/postgresql.conf");
        assert_eq!(config_file_in("/bin/postgres \"-D\" \"/data\"\n"), None);
        assert_eq!(
            config_file_in("/bin/postgres \"--config-file=/x\"").unwrap(),
            "/x"
        );
    }

    #[test]
    fn old_or_unreadable_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        server_version(dir.path()).unwrap_err();
        for (text, expected) in [
            ("15\n", Some(15)),
            ("9.6\n", None),
            ("11", None),
            ("x", None),
        ] {
            fs::write(dir.path().join("PG_VERSION"), text).unwrap();
            assert_eq!(server_version(dir.path()).ok(), expected, "{text}");
        }
    }
}
