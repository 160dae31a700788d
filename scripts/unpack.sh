#!/bin/sh
# Unpacks the programs of a database server into a folder of .cache, for tests to start in temporary folders:
#
#   scripts/unpack.sh mariadb         MariaDB of this Debian             -> .cache/mariadb, 200 MB
#   scripts/unpack.sh mysql           MySQL of Debian unstable (9.x)     -> .cache/mysql, 400 MB
#   scripts/unpack.sh mariadb-10.5    of Debian 11                       -> .cache/mariadb-10.5
#   scripts/unpack.sh mariadb-11.8    of Debian 13                       -> .cache/mariadb-11.8
#   scripts/unpack.sh mysql-8.0       of Ubuntu 24.04                    -> .cache/mysql-8.0
#   scripts/unpack.sh mysql-8.4       of Ubuntu 26.04                    -> .cache/mysql-8.4
#
# Nothing is installed: the packages (with all that they depend on, down to the C library) are downloaded and unpacked, no script of theirs
# runs, no user and no service is made, and a database server that this machine has is neither used nor touched. Needs apt-get and dpkg, but
# not root. Does nothing when the folder is complete; `make clean-cache` removes it. MAINSTEM_MYSQLD or MAINSTEM_MARIADBD may name a server
# program of another version for the tests to use, and then nothing is downloaded.
set -eu
cd "$(dirname "$0")/.."

mirror() { # the machine's own mirror of Debian, else the usual one
    own=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | head -n 1)
    echo "${own:-http://deb.debian.org/debian}"
}

name=${1-} suites= suffix=
case $name in
mariadb) own=${MAINSTEM_MARIADBD-} ;;
mysql) own=${MAINSTEM_MYSQLD-} suites=unstable ;;
mariadb-10.5) own= suites=bullseye suffix=-10.5 ;;
mariadb-11.8) own= suites=trixie ;;
mysql-8.0) own= suites="noble noble-updates" suffix=-8.0 ;;
mysql-8.4) own= suites="resolute resolute-updates" ;;
*)
    echo "unpack: unknown: $name; there are: mariadb, mysql, mariadb-10.5, mariadb-11.8, mysql-8.0, mysql-8.4" >&2
    exit 2 ;;
esac
case $name in
mariadb*)
    variable=MAINSTEM_MARIADBD
    programs="mariadbd mariadb mariadb-binlog mariadb-dump mariadb-admin"
    packages="mariadb-server-core$suffix mariadb-client-core$suffix"
    # These come without what they depend on: plug-ins for passwords and mariadb-binlog are in the packages with the service.
    alone="mariadb-server$suffix mariadb-client$suffix" ;;
mysql*)
    variable=MAINSTEM_MYSQLD
    programs="mysqld mysql mysqlbinlog mysqldump mysqladmin"
    packages="mysql-server-core$suffix mysql-client-core$suffix" alone= ;;
esac
if [ -n "$own" ]; then exit 0; fi
root=$PWD/.cache/$name
if [ -e "$root/complete" ]; then exit 0; fi
for needed in apt-get dpkg; do
    if ! command -v $needed >/dev/null 2>&1; then
        echo "unpack: this machine has no $needed. Install $name by hand, and name its server program in the variable $variable." >&2
        exit 1
    fi
done

echo "unpack: $name: downloading its Debian packages into $root (nothing is installed, nothing outside that folder is touched)"
rm -rf "$root"
mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial" "$root/apt/sources" "$root/bin"
: >"$root/apt/status"
sources=
[ -z "$suites" ] || sources="Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"$root/apt/sources\";"
# An empty list of installed packages: so what they depend on comes too, and the machine's own packages stay out of it.
cat >"$root/apt/apt.conf" <<END
Dir::State::lists "$root/apt/lists";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt";
$sources
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
END
export APT_CONFIG="$root/apt/apt.conf"
use() { # URI, suites, components, keys: where packages come from, unless it is the machine's own mirror
    [ -z "$suites" ] || cat >"$root/apt/sources/used.sources" <<END
Types: deb
URIs: $1
Suites: $2
Components: $3
Signed-By: $4
END
    # An error may be of a list that has nothing to do with this; if it has, the download fails.
    apt-get -qq update || echo "unpack: $name: apt-get update had errors, going on" >&2
}
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg
case $name in
mysql-*)
    # Debian has Ubuntu's keys in a package.
    use "$(mirror)" unstable main $debian_keys
    (cd "$root/apt/archives" && apt-get -qq download ubuntu-keyring && dpkg -x ubuntu-keyring_*.deb "$root/apt" && rm ./*.deb)
    use http://archive.ubuntu.com/ubuntu "$suites" "main universe" "$root/apt/usr/share/keyrings/ubuntu-archive-keyring.gpg" ;;
*) use "$(mirror)" "$suites" main $debian_keys ;;
esac
# shellcheck disable=SC2086 # lists
(
    cd "$root/apt/archives"
    apt-get -qq -y --download-only install $packages >/dev/null
    [ -z "$alone" ] || apt-get -qq download $alone
)
for package in "$root"/apt/archives/*.deb; do
    dpkg -x "$package" "$root"
done
rm -rf "$root/apt" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale"

# They run with the C library that came with them, whichever the machine has.
within() { find "$root" -path "$root/$1" | head -n 1 | cut -c "$((${#root} + 1))-"; }
loader=$(within '*/ld-linux*.so.*')
libraries=$(dirname "$(within '*/libc.so.6')")
for program in $programs; do
    case $program in
    mysqld) more='"--basedir=$root/usr" "--lc-messages-dir=$root/usr/share/mysql" --secure-file-priv=NULL' ;;
    mariadbd) more='"--basedir=$root/usr" "--lc-messages-dir=$root/usr/share/mysql" "--plugin-dir=$root/usr/lib/mysql/plugin"' ;;
    *) more= ;;
    esac
    cat >"$root/bin/$program" <<END
#!/bin/sh
root=\${0%/bin/*}
exec "\$root$loader" --library-path "\$root$libraries:\$root/usr/lib/$(basename "$libraries")" \\
    "\$root$(within "usr/*bin/$program")" "\$@" $more
END
    chmod +x "$root/bin/$program"
done
: >"$root/complete"
echo "unpack: $name: $(du -sm "$root" | cut -f 1) MB in $root"
