#!/bin/sh
# Installs Debian packages that are missing, and says which and why.
#
#   scripts/install.sh postgres15 cc venv strace openssl
#
# Nothing is installed that is already there. Needs root or sudo only when something is missing.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo "$@"
    else
        echo "install: this needs root or sudo: $*" >&2
        exit 1
    fi
}

updated=no
install() { # package, why
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "install: missing: $1 ($2). This machine has no apt-get: install it by hand and run this again." >&2
        exit 1
    fi
    echo "install: $1 is missing; installing it from Debian: $2"
    if [ $updated = no ]; then
        as_root apt-get -qq update
        updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o Dpkg::Options::=--force-confold install "$1" >/dev/null
}

for what in "$@"; do
    case $what in
    cargo)
        if ! command -v cargo >/dev/null 2>&1; then
            echo "install: Rust is missing (1.95 or later). Install it from https://rustup.rs and run this again." >&2
            exit 1
        fi ;;
    cc)
        command -v cc >/dev/null 2>&1 || install gcc "SQLite, zstd and the TLS library are C code"
        [ -e /usr/include/stdlib.h ] || install libc6-dev "headers for that C code" ;;
    cxx) command -v c++ >/dev/null 2>&1 || install g++ "the library that finds inputs for fuzz targets is C++ code" ;;
    postgres15)
        if [ ! -x /usr/lib/postgresql/15/bin/initdb ]; then
            # The package would otherwise create and start a cluster of its own on port 5432. We only want the programs.
            if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
                as_root mkdir -p /etc/postgresql-common
                echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
            fi
            install postgresql-15 "a private PostgreSQL in a temporary folder; no cluster is created or touched"
        fi ;;
    venv)
        python3 -c 'import venv, ensurepip' 2>/dev/null || install python3-venv "pinned Python packages in .cache/venv, nowhere else" ;;
    strace) command -v strace >/dev/null 2>&1 || install strace "tests that make a disk fail" ;;
    openssl) command -v openssl >/dev/null 2>&1 || install openssl "tests that need a TLS certificate" ;;
    sqlite-dev) [ -e /usr/include/sqlite3.h ] || install libsqlite3-dev "the C program that the SQLite sink is measured against" ;;
    mariadb-dev) command -v mariadb_config >/dev/null 2>&1 || install libmariadb-dev "the C program that the MySQL source is measured against" ;;
    fio) command -v fio >/dev/null 2>&1 || install fio "writes that the log is measured against" ;;
    java)
        command -v java >/dev/null 2>&1 || install default-jre-headless "the Kafka broker that the log is measured against"
        command -v mvn >/dev/null 2>&1 || install maven "that broker's jars, downloaded into .cache/kafka" ;;
    *)
        echo "install: unknown: $what" >&2
        exit 2 ;;
    esac
done
