//! What a node's refusal means: SQLSTATE and I/O errors to [`DatabaseSeen`].
//!
//! The cases are those that lead to different actions: alive but full, alive but not ready,
//! refusing us for a fault of configuration, unable to write, gone.
//! Source: PostgreSQL manual, appendix A (error codes).

use std::error::Error as StdError;
use std::io;

use super::client::Phase;
use crate::effects::error::EffectError;
use crate::effects::probes::cut;
use crate::model::observation::{DatabaseSeen, DiskFault, NodeReport};

/// What the operator can do when the node refuses the agent's role.
pub const HINT_GRANTS: &str = "run `agent check --grants` for the SQL that the agent's role needs";

/// Why a node did not do what was asked. The text never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Connection refused.
    #[error("nothing listens")]
    NothingListens,
    /// The deadline came first.
    #[error("no answer in time ({phase})")]
    TimedOut {
        /// While waiting for this.
        phase: Phase,
    },
    /// This host is at fault (S13).
    #[error("{why}")]
    LocalFault {
        /// The error.
        why: String,
    },
    /// The connection broke, or none came about.
    #[error("{why}")]
    Unreachable {
        /// The error.
        why: String,
    },
    /// TLS or authentication did not come about: a fault of configuration.
    #[error("{why}")]
    RefusesUs {
        /// The error.
        why: String,
    },
    /// Somebody's lock is in the way.
    #[error("{why}")]
    Locked {
        /// Who holds it.
        why: String,
    },
    /// The node said no, with a reason.
    #[error("{code}: {message}")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Its message.
        message: String,
        /// What it was asked for.
        phase: Phase,
        /// What the error says of the node's disk.
        fault: Option<DiskFault>,
    },
}

impl DatabaseError {
    /// An error of TLS, startup or authentication.
    pub(super) fn of_startup(error: &tokio_postgres::Error) -> Self {
        if let Some(server) = Self::of_server(error, Phase::Startup) {
            return server;
        }
        match (io_cause(error), error.is_closed()) {
            (Some(cause), _) => Self::Unreachable {
                why: format!("connection broke while starting a session: {cause}"),
            },
            (None, true) => Self::Unreachable {
                why: "the node closed the connection while starting a session".to_owned(),
            },
            // What is left: a certificate, no TLS on the other side, a missing password.
            (None, false) => Self::refuses_us(error),
        }
    }

    /// An error of a running session.
    pub(super) fn of_request(error: &tokio_postgres::Error, phase: Phase) -> Self {
        Self::of_server(error, phase).unwrap_or_else(|| Self::Unreachable { why: chain(error) })
    }

