//! Runs a program: one deadline for everything, bounded output, nothing left running.
//!
//! Owns: the only place where this program starts others. Must not: decide what an exit code
//! means, or put secrets into arguments (they are visible to every user of the host).
//! Start reading at [`run`].
#![expect(
    clippy::disallowed_methods,
    reason = "this is the file that the ban on starting programs points to"
)]

mod kept;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use self::kept::Kept;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;

/// How much of each end of an output is kept; the middle is read and dropped.
pub const OUTPUT_END_MAX: usize = 16 * 1024;

/// Once the program has ended, how long its output may stay open. A daemon that it started may
/// keep the pipe for ever.
const PIPE_GRACE: Duration = Duration::from_millis(200);

/// How long a killed program may take to be gone. Longer only when it hangs in the kernel.
const KILLED_WAIT: Duration = Duration::from_secs(1);

/// What programs find on their path, whatever environment the agent itself was started with.
const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest command line and the longest complaint that go into an error text.
const TEXT_MAX: usize = 300;

/// A program to run.
#[derive(Clone)]
pub struct CommandSpec {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    user: Option<OsUser>,
    input: Vec<u8>,
    output_max: usize,
    timeout: Duration,
    discreet: bool,
}

impl CommandSpec {
    /// `program`, looked up in a fixed path when it has no slash, bounded by `timeout`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            input: Vec::new(),
            output_max: OUTPUT_END_MAX,
            timeout,
            discreet: false,
        }
    }

    /// Adds an argument. Never a secret: arguments are visible to every user of the host.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the otherwise fixed environment. Its value is never shown.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What it reads from standard input. Never shown.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Keeps so much of the beginning of standard output, for an output that is needed whole.
    #[must_use]
    pub fn output_max(mut self, output_max: usize) -> Self {
        self.output_max = output_max;
        self
    }

    /// Shows only how many arguments there are: somebody may have written a password into one.
    #[must_use]
    pub fn discreet(mut self) -> Self {
        self.discreet = true;
        self
    }

    /// With this bound instead.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it as this user, which needs root unless the agent is that user.
    #[must_use]
    pub fn user(mut self, user: OsUser) -> Self {
        self.user = Some(user);
        self
    }
}

impl fmt::Display for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.program.display().to_string();
        if self.discreet {
            let count = self.args.len();
            return write!(f, "`{}` with {count} arguments", shortened(&text));
        }
        for arg in &self.args {
            text.push(' ');
            text.push_str(&arg.to_string_lossy());
        }
        write!(f, "`{}`", shortened(&text))
    }
}

impl fmt::Debug for CommandSpec {
    /// Names of variables only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        let args = if self.discreet { &[][..] } else { &self.args };
        f.debug_struct("CommandSpec")
            .field("program", &self.program)
            .field("args", &args)
            .field("env", &variables)
            .field("user", &self.user)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A program that has ended by itself, well or not.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output, without the middle if that was long.
    pub stdout: String,
    /// Whether `stdout` is all that it wrote there.
    pub stdout_whole: bool,
    /// What it wrote to standard error, without the middle if that was long.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// Exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// How it ended and the last thing it said, for an error text.
    #[must_use]
    pub fn complaint(&self) -> String {
        let last = |text: &str| {
            let line = text.lines().rev().find(|line| !line.trim().is_empty());
            line.map(|line| shortened(line.trim()))
        };
        match last(&self.stderr).or_else(|| last(&self.stdout)) {
            Some(said) => format!("{}: {said}", self.status),
            None => format!("{} without a word", self.status),
        }
    }
}

