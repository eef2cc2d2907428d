//! A connection to a PostgreSQL node, and what its errors mean.
//!
//! One deadline covers TCP connect, TLS, startup and authentication: the library's own
//! `connect_timeout` covers the first of them only, and a frozen server accepts TCP.
//! Start reading at [`Login`]; the meaning of errors is in [`DatabaseError::into_seen`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::DatabaseError;
use crate::config::secret::Secret;
use crate::config::settings::{Database, DatabaseTls, Node};
use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::probes::dial::{DialError, connect_any};
use crate::effects::probes::resolve::Resolver;
use crate::effects::tls;
use crate::model::Moment;

/// What the node shows of us in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "agent";

/// How long a broken connection is given to say why it broke.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What is being waited for at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The TCP connection.
    Connect,
    /// TLS, startup and authentication.
    Startup,
    /// The answer to a reading query.
    Query,
    /// A commit.
    Write,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Startup => "startup",
            Self::Query => "query",
            Self::Write => "write",
        })
    }
}

/// Which node, and as whom. Cheap to clone.
#[derive(Clone)]
pub struct Login {
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    dbname: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    options: String,
    resolver: Resolver,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({self})")
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Login {
    /// Prepares to connect to `node`.
    ///
    /// # Errors
    ///
    /// `Permanent` when TLS is wanted and the authorities cannot be read.
    pub fn new(node: &Node, database: &Database, resolver: &Resolver) -> Result<Self, EffectError> {
        let tls = match &database.tls {
            DatabaseTls::Off => None,
            DatabaseTls::Verify { ca } => Some(tls::client_config(ca.as_deref())?),
        };
        Ok(Self {
            host: node.host.clone(),
            port: node.port,
            user: database.user.clone(),
            password: database.password.clone(),
            dbname: database.dbname.clone(),
            tls,
            options: server_options(database.timing.timeout),
            resolver: resolver.clone(),
        })
    }

    /// Connects and authenticates by `deadline`.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn connect(&self, deadline: Moment) -> Result<Connection, DatabaseError> {
        let stream = self.dial(deadline).await?;
        let timed_out = || DatabaseError::TimedOut {
            phase: Phase::Startup,
        };
        match &self.tls {
            None => before(deadline, self.start(stream, NoTls, SslMode::Disable))
                .await
                .ok_or_else(timed_out)?,
            Some(config) => {
                let mut make = MakeRustlsConnect::new(config.as_ref().clone());
                let connector =
                    MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, &self.host)
                        .map_err(|error| DatabaseError::refuses_us(&error))?;
                before(deadline, self.start(stream, connector, SslMode::Require))
                    .await
                    .ok_or_else(timed_out)?
            }
        }
    }

    async fn dial(&self, deadline: Moment) -> Result<TcpStream, DatabaseError> {
        let addresses = self
            .resolver
            .resolve_or_last(&self.host, deadline)
            .await
            .map_err(|error| DatabaseError::LocalFault {
                why: error.to_string(),
            })?;
        connect_any(&addresses, self.port, deadline)
            .await
            .map_err(|error| match error {
                DialError::Refused => DatabaseError::NothingListens,
                DialError::TimedOut(_) => DatabaseError::TimedOut {
                    phase: Phase::Connect,
                },
                DialError::LocalFault(why) => DatabaseError::LocalFault { why },
                // No route may be the far end's doing as well.
                DialError::NoRoute(why) | DialError::Broken(why) => {
                    DatabaseError::Unreachable { why }
                }
            })
    }

    async fn start<T>(
        &self,
        stream: TcpStream,
        tls: T,
        ssl_mode: SslMode,
    ) -> Result<Connection, DatabaseError>
    where
        T: TlsConnect<TcpStream>,
        T::Stream: Send + 'static,
    {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(&self.dbname)
            .application_name(APPLICATION_NAME)
            .options(&self.options)
            .ssl_mode(ssl_mode);
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        let (client, connection) = config
            .connect_raw(stream, tls)
            .await
            .map_err(|error| DatabaseError::of_startup(&error))?;
        Ok(Connection {
            client: Some(client),
            driver: Driver::start(connection),
        })
    }
}

/// Bounds that the server enforces itself, so that a statement whose client is gone ends too.
///
/// `lock_timeout` is shorter than `statement_timeout`, so that a lock that somebody holds on the
/// heartbeat table is told from a disk that hangs. `synchronous_commit`: see `canary`.
fn server_options(timeout: Duration) -> String {
    let statement_ms = timeout.as_millis().max(2);
    let lock_ms = statement_ms / 2;
    format!(
        "-c statement_timeout={statement_ms} -c lock_timeout={lock_ms} -c synchronous_commit=local"
    )
}

/// An open connection. Dropping it closes it at once; [`Connection::close`] says goodbye first.
#[derive(Debug)]
pub struct Connection {
    /// `Some` until closed.
    client: Option<Client>,
    driver: Driver,
}

impl Connection {
    /// Runs one request on the client, bounded by `deadline`.
    ///
    /// After any error but [`DatabaseError::Server`] the connection must not be used again.
    pub(crate) async fn run<'a, T, F>(
        &'a mut self,
        phase: Phase,
        deadline: Moment,
        request: impl FnOnce(&'a Client) -> F,
    ) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let Some(client) = &self.client else {
            return Err(DatabaseError::Unreachable {
                why: "the connection is closed".to_owned(),
            });
        };
        match before(deadline, request(client)).await {
            None => Err(DatabaseError::TimedOut { phase }),
            Some(Ok(output)) => Ok(output),
            Some(Err(error)) if error.is_closed() => Err(self.driver.why_closed(deadline).await),
            Some(Err(error)) => Err(DatabaseError::of_request(&error, phase)),
        }
    }

    /// Closes the connection in order: the node logs no lost client, no socket lingers. Cut short
    /// at `deadline`.
    pub async fn close(mut self, deadline: Moment) {
        self.client.take();
        // When it does not end in time, dropping it ends it.
        self.driver.ended(deadline).await;
    }
}

/// The task that moves bytes for a [`Client`]; it ends when this is dropped.
#[derive(Debug)]
struct Driver {
    /// `None` once its end has been seen: a handle may not be asked twice.
    task: Option<JoinHandle<Result<(), tokio_postgres::Error>>>,
    abort: AbortHandle,
}

impl Driver {
    #[expect(
        clippy::disallowed_methods,
        reason = "the task belongs to this value and ends with it, so it cannot be forgotten"
    )]
    fn start<T>(connection: tokio_postgres::Connection<TcpStream, T>) -> Self
    where
        T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let task = tokio::spawn(connection);
        Self {
            abort: task.abort_handle(),
            task: Some(task),
        }
    }

    /// How the connection ended, if it does by `deadline`.
    async fn ended(&mut self, deadline: Moment) -> Option<Result<(), tokio_postgres::Error>> {
        let task = self.task.as_mut()?;
        let ended = before(deadline, task).await?;
        self.task = None;
        ended.ok()
    }

    /// The request learns only that the connection is closed; the node's reason is here.
    async fn why_closed(&mut self, deadline: Moment) -> DatabaseError {
        match self.ended(deadline.min(boottime() + LAST_WORDS)).await {
            Some(Err(error)) if !error.is_closed() => {
                DatabaseError::of_request(&error, Phase::Query)
            }
            Some(_) | None => DatabaseError::Unreachable {
                why: "the node closed the connection".to_owned(),
            },
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
