#!/bin/sh
# For /docker-entrypoint-initdb.d: the lab's roles, database and seeded data, checked against the contract's digest.
# Takes LAB_PASSWORD, REPLICATION_PASSWORD, LAB_SIZE (small or standard); the contract's sql/ is at /lab/sql.
set -eu
: "${LAB_PASSWORD:?}" "${REPLICATION_PASSWORD:?}" "${LAB_SIZE:?}"
sql() { PGOPTIONS='-c client_min_messages=warning' psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --tuples-only --no-align --username "$POSTGRES_USER" "$@"; }

# psql reads the passwords from the environment, so that no process list shows them.
sql --dbname postgres <<'SQL'
\set lab_password `printf %s "$LAB_PASSWORD"`
\set replication_password `printf %s "$REPLICATION_PASSWORD"`
create role lab login password :'lab_password';
create role replicator login replication password :'replication_password';
grant pg_read_all_stats, pg_signal_backend to lab;
create database lab owner lab;
SQL
sql --dbname lab <<'SQL'
create extension if not exists pg_stat_statements;
alter schema public owner to lab;
do $$ declare f regprocedure; begin
  for f in select oid::regprocedure from pg_proc where proname = 'pg_stat_statements_reset' loop
    execute format('grant execute on function %s to lab', f);
  end loop;
end $$;
SQL
sql --dbname lab <<'SQL' >/dev/null
set role lab;
\i /lab/sql/schema.sql
\set sizes `cat /lab/sql/sizes.json`
\set size `printf %s "$LAB_SIZE"`
select set_config('lab.' || key, value, false) from json_each_text(:'sizes'::json -> :'size');
\i /lab/sql/seed.sql
SQL
want=$(sed -nE "s/.*\"$LAB_SIZE\": *\"([0-9a-f]+)\".*/\1/p" /lab/sql/digests.json)
got=$(sql --dbname lab --file /lab/sql/digest.sql | tail -n 1)
if [ "$got" != "$want" ]; then
  echo "20-lab.sh: the seeded rows of size '$LAB_SIZE' have the digest '$got', but digests.json says '$want'" >&2
  exit 1
fi
sql --dbname lab --command 'vacuum (analyze, freeze)'
