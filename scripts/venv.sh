#!/bin/sh
# Makes .cache/venv hold exactly the packages of scripts/requirements.txt. Quick when it already does.
set -eu
cd "$(dirname "$0")/.."
venv=.cache/venv
stamp=$venv/requirements.txt
if [ -x $venv/bin/python ] && cmp -s scripts/requirements.txt $stamp; then
    exit 0
fi
echo "venv: installing into $venv (nothing outside it is touched):"
sed -n 's/^\([a-z].*\)/  \1/p' scripts/requirements.txt
python3 -m venv --clear $venv
$venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
cp scripts/requirements.txt $stamp
