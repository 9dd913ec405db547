#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the modified Open vSwitch into a private prefix, from the distribution's openvswitch-source and our series.
#
#   build.sh [--prefix DIR] [--work DIR] [--tests] [--upstream-tests] [--force]
#
#   --prefix DIR       where it is installed (default: <repository>/build/ovs); run, log and database directories are inside
#   --work DIR         where it is unpacked and compiled (default: <prefix>-src)
#   --tests            build, then run our .at tests and the upstream suites that cover what the series touches
#   --upstream-tests   build, then run all of upstream's test-suite (long)
#   --force            build again although nothing changed
#
# Environment: OVS_TARBALL (another source tarball), OVS_CFLAGS (default "-O2 -g"), JOBS (default: all processors),
# OVS_TESTS (numbers or "-k KEYWORD" instead of the selection of --tests).
#
# A stamp in the prefix holds the hash of the tarball, the series, the patches and the flags: a second call ends at once.
# Exit status: 0 built (or nothing to do), 1 something failed and the last lines say what to do, 2 wrong usage.

set -u -o pipefail

# What an outer make or whoever called it left open is not for the makes in here: descriptors move the numbers of a jobserver.
unset MAKEFLAGS MFLAGS MAKELEVEL
for descriptor in /proc/$$/fd/*; do
    descriptor=${descriptor##*/}
    [ "$descriptor" -le 2 ] || [ "$descriptor" -eq 255 ] || eval "exec $descriptor>&-"  # 255: bash reads this script there
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$here")
prefix=$repository/build/ovs
work=
run_tests=no
force=no
cflags=${OVS_CFLAGS:--O2 -g}
jobs=${JOBS:-$(nproc)}

say() { printf 'ovs: %s\n' "$*"; }
fail() {  # fail MESSAGE MEND
    printf 'ovs: FAILED: %s\n' "$1" >&2
    printf 'ovs: what to do: %s\n' "$2" >&2
    exit 1
}
usage() { sed -n '5,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

while [ $# -gt 0 ]; do
    case $1 in
        --prefix|--work)
            [ $# -ge 2 ] || { say "$1 needs a directory" >&2; exit 2; }
            case $1 in --prefix) prefix=$2;; --work) work=$2;; esac
            shift;;
        --tests) run_tests=ours;;
        --upstream-tests) run_tests=all;;
        --force) force=yes;;
        -h|--help) usage; exit 0;;
        *) say "unknown argument: $1" >&2; usage >&2; exit 2;;
    esac
    shift
done
prefix=$(realpath -m -- "$prefix")
work=$(realpath -m -- "${work:-$prefix-src}")
case $prefix in
    /|/usr|/usr/local) fail "the prefix $prefix belongs to the system" "choose a private directory with --prefix";;
esac
case "$prefix $work" in *[[:space:]]*[[:space:]]*) fail "a path with blanks cannot be built in" "choose --prefix and --work without blanks";; esac
stamp=$prefix/.baton-stamp
log=$work/build.log
source=$work/openvswitch

