# SPDX-License-Identifier: Apache-2.0
"""Something breaks at each step of a migration, on the real switch: the connection goes on, every byte accounted for.

The controller halts at the step, something is broken, it goes on; what was broken is mended a moment later. Before the
final flows stand the origin goes on serving. `BATON_EVERY_STEP=1` runs every case; else a third of them, each step and
each fault among them.
"""

import contextlib
import os
import time

import pytest

from controller.core.connection import Phase, State
from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, SERVICES, SETTINGS, Lab
from .test_takeover import OBSERVED_ONLY, PHASES

LATE = tuple(phase.value for phase in (*OBSERVED_ONLY, Phase.COMMITTING))
FULL = bool(os.environ.get("BATON_EVERY_STEP"))
STEPS = {
    "gate": [
        State.HELD.value,
        *(f"{State.MOVING.value}/{phase.value}" for phase in PHASES if phase not in OBSERVED_ONLY),
    ],
    "observe": [f"{State.SERVED.value}/{phase.value}" for phase in PHASES],
}


@contextlib.contextmanager
def silent_target(lab):
    """The target's link is down."""
    interface = lab.net["h2"].intfNames()[0]
    lab.net.run("h2", ["ip", "link", "set", interface, "down"])
    yield
    time.sleep(3)  # longer than any deadline of a migration
    lab.net.run("h2", ["ip", "link", "set", interface, "up"])


@contextlib.contextmanager
def dying_target(lab):
    """The target's process is killed: its kernel ends the half-made connection, and refuses others."""
    lab.stop_server("target")
    yield
    time.sleep(3)
    lab.start_server("target")


@contextlib.contextmanager
def full_table(lab):
    """The switch takes no flow more than it has."""
    flows = lab.net.switch.ofctl("dump-aggregate", "s1", "table=1")
    count = int(flows.partition("flow_count=")[2])
    lab.net.switch.vsctl(
        *f"-- --id=@full create Flow_Table flow_limit={count} overflow_policy=refuse".split(),
        *["--", "set", "bridge", "s1", "flow_tables:1=@full"],
    )
    yield
    time.sleep(1)
    lab.net.switch.vsctl("clear", "bridge", "s1", "flow_tables")


@contextlib.contextmanager
def lost_channel(lab):
    """The switch loses its controller, and keeps its flows."""
    lab.net.switch.vsctl("del-controller", "s1")
    yield
    time.sleep(0.5)
    lab.net.switch.vsctl("set-controller", "s1", lab.net.switch.controller)


@contextlib.contextmanager
def emptied_switch(lab):
    """The switch's daemon is restarted: its flows are gone."""
    lab.net.switch.stop_daemons()
    lab.net.switch.start_daemons()
    yield


FAULTS = {
    "target silent": silent_target,
    "target dies": dying_target,
    "table full": full_table,
    "channel lost": lost_channel,
    "switch emptied": emptied_switch,
}
CASES = [
    (mode, step, fault, bool(number // 3 % 2))
    for number, (mode, step, fault) in enumerate(
        (mode, step, fault)
        for mode, steps in STEPS.items()
        for step in steps
        for fault in FAULTS
        if not (fault == "target dies" and step.endswith(Phase.COMMITTING.value))
    )
    if FULL or number % 3 == 0
]
"""A target that dies in the last step has the connection already: that is a server's failure, not a migration's."""


@pytest.fixture(scope="module", params=["ryu", "os_ken"] if FULL else ["ryu"])
def lab(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("worse")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        yield Lab(net, directory, request.param)


@pytest.mark.parametrize(("mode", "step", "fault", "sent"), CASES)
def test_broken_at(lab, mode, step, fault, sent):
    lab.start()
    lab.doom(step, sent, time.monotonic(), halt=True)
    bulk = lab.bulk(mode)
    if mode == "observe":
        bulk.flows()
        lab.begin(bulk, step)
    lab.wait_halted()
    with FAULTS[fault](lab):
        lab.go_on()
    bulk.flows()
    row = wait_for("the connection", lambda: lab.settled(bulk), DEADLINE)
    # Where it has been asked for proof, its answer may be in hand already when it falls silent.
    is_proven = step.endswith(Phase.PROBING.value) and sent
    if fault in ("target silent", "target dies") and not (is_proven or step.endswith(LATE)):
        assert row.server == SERVICES[mode]
    for server in ("target", SERVICES[mode]):
        if lab.row(bulk).server != server:
            lab.migrate(bulk, server)
            bulk.flows()
    lab.account(bulk)
