//! Whether an nginx has taken a reload: a reload that it refuses looks like one that it takes, for
//! the signal arrives, and the old configuration goes on. Everything here blocks.
//!
//! The proof are workers that were not there before, of the same main process, and none of the old
//! ones; and no new `[emerg]` in its error log, because a worker that died is replaced, too.
//! Source: nginx.org, "Controlling nginx", "Changing Configuration".

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::process::{Identity, Running};

/// So much of what the error log has grown by is read.
const LOG_BYTES_MAX: u64 = 256 << 10;

/// Where the level stands in a line of the log. Source: nginx, src/core/ngx_log.c: the time in the
/// form `1970/09/28 12:00:00`, and the level in brackets. What follows may come from clients.
const LEVEL_AT: usize = 19;
const EMERGENCY: &str = " [emerg] ";

/// Where nginx is configured when its command line does not say. Source: nginx.org, "Command-line
/// parameters"; the packages' default.
const CONFIG: &str = "/etc/nginx/nginx.conf";

/// An nginx as it was right before it was told.
#[derive(Debug)]
pub(in crate::effects::app_config) struct Before {
    main: Running,
    /// Also those that do not call themselves workers yet: they are old ones all the same.
    children: BTreeSet<Identity>,
    /// Its error log and how long that was; `None` when it cannot be read: then workers alone prove
    /// it.
    log: Option<(PathBuf, u64)>,
}

/// What a look at it saw.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::effects::app_config) enum Look {
    /// Only new workers serve.
    Taken {
        /// How many.
        workers: usize,
    },
    /// Old ones still do.
    NotYet,
    /// It goes on with the old configuration.
    Refused {
        /// What its log says.
        line: String,
    },
    /// The main process is gone.
    Ended,
}

impl Before {
    /// This one, which complains there.
    pub(super) fn of(main: Running, error_log: &Path) -> Self {
        let length = File::open(error_log).and_then(|log| log.metadata());
        Self {
            main,
            children: main.children().into_keys().collect(),
            log: length
                .map(|metadata| (error_log.to_owned(), metadata.len()))
                .ok(),
        }
    }

    /// Each nginx that runs here and whose configuration lies in a directory of this file.
    pub(in crate::effects::app_config) fn that_read(file: &Path) -> Vec<Self> {
        let mains = Running::all("nginx").into_iter();
        let reads = |main: &Running| {
            let config = config_of(&main.title());
            let above = config.parent();
            above.is_some_and(|directory| file.starts_with(directory)) && main.sees(file)
        };
        mains
            .filter(reads)
            .map(|main| {
                let is_log = |path: &PathBuf| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.contains("error")
                };
                let log = main.open_files().into_iter().find(is_log);
                Self::of(main, &log.unwrap_or_default())
            })
            .collect()
    }

    /// What its error log proves, in words.
    pub(super) fn log_words(&self) -> &'static str {
        match self.log {
            Some(_) => "no [emerg]",
            None => "its error log cannot be read",
        }
    }

    /// How it is now.
    pub(in crate::effects::app_config) fn look(&self) -> Look {
        if let Some(line) = self.complaint() {
            return Look::Refused { line };
        }
        if !self.main.lives() {
            return Look::Ended;
        }
        // Source: nginx, src/os/unix/ngx_process_cycle.c: the titles of its processes.
        let is_worker =
            |title: &String| title.contains("worker process") && !title.contains("shutting down");
        let children = self.main.children().into_iter();
        let now: BTreeSet<Identity> = children
            .filter_map(|(child, title)| is_worker(&title).then_some(child))
            .collect();
        // The old ones serve on for a moment after the new ones have come.
        if now.is_empty() || !now.is_disjoint(&self.children) {
            return Look::NotYet;
        }
        // A worker that died while the new configuration was being refused was replaced meanwhile.
        match self.complaint() {
            Some(line) => Look::Refused { line },
            None => Look::Taken { workers: now.len() },
        }
    }

    /// The first complaint that stops a reload, among what the log has grown by.
    fn complaint(&self) -> Option<String> {
        let (path, since) = self.log.as_ref()?;
        let mut log = File::open(path).ok()?;
        let length = log.metadata().ok()?.len();
        // A shorter log is a new one.
        let from = if length < *since { 0 } else { *since };
        log.seek(SeekFrom::Start(from)).ok()?;
        let mut grown = Vec::new();
        log.take(LOG_BYTES_MAX).read_to_end(&mut grown).ok()?;
        let text = String::from_utf8_lossy(&grown);
        text.lines()
            .find(|line| is_emergency(line))
            .map(str::to_owned)
    }
}

