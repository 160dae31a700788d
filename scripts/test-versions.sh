#!/bin/sh
# Runs the tests of the sources and of the database sink with other versions of the servers than `make test` has:
#
#   scripts/test-versions.sh [postgresql-14 mysql-8.0 …]
#
# Without arguments, all of them: the oldest that are promised to work, and those between them and the ones of `make test`.
set -eu
cd "$(dirname "$0")/.."

all="postgresql-12 postgresql-13 postgresql-14 postgresql-16 postgresql-17 mysql-8.0 mysql-8.4 mariadb-10.5 mariadb-11.8"
failed=
for server in ${*:-$all}; do
    case $server in
    postgresql-*)
        scripts/postgres-version.sh "${server#postgresql-}"
        variable=MAINSTEM_PG_BIN program=bin source=source-postgres ;;
    mysql-*)
        scripts/unpack.sh "$server"
        variable=MAINSTEM_MYSQLD program=bin/mysqld source=source-mysql ;;
    mariadb-*)
        scripts/unpack.sh "$server"
        variable=MAINSTEM_MARIADBD program=bin/mariadbd source=source-mysql ;;
    *)
        echo "test-versions: unknown: $server; there are: $all" >&2
        exit 2 ;;
    esac
    printf '\n==> %s\n' "$server"
    env "$variable=$PWD/.cache/$server/$program" "${CARGO:-cargo}" test --no-fail-fast -p "$source" -p sink-jdbc || failed="$failed $server"
done
if [ -n "$failed" ]; then
    echo "test-versions: failed with:$failed" >&2
    exit 1
fi
printf '\n==> all of it holds\n'
