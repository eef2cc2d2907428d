//! The write canary: one small committed write, the only proof that a primary still works.
//!
//! A node with a full or hung disk accepts connections and answers reads. The canary also leaves
//! the epoch in the database, so that a later writer can see that it is late (S8).

use std::time::Duration;

use tokio_postgres::types::Type;

use super::client::{APPLICATION_NAME, Connection, Phase};
use super::failure::DatabaseError;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::{Epoch, Moment, SiteName};

/// The table that canaries are written into, checked and quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatTable {
    quoted: String,
}

impl HeartbeatTable {
    /// Takes `schema.table` from the settings.
    ///
    /// # Errors
    ///
    /// `Permanent` when it is not two plain names.
    pub fn new(name: &str) -> Result<Self, EffectError> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match name.split_once('.') {
            Some((schema, table)) if plain(schema) && plain(table) => Ok(Self {
                quoted: format!("\"{schema}\".\"{table}\""),
            }),
            _ => Err(EffectError::permanent(format!(
                "cannot use {name:?} as heartbeat table: not of the form schema.table"
            ))
            .hint("use letters, digits and underscores, e.g. agent.heartbeat")),
        }
    }

    /// The name as SQL takes it.
    #[must_use]
    pub fn quoted(&self) -> &str {
        &self.quoted
    }

    /// The SQL that creates the table. The agent never runs it by itself: a table that is missing
    /// after a failover means that something is badly wrong.
    #[must_use]
    pub fn create_sql(&self) -> String {
        // One row that changes all the time: room beside it keeps its updates on its own page.
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n    \
             id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),\n    \
             site text NOT NULL,\n    \
             epoch bigint NOT NULL,\n    \
             counter bigint NOT NULL,\n    \
             written_at timestamptz NOT NULL\n\
             ) WITH (fillfactor = 10)",
            self.quoted
        )
    }

    /// What the agent's role must be granted on the table.
    pub const PRIVILEGES: &'static [&'static str] = &["SELECT", "INSERT", "UPDATE"];
}

/// A committed canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// How long the commit took.
    pub took: Duration,
    /// The highest epoch that was ever written; higher than one's own means one is late (S8).
    pub epoch: Epoch,
    /// Grows by one with each canary of any site.
    pub counter: i64,
}

/// Writes the canary of `site` under `epoch` and commits it.
///
/// The row keeps the highest epoch: a late writer's canary still proves the disk, but cannot
/// bring an old epoch back.
///
/// The session runs with `synchronous_commit = local`, see `client`: a commit that waits for a
/// synchronous standby proves nothing about this node's disk, and must not make the loss of a
/// standby look like the death of its primary.
///
/// # Errors
///
/// [`DatabaseError`]; [`DatabaseError::Locked`] when a person's lock is in the way.
pub async fn write_canary(
    connection: &mut Connection,
    table: &HeartbeatTable,
    site: &SiteName,
    epoch: Epoch,
    deadline: Moment,
) -> Result<Canary, DatabaseError> {
    let sql = format!(
        "INSERT INTO {table} AS old (id, site, epoch, counter, written_at) \
         VALUES (1, $1, $2, 1, clock_timestamp()) \
         ON CONFLICT (id) DO UPDATE SET \
         site = CASE WHEN excluded.epoch >= old.epoch THEN excluded.site ELSE old.site END, \
         epoch = greatest(old.epoch, excluded.epoch), \
         counter = old.counter + 1, written_at = excluded.written_at \
         RETURNING epoch, counter",
        table = table.quoted
    );
    let began = boottime();
    let epoch = i64::try_from(epoch.0).unwrap_or(i64::MAX);
    let name = site.as_str();
    // A statement outside a transaction block is committed before its answer arrives.
    let written = connection
        .run(Phase::Write, deadline, async |client| {
            client
                .query_typed(&sql, &[(&name, Type::TEXT), (&epoch, Type::INT8)])
                .await
        })
        .await;
    let rows = match written {
        Ok(rows) => rows,
        Err(error) => return Err(blame_lock(error, connection, table, deadline).await),
    };
    let took = boottime().since(began);
    let read = || -> Option<Canary> {
        let row = rows.first()?;
        Some(Canary {
            took,
            epoch: Epoch(u64::try_from(row.try_get::<_, i64>(0).ok()?).ok()?),
            counter: row.try_get(1).ok()?,
        })
    };
    read().ok_or_else(|| DatabaseError::RefusesUs {
        why: format!("{} is not the agent's heartbeat table", table.quoted),
    })
}

/// Tells a table locked by a person (a fault of use, not an outage) from a row held by an earlier
/// canary that hangs in its commit (exactly the outage that the canary is for).
async fn blame_lock(
    error: DatabaseError,
    connection: &mut Connection,
    table: &HeartbeatTable,
    deadline: Moment,
) -> DatabaseError {
    let timed_out_on_a_lock =
        matches!(&error, DatabaseError::Server { code, .. } if code == "55P03");
    if !timed_out_on_a_lock {
        return error;
    }
    // Writers take RowExclusiveLock on the table; only these modes keep a writer out.
    const HOLDERS: &str = "SELECT string_agg(DISTINCT coalesce(nullif(activity.application_name, \
        ''), 'pid ' || held.pid), ', ') \
        FROM pg_catalog.pg_locks AS held LEFT JOIN pg_catalog.pg_stat_activity AS activity \
        USING (pid) WHERE held.granted AND held.relation = to_regclass($1) \
        AND held.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
        'AccessExclusiveLock') AND activity.application_name IS DISTINCT FROM $2";
    let quoted = table.quoted.as_str();
    let holders = connection
        .run(Phase::Query, deadline, async |client| {
            client
                .query_typed(
                    HOLDERS,
                    &[(&quoted, Type::TEXT), (&APPLICATION_NAME, Type::TEXT)],
                )
                .await
        })
        .await
        .ok()
        .and_then(|rows| rows.first()?.try_get::<_, Option<String>>(0).ok()?);
    match holders {
        Some(who) => DatabaseError::Locked {
            why: format!("{quoted} is locked by {who}"),
        },
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeat_table_takes_plain_names_only() {
        assert_eq!(
            HeartbeatTable::new("agent.heartbeat").unwrap().quoted(),
            "\"agent\".\"heartbeat\""
        );
        for wrong in [
            "heartbeat",
            "a.b.c",
            ".b",
            "a.",
            "a.b\"c",
            "a. b",
            "a.b;drop",
        ] {
            assert!(HeartbeatTable::new(wrong).is_err(), "{wrong}");
        }
    }
}
