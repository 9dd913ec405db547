# SPDX-License-Identifier: Apache-2.0
"""Errors of the ECCP room: what a remote did wrong, and what the user or the caller did wrong."""

from __future__ import annotations

from controller.wire.eccp import MalformedMessage


class EccpError(Exception):
    """Base of this package's errors."""


class RemoteError(EccpError):
    """A datagram that the protocol refuses: forged, replayed, truncated, out of place; state is unchanged.

    ``reason`` is one of a small fixed set of words, fit for a counter's name.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class LocalError(EccpError):
    """The caller asked for something impossible: an unknown flow, a closed connection, an exhausted counter."""


class ConfigError(EccpError):
    """A setting is missing or wrong; the text says the mend."""


__all__ = ["ConfigError", "EccpError", "LocalError", "MalformedMessage", "RemoteError"]
