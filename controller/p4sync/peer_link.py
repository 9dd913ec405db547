# SPDX-License-Identifier: Apache-2.0
"""The connection of a source's agent to a destination's, kept from session to session: making one costs a quarter of
the time that a single connection's state takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from controller.core.errors import TransitionError
from controller.p4sync import links
from controller.p4sync.errors import PeerError
from controller.p4sync.keys import PrivateKey

WAITING = 16
"""Frames that wait for a connection; of more the oldest are dropped, and asked for again in time."""


class PeerLink:
    """One peer; whoever `attach`es hears what it answers, or why it cannot be reached."""

    def __init__(self, name: str, address: str, own_id: int, key: PrivateKey) -> None:
        """Prepare; the first frame connects."""
        self._name, self._address, self._own_id, self._key = name, address, own_id, key
        self._take: Callable[[links.Frame], None] = _drop
        self._failed: Callable[[str], None] = _drop
        self._link: links.Link | None = None
        self._listening: asyncio.Task[None] | None = None
        self._to_send: deque[links.Frame] = deque(maxlen=WAITING)

    def attach(self, take: Callable[[links.Frame], None], failed: Callable[[str], None]) -> None:
        """Hand answers to `take`, which may raise PeerError, and failures to `failed`, from now on."""
        self._take, self._failed = take, failed
        self._to_send.clear()

    def detach(self) -> None:
        """Let answers that are still on their way be dropped."""
        self._take = self._failed = _drop

    def send(self, frame: links.Frame) -> None:
        """Send a frame, over a new connection if there is none."""
        if self._link is not None:
            self._link.send(frame)
            return
        self._to_send.append(frame)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    def close(self) -> None:
        """Give the connection up; the next frame makes another one."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if self._link is not None:
            self._link.close()
            self._link = None

    async def _listen(self) -> None:
        """Connect, prove who we are, send what waits, and hear the answers until the connection ends."""
        link = None
        try:
            link = await links.connect(self._address)
            challenge = await link.receive()
            if challenge is None or challenge["kind"] != "challenge":
                raise PeerError(f"{self._name}: that is no agent")
            hello = {"challenge": challenge.get("value"), "source": self._own_id}
            link.send(links.signed(self._key, "hello", hello))
            self._link = link
            while self._to_send:
                link.send(self._to_send.popleft())
            while (frame := await link.receive()) is not None:
                self._take(frame)
            raise PeerError(f"{self._name}: its agent has closed the connection")
        except (OSError, TimeoutError, PeerError, TransitionError) as error:
            if self._link is link:
                self._link = None
            text = str(error) or type(error).__name__
            if isinstance(error, OSError):  # TimeoutError is one
                text = f"the agent of {self._name} cannot be reached at {self._address}: {text}"
            self._to_send.clear()
            self._failed(text)
        finally:
            if link is not None:
                link.close()


def _drop(_: object) -> None:
    """Hear nothing."""
