//! The guard's ears: one thread that takes pushes and answers them, also while a fence is under
//! way. Who may connect is decided by the state directory's mode.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::protocol::{
    Answer, Greeting, LINE_MAX, PROTOCOL, Request, Verdict, line, lock_path, socket_path,
};
use super::watch::Shared;
use crate::effects::clock::boottime;
use crate::model::Moment;

/// The agent's, its successor's, and somebody who looks.
const CONNECTIONS_MAX: usize = 8;

/// How often a guard that waits for its predecessor's end looks for it.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// How long a guard without an agent waits for its predecessor's end.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How often a guard looks whether there is still something to guard.
const ORPHAN_EVERY: Duration = Duration::from_secs(2);

/// The guard's ears.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    state_dir: PathBuf,
    settings: String,
    lock: File,
    listener: Option<UnixListener>,
    connections: Vec<Connection>,
    deserted_since: Option<Moment>,
    /// Why it could not listen, as it was last said.
    said: Option<String>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Server {
    /// Ears for the agent at the other end of `first`, if there is one.
    pub(super) fn new(
        shared: Arc<Shared>,
        state_dir: &Path,
        settings: String,
        first: Option<UnixStream>,
    ) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(lock_path(state_dir))?;
        let mut server = Self {
            shared,
            state_dir: state_dir.to_path_buf(),
            settings,
            lock,
            listener: None,
            connections: Vec::new(),
            deserted_since: None,
            said: None,
        };
        if let Some(stream) = first {
            server.welcome(stream)?;
        }
        Ok(server)
    }

    /// Serves until the guard is to end; says why it ends.
    pub(super) fn run(&mut self) -> &'static str {
        loop {
            if self.listener.is_none() {
                self.take_over();
            }
            if let Some(why) = self.end() {
                return why;
            }
            self.wait();
            for connection in std::mem::take(&mut self.connections) {
                self.connections.extend(self.serve(connection));
            }
            self.accept();
        }
    }

    /// Becomes the one guard of this state directory once no other is.
    fn take_over(&mut self) {
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        match self.listen() {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                // It is tried again and again: each reason is said once.
                let why = format!("cannot listen: {error}");
                if self.said.as_ref() != Some(&why) {
                    self.shared.log.say(why.clone());
                    self.said = Some(why);
                }
            }
        }
    }

    fn listen(&self) -> io::Result<UnixListener> {
        // By way of the open directory: a socket's path has 107 bytes at most.
        let dir = File::open(&self.state_dir)?;
        let fresh = format!("guard.sock.{}", std::process::id());
        let way = format!("/proc/self/fd/{}/{fresh}", dir.as_raw_fd());
        // What an attempt that failed half-way has left would fail every other one.
        fs::remove_file(&way).ok();
        let listener = UnixListener::bind(way)?;
        listener.set_nonblocking(true)?;
        fs::rename(self.state_dir.join(fresh), socket_path(&self.state_dir))?;
        Ok(listener)
    }

    /// Why to end, if there is a reason to.
    fn end(&mut self) -> Option<&'static str> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Some("another guard has taken over");
        }
        let now = boottime();
        let (until, pending) = {
            let mind = self.shared.mind();
            (mind.writable_until(), mind.fence_pending())
        };
        let idle = !pending && until.is_none();
        if idle && !self.is_ours() {
            return Some("its state directory is gone");
        }
        if self.listener.is_some() || !self.connections.is_empty() {
            self.deserted_since = None;
            return None;
        }
        // The agent died before it had stopped the other guard, which goes on for its successor.
        // Without another one, this one goes on to its deadline, heard or not.
        if !idle && self.is_alone() {
            self.deserted_since = None;
            return None;
        }
        let since = *self.deserted_since.get_or_insert(now);
        (now.since(since) > LOCK_PATIENCE).then_some("another guard is at work")
    }

    /// No other guard has the lock: this one could not listen, or the other is gone.
    fn is_alone(&self) -> bool {
        flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    fn is_ours(&self) -> bool {
        let ours = self.lock.metadata().map(|file| (file.dev(), file.ino()));
        let there = fs::metadata(lock_path(&self.state_dir)).map(|file| (file.dev(), file.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    fn wait(&self) {
        let patience = if self.listener.is_some() {
            ORPHAN_EVERY
        } else {
            LOCK_EVERY
        };
        let listener = self.listener.iter().map(|l| PollFd::new(l, PollFlags::IN));
        let streams = self.connections.iter();
        let mut fds: Vec<_> = streams
            .map(|connection| PollFd::new(&connection.stream, PollFlags::IN))
            .chain(listener)
            .collect();
        poll(&mut fds, Timespec::try_from(patience).ok().as_ref()).ok();
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            if self.connections.len() < CONNECTIONS_MAX {
                // One that is gone already is none.
                self.welcome(stream).ok();
            }
        }
    }

    fn welcome(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let greeting = Greeting {
            protocol: PROTOCOL,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
        };
        (&stream).write_all(&line(&greeting)?)?;
        self.connections.push(Connection {
            stream,
            bytes: Vec::new(),
        });
        Ok(())
    }

    /// Takes what has come on a connection; `None` once it is over.
    fn serve(&self, mut connection: Connection) -> Option<Connection> {
        let mut chunk = [0; 1024];
        loop {
            match connection.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => connection.bytes.extend(chunk.get(..count)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if connection.bytes.len() > LINE_MAX {
                break;
            }
        }
        while let Some(end) = connection.bytes.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = connection.bytes.drain(..=end).collect();
            let request = serde_json::from_slice(&text).ok()?;
            if let Some(answer) = self.take(&request) {
                // It fails when the agent does not read: its end of it.
                connection.stream.write_all(&line(&answer).ok()?).ok()?;
            }
        }
        (connection.bytes.len() <= LINE_MAX).then_some(connection)
    }

    fn take(&self, request: &Request) -> Option<Answer> {
        let (number, verdict) = match *request {
            Request::Push {
                number,
                term,
                armed,
            } => {
                let verdict = self.shared.mind().push(term, armed, boottime());
                (number, verdict)
            }
            Request::Disarm { number } => (number, self.shared.mind().disarm()),
            Request::Look { number } => (number, Verdict::Taken),
            Request::Stop => {
                self.shared.stopping.store(true, Ordering::Release);
                self.shared.wake();
                return None;
            }
        };
        self.shared.wake();
        Some(Answer {
            number,
            verdict,
            state: self.shared.state(),
        })
    }
}
