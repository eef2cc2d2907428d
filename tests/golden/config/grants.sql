-- What the agents of cluster main need in PostgreSQL. May be run again at any time.
-- Run it once, as a superuser, on the primary; the standby gets it by replication:
--     agent check --grants | psql --dbname postgres
-- Then give the role its password, in psql, where it is neither shown nor kept:
--     \password "agent"
-- and let it in on both nodes, in pg_hba.conf, from both agents and the witness:
--     hostssl  postgres  agent  <address>/32  scram-sha-256

DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'agent') THEN
    CREATE ROLE "agent" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
  END IF;
END
$do$;

-- One row, rewritten all the time by the active site: the proof that commits work. The room left
-- beside it (fillfactor) keeps its versions on its own page.
CREATE SCHEMA IF NOT EXISTS "agent";
CREATE TABLE IF NOT EXISTS "agent"."heartbeat" (
  id         smallint    PRIMARY KEY DEFAULT 1 CHECK (id = 1),
  site       text        NOT NULL,
  epoch      bigint      NOT NULL,
  counter    bigint      NOT NULL,
  written_at timestamptz NOT NULL
) WITH (fillfactor = 10);

-- Who streams from this node, and from whom it receives.
GRANT pg_read_all_stats TO "agent";
-- Promotion by SQL.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer) TO "agent";
-- The write canary.
GRANT USAGE ON SCHEMA "agent" TO "agent";
GRANT SELECT ON TABLE "agent"."heartbeat" TO "agent";
GRANT INSERT ON TABLE "agent"."heartbeat" TO "agent";
GRANT UPDATE ON TABLE "agent"."heartbeat" TO "agent";
