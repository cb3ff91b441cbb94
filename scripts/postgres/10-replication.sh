#!/bin/sh
# For /docker-entrypoint-initdb.d of the official image of PostgreSQL, which lets nobody replicate from another host:
# lets the role replicator do so, with its password.
set -eu
printf 'host replication replicator all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
