# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in state shipping: one base, and the text says the mend."""

from __future__ import annotations

from controller.core.errors import BatonError, RemoteError


class P4SyncError(BatonError):
    """Base of this room's errors."""


class SettingsError(P4SyncError):
    """An agent's settings, keys or files cannot be used."""


class SwitchError(P4SyncError):
    """A switch refuses, does not answer or is not what it should be; nothing was changed unless the text says so."""


class NotPrimaryError(SwitchError):
    """Another controller is the switch's primary, or there is no connection to it."""


class SwitchRestartedError(SwitchError):
    """The switch has lost its memory since it was last seen."""


class WriteError(SwitchError):
    """Some updates of a batch were refused; ``failures`` are (index of the update, gRPC code, message)."""

    def __init__(self, text: str, failures: tuple[tuple[int, int, str], ...]) -> None:
        """Keep which updates failed beside the sentence."""
        super().__init__(text)
        self.failures = failures


class PeerError(RemoteError):
    """Another agent's message breaks the protocol, or is not by who it should be."""


class ControlError(P4SyncError):
    """An agent cannot be asked, or refuses what it was asked."""
