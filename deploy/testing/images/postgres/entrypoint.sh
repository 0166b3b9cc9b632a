#!/bin/bash
# Makes the database cluster and the database POSTGRES_DB at the first start, then serves them to every host.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="${POSTGRES_USER:-postgres}" --pwfile=<(printf %s "$POSTGRES_PASSWORD") --auth=scram-sha-256
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  sed -i 's/^local.*all.*all.*scram-sha-256/local all all trust/' "$PGDATA/pg_hba.conf"
  pg_ctl --wait --options="-c listen_addresses=''" start
  createdb --username="${POSTGRES_USER:-postgres}" "${POSTGRES_DB:-postgres}" || true
  pg_ctl --wait stop
fi
exec postgres -c listen_addresses='*'
