# SPDX-License-Identifier: Apache-2.0
"""What the two session machines are told, as frozen values in the past tense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.p4sync.protocol import Report, Suite
from controller.p4sync.statement import Statement


@dataclass(frozen=True, slots=True)
class Reported:
    """The own switch has answered a token."""

    report: Report


@dataclass(frozen=True, slots=True)
class EntriesWritten:
    """The table entries that the output ``of`` asked for are in the switch."""

    of: Any


@dataclass(frozen=True, slots=True)
class EntriesRefused:
    """They are not (``known``: the switch says so), or nobody knows; ``reason`` says why."""

    of: Any
    reason: str
    known: bool


@dataclass(frozen=True, slots=True)
class SwitchLost:
    """The own switch cannot be reached, or another controller has become its primary."""

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchFound:
    """The own switch is there again; ``same``: with its memory, else it has been started anew."""

    same: bool


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """The time of the last `WakeAt` has come."""


# ---- at the source ----


@dataclass(frozen=True, slots=True)
class Accepted:
    """The destination takes a session of this number; both agents have its keys."""

    session: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The destination's switch hears the session."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The destination does not take it: ``busy`` for now, else at all."""

    reason: str
    busy: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """What the destination's switch has staged; ``gaps`` are (first, length) below ``highest`` (-1: nothing)."""

    count: int
    links: int
    conflicts: int
    highest: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """The destination has decided, and signed it; ``again``: another attempt may go better."""

    committed: bool
    reason: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class PeerFailed:
    """The other agent did not answer, or not properly; asking again is right."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Whoever asked for the session does not want it any more."""

    reason: str


# ---- at the destination ----


@dataclass(frozen=True, slots=True)
class Offered:
    """A source's agent wants to open a session, and has proved who it is."""

    session: int
    nonce: int
    source: int
    suite: Suite
    port: int


@dataclass(frozen=True, slots=True)
class LookAsked:
    """The source asks what is staged of the ``made`` packets it has made."""

    session: int
    made: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """The source's agent has signed this statement; the signature holds."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class DiscardAsked:
    """The source's agent asks to end a session without a commit, and has signed that."""

    session: int
    reason: str
