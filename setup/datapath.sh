#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Compiles ECCP's data path (controller/eccp/datapath/runs.c) into build/eccp/runs.so. Without it Python does the work.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
log=${1:?usage: datapath.sh LOGFILE}
cc=${CC:-cc}
: > "$log"

fail() { # fail MESSAGE MEND
    printf 'datapath: FAILED: %s\ndatapath: what to do: %s\n' "$1" "$2" >&2
    exit 1
}
command -v "$cc" > /dev/null || fail "there is no C compiler ($cc)" \
    "apt-get install --no-install-recommends build-essential libssl-dev"

mkdir -p "$root/build/eccp"
new=$root/build/eccp/runs.so.$$
trap 'rm -f "$new"' EXIT
# shared code of a running daemon is never written over: the new file takes the old one's name
"$cc" -std=c11 -O2 -Wall -Wextra -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIC -shared -Wl,-z,relro,-z,now \
    -o "$new" "$root/controller/eccp/datapath/runs.c" -lcrypto >> "$log" 2>&1 || {
    tail -n 15 "$log" | sed 's/^/    /' >&2
    fail "runs.c does not compile" \
        "if openssl/evp.h is missing: apt-get install --no-install-recommends libssl-dev; full log: $log"
}
mv -f "$new" "$root/build/eccp/runs.so"
echo "datapath: compiled with $cc"
