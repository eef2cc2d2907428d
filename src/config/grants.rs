//! The SQL that gives the agent's role what it needs, and nothing else.
//!
//! Everything else that the agent asks (`pg_is_in_recovery`, `pg_control_system`,
//! `pg_control_checkpoint`, `pg_control_recovery`, `pg_current_wal_flush_lsn`, `pg_walfile_name`,
//! `pg_last_wal_receive_lsn`, `pg_last_wal_replay_lsn`) every role may ask.
//! `tests/node/grants.rs` proves against a real pair that each line is needed and that they
//! suffice.
//!
//! Source: PostgreSQL manual 22.5 (predefined roles), 9.27.4 (`pg_promote`), 28.2.4 and 28.2.6
//! (who sees `pg_stat_replication` and `pg_stat_wal_receiver`), and INSERT, "Description" (what
//! `ON CONFLICT DO UPDATE` needs).

use super::Config;

/// Idempotent SQL, to be run by a superuser on the primary, in the database that the agent
/// connects to. It never changes a role that exists already.
#[must_use]
pub fn sql(config: &Config) -> String {
    let database = &config.database;
    // Names were checked to contain no quotes.
    let (user, dbname) = (&database.user, &database.dbname);
    let (schema, table) = database
        .heartbeat_table
        .split_once('.')
        .unwrap_or(("public", &database.heartbeat_table));
    format!(
        r#"-- What the agents of cluster {cluster} need in PostgreSQL. May be run again at any time.
-- Run it once, as a superuser, on the primary; the standby gets it by replication:
--     agent check --grants | psql --dbname {dbname}
-- Then give the role its password, in psql, where it is neither shown nor kept:
--     \password "{user}"
-- and let it in on both nodes, in pg_hba.conf, from both agents and the witness:
--     hostssl  {dbname}  {user}  <address>/32  scram-sha-256

DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{user}') THEN
    CREATE ROLE "{user}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
  END IF;
END
$do$;

-- One row, rewritten all the time by the active site: the proof that commits work. The room left
-- beside it (fillfactor) keeps its versions on its own page.
CREATE SCHEMA IF NOT EXISTS "{schema}";
CREATE TABLE IF NOT EXISTS "{schema}"."{table}" (
  id         smallint    PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  site       text        NOT NULL,
  epoch      bigint      NOT NULL,
  counter    bigint      NOT NULL,
  written_at timestamptz NOT NULL
) WITH (fillfactor = 10);

-- Who streams from this node, and from whom it receives.
GRANT pg_read_all_stats TO "{user}";
-- Promotion by SQL.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer) TO "{user}";
-- The write canary.
GRANT USAGE ON SCHEMA "{schema}" TO "{user}";
GRANT SELECT ON TABLE "{schema}"."{table}" TO "{user}";
GRANT INSERT ON TABLE "{schema}"."{table}" TO "{user}";
GRANT UPDATE ON TABLE "{schema}"."{table}" TO "{user}";
"#,
        cluster = config.cluster,
    )
}
