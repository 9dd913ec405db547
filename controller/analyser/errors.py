# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with an analyser; every text says what to do."""

from __future__ import annotations

from controller.core.errors import BatonError


class AnalyserError(BatonError):
    """The analyser cannot be started, or has stopped by itself."""


class RulesRefusedError(AnalyserError):
    """The engine does not accept the rules; ``complaints`` holds one sentence per fault, with file and line."""

    def __init__(self, complaints: tuple[str, ...]) -> None:
        """Join the complaints into the error's text."""
        super().__init__("; ".join(complaints))
        self.complaints = complaints
