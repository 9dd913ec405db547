# SPDX-License-Identifier: Apache-2.0
"""Errors of the ECCP room: what a remote did wrong, and what the user or the caller did wrong."""

from __future__ import annotations

from controller.core import errors as core
from controller.wire.eccp import MalformedMessageError


class RefusedError(core.RemoteError):
    """A datagram that the protocol refuses: forged, replayed, truncated, out of place; state is unchanged.

    ``reason`` is one of a small fixed set of words, fit for a counter's name; ``detail`` is for a log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep the word and the sentence apart."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


LocalError = core.LocalError
ConfigError = core.ConfigError

__all__ = ["ConfigError", "LocalError", "MalformedMessageError", "RefusedError"]
