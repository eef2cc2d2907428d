//! PostgreSQL's programs: where they are, and as whom they run.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The newest PostgreSQL's programs: `AGENT_TEST_PG_BIN`, else Debian's place, else `pg_config`'s.
pub fn bin_dir() -> PathBuf {
    if let Ok(dir) = std::env::var("AGENT_TEST_PG_BIN") {
        return dir.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, bin)| bin.join("pg_ctl").exists())
        .max();
    if let Some((_, bin)) = newest {
        return bin;
    }
    let output = Command::new("pg_config").arg("--bindir").output();
    let output = output.expect("PostgreSQL is installed, or AGENT_TEST_PG_BIN names its programs");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The operating-system user that servers run as; `None` when this process can run them itself.
pub fn server_user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self")
        .expect("/proc/self can be read")
        .uid();
    if own != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<_> = line.expect("user postgres exists").split(':').collect();
    let number = |index: usize| -> u32 {
        let field = fields.get(index).expect("passwd line is complete");
        field.parse().expect("passwd ids are numbers")
    };
    Some((number(2), number(3)))
}

pub fn give_to_server_user(path: &Path) {
    if let Some((uid, gid)) = server_user() {
        chown(path, Some(uid), Some(gid)).expect("file can be given to the server's user");
    }
}

/// `program -D data_dir`, as the server's user.
pub fn server_command(program: &Path, data_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-D")
        .arg(data_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
        .env_remove("PGDATA")
        .env_remove("PGPORT")
        .env("LC_ALL", "C");
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Runs to its end; fails the test with its error output when it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .expect("program can be run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {complaint}");
    output
}
