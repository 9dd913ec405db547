# SPDX-License-Identifier: Apache-2.0
"""What the controller does at one switch's agent: wishes and requests in order, and what became of them as events."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.core.events import StateRejected, StateShipped, StateShipRequested
from controller.p4sync import plan
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from controller.p4sync.following import SetVerdict, ShipFlow
from controller.p4sync.plan import Plan
from controller.p4sync.protocol import describe_key

WAITING = 4_096
"""Wishes that may wait for an agent; further ones are rejected."""
SHIP_TIME = 120.0
PATIENCE = 10.0
"""Seconds that connections' state may take; whether a migration waits so long is its service's `state_timeout`."""
MARKER_TIME = 1.0
AGAIN = 1.0
"""Seconds between two attempts to reach an agent that is watched."""

TOGETHER = 256
"""Wishes that are looked at together: flows that take the same way share a session."""
REMEMBERED = 1_024
"""Own jobs that are known again when their results are announced to everybody."""

log = logging.getLogger(__name__)
PLANS: dict[str, Callable[[], Plan]] = {"all": plan.drain, "changes": plan.changes}


class Shipper:
    """One agent as the controller uses it; `go_ahead`, `follow` and `watch` each need a thread, of whatever kind.

    What a cutover waits for never stands behind what only follows.
    """

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
        self._ahead, self._behind = _Lane(queue()), _Lane(queue())
        self._own: deque[str] = deque(maxlen=REMEMBERED)
        self._is_stopped = False

    def add(self, wish: SetVerdict | ShipFlow | StateShipRequested) -> None:
        """Take a wish; it is done after those of its kind before it."""
        is_urgent = isinstance(wish, SetVerdict) or (isinstance(wish, ShipFlow) and wish.is_ahead)
        queue = (self._ahead if is_urgent else self._behind).queue
        if queue.qsize() < WAITING:
            queue.put((self._clock(), wish))
        elif not isinstance(wish, SetVerdict):
            self._reject(wish, f"{WAITING} wishes wait for the agent of {self._switch} already")

    def stop(self) -> None:
        """Let the threads end."""
        self._is_stopped = True
        for lane in (self._ahead, self._behind):
            lane.queue.put((0.0, None))

    # ---- wishes ----

    def go_ahead(self) -> None:
        """Set verdicts, and ship what goes ahead of cutovers."""
        self._work(self._ahead)

    def follow(self) -> None:
        """Ship what follows cutovers, and what is asked for."""
        self._work(self._behind)

    def _work(self, lane: _Lane) -> None:
        while not self._is_stopped:
            waiting = [lane.queue.get()]
            while lane.queue.qsize() and len(waiting) < TOGETHER:
                waiting.append(lane.queue.get())
            for since, wishes in _together(waiting):
                self._try(lane, since, wishes)

    def _try(self, lane: _Lane, since: float, wishes: list[Any]) -> None:
        try:
            self._do(lane, since, wishes)
        except ControlError as error:
            lane.drop()
            for wish in wishes:
                if isinstance(wish, SetVerdict):
                    log.warning("%s: no verdict set: %s", self._switch, error)
                else:
                    self._reject(wish, str(error))

    def _do(self, lane: _Lane, since: float, wishes: list[Any]) -> None:
        """Do wishes that go together: flows that take the same way, or a single wish of another kind."""
        first = wishes[0]
        if isinstance(first, SetVerdict):
            lane.reach(self._path).request("verdict", key=first.key, verdict=int(first.verdict))
            return
        if isinstance(first, StateShipRequested):
            if first.what not in PLANS:
                raise ControlError(f"cannot ship {first.what!r}; choose {' or '.join(PLANS)}")
            wanted, limit = PLANS[first.what](), SHIP_TIME
        else:
            if first.release and not self._is_marked(lane):
                self._sleep(max(0.0, since + self._settle - self._clock()))
            wanted = plan.single_flows([wish.key for wish in wishes], first.release)
            limit = PATIENCE
        done = lane.reach(self._path).ship(first.destination, wanted, limit, begun=self._own.append)
        for wish in wishes:
            self._tell(wish, done)

    def _tell(self, wish: ShipFlow | StateShipRequested, done: dict[str, Any]) -> None:
        """Publish what has become of a wish."""
        label = _label(wish)
        if done["result"] != "committed":
            self._reject(wish, f"{'lost: ' if done['result'] == 'lost' else ''}{done['reason']}")
        elif isinstance(wish, ShipFlow) and describe_key(wish.key) in done["left"]:
            self._reject(wish, f"its entry at {wish.destination} belongs to another flow")
        else:
            facts = (self._clock(), self._switch, wish.destination, done["packets"])
            self._publish(StateShipped(*facts, len(done["left"]), done["seconds"], **label))

    def _is_marked(self, lane: _Lane) -> bool:
        """Send a marker behind the last packets, and wait until the switch has seen it; False: it did not get there."""
        agent = lane.reach(self._path)
        session, token = secrets.randbelow((1 << 32) - 1) + 1, secrets.randbits(64)
        agent.send("marker", session=session, token=token, timeout=MARKER_TIME)
        if not self._send_frame(bytes.fromhex(agent.receive(MARKER_TIME, "answer")["frame"])):
            lane.drop()  # nobody waits for this one
            return False
        try:
            return agent.wait("marked", 2 * MARKER_TIME) is not None
        except ControlError as error:
            log.warning("%s: %s; waiting %g s instead", self._switch, error, self._settle)
            lane.drop()
            return False

    def _reject(self, wish: ShipFlow | StateShipRequested, reason: str) -> None:
        log.warning("%s -> %s: not shipped: %s", self._switch, wish.destination, reason)
        self._publish(StateRejected(self._clock(), self._switch, wish.destination, reason, **_label(wish)))

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


class _Lane:
    """Wishes in order, and a connection to the agent for them."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self._agent: AgentControl | None = None

    def reach(self, path: Path) -> AgentControl:
        """Return the connection, a new one to an agent that was started anew; raises ControlError where none is."""
        if self._agent is not None and not self._agent.is_alive():
            self.drop()
        if self._agent is None:
            self._agent = AgentControl(path)
        return self._agent

    def drop(self) -> None:
        """Begin with another connection next time."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None


def _together(waiting: list[tuple[float, Any]]) -> list[tuple[float, list[Any]]]:
    """Return wishes in order, flows that take the same way in one group; a group's time is that of its newest wish.

    What is behind the end of all work (None) is left out.
    """
    groups: dict[object, tuple[float, list[Any]]] = {}
    for number, (since, wish) in enumerate(waiting):
        if wish is None:
            break
        name = (wish.destination, wish.release) if isinstance(wish, ShipFlow) else number
        _, wishes = groups.get(name, (since, []))
        groups[name] = (since, [*wishes, wish])
    return list(groups.values())


def _label(wish: ShipFlow | StateShipRequested) -> dict[str, Any]:
    if isinstance(wish, ShipFlow):
        return {"connection": wish.connection, "version": wish.version, "ahead": wish.is_ahead}
    return {"request": wish.request}