    pub(super) fn refuses_us(error: &(dyn StdError + 'static)) -> Self {
        Self::RefusesUs { why: chain(error) }
    }

    fn of_server(error: &tokio_postgres::Error, phase: Phase) -> Option<Self> {
        let server = error.as_db_error()?;
        Some(Self::Server {
            code: server.code().code().to_owned(),
            message: cut(server.message()),
            phase,
            fault: disk_fault(server.code().code(), server.message()),
        })
    }

    /// True when the connection may be used again.
    #[must_use]
    pub fn leaves_connection_usable(&self) -> bool {
        match self {
            // Class 57P is the server ending the session; class 08 is the session broken.
            Self::Server { code, .. } => !code.starts_with("57P") && !code.starts_with("08"),
            Self::Locked { .. } => true,
            Self::NothingListens
            | Self::TimedOut { .. }
            | Self::LocalFault { .. }
            | Self::Unreachable { .. }
            | Self::RefusesUs { .. } => false,
        }
    }

    /// True for an idle connection that was cut: says nothing of the node until a new one is tried.
    #[must_use]
    pub fn may_be_a_stale_connection(&self) -> bool {
        match self {
            // Also an administrator's pg_terminate_backend looks like this (57P01).
            Self::Server { code, .. } => code.starts_with("57P") || code.starts_with("08"),
            Self::Unreachable { .. } => true,
            Self::NothingListens
            | Self::TimedOut { .. }
            | Self::LocalFault { .. }
            | Self::RefusesUs { .. }
            | Self::Locked { .. } => false,
        }
    }

    /// What a failed connect or read says about the node.
    #[must_use]
    pub fn into_seen(self) -> DatabaseSeen {
        match self {
            Self::NothingListens => DatabaseSeen::NothingListens,
            Self::TimedOut { phase } => timed_out(phase),
            Self::LocalFault { why } => DatabaseSeen::LocalFault { why },
            Self::Unreachable { why } => DatabaseSeen::Unreachable { why },
            Self::RefusesUs { why } => refuses_us(&why),
            Self::Locked { why } => DatabaseSeen::Locked { why },
            Self::Server {
                code,
                message,
                phase,
                fault,
            } => meaning(&code, &message, fault).into_seen(&code, &message, phase),
        }
    }

    /// What a failed write says about a node that could still be read as `report`.
    #[must_use]
    pub fn into_seen_of_write(self, report: NodeReport) -> DatabaseSeen {
        match self {
            Self::Server {
                code,
                message,
                phase,
                fault,
            } => match meaning(&code, &message, fault) {
                // Not one of the cases with a name of their own: the write is what failed.
                Meaning::Other => DatabaseSeen::CannotWrite {
                    report,
                    fault,
                    why: format!("{code}: {message}"),
                },
                named @ (Meaning::TooManyClients
                | Meaning::StartingUp
                | Meaning::ShuttingDown
                | Meaning::RefusesUs
                | Meaning::TimedOut) => named.into_seen(&code, &message, phase),
            },
            Self::NothingListens
            | Self::TimedOut { .. }
            | Self::LocalFault { .. }
            | Self::Unreachable { .. }
            | Self::RefusesUs { .. }
            | Self::Locked { .. } => self.into_seen(),
        }
    }

    /// The failure of an effect that `attempted` something which may be tried again.
    #[must_use]
    pub fn into_effect(self, attempted: &str) -> EffectError {
        let refuses = match &self {
            Self::RefusesUs { .. } => true,
            Self::Server {
                code,
                message,
                fault,
                ..
            } => meaning(code, message, *fault) == Meaning::RefusesUs,
            Self::NothingListens
            | Self::TimedOut { .. }
            | Self::LocalFault { .. }
            | Self::Unreachable { .. }
            | Self::Locked { .. } => false,
        };
        if refuses {
            EffectError::permanent(format!("cannot {attempted}: {self}")).hint(HINT_GRANTS)
        } else {
            EffectError::retryable(format!("cannot {attempted}: {self}"))
        }
    }
}

/// The SQLSTATEs that have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    TooManyClients,
    StartingUp,
    ShuttingDown,
    RefusesUs,
    TimedOut,
    Other,
}

impl Meaning {
    fn into_seen(self, code: &str, message: &str, phase: Phase) -> DatabaseSeen {
        let why = format!("{code}: {message}");
        match self {
            Self::TooManyClients => DatabaseSeen::TooManyClients,
            Self::StartingUp => DatabaseSeen::StartingUp,
            Self::ShuttingDown => DatabaseSeen::ShuttingDown,
            Self::RefusesUs => refuses_us(&why),
            Self::TimedOut => timed_out(phase),
            Self::Other => DatabaseSeen::Unreachable { why },
        }
    }
}

fn meaning(code: &str, message: &str, fault: Option<DiskFault>) -> Meaning {
    match code {
        // Whatever class the node files it under.
        _ if fault.is_some() => Meaning::Other,
        // The node has only this one code for both, so its English text must tell them apart. In
        // another language a shutdown is seen as a start, which also starts nothing by itself.
        // Source: PostgreSQL src/backend/tcop/backend_startup.c, CAC_SHUTDOWN.
        "57P03" if message.contains("shutting down") => Meaning::ShuttingDown,
        "57P03" => Meaning::StartingUp,
        "57P01" | "57P02" => Meaning::ShuttingDown,
        "53300" => Meaning::TooManyClients,
        // 57014: statement_timeout fired in the node itself. 55P03: lock_timeout; `canary` has
        // already told a lock held by a person from one held by a write that hangs.
        "57014" | "55P03" => Meaning::TimedOut,
        // 57P04: the database was dropped.
        "57P04" => Meaning::RefusesUs,
        _ => match code.get(..2) {
            // 28 authorization, 3D/3F no such database or schema, 42 no such table or no right,
            // 0A, 22 and 23: the heartbeat table is not ours. All faults of configuration.
            Some("28" | "3D" | "3F" | "42" | "0A" | "22" | "23") => Meaning::RefusesUs,
            _ => Meaning::Other,
        },
    }
}

