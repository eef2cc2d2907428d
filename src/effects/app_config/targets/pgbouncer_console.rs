//! PgBouncer's admin console: PostgreSQL's protocol, simple queries only.
//!
//! Source: PgBouncer, usage.md, "Admin console": the extended protocol is refused.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::Place;
use crate::config::settings::PgbouncerTarget;
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::effects::postgres::client::APPLICATION_NAME;
use crate::model::Moment;

/// The console's own database.
const CONSOLE: &str = "pgbouncer";

/// Why a command did not do what it should.
#[derive(Debug)]
pub(super) enum ConsoleError {
    /// PgBouncer said no.
    Refused(EffectError),
    /// The deadline came first.
    TimedOut(EffectError),
    /// The connection broke.
    Broken(EffectError),
}

impl From<ConsoleError> for EffectError {
    fn from(error: ConsoleError) -> Self {
        match error {
            ConsoleError::Refused(error)
            | ConsoleError::TimedOut(error)
            | ConsoleError::Broken(error) => error,
        }
    }
}

/// One connection; it ends when this is dropped.
pub(super) struct Console {
    client: Client,
    driver: JoinHandle<()>,
    name: String,
}

impl Console {
    /// Connects and authenticates by `deadline`.
    pub(super) async fn open(
        settings: &PgbouncerTarget,
        place: &Place,
        deadline: Moment,
    ) -> Result<Self, EffectError> {
        let address = &settings.address;
        let failed = || {
            let what = place.says(format!("cannot use PgBouncer's console at {address}"));
            EffectError::retryable(what).hint("is it running, and is user one of its admin_users?")
        };
        let connecting = async {
            if address.starts_with('/') {
                let stream = UnixStream::connect(address).await;
                start(
                    settings,
                    place,
                    stream.map_err(|error| failed().caused_by(error))?,
                )
                .await
            } else {
                let stream = TcpStream::connect(address).await;
                start(
                    settings,
                    place,
                    stream.map_err(|error| failed().caused_by(error))?,
                )
                .await
            }
        };
        let opened = before(deadline, connecting).await;
        opened.unwrap_or_else(|| {
            let what = place.says(format!("PgBouncer's console at {address} is silent"));
            Err(EffectError::retryable(what))
        })
    }

    /// Runs one command; the rows that it shows.
    pub(super) async fn run(
        &self,
        command: &str,
        deadline: Moment,
    ) -> Result<Vec<SimpleQueryRow>, ConsoleError> {
        let what = |why: &str| format!("app config {}: PgBouncer {why} {command}", self.name);
        match before(deadline, self.client.simple_query(command)).await {
            None => Err(ConsoleError::TimedOut(EffectError::retryable(what(
                "does not finish",
            )))),
            Some(Err(error)) => Err(match error.as_db_error() {
                Some(said) => ConsoleError::Refused(EffectError::permanent(format!(
                    "{}: {}",
                    what("refuses"),
                    said.message()
                ))),
                None => ConsoleError::Broken(
                    EffectError::retryable(what("broke off at")).caused_by(error),
                ),
            }),
            Some(Ok(messages)) => Ok(messages.into_iter().filter_map(as_row).collect()),
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({})", self.name)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task belongs to the connection and ends with it, so it cannot be forgotten"
)]
async fn start<S>(
    settings: &PgbouncerTarget,
    place: &Place,
    stream: S,
) -> Result<Console, EffectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = tokio_postgres::Config::new();
    config
        .user(&settings.user)
        .dbname(CONSOLE)
        .application_name(APPLICATION_NAME);
    if let Some(password) = &settings.password {
        config.password(password.reveal());
    }
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| {
        let what = place.says(format!(
            "PgBouncer does not let {} into its console",
            settings.user
        ));
        EffectError::permanent(what)
            .hint("its admin_users, auth_file and password")
            .caused_by(error)
    })?;
    let driver = tokio::spawn(async move {
        // Why it ended is told to whoever asks next.
        drop(connection.await);
    });
    Ok(Console {
        client,
        driver,
        name: place.name.clone(),
    })
}

fn as_row(message: SimpleQueryMessage) -> Option<SimpleQueryRow> {
    let SimpleQueryMessage::Row(row) = message else {
        return None;
    };
    Some(row)
}
