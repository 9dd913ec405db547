# SPDX-License-Identifier: Apache-2.0
"""Errors as P4Runtime reports them (specification, section 10).

A failed Write has status UNKNOWN and, in the trailer `grpc-status-details-bin`, a google.rpc.Status with one
p4.v1.Error for each update of the batch, those that succeeded included.
"""

from __future__ import annotations

from typing import NoReturn, Protocol

import grpc

from .messages import Error, Status

Code = grpc.StatusCode
SPACE = "ALL-p4src-target"
TRAILER = "grpc-status-details-bin"


class RefusedError(Exception):
    """A request, or one update of it, that is refused: canonical code and a sentence."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_ARGUMENT, message)


def not_done(what: str) -> RefusedError:
    return RefusedError(Code.UNIMPLEMENTED, f"{what} is not supported by this target")


class Context(Protocol):
    """The part of grpc.ServicerContext used here."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn: ...

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, bytes], ...]) -> None: ...


def number(code: grpc.StatusCode) -> int:
    return int(code.value[0])


def abort_batch(context: Context, outcomes: list[RefusedError | None]) -> NoReturn:
    """End a call whose updates had these outcomes (None: done)."""
    status = Status()
    status.code = number(Code.UNKNOWN)
    status.message = "Failure in one or more updates: see the details"
    for outcome in outcomes:
        error = Error()
        error.space = SPACE
        if outcome is not None:
            error.canonical_code = number(outcome.code)
            error.message = outcome.message
        status.details.add().Pack(error)
    context.set_trailing_metadata(((TRAILER, status.SerializeToString()),))
    context.abort(Code.UNKNOWN, status.message)