# Everything that decides the result goes into one hash.
find_tarball() {
    local candidate
    if [ -n "${OVS_TARBALL:-}" ]; then
        [ -r "$OVS_TARBALL" ] || fail "OVS_TARBALL=$OVS_TARBALL is not readable" "correct the path or unset it"
        printf '%s\n' "$OVS_TARBALL"
        return
    fi
    for candidate in /usr/src/openvswitch/openvswitch.tar.gz /usr/src/openvswitch*.tar.* /usr/src/openvswitch*/*.tar.*; do
        [ -r "$candidate" ] && { printf '%s\n' "$candidate"; return; }
    done
    fail "no openvswitch tarball under /usr/src" "apt-get install --no-install-recommends openvswitch-source"
}
tarball=$(find_tarball) || exit 1
patches=()
while read -r name _; do
    case $name in ''|'#'*) continue;; esac
    [ -r "$here/$name" ] || fail "series names $name, which is not there" "restore the file or take the line out of $here/series"
    patches+=("$name")
done < "$here/series"
configuration=$({ sha256sum < "$tarball"; printf '%s\n' "$cflags" "$prefix"; } | sha256sum | cut -d' ' -f1)
wanted=$(
    {
        printf '%s\n' "$configuration" "${patches[@]}"
        for name in "${patches[@]}"; do sha256sum < "$here/$name"; done
    } | sha256sum | cut -d' ' -f1
)

is_current() { [ "$force" = no ] && [ -x "$prefix/sbin/ovs-vswitchd" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; }

if is_current && [ "$run_tests" = no ]; then
    say "up to date in $prefix"
    exit 0
fi

need() {  # need COMMAND PACKAGE
    command -v "$1" >/dev/null || fail "$1 is not installed" "apt-get install --no-install-recommends $2"
}
need quilt quilt
need make make
need gcc gcc
need automake automake  # the series adds source files
need autoconf autoconf  # and tests
need flock util-linux
python=/usr/bin/python3
[ -x $python ] || python=$(command -v python3) || fail "python3 is not installed" "apt-get install --no-install-recommends python3"

mkdir -p "$prefix" "$work" || fail "cannot write to $prefix or $work" "run as a user who may, or choose --prefix and --work"
exec 9> "$work/.lock"
flock -n 9 || { say "another build is running in $work, waiting for it"; flock 9; }

ticker=
stop_ticker() {
    [ -z "$ticker" ] || { kill "$ticker"; wait "$ticker"; } 2>/dev/null
    ticker=
}
trap stop_ticker EXIT

step() {  # step TEXT MEND COMMAND...
    local text=$1 mend=$2 begin=$SECONDS
    shift 2
    say "$text ..."
    printf '\n==== %s\n' "$text" >> "$log"
    (while sleep 30 > /dev/null 2>&1; do say "$text: $((SECONDS - begin)) s so far"; done) 9>&- &
    ticker=$!
    if ! "$@" >> "$log" 2>&1 9>&-; then
        tail -n 15 "$log" | sed 's/^/    /' >&2
        fail "$text" "$mend; full log: $log"
    fi
    stop_ticker
    say "$text: done ($((SECONDS - begin)) s)"
}

unpack() { rm -rf "$work/unpack" && mkdir "$work/unpack" && tar -C "$work/unpack" -xf "$tarball" && mv "$work"/unpack/* "$work/unpack/new"; }
apply_series() {
    [ ${#patches[@]} -eq 0 ] && return 0
    # The tarball has a debian/patches of its own: quilt is shown only our series.
    cd "$work/unpack/new" || return
    QUILT_PATCHES=$here QUILT_SERIES=$here/series QUILTRC=/dev/null QUILT_PC=.pc quilt push -a
}
# Brings the build tree to what was unpacked and patched.  A tree that was configured alike is kept and only the files that
# changed since are replaced, so that only these are compiled again.  The files are compared with what was put there the
# last time, not with what is there, which automake may have made anew.
update_tree() {
    if [ "$(cat "$work/configured" 2>/dev/null)" != "$configuration" ] || [ ! -e "$work/manifest.json" ]; then
        rm -rf "$source" "$work/configured"
    fi
    "$python" - "$work/unpack/new" "$source" "$work/manifest.json" <<'PYTHON'
import hashlib, json, pathlib, shutil, sys
new, tree, manifest = (pathlib.Path(argument) for argument in sys.argv[1:])
now = {str(path.relative_to(new)): hashlib.sha256(path.read_bytes()).hexdigest()
       for path in new.rglob("*") if path.is_file() and ".pc" not in path.parts}
if not tree.exists():
    manifest.unlink(missing_ok=True)
    shutil.rmtree(new / ".pc", ignore_errors=True)
    new.rename(tree)
    print(f"all {len(now)} files")
else:
    before = json.loads(manifest.read_text()) if manifest.exists() else {}
    for name in sorted(before.keys() - now.keys()):
        (tree / name).unlink(missing_ok=True)
        print("removed", name)
    for name in sorted(name for name in now if before.get(name) != now[name]):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(new / name, tree / name)
        print("changed", name)
manifest.write_text(json.dumps(now))
PYTHON
}
configure() {
    [ -e "$work/configured" ] && [ -e "$source/Makefile" ] && return 0
    cd "$source" && ./configure --prefix="$prefix" --sysconfdir="$prefix/etc" --localstatedir="$prefix/var" \
        --with-rundir="$prefix/var/run/openvswitch" --with-logdir="$prefix/var/log/openvswitch" \
        --with-dbdir="$prefix/etc/openvswitch" PYTHON3="$python" CFLAGS="$cflags" &&
        printf '%s\n' "$configuration" > "$work/configured"
}
# The Makefile first, by itself: config.status, which makes it anew, uses the descriptors 5 and 6 for itself, and where these
# happen to be those of a jobserver of make -j it fails.
compile() { make -C "$source" Makefile && make -C "$source" -j"$jobs"; }
# Installed beside and moved in file by file, so that a switch that runs from this prefix keeps its binaries.
install_private() {
    local stage=$work/stage
    rm -rf "$stage" && make -C "$source" install DESTDIR="$stage" && cp -a --remove-destination "$stage$prefix/." "$prefix/" &&
        mkdir -p "$prefix/var/run/openvswitch" "$prefix/var/log/openvswitch" "$prefix/etc/openvswitch" && rm -rf "$stage" &&
        "$prefix/sbin/ovs-vswitchd" --version
}

build() {
    : > "$log"
    [ "$force" = no ] || rm -f "$work/configured"
    say "building into $prefix (${#patches[@]} patches, $jobs jobs), log $log"
    step "unpack $(basename "$tarball")" "free disk space, or reinstall the package openvswitch-source" unpack
    step "apply the series" "the patches do not fit this version of Open vSwitch: see 'Another version' in ovs_actions/README.md" apply_series
    step "update the build tree" "remove $work and try again" update_tree
    step "configure" "install what is missing: apt-get install --no-install-recommends build-essential libssl-dev" configure
    step "compile" "read the first error in the log" compile
    rm -f "$stamp"
    step "install" "check that $prefix may be written" install_private
    printf '%s\n' "$wanted" > "$stamp"
    rm -rf "$work/unpack"
    say "installed: $("$prefix/sbin/ovs-vswitchd" --version | head -n 1)"
}

# Our test groups and those of upstream that cover what the series touches.
selection=
for keyword in tcp_edit ofp-actions parsing datapath ofproto-dpif ofproto dpif-netdev bundle ptap nsh mpls dpctl learning; do
    selection+=" -k $keyword"
done
test_suite() {
    local flags=$1
    [ -x "$source/vswitchd/ovs-vswitchd" ] || fail "no build tree in $source" "run build.sh --force first"
    # Some tests of upstream expect that nobody answers at an address outside, and on a busy machine some give up
    # waiting: those that fail run once more.
    local isolate=()
    unshare --net true 2>/dev/null && isolate=(unshare --net)
    "${isolate[@]}" sh -c 'ip link set lo up 2>/dev/null; exec "$@"' sh "$python" "$here/reaper.py" \
        make -C "$source" -j"$jobs" check RECHECK=yes TESTSUITEFLAGS="-j$jobs $flags"
}

is_current || build
if [ "$run_tests" != no ]; then
    [ -x "$source/vswitchd/ovs-vswitchd" ] || build
    case $run_tests in
        all) flags=;;
        *) flags=${OVS_TESTS:-$selection};;
    esac
    say "running the test-suite (${flags:-all})"
    step "tests" "see $source/tests/testsuite.log and the directories in $source/tests/testsuite.dir" test_suite "$flags"
    grep -aE '^(All [0-9]+ tests|[0-9]+ tests? (was|were)|ERROR:|[0-9]+ test.* (behaved|passed|failed|skipped))' "$log" | tail -n 5 | sed 's/^/ovs: /'
fi
exit 0
