//! One connection to a guard: finding it, starting it, asking it, ending it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Answer, Greeting, PROTOCOL, Request, Term, line, socket_path};
use crate::effects::error::EffectError;
use crate::effects::exec::start_detached;

/// A guard that says nothing for this long is replaced: it may be frozen.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long a new guard may take to be ready; a busy host starts programs slowly.
const READY_MAX: Duration = Duration::from_secs(2);

/// How long a guard that is replaced may take to end by itself.
const STOP_MAX: Duration = Duration::from_millis(300);

/// What the guard should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Push(Term, bool),
    Disarm,
}

/// A guard that answers.
pub(super) struct Connection {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    pid: Option<Pid>,
    greeting: Option<Greeting>,
}

/// Starts a guard and waits until it answers.
///
/// # Errors
/// Retryable if it cannot be started, or does not answer in time.
pub(super) async fn start(program: &Path, args: &[OsString]) -> Result<Connection, EffectError> {
    let failed = |error| EffectError::retryable("cannot talk to a new guard").caused_by(error);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let child = start_detached(program, args, theirs.into())?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let stream = UnixStream::from_std(ours).map_err(failed)?;
    let mut connection = Connection::new(stream, pid.and_then(Pid::from_raw));
    connection.greet(READY_MAX).await;
    match connection.greeting {
        Some(_) => Ok(connection),
        None => {
            connection.kill();
            Err(
                EffectError::retryable(format!("the new guard was not ready in {READY_MAX:?}"))
                    .hint("see the agent's log"),
            )
        }
    }
}

pub(super) fn silent() -> EffectError {
    EffectError::retryable(format!("the guard has said nothing for {SILENCE_MAX:?}"))
}

/// The guard at work, if there is one; without a greeting if it is frozen.
pub(super) async fn find(state_dir: &Path) -> Option<Connection> {
    use std::os::fd::AsRawFd as _;
    // By way of the open directory: a socket's path has 107 bytes at most.
    let dir = std::fs::File::open(state_dir).ok()?;
    let name = socket_path(Path::new(""));
    let way = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    let stream = UnixStream::connect(way).await.ok()?;
    let pid = socket_peercred(&stream).ok().map(|peer| peer.pid);
    let mut connection = Connection::new(stream, pid);
    connection.greet(SILENCE_MAX).await;
    Some(connection)
}

impl Connection {
    fn new(stream: UnixStream, pid: Option<Pid>) -> Self {
        let (read, write) = stream.into_split();
        Self {
            read: BufReader::new(read),
            write,
            pid,
            greeting: None,
        }
    }

    /// It speaks this protocol and was started with these settings.
    pub(super) fn fits(&self, settings: &str) -> bool {
        self.greeting
            .as_ref()
            .is_some_and(|greeting| greeting.protocol == PROTOCOL && greeting.settings == settings)
    }

    async fn greet(&mut self, patience: Duration) {
        let text = tokio::time::timeout(patience, self.line()).await;
        let text = text.ok().and_then(Result::ok);
        self.greeting = text.and_then(|text| serde_json::from_str(&text).ok());
    }

    async fn line(&mut self) -> Result<String, EffectError> {
        let lost = || EffectError::retryable("the guard has gone away");
        let mut text = String::new();
        match self.read.read_line(&mut text).await {
            Ok(0) => Err(lost()),
            Ok(_) => Ok(text),
            Err(error) => Err(lost().caused_by(error)),
        }
    }

    pub(super) async fn ask(&mut self, number: u64, wanted: Wanted) -> Result<Answer, EffectError> {
        self.request(&match wanted {
            Wanted::Push(term, armed) => Request::Push {
                number,
                term,
                armed,
            },
            Wanted::Disarm => Request::Disarm { number },
        })
        .await
    }

    pub(super) async fn look(&mut self, number: u64) -> Result<Answer, EffectError> {
        self.request(&Request::Look { number }).await
    }

    async fn request(&mut self, request: &Request) -> Result<Answer, EffectError> {
        self.send(request).await?;
        let text = self.line().await?;
        serde_json::from_str(&text).map_err(|error| {
            EffectError::retryable("the guard says what nobody understands").caused_by(error)
        })
    }

    async fn send(&mut self, request: &Request) -> Result<(), EffectError> {
        let failed = || EffectError::retryable("the guard does not listen");
        let bytes = line(request).map_err(|error| failed().caused_by(error))?;
        let written = self.write.write_all(&bytes).await;
        written.map_err(|error| failed().caused_by(error))
    }

    /// Resolves when the guard is gone: it says nothing by itself.
    pub(super) async fn over(&mut self) -> String {
        match self.read.fill_buf().await {
            Ok([]) => "the guard has gone away".to_owned(),
            Ok(_) => "the guard talks out of turn".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends a guard that has been replaced; by force if it does not listen.
    pub(super) async fn stop(mut self) {
        let stopping = async {
            self.send(&Request::Stop).await?;
            while self.line().await.is_ok() {}
            Ok::<(), EffectError>(())
        };
        if !matches!(tokio::time::timeout(STOP_MAX, stopping).await, Ok(Ok(()))) {
            self.kill();
        }
    }

    /// Ends it by force.
    pub(super) fn kill(&self) {
        let Some(pid) = self.pid else {
            return;
        };
        // As long as the connection is open, or the child not reaped, the number is its own.
        let killed = pidfd_open(pid, PidfdFlags::empty())
            .and_then(|guard| pidfd_send_signal(&guard, Signal::KILL));
        if let Err(error) = killed {
            tracing::debug!(%error, "cannot kill the guard");
        }
    }
}
