#!/bin/sh
# A streaming replica: copies the primary at PRIMARY_HOST into an empty PGDATA, then is postgres with the arguments given.
# Takes REPLICATION_PASSWORD. Runs as the image's user postgres.
set -eu
: "${PGDATA:?}" "${PRIMARY_HOST:?}" "${REPLICATION_PASSWORD:?}"
# Written last by the copy: without it, what is there is half a copy.
if [ ! -s "$PGDATA/standby.signal" ]; then
  find "$PGDATA" -mindepth 1 -delete
  chmod 700 "$PGDATA"
  PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup --pgdata "$PGDATA" --host "$PRIMARY_HOST" --username replicator \
    --wal-method stream --checkpoint fast --no-password --write-recovery-conf
fi
exec postgres "$@"
