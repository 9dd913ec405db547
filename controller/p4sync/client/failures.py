# SPDX-License-Identifier: Apache-2.0
"""gRPC's and P4Runtime's errors as this room's: what happened, to whom, and the mend."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError

from controller.p4sync.client.messages import Error, Status
from controller.p4sync.errors import NotPrimaryError, SwitchError, WriteError

TRAILER = "grpc-status-details-bin"
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED.value[0]


def failures_of(error: grpc.RpcError) -> tuple[tuple[int, int, str], ...]:
    """Return (index, code, message) of the updates that a failed Write says were refused; none if it does not say.

    The codes are in google.rpc.Status in the trailers, one p4.v1.Error for each update (P4Runtime section 10).
    """
    trailers = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for name, value in trailers or ():
        if name != TRAILER:
            continue
        try:
            status = Status.FromString(value)
            found = []
            for index, detail in enumerate(status.details):
                one = Error()
                if detail.Unpack(one) and one.canonical_code:
                    found.append((index, one.canonical_code, one.message))
            return tuple(found)
        except DecodeError:
            return ()
    return ()


def describe(name: str, what: str, error: grpc.RpcError) -> SwitchError:
    """Return this room's error for a failed call; ``what`` was to be done at the switch ``name``."""
    code, details = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return NotPrimaryError(f"{name}: {what}: another controller is its primary; stop it, or wait")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SwitchError(f"{name}: {what}: no answer in time; is the switch overloaded or stopped?")
    if code is grpc.StatusCode.UNAVAILABLE:
        return SwitchError(f"{name}: {what}: the switch cannot be reached ({details}); start it")
    failures = failures_of(error)
    if failures:
        if all(failure[1] == PERMISSION_DENIED for failure in failures):
            return NotPrimaryError(f"{name}: {what}: another controller is its primary; stop it, or wait")
        words = "; ".join(f"update {index}: {_code(number)} {text}".rstrip() for index, number, text in failures[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        return WriteError(f"{name}: {what}: {words}{more}", failures)
    return SwitchError(f"{name}: {what}: {code.name} {details}".rstrip())


def _code(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), str(number))