/// Runs a program to its end.
///
/// Standard input is empty unless given, the environment is fixed except for the given variables,
/// and the program gets a process group of its own, which is killed as a whole when the time is
/// over or when the returned future is dropped.
///
/// # Errors
///
/// Permanent if it cannot be started as asked, `OutcomeUnknown` if it did not end in time (it is
/// killed then; what it did until then stays done). A bad exit code is no error here.
pub async fn run(spec: &CommandSpec) -> Result<Finished, EffectError> {
    let began = boottime();
    let mut running = Running::start(spec)?;
    let ended = tokio::time::timeout(spec.timeout, running.finish()).await;
    match ended {
        Ok(Ok(status)) => Ok(Finished {
            status,
            stdout_whole: running.stdout.is_whole(),
            stdout: running.stdout.into_text(),
            stderr: running.stderr.into_text(),
            took: boottime().since(began),
        }),
        Ok(Err(error)) => {
            Err(EffectError::unknown(format!("cannot wait for {spec}")).caused_by(error))
        }
        Err(_) => {
            let gone = running.kill().await;
            let took = spec.timeout;
            let how = if gone {
                "was killed"
            } else {
                "hangs in the kernel even after SIGKILL"
            };
            Err(
                EffectError::unknown(format!("{spec} did not end within {took:?} and {how}"))
                    .hint("look at what it waits for, or give it more time"),
            )
        }
    }
}

/// Starts a program that goes on when this one ends, with nothing but its arguments and `stdin`;
/// what it says goes where this program's own words go. It is reaped when it ends first.
///
/// # Errors
///
/// Retryable if it cannot be started.
pub fn start_detached(
    program: &Path,
    args: &[OsString],
    stdin: std::os::fd::OwnedFd,
) -> Result<Child, EffectError> {
    Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", SAFE_PATH)
        .current_dir("/")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| {
            EffectError::retryable(format!("cannot start {}", program.display())).caused_by(error)
        })
}

/// A started program. Dropping it kills the whole process group.
struct Running {
    child: Child,
    group: Group,
    input: Vec<u8>,
    stdout: Kept,
    stderr: Kept,
}

impl Running {
    fn start(spec: &CommandSpec) -> Result<Self, EffectError> {
        let mut command = command_as(spec)?;
        command
            .env_clear()
            .envs(base_environment(spec.user.as_ref()))
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(match spec.input.is_empty() {
                true => Stdio::null(),
                false => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // Only for reaping: the group's guard has already killed it by then.
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| cannot_start(spec, error))?;
        let group = Group(child.id().and_then(as_pid));
        Ok(Self {
            child,
            group,
            input: spec.input.clone(),
            stdout: Kept::with_head(spec.output_max),
            stderr: Kept::default(),
        })
    }

    /// Reads and waits until the program has ended.
    async fn finish(&mut self) -> io::Result<ExitStatus> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (stdin, input) = (self.child.stdin.take(), &self.input);
        let giving = async move {
            if let Some(mut stdin) = stdin {
                // A program that does not read to the end says by its exit code what it thinks.
                let _unread = stdin.write_all(input).await;
            }
        };
        let mut reading = pin!(async {
            tokio::join!(giving, self.stdout.read(out), self.stderr.read(err));
        });
        let status = tokio::select! {
            status = self.child.wait() => {
                // Whatever is in the pipe by now is read; then a daemon may keep it for itself.
                let _closed = tokio::time::timeout(PIPE_GRACE, &mut reading).await;
                status
            }
            () = &mut reading => self.child.wait().await,
        };
        // It is reaped: from now on its number may belong to somebody else.
        self.group.0 = None;
        status
    }

    /// Kills the group; false if the program is not gone soon.
    async fn kill(&mut self) -> bool {
        self.group.kill();
        let gone = tokio::time::timeout(KILLED_WAIT, self.child.wait())
            .await
            .is_ok();
        if gone {
            self.group.0 = None;
        }
        gone
    }
}

/// The process group of a program that is not reaped yet.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // An error means that there is no such group any more, which is what we want.
            let _no_such_group = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn as_pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// An operating-system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser {
    /// Its name, if it has one on this host.
    pub name: Option<String>,
    /// Its number.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    home: Option<PathBuf>,
}

