# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the project: one base, and whose fault it is.

Facts are attributes, text is ``str(error)``.
"""

from __future__ import annotations


class BatonError(Exception):
    """Base of everything that the project raises on purpose."""


class RemoteError(BatonError):
    """Bytes from outside (a packet, an alert, a message of a peer) that break their format or protocol."""


class LocalError(BatonError):
    """A call that breaks the rules of the room called: a fault of our own."""


class TransitionError(LocalError):
    """A state machine was given an input that its table does not list for its state."""

    def __init__(self, state: object, event: object) -> None:
        """Remember the pair that the table lacks."""
        super().__init__(f"no transition from {state} on {event}")
        self.state = state
        self.event = event


class ConfigError(BatonError):
    """Settings that cannot work; the text says where and how to mend them."""


class NotMigratableError(BatonError):
    """A connection that cannot move, or a server that cannot take it over; ``reason`` is one word for logs."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the machine-readable ``reason`` beside the sentence ``detail``."""
        super().__init__(detail)
        self.reason = reason
