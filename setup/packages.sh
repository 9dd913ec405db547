#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages of packages.txt and Suricata. Needs root only if something is missing.
# Services that come with them (redis, suricata) are neither started nor enabled. The machine's APT sources are not
# changed: where Suricata is only in the backports, a source for them is derived from the machine's own for this call.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
log=${1:?usage: packages.sh LOGFILE}
: > "$log"

say() { printf 'packages: %s\n' "$*"; }
fail() { # fail MESSAGE MEND
    printf 'packages: FAILED: %s\npackages: what to do: %s\n' "$1" "$2" >&2
    exit 1
}
is_installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

command -v apt-get > /dev/null || fail "this is not a Debian system (no apt-get)" \
    "use Debian 12, or install what $here/packages.txt lists by other means and touch build/.packages"

missing=
for package in $(sed 's/#.*//' "$here/packages.txt"); do
    is_installed "$package" || missing="$missing $package"
done
analyser=yes
command -v snort > /dev/null || command -v suricata > /dev/null || analyser=no
[ -n "$missing" ] || [ $analyser = no ] || { say "all there"; exit 0; }

[ "$(id -u)" = 0 ] || fail "packages are missing:$missing $([ $analyser = yes ] || echo suricata)" "run 'sudo make setup'"
! is_installed openvswitch-switch || say "note: Debian's openvswitch-switch is installed; it is not used"

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
quietly() { # quietly WHAT MEND COMMAND...
    what=$1 mend=$2
    shift 2
    "$@" >> "$log" 2>&1 || { tail -n 15 "$log" | sed 's/^/    /' >&2; fail "$what" "$mend; full log: $log"; }
}

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
own_policy=no
cleanup() {
    rm -rf "$work"
    [ $own_policy = no ] || rm -f $policy
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Asked by the packages' own scripts before they start a service; 101 means: do not.
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
    own_policy=yes
fi

install_all() { # install_all [OPTION...] PACKAGE...
    if apt-get install --simulate "$@" | grep -q '^Inst openvswitch-switch '; then
        fail "APT would install openvswitch-switch, which starts a switch of its own" "report this with $log"
    fi
    apt-get install -y "$@"
}

say "read the package lists ..."
quietly "apt-get update" "check the network and the sources in /etc/apt" apt-get -o Acquire::Retries=3 update
if [ -n "$missing" ]; then
    say "install$missing ..."
    # a list of words
    # shellcheck disable=SC2086
    quietly "apt-get install" "see the messages above" \
        install_all -o Acquire::Retries=3 -o APT::Install-Recommends=false $missing
fi

# The first source of the running release's main component, as "URI keyring".
main_source() {
    codename=$1
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' |
        awk -v release="$codename" '$1 == release && $2 == "main" { print $3, $4; exit }'
}

install_suricata() {
    candidate=$(apt-cache policy suricata | sed -n 's/^  Candidate: //p')
    if [ -n "$candidate" ] && [ "$candidate" != "(none)" ] && ! apt-cache madison suricata | grep -q backports; then
        install_all -o APT::Install-Recommends=false suricata
        return
    fi
    # only on the machine
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    if ! apt-cache madison suricata | grep -q "$codename-backports"; then
        # two words
        # shellcheck disable=SC2046
        set -- $(main_source "$codename")
        [ -n "${1:-}" ] || { echo "no source of $codename/main found" >&2; return 1; }
        keyring=${2:-}
        case $keyring in /*) ;; *) keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;; esac
        mkdir "$work/sources.list.d" "$work/lists"
        [ ! -d /etc/apt/sources.list.d ] || cp -a /etc/apt/sources.list.d/. "$work/sources.list.d"
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\nSigned-By: %s\n' \
            "$1" "$codename" "$keyring" > "$work/sources.list.d/baton-backports.sources"
        chmod -R a+rX "$work"
        set -- -o "Dir::Etc::SourceParts=$work/sources.list.d" -o "Dir::State::Lists=$work/lists"
        apt-get "$@" -o Acquire::Retries=3 update
    else
        set --
    fi
    install_all "$@" -o APT::Install-Recommends=false "suricata/$codename-backports" "libhtp2/$codename-backports"
}

if [ $analyser = no ]; then
    say "install suricata ..."
    quietly "installing suricata" "install Snort or Suricata yourself ('suricata' must be on the PATH), then try again" \
        install_suricata
fi

# At the next boot neither would be wanted either: tests and demo start their own.
for service in redis-server suricata; do
    if command -v systemctl > /dev/null && [ -d /run/systemd/system ]; then
        case " $missing suricata " in *" $service "*) systemctl disable --quiet "$service" >> "$log" 2>&1 || true ;; esac
    fi
done
say "done"
