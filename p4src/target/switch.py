# SPDX-License-Identifier: Apache-2.0
"""What happens to a packet between the generated functions: traffic manager, clones, recirculation (as simple_switch).

One thread calls `receive` and `again`. Egress follows ingress at once, so there is no egress queue that could
overflow; what recirculates or is resubmitted waits until `again` takes it, as much as bmv2's input buffer takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from .program import DROP_PORT
from .replication import Replica, Replication
from .translate import Pipeline, Rare

NORMAL, INGRESS_CLONE, RECIRCULATED, REPLICATED, RESUBMITTED = 0, 1, 4, 5, 6
QUEUE = 1024
"""Recirculated and resubmitted packets that may wait; more are dropped and counted."""

START = time.monotonic_ns() // 1000
Kept = tuple[int, ...] | None
DigestHandler = Callable[[int, tuple[int, ...]], None]


class Switch:
    """A running program and its ports. `output` of a port not there: the packet is dropped and counted.

    Times are microseconds since the start, as bmv2's.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        replication: Replication,
        outputs: Mapping[int, Callable[[bytes], None]],
        on_digest: DigestHandler,
    ) -> None:
        self.pipeline = pipeline
        self.replication = replication
        self.dropped = 0
        self._ingress, self._reparse, self._egress = pipeline.ingress, pipeline.reparse, pipeline.egress
        self._outputs = outputs
        self._on_digest = on_digest
        self._again: deque[tuple[bytes, int, int, int, Kept]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether packets wait for another pass."""
        return bool(self._again)

    def receive(self, port: int, frame: bytes) -> None:
        """A packet arrives at a port."""
        self._process(frame, port, port, NORMAL, time.monotonic_ns() // 1000 - START, None)

    def again(self) -> None:
        """One pass of a packet that was recirculated or resubmitted, the oldest first."""
        frame, port, seen_port, kind, kept = self._again.popleft()
        self._process(frame, port, seen_port, kind, 0, kept)

    def _process(self, frame: bytes, port: int, seen_port: int, kind: int, now: int, kept: Kept) -> None:
        """One pass. `port`: where the packet came in once; `seen_port`: what the program sees, 0 in a later pass."""
        out, group, rare, state = self._ingress(frame, len(frame), seen_port, kind, now, kept)
        if rare is not None and self._beside(rare, frame, port):
            return
        if group:
            for replica in self.replication.groups.get(group, ()):
                self._leave(state, replica.port, REPLICATED, replica.instance, port)
        elif out != DROP_PORT:
            self._leave(state, out, NORMAL, 0, port)

    def _beside(self, rare: Rare, frame: bytes, port: int) -> bool:
        """Clone, digest, resubmission. True: the packet itself goes no further."""
        if rare.clone:
            replicas: tuple[Replica, ...] = self.replication.sessions.get(rare.clone - 1, ())
            if replicas:
                state = self._reparse(frame, len(frame), port, rare.clone_kept)
                for replica in replicas:
                    self._leave(state, replica.port, INGRESS_CLONE, replica.instance, port)
        if rare.digest:
            self._on_digest(rare.digest[0], rare.digest[1:])
        if rare.resubmit:
            self._enqueue((frame, port, 0, RESUBMITTED, rare.resubmit_kept))
            return True
        return False

    def _leave(self, state: object, port: int, kind: int, instance: int, entered: int) -> None:
        made = self._egress(state, port, kind, instance, time.monotonic_ns() // 1000 - START)
        if made is None:
            return
        frame, recirculate, kept = made
        if recirculate:
            self._enqueue((frame, entered, 0, RECIRCULATED, kept))
            return
        output = self._outputs.get(port)
        if output is None:
            self.dropped += 1
        else:
            output(frame)

    def _enqueue(self, packet: tuple[bytes, int, int, int, Kept]) -> None:
        if len(self._again) < QUEUE:
            self._again.append(packet)
        else:
            self.dropped += 1
