# SPDX-License-Identifier: Apache-2.0
"""Two controllers that share their switches: asks who is master, tells the switches, hands an app those that it has.

Elections are ``election``'s, what to tell a switch is ``core.mastership``'s; here is what lies between: transaction
ids, errors, and an app that begins and ends with a switch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from controller.core.mastership import (
    Command,
    Complain,
    Demote,
    Input,
    Mastership,
    Promote,
    RaiseGeneration,
    RequestRole,
    Resign,
    Role,
)
from controller.openflow import messages
from controller.openflow.election import Deposed, Elected, Election, Term

LOG = logging.getLogger("baton.standby")

TICK = 0.02
"""Seconds between two looks at the election: what a dead master's switches wait at most, besides the takeover."""
BAD_REQUEST, IS_SLAVE = 1, 10
ROLE_REQUEST_FAILED, STALE = 11, 0
"""Types and codes of errors (OpenFlow 1.4.0 section 7.5.4)."""


class Tick:
    """It is time to look at the election."""


class Owner(Protocol):
    """The app: what it is told. ``before`` is the term of the master whose place we take."""

    def elected(self, generation: int, before: Term) -> None:
        """This controller is to be master: begin with nothing known."""

    def resigned(self, reason: str) -> None:
        """It is not any more: forget all."""

    def begin(self, channel: Any) -> None:
        """A switch takes our commands from now on."""

    def end(self, channel: Any) -> None:
        """It does not any more."""


@dataclass(slots=True)
class Asked:
    """A switch's connection, and the newest request for a role there."""

    channel: Any
    xid: int = 0
    role: Role = Role.NOCHANGE


class Standby:
    """One controller's part; all of it runs in the app's event loop."""

    def __init__(self, election: Election, owner: Owner, clock: Callable[[], float]) -> None:
        """Begin as a standby."""
        self.mastership = Mastership()
        self.election = election
        self._owner, self._clock = owner, clock
        self._asked: dict[int, Asked] = {}
        self._above: int | None = None

    @property
    def role(self) -> str:
        """What `baton` calls our role."""
        return "master" if self.mastership.elected else "standby"

    def tick(self) -> None:
        """Look at the election; to be called every ``TICK`` seconds."""
        now = self._clock()
        try:
            change = self.election.poll(now)
            above, self._above = self._above, None
            if above is not None and self.mastership.elected:
                self._raise(above, now)
        except OSError as error:  # a full disk: if it lasts, the other controller takes over
            LOG.error("the election cannot go on: %s", error)
            return
        if isinstance(change, Elected):
            self._owner.elected(change.generation, change.before)
            self._do(self.mastership.elect(change.generation))
        elif isinstance(change, Deposed):
            self._resign(f"process {change.by.pid} is master: this one was not heard of for {self.election.lease:g} s")

    def opened(self, channel: Any) -> None:
        """A switch has connected."""
        self._asked[channel.id] = Asked(channel)
        self._do(self.mastership.connected(channel.id))

    def closed(self, channel: Any) -> None:
        """A switch's connection is gone; another one of its may be there already."""
        if self._is_current(channel):
            del self._asked[channel.id]
            self._do(self.mastership.lost(channel.id))

    def answered(self, channel: Any, xid: int, role: int, generation: int) -> None:
        """Take a role reply; one to an older request says nothing."""
        asked = self._asked_by(channel, xid)
        if asked is not None:
            if asked.role in (Role.NOCHANGE, role):
                self._do(self.mastership.answered(channel.id, generation))
            else:
                self._do(self.mastership.handle(channel.id, Input.UNSUPPORTED))

    def told(self, channel: Any, role: int) -> None:
        """Take a role status: somebody's request has changed our role."""
        if self._is_current(channel) and role == Role.SLAVE:
            self._do(self.mastership.handle(channel.id, Input.DEPOSED))

    def refused(self, channel: Any, xid: int, kind: int, code: int) -> bool:
        """Take an error; return whether it was about roles alone."""
        if not self._is_current(channel):
            return False
        if self._asked_by(channel, xid) is not None:
            is_stale = (kind, code) == (ROLE_REQUEST_FAILED, STALE)
            self._do(self.mastership.handle(channel.id, Input.STALE if is_stale else Input.UNSUPPORTED))
            return True
        if (kind, code) == (BAD_REQUEST, IS_SLAVE):
            self._do(self.mastership.handle(channel.id, Input.DEPOSED))
        return False

    def close(self) -> None:
        """Let the other one be elected."""
        self.election.close()

    # ---- commands ----

    def _do(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case RequestRole(switch, role, generation):
                    asked = self._asked[switch]
                    asked.channel.xid = asked.xid = (asked.channel.xid + 1) & 0xFFFFFFFF
                    asked.role = role
                    asked.channel.send(messages.encode_role_request(role, generation, asked.xid))
                case Promote(switch):
                    self._owner.begin(self._asked[switch].channel)
                case Demote(switch):
                    self._owner.end(self._asked[switch].channel)
                case RaiseGeneration(above):
                    self._raise(above, self._clock())
                case Resign(reason):
                    self.election.stand_back(self._clock())
                    self._resign(reason)
                case Complain(text):
                    LOG.error("%s", text)

    def _raise(self, above: int, now: float) -> None:
        """Be elected again with a newer generation; where that has to wait, with the next tick."""
        generation = self.election.raise_above(above, now)
        if generation is None:
            self._above = above
        else:
            self._do(self.mastership.elect(generation))

    def _resign(self, reason: str) -> None:
        if self.mastership.elected:
            self._do(self.mastership.resign())
            self._owner.resigned(reason)

    def _is_current(self, channel: Any) -> bool:
        asked = self._asked.get(channel.id)
        return asked is not None and asked.channel is channel

    def _asked_by(self, channel: Any, xid: int) -> Asked | None:
        """Return the request that a message answers, if it is the newest."""
        asked = self._asked.get(channel.id)
        return asked if asked is not None and asked.channel is channel and asked.xid == xid else None