/// What an error says of the node's disk.
///
/// A read-only file system comes as 42501, like a missing grant: only the system's text tells them
/// apart. Where it is in another language, what the probe of the data directory sees has to do.
/// Source: PostgreSQL `src/backend/utils/error/elog.c`, `errcode_for_file_access`.
fn disk_fault(code: &str, message: &str) -> Option<DiskFault> {
    if code == "53100" || message.ends_with(": Disk quota exceeded") {
        Some(DiskFault::Full)
    } else if message.ends_with(": Read-only file system") {
        Some(DiskFault::ReadOnly)
    } else {
        None
    }
}

fn refuses_us(why: &str) -> DatabaseSeen {
    DatabaseSeen::RefusesUs {
        why: format!("{why} ({HINT_GRANTS})"),
    }
}

fn timed_out(phase: Phase) -> DatabaseSeen {
    DatabaseSeen::TimedOut {
        phase: phase.to_string(),
    }
}

/// The I/O error at the root, unless it is one that TLS wrapped itself into.
fn io_cause(error: &tokio_postgres::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<io::Error>() {
            let by_tls = io
                .get_ref()
                .is_some_and(|inner| inner.is::<rustls::Error>());
            return (!by_tls).then(|| cut(&io.to_string()));
        }
        cause = source.source();
    }
    None
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    cut(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Lsn, Role, SystemId, Timeline};

    fn report() -> NodeReport {
        NodeReport {
            system_id: SystemId(1),
            role: Role::Primary,
            timeline: Timeline(1),
            lsn: Lsn(1),
            replayed: Lsn(1),
            streaming: false,
            heard: None,
            canary: None,
        }
    }

    fn server(code: &str, message: &str, phase: Phase) -> DatabaseError {
        DatabaseError::Server {
            code: code.to_owned(),
            message: message.to_owned(),
            phase,
            fault: disk_fault(code, message),
        }
    }

    #[test]
    fn every_named_sqlstate_has_its_meaning() {
        let startup = |code, message| server(code, message, Phase::Startup).into_seen();
        assert_eq!(startup("53300", ""), DatabaseSeen::TooManyClients);
        assert_eq!(
            startup("57P03", "the database system is starting up"),
            DatabaseSeen::StartingUp
        );
        assert_eq!(
            startup("57P03", "the database system is shutting down"),
            DatabaseSeen::ShuttingDown
        );
        assert_eq!(startup("57P01", ""), DatabaseSeen::ShuttingDown);
        assert_eq!(startup("57P02", ""), DatabaseSeen::ShuttingDown);
        for code in ["28P01", "28000", "3D000", "42501", "42P01", "57P04"] {
            assert!(
                matches!(startup(code, ""), DatabaseSeen::RefusesUs { .. }),
                "{code}"
            );
        }
        assert_eq!(
            server("57014", "", Phase::Query).into_seen(),
            DatabaseSeen::TimedOut {
                phase: "query".to_owned()
            }
        );
    }

    #[test]
    fn write_that_fails_for_the_nodes_own_reasons_is_cannot_write() {
        for code in ["25006", "53100", "58030", "53200", "XX001"] {
            assert_eq!(
                server(code, "why", Phase::Write).into_seen_of_write(report()),
                DatabaseSeen::CannotWrite {
                    report: report(),
                    fault: (code == "53100").then_some(DiskFault::Full),
                    why: format!("{code}: why"),
                }
            );
        }
    }

    /// Told by a real server, see `tests/node/postgres_faults.rs`.
    #[test]
    fn read_only_file_system_is_no_missing_grant() {
        let text = "could not write to log file 000000010000000000000001 at offset 5373952, \
                    length 8192: Read-only file system";
        let written = server("42501", text, Phase::Write).into_seen_of_write(report());
        let DatabaseSeen::CannotWrite { fault, .. } = written else {
            panic!("{written:?}");
        };
        assert_eq!(fault, Some(DiskFault::ReadOnly));
        let text = "could not open file \"global/2676\": Read-only file system";
        let refused = server("42501", text, Phase::Startup).into_seen();
        assert!(
            matches!(refused, DatabaseSeen::Unreachable { .. }),
            "{refused:?}"
        );
    }

    #[test]
    fn write_refused_for_a_missing_table_or_grant_is_a_fault_of_configuration() {
        for code in ["42P01", "42501", "3F000", "23514"] {
            let seen = server(code, "why", Phase::Write).into_seen_of_write(report());
            assert!(matches!(seen, DatabaseSeen::RefusesUs { .. }), "{code}");
        }
    }
}
