# SPDX-License-Identifier: Apache-2.0
"""A switch for one trial: does the userspace datapath work on this machine, with TSO?

Everything runs in new network and process namespaces: when the first process in there ends, so does all of it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from controller.core.errors import BatonError

TIMEOUT = 60
# Two hosts around a bridge; the words after "step" name what failed.
SCRIPT = r"""
set -u
run=$1 prefix=$2
export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run PATH=$prefix/bin:$prefix/sbin:$PATH
fail() { echo "failed: $1"; exit 1; }
ip link set lo up || fail "the loopback interface cannot be set up"
for n in 1 2; do
    ip netns add trial$n 2> $run/err || fail "a network namespace cannot be made ($(tail -n 1 $run/err))"
    ip link add port$n type veth peer name host netns trial$n 2> $run/err || fail "a veth link cannot be made"
    ip -n trial$n address add 10.0.0.$n/24 dev host
    ip -n trial$n link set host up
    ip link set port$n up
    ethtool -K port$n tx off > $run/err 2>&1 || fail "ethtool cannot change offloads ($(tail -n 1 $run/err))"
    ethtool -K port$n tx on > $run/err 2>&1
done
ovsdb-tool create $run/conf.db $prefix/share/openvswitch/vswitch.ovsschema > $run/err 2>&1 || fail "ovsdb-tool"
ovsdb-server $run/conf.db --remote=punix:$run/db.sock --unixctl=$run/db.ctl > $run/err 2>&1 &
n=0
until [ -S $run/db.sock ]; do n=$((n + 1)); [ $n -lt 100 ] || fail "ovsdb-server does not start"; sleep 0.1; done
vsctl() { ovs-vsctl --db=unix:$run/db.sock -t 20 "$@" > $run/err 2>&1 || fail "ovs-vsctl: $(tail -n 1 $run/err)"; }
vsctl --no-wait init -- set Open_vSwitch . other_config:userspace-tso-enable=true
ovs-vswitchd unix:$run/db.sock --unixctl=$run/vs.ctl --log-file=$run/vs.log > $run/err 2>&1 &
vsctl add-br trial -- set bridge trial datapath_type=netdev -- add-port trial port1 -- add-port trial port2
error=$(ovs-vsctl --db=unix:$run/db.sock get interface port1 error)
[ "$error" = "[]" ] || fail "a port cannot be used: $error"
ip netns exec trial2 socat -u TCP-LISTEN:7,reuseaddr OPEN:$run/got,creat &
n=0
until ip netns exec trial1 socat -u OPEN:$run/sent TCP:10.0.0.2:7,connect-timeout=5 2> $run/err; do
    n=$((n + 1)); [ $n -lt 20 ] || fail "no TCP connection through the switch ($(tail -n 1 $run/err))"; sleep 0.2
done
wait %3
cmp -s $run/sent $run/got || fail "the switch forwards TCP wrongly"
grep -o 'Userspace TCP Segmentation Offloading.*' $run/vs.log || true
"""


class TrialError(BatonError):
    """The trial failed; ``mend`` says what to do."""

    def __init__(self, message: str, mend: str) -> None:
        """Keep the mend beside the message."""
        super().__init__(message)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """What the trial showed; ``tso_log`` is the switch's own word on TSO."""

    has_tso: bool
    tso_log: str


def try_switch(prefix: Path, directory: Path) -> TrialFacts:
    """Start a switch between two hosts and send some bytes through; raises TrialError."""
    (directory / "sent").write_bytes(b"baton " * 4096)
    command = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", PREPARE + SCRIPT]
    try:
        done = subprocess.run(
            [*command, "trial", str(directory), str(prefix)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrialError(f"the trial could not be run: {error}", "see 'Datapath' in docs/troubleshooting.md") from error
    if done.returncode != 0:
        reason = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"])[-1]
        raise TrialError(reason.removeprefix("failed: "), "see 'Datapath' in docs/troubleshooting.md")
    log = done.stdout.strip()
    return TrialFacts("enabled" in log.lower(), log or "the switch says nothing of TSO")


# Named namespaces are files under /run/netns: a private one, so that none appears outside.
PREPARE = """
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns || { echo "failed: mount"; exit 1; }
"""