impl OsUser {
    /// The user of this name. Only `/etc/passwd` is asked: a name service may hang in an outage.
    ///
    /// # Errors
    ///
    /// Permanent if there is no such user, Retryable if `/etc/passwd` cannot be read.
    pub fn by_name(name: &str) -> Result<Self, EffectError> {
        let users = fs::read_to_string("/etc/passwd")
            .map_err(|error| EffectError::retryable("cannot read /etc/passwd").caused_by(error))?;
        find_user(&users, |user| user.name.as_deref() == Some(name)).ok_or_else(|| {
            EffectError::permanent(format!("no user {name:?} in /etc/passwd"))
                .hint("name a local user, or leave the setting out to use the directory's owner")
        })
    }

    /// The user with this number; `gid` is used when `/etc/passwd` does not know it.
    #[must_use]
    pub fn by_id(uid: u32, gid: u32) -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        find_user(&users, |user| user.uid == uid).unwrap_or(Self {
            name: None,
            uid,
            gid,
            home: None,
        })
    }
}

fn find_user(passwd: &str, wanted: impl Fn(&OsUser) -> bool) -> Option<OsUser> {
    passwd.lines().filter_map(parse_user).find(wanted)
}

/// One line of `/etc/passwd`. Source: passwd(5).
fn parse_user(line: &str) -> Option<OsUser> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?;
    Some(OsUser {
        name: Some(name.to_owned()),
        uid,
        gid,
        home: Some(PathBuf::from(home)),
    })
}

fn base_environment(user: Option<&OsUser>) -> Vec<(&'static str, OsString)> {
    let own = geteuid().as_raw();
    let user = user.cloned().unwrap_or_else(|| OsUser::by_id(own, own));
    let mut env = vec![("PATH", SAFE_PATH.into()), ("LANG", "C.UTF-8".into())];
    env.extend(user.home.map(|home| ("HOME", home.into())));
    env.extend(user.name.map(|name| ("USER", name.into())));
    env
}

/// The command with its arguments, changing user where needed.
///
/// `setpriv` is preferred because it also takes the user's other groups, without which e.g.
/// Debian's PostgreSQL cannot read its TLS key (group `ssl-cert`); the standard library only
/// drops them.
fn command_as(spec: &CommandSpec) -> Result<Command, EffectError> {
    let own = geteuid().as_raw();
    let Some(user) = spec.user.as_ref().filter(|user| user.uid != own) else {
        return Ok(with_args(&spec.program, spec));
    };
    if own != 0 {
        let what = format!(
            "cannot run {spec} as user {} while running as user {own}",
            user.uid
        );
        return Err(EffectError::permanent(what).hint("run the agent as that user or as root"));
    }
    if let (Some(_), Some(setpriv)) = (&user.name, setpriv()) {
        let mut command = Command::new(setpriv);
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid));
        command
            .arg("--init-groups")
            .arg("--")
            .arg(&spec.program)
            .args(&spec.args);
        return Ok(command);
    }
    let mut command = with_args(&spec.program, spec);
    command.uid(user.uid).gid(user.gid);
    Ok(command)
}

fn with_args(program: &Path, spec: &CommandSpec) -> Command {
    let mut command = Command::new(program);
    command.args(&spec.args);
    command
}

/// util-linux's `setpriv`, not busybox's, which cannot change users.
fn setpriv() -> Option<PathBuf> {
    ["/usr/bin/setpriv", "/bin/setpriv"]
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| path.file_name() == Some(OsStr::new("setpriv")))
}

fn cannot_start(spec: &CommandSpec, error: io::Error) -> EffectError {
    let what = format!("cannot start {spec}");
    let hint = if error.kind() == io::ErrorKind::NotFound {
        "no such program: check the path in the configuration"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "not permitted: check that the file is executable for the agent's user"
    } else {
        // Out of processes, memory or file descriptors: may pass.
        return EffectError::retryable(what).caused_by(error);
    };
    EffectError::permanent(what).hint(hint).caused_by(error)
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= TEXT_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(TEXT_MAX).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests;
