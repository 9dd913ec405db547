# SPDX-License-Identifier: Apache-2.0
"""What the controller does at one switch's agent: wishes and requests in order, and what became of them as events."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.core.events import StateRejected, StateShipped, StateShipRequested
from controller.p4sync import plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.following import SetVerdict, ShipFlow
from controller.p4sync.plan import Plan

WAITING = 4_096
"""Wishes that may wait for an agent; further ones are rejected."""
SHIP_TIME = 120.0
PATIENCE = 10.0
"""Seconds that a single connection's state may take: its migration does not wait."""
MARKER_TIME = 1.0
AGAIN = 1.0
"""Seconds between two attempts to reach an agent that is watched."""

log = logging.getLogger(__name__)
PLANS: dict[str, Callable[[], Plan]] = {"all": plan.drain, "changes": plan.changes}


class Shipper:
    """One agent as the controller uses it; `work` and `watch` each need a thread, of whatever kind."""

    def __init__(
        self,
        switch: str,
        path: Path,
        publish: Callable[[object], None],
        clock: Callable[[], float],
        queue: Callable[[], Any],
        sleep: Callable[[float], None],
        settle: float,
        send_frame: Callable[[bytes], bool] = lambda frame: False,
    ) -> None:
        """Prepare.

        ``send_frame`` sends a frame towards the switch behind all that was sent there before, and returns whether it
        could; where it cannot, ``settle`` seconds after a cutover the last packets are taken to have passed.
        """
        self._switch, self._path = switch, path
        self._publish, self._clock, self._sleep = publish, clock, sleep
        self._settle, self._send_frame = settle, send_frame
        self._wishes = queue()
        self._own: set[str] = set()
        self._agent: AgentControl | None = None
        self._is_stopped = False

    def add(self, wish: SetVerdict | ShipFlow | StateShipRequested) -> None:
        """Take a wish; it is done after those before it."""
        if self._wishes.qsize() < WAITING:
            self._wishes.put((self._clock(), wish))
        elif not isinstance(wish, SetVerdict):
            self._reject(wish, f"{WAITING} wishes wait for the agent of {self._switch} already")

    def stop(self) -> None:
        """Let both threads end."""
        self._is_stopped = True
        self._wishes.put((0.0, None))

    # ---- wishes ----

    def work(self) -> None:
        """Do one wish after the other."""
        while not self._is_stopped:
            since, wish = self._wishes.get()
            if wish is None:
                return
            try:
                self._do(since, wish)
            except ControlError as error:
                self._drop()
                if isinstance(wish, SetVerdict):
                    log.warning("%s: no verdict set: %s", self._switch, error)
                else:
                    self._reject(wish, str(error))

    def _do(self, since: float, wish: SetVerdict | ShipFlow | StateShipRequested) -> None:
        if isinstance(wish, SetVerdict):
            self._reach().request("verdict", key=wish.key, verdict=int(wish.verdict))
            return
        if isinstance(wish, StateShipRequested):
            if wish.what not in PLANS:
                raise ControlError(f"cannot ship {wish.what!r}; choose {' or '.join(PLANS)}")
            wanted, limit = PLANS[wish.what](), SHIP_TIME
        else:
            if wish.release and not self._is_marked():
                self._sleep(max(0.0, since + self._settle - self._clock()))
            wanted, limit = plan.single_flows([wish.key], wish.release), PATIENCE
        done = self._reach().ship(wish.destination, wanted, limit, begun=self._own.add)
        self._own.discard(done["job"])
        if done["result"] != "committed":
            self._reject(wish, f"{'lost: ' if done['result'] == 'lost' else ''}{done['reason']}")
            return
        label = _label(wish)
        self._publish(
            StateShipped(
                self._clock(),
                self._switch,
                wish.destination,
                done["packets"],
                len(done["left"]),
                done["seconds"],
                **label,
            )
        )

    def _is_marked(self) -> bool:
        """Send a marker behind the last packets, and wait until the switch has seen it; False: it did not get there."""
        agent = self._reach()
        session, token = secrets.randbelow((1 << 32) - 1) + 1, secrets.randbits(64)
        agent.send("marker", session=session, token=token, timeout=MARKER_TIME)
        if not self._send_frame(bytes.fromhex(agent.receive(MARKER_TIME, "answer")["frame"])):
            self._drop()  # nobody waits for this one
            return False
        try:
            return agent.wait("marked", 2 * MARKER_TIME) is not None
        except ControlError as error:
            log.warning("%s: %s; waiting %g s instead", self._switch, error, self._settle)
            self._drop()
            return False

    def _reject(self, wish: ShipFlow | StateShipRequested, reason: str) -> None:
        log.warning("%s -> %s: not shipped: %s", self._switch, wish.destination, reason)
        self._publish(StateRejected(self._clock(), self._switch, wish.destination, reason, **_label(wish)))

    def _reach(self) -> AgentControl:
        if self._agent is None:
            self._agent = AgentControl(self._path)
        return self._agent

    def _drop(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    # ---- what others began ----

    def watch(self) -> None:
        """Publish the results of jobs that were begun by others, as long as the agent can be reached."""
        while not self._is_stopped:
            try:
                with AgentControl(self._path) as agent:
                    agent.request("watch")
                    while not self._is_stopped:
                        self._heard(agent)
            except ControlError as error:
                log.debug("%s: not watched: %s", self._switch, error)
            self._sleep(AGAIN)

    def _heard(self, agent: AgentControl) -> None:
        done = agent.wait("done", AGAIN)
        if done is None or done["job"] in self._own:
            return
        facts = (self._clock(), self._switch, done["to"])
        if done["result"] == "committed":
            self._publish(StateShipped(*facts, done["packets"], len(done["left"]), done["seconds"]))
        else:
            self._publish(StateRejected(*facts, f"{'lost: ' if done['result'] == 'lost' else ''}{done['reason']}"))


def _label(wish: ShipFlow | StateShipRequested) -> dict[str, Any]:
    if isinstance(wish, ShipFlow):
        return {"connection": wish.connection, "version": wish.version}
    return {"request": wish.request}
