#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes .venv from Debian's Python (it must see Debian's mininet module) and installs requirements.txt into it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
log=${1:?usage: python.sh LOGFILE}
exec 9> "$log.lock"
flock 9 # 'make demo' and 'make test' in two terminals must not fill one environment at the same time
: > "$log"
venv=$root/.venv
python=/usr/bin/python3

say() { printf 'python: %s\n' "$*"; }
fail() { # fail MESSAGE MEND
    printf 'python: FAILED: %s\npython: what to do: %s\n' "$1" "$2" >&2
    exit 1
}
quietly() { # quietly WHAT MEND COMMAND...
    what=$1 mend=$2
    shift 2
    "$@" >> "$log" 2>&1 || { tail -n 15 "$log" | sed 's/^/    /' >&2; fail "$what" "$mend; full log: $log"; }
}

[ -x $python ] || fail "$python is missing" "apt-get install --no-install-recommends python3 python3-venv"
version=$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python $version is too old" "use Debian 12 or newer: Python 3.11 at least is needed"

if [ -e "$venv" ] && ! "$venv/bin/python" -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '$version'.split('.'))))" 2> /dev/null; then
    say "the virtual environment is not of Python $version: making it anew"
    rm -rf "$venv"
fi
if [ ! -e "$venv/bin/pip" ]; then
    say "make .venv (Python $version) ..."
    quietly "making the virtual environment" "apt-get install --no-install-recommends python3-venv" \
        $python -m venv --clear --system-site-packages "$venv"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
mend="check the network and that pip reaches a package index"
say "install what requirements.txt pins ..."
# A pip that knows --build-constraint; Ryu's build is the one reason (see requirements/build.txt).
quietly "installing pip" "$mend" pip install "$(grep '^pip==' "$root/requirements/constraints.txt")"
cd "$root"
quietly "installing requirements.txt" "$mend" \
    pip install --build-constraint requirements/build.txt --constraint requirements/constraints.txt -r requirements.txt
say "done: $("$venv/bin/python" -c 'from controller.openflow.choice import choose; print(choose())') on Python $version"
