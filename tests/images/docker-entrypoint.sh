#!/bin/sh
# As the official image does: makes a database when there is none, then becomes the server.
# POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB (or each with _FILE), and PGDATA.
set -eu

# The variable's value, or the content of the file that NAME_FILE names, or the default.
value() {
    eval "file=\${${1}_FILE:-} given=\${$1:-}"
    if [ "$file" ]; then cat "$file"; else echo "${given:-$2}"; fi
}

make_database() {
    user=$(value POSTGRES_USER postgres)
    database=$(value POSTGRES_DB "$user")
    password=$(value POSTGRES_PASSWORD '')
    if [ -z "$password" ]; then
        echo "docker-entrypoint.sh: set POSTGRES_PASSWORD" >&2
        exit 1
    fi
    echo "$password" >/tmp/password
    initdb --pgdata "$PGDATA" --username "$user" --pwfile /tmp/password --encoding UTF8 \
        --auth-local trust --auth-host scram-sha-256 --no-instructions
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    if [ "$database" != postgres ]; then
        name=$(echo "$database" | sed 's/"/""/g')
        echo "CREATE DATABASE \"$name\"" | postgres --single -D "$PGDATA" postgres >/dev/null
    fi
}

case ${1:-} in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" = postgres ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" 2>/dev/null || true
    [ -s "$PGDATA/PG_VERSION" ] || (umask 077 && make_database)
    shift
    set -- postgres -c listen_addresses='*' "$@"
fi
exec "$@"