fn is_emergency(line: &str) -> bool {
    let rest = line.get(LEVEL_AT..);
    rest.is_some_and(|rest| rest.starts_with(EMERGENCY))
}

/// The main file of the nginx whose main process calls itself so.
fn config_of(title: &str) -> PathBuf {
    let mut words = title.split_whitespace();
    let named = words.find(|word| *word == "-c").and_then(|_| words.next());
    PathBuf::from(named.unwrap_or(CONFIG))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a real nginx is started")]
mod tests {
    use std::fs;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// An nginx with `own` as its directory, or `other` mounted over it in a namespace of its own.
    fn nginx(own: &Path, other: Option<&Path>) -> Child {
        let script = match other {
            None => "exec /usr/sbin/nginx -c \"$1/nginx.conf\"",
            Some(_) => "mount --bind \"$2\" \"$1\" && exec /usr/sbin/nginx -c \"$1/nginx.conf\"",
        };
        let mut command = match other {
            None => Command::new("sh"),
            Some(_) => Command::new("unshare"),
        };
        if other.is_some() {
            command.args(["--map-root-user", "--mount", "sh"]);
        }
        command.args(["-c", script, "sh"]).arg(own).args(other);
        command.spawn().unwrap()
    }

    #[test]
    fn nginx_in_a_container_with_a_file_of_its_own_has_not_read_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for place in [&own, &other] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("upstream.conf"), "").unwrap();
            let at = dir.path().display();
            let text =
                format!("daemon off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n");
            fs::write(place.join("nginx.conf"), text).unwrap();
        }
        let file = own.join("upstream.conf");
        for (over, found) in [(None, 1), (Some(other.as_path()), 0)] {
            let mut started = nginx(&own, over);
            let pid = dir.path().join("pid");
            let deadline = Instant::now() + Duration::from_secs(20);
            let has_pid = || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
            while !has_pid() {
                if over.is_some() && started.try_wait().unwrap().is_some() {
                    eprintln!("SKIPPED: this host permits no mounts in a namespace");
                    return;
                }
                assert!(Instant::now() < deadline, "nginx does not start");
                // bounded: the assertion above
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(Before::that_read(&file).len(), found, "{over:?}");
            let main = i32::try_from(started.id()).ok().and_then(Pid::from_raw);
            kill_process(main.unwrap(), Signal::TERM).unwrap();
            started.wait().unwrap();
        }
    }

    #[test]
    fn only_the_level_of_a_line_is_a_complaint_and_not_what_a_client_asked_for() {
        let of_client = "2026/11/26 18:00:00 [error] 7#7: *1 open() \"/x [emerg] \" failed, \
                         request: \"GET /2026/11/26 18:00:00 [emerg] HTTP/1.1\"";
        assert!(!is_emergency(of_client));
        assert!(is_emergency(
            "2026/11/26 18:00:00 [emerg] 7#7: unknown directive \"servr\" in /etc/nginx/x:1"
        ));
        assert!(!is_emergency("short"));
    }

    #[test]
    fn configuration_is_the_one_of_the_command_line() {
        let title = "nginx: main process /usr/sbin/nginx -c /srv/n/nginx.conf";
        assert_eq!(config_of(title), Path::new("/srv/n/nginx.conf"));
        let title = "nginx: main process /usr/sbin/nginx -g daemon on;";
        assert_eq!(config_of(title), Path::new(CONFIG));
    }
}
