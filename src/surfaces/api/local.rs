//! The operator's unix socket: whoever may open it may command the agent.
//!
//! Access is by file mode alone (0660, the owner's group), as with PostgreSQL's and Docker's
//! sockets. Start reading at [`LocalSocket::bind`].

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::runtime::http_server::{self, ByteStream, Caller, Door, Limits};

/// Operators and their scripts; each `agent status --watch` holds one.
const LIMITS: Limits = Limits {
    connections: 32,
    head_timeout: Duration::from_secs(30),
    stop_grace: Duration::from_secs(1),
};

/// Why the socket cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum LocalSocketError {
    /// Another agent answers at this path.
    #[error(
        "another agent already listens on {}: stop it first, or give this one another `socket`",
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies at this path.
    #[error(
        "{} is not a socket and is not replaced: move it away, or change `socket`",
        path.display()
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The socket, ready to be served. Its file goes when this does.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file, unless another agent has put its own there meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "cannot remove the operator socket");
        }
    }
}

impl LocalSocket {
    /// Listens on `path`. The directory is made if there is none, a dead agent's socket is
    /// replaced, a living one's is not. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// A living agent, a file that is no socket, or the file system.
    pub fn bind(path: &Path) -> Result<Self, LocalSocketError> {
        let io = |what| move |error| io_error(what, path, error);
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(|error| io_error("create the directory", parent, error))?;
        }
        refuse_what_must_stay(path)?;
        // Bound under another name, given its mode, then renamed: nobody can open it before its
        // mode is right, and an old socket is replaced in one step.
        let fresh = fresh_name(path);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &fresh, error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(io("listen on"))?;
        let inode = fs::symlink_metadata(&fresh).map_err(io("look at"))?.ino();
        fs::set_permissions(&fresh, Permissions::from_mode(0o660))
            .map_err(io("set the mode of"))?;
        fs::rename(&fresh, path).map_err(io("put in place"))?;
        let file = SocketFile {
            path: path.to_path_buf(),
            inode,
        };
        Ok(Self { listener, file })
    }

    /// Serves `router` until `stop`, then removes the socket. Every request carries
    /// [`http_server::Visitor`] with the caller's user and process.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let Self { listener, file } = self;
        http_server::serve(LocalDoor(listener), router, LIMITS, stop).await;
        drop(file);
    }
}

/// The name next to `path` under which the socket is made ready.
fn fresh_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    PathBuf::from(name)
}

fn refuse_what_must_stay(path: &Path) -> Result<(), LocalSocketError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path, error)),
    };
    let path = path.to_path_buf();
    if !kind.is_socket() {
        return Err(LocalSocketError::NotASocket { path });
    }
    match BlockingStream::connect(&path) {
        Ok(_) => Err(LocalSocketError::InUse { path }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Its queue is full: somebody lives there.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(LocalSocketError::InUse { path })
        }
        Err(error) => Err(io_error("look who listens on", &path, error)),
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> LocalSocketError {
    LocalSocketError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}

struct LocalDoor(UnixListener);

#[async_trait]
impl Door for LocalDoor {
    type Raw = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Caller)> {
        let (stream, _) = self.0.accept().await?;
        let caller = stream.peer_cred()?;
        let process = Caller::Process {
            uid: caller.uid(),
            pid: caller.pid(),
        };
        Ok((stream, process))
    }

    async fn prepare(&self, raw: UnixStream, _caller: Caller) -> Option<Box<dyn ByteStream>> {
        Some(Box::new(raw))
    }
}
