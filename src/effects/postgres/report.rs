//! What a node says of itself, in one round trip that works on a primary and on a standby, from
//! PostgreSQL 12 to 18, for a role that is a member of `pg_monitor`.

use std::time::Duration;

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::client::{Connection, Phase};
use super::failure::DatabaseError;
use crate::model::observation::NodeReport;
use crate::model::{Lsn, Moment, Role, SystemId, Timeline};

/// Every function and view that this module reads: what the agent's role must be allowed to.
///
/// All but the last two are executable by everybody by default; the details in the two views are
/// shown to members of `pg_monitor` (`pg_read_all_stats`) only, and without them `streaming` is
/// false. Source: PostgreSQL manual 28.2 and 9.27; `pg_proc.proacl` of a fresh cluster.
pub const READS: &[&str] = &[
    "pg_is_in_recovery()",
    "pg_control_system()",
    "pg_control_checkpoint()",
    "pg_control_recovery()",
    "pg_walfile_name(pg_lsn)",
    "pg_current_wal_flush_lsn()",
    "pg_last_wal_receive_lsn()",
    "pg_last_wal_replay_lsn()",
    "pg_stat_activity",
    "pg_stat_replication",
    "pg_stat_wal_receiver",
];

/// `OFFSET 0` keeps the role from being read twice: it may change in between. It changes only from
/// standby to primary, and what is asked of a standby is answered by a primary too.
///
/// Timeline of a primary: from the WAL file it writes, because the control file says the old one
/// until the first checkpoint after a promotion. Of a standby: the newest of what it has received,
/// replayed to, and checkpointed; the receiver's row vanishes with its primary.
///
/// `datid IS NULL`: a physical standby's sender belongs to no database; a logical subscriber's does
/// and is no standby.
const REPORT: &str = "\
SELECT node.standby, system.system_identifier, \
 CASE WHEN node.standby THEN lpad(to_hex(greatest(\
   checkpoint.timeline_id, recovery.min_recovery_end_timeline, \
   (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))), 8, '0') \
 ELSE left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END, \
 CASE WHEN node.standby THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
 ELSE pg_current_wal_flush_lsn() END, \
 CASE WHEN node.standby THEN pg_last_wal_replay_lsn() END, \
 CASE WHEN node.standby THEN \
   EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming') \
 ELSE EXISTS (SELECT FROM pg_catalog.pg_stat_replication AS sender \
   JOIN pg_catalog.pg_stat_activity AS activity USING (pid) \
   WHERE sender.state = 'streaming' AND activity.datid IS NULL) END, \
 CASE WHEN node.standby THEN (SELECT (extract(epoch FROM \
   clock_timestamp() - last_msg_receipt_time) * 1000)::bigint \
   FROM pg_catalog.pg_stat_wal_receiver) END \
FROM (SELECT pg_is_in_recovery() AS standby OFFSET 0) AS node, \
 pg_control_system() AS system, pg_control_checkpoint() AS checkpoint, \
 pg_control_recovery() AS recovery";

/// Asks the node what it is. `canary` is left empty.
///
/// # Errors
///
/// [`DatabaseError`].
pub async fn report(
    connection: &mut Connection,
    deadline: Moment,
) -> Result<NodeReport, DatabaseError> {
    let messages = connection
        .run(Phase::Query, deadline, |client| client.simple_query(REPORT))
        .await?;
    first_row(&messages).and_then(read_row).ok_or_else(nonsense)
}

/// Asks only whether the node is still in recovery.
///
/// # Errors
///
/// [`DatabaseError`].
pub async fn in_recovery(
    connection: &mut Connection,
    deadline: Moment,
) -> Result<bool, DatabaseError> {
    let messages = connection
        .run(Phase::Query, deadline, |client| {
            client.simple_query("SELECT pg_is_in_recovery()")
        })
        .await?;
    first_row(&messages)
        .and_then(|row| row.try_get(0).ok().flatten())
        .map(|value| value == "t")
        .ok_or_else(nonsense)
}

fn first_row(messages: &[SimpleQueryMessage]) -> Option<&SimpleQueryRow> {
    messages.iter().find_map(|message| {
        if let SimpleQueryMessage::Row(row) = message {
            Some(row)
        } else {
            None
        }
    })
}

fn nonsense() -> DatabaseError {
    DatabaseError::Unreachable {
        why: "the node's answer makes no sense".to_owned(),
    }
}

fn read_row(row: &SimpleQueryRow) -> Option<NodeReport> {
    let field = |index: usize| row.try_get(index).ok().flatten();
    let role = match field(0)? {
        "t" => Role::Standby,
        "f" => Role::Primary,
        _ => return None,
    };
    // PostgreSQL shows this unsigned number as a signed one.
    let system_id = SystemId(field(1)?.parse::<i64>().ok()?.cast_unsigned());
    let timeline = Timeline(u32::from_str_radix(field(2)?, 16).ok()?);
    let lsn: Lsn = field(3)?.parse().ok()?;
    let replayed = match role {
        Role::Primary => lsn,
        Role::Standby => field(4)?.parse().ok()?,
    };
    Some(NodeReport {
        system_id,
        role,
        timeline,
        lsn,
        replayed,
        streaming: field(5)? == "t",
        heard: field(6)
            .and_then(|millis| millis.parse().ok())
            .map(Duration::from_millis),
        canary: None,
    })
}
