# SPDX-License-Identifier: Apache-2.0
"""The data path in C (`runs.c`), called through ctypes: lengths are checked there, buffers kept alive here.

What it allocates of its own, AES contexts, belongs to a `Key` and is freed with it.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from controller.eccp.datapath.interface import Labels
from controller.eccp.errors import ConfigError, LocalError
from controller.eccp.keys import Key
from controller.eccp.outputs import Buffer
from controller.wire.eccp import HEADER_SIZE, RESENT, TAG_SIZE, Kind

INTERFACE = 1  # as eccp_interface() in runs.c
VERSION_SIZE = 8
_SIZE, _ADDRESS, _U64 = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint64
_FUNCTIONS = {
    "eccp_interface": (ctypes.c_int, ()),
    "eccp_key_new": (_ADDRESS, (ctypes.c_char_p, _SIZE, ctypes.c_int)),
    "eccp_key_free": (None, (_ADDRESS,)),
    "eccp_seal": (
        ctypes.c_long,
        (_ADDRESS, ctypes.c_uint, ctypes.c_uint, _U64, _U64, _U64, ctypes.c_char_p, _SIZE, ctypes.c_char_p, _SIZE,
         _SIZE, _SIZE, _SIZE, _ADDRESS, _SIZE),
    ),
    "eccp_count_run": (ctypes.c_long, (_ADDRESS, _SIZE, _SIZE)),
    "eccp_open": (ctypes.c_long, (_ADDRESS, ctypes.c_uint, _ADDRESS, _SIZE, _SIZE)),
    "eccp_compact": (ctypes.c_long, (_ADDRESS, _SIZE, _SIZE, _SIZE, _SIZE)),
}  # fmt: skip


class _Context:
    """An AES context; freed with the last reference."""

    __slots__ = ("_free", "address")

    def __init__(self, library: ctypes.CDLL, key: bytes, *, seals: bool) -> None:
        self._free = library.eccp_key_free
        self.address = library.eccp_key_new(key, len(key), seals)
        if not self.address:
            raise LocalError("OpenSSL refuses AES-256-GCM with this key")

    def __del__(self) -> None:
        self._free(self.address)


class InC:
    """Implements `Datapath`."""

    name = "c"

    def __init__(self, path: Path) -> None:
        """Load the library.  Raises `ConfigError` if it is not there or of another version of these sources."""
        mend = "run 'make setup', which compiles it"
        try:
            self._library = ctypes.CDLL(str(path))
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise ConfigError(f"the data path in C cannot be loaded ({error}): {mend}") from error
        found = self._library.eccp_interface()
        if found != INTERFACE:
            raise ConfigError(f"{path} is of another version ({found}, not {INTERFACE}): {mend}")
        self._seal = self._library.eccp_seal
        self._count_run = self._library.eccp_count_run
        self._open = self._library.eccp_open
        self._compact = self._library.eccp_compact

    def _sealer(self, key: Key) -> int:
        context = key.sealer
        if context is None:
            context = key.sealer = _Context(self._library, key.raw, seals=True)
        address: int = context.address
        return address

    def _opener(self, key: Key) -> int:
        context = key.opener
        if context is None:
            context = key.opener = _Context(self._library, key.raw, seals=False)
        address: int = context.address
        return address

    def seal(
        self, key: Key | None, labels: Labels, lead: bytes, frame: bytes, start: int, end: int, piece: int
    ) -> Buffer:
        """See `Datapath.seal`."""
        kind, aux, flow, number, was = labels
        size = end - start
        if not 0 <= start < end or piece < 1:
            raise LocalError("this data cannot be sealed")
        around = HEADER_SIZE + len(lead) + (8 if aux & RESENT else 0) + (TAG_SIZE if key else 0)
        out = bytearray(size + -(-size // piece) * around)
        written = self._seal(
            key and self._sealer(key), kind, aux, flow, number, was, lead, len(lead), frame, len(frame), start, end,
            piece, address_of(out), len(out),
        )  # fmt: skip
        if written != len(out):
            raise LocalError("this data cannot be sealed")
        return out

    def count_run(self, run: memoryview, step: int) -> int:
        """See `Datapath.count_run`."""
        count: int = self._count_run(address_of(run), len(run), step)
        return max(1, count)

    def open(self, key: Key, kind: Kind, run: memoryview, step: int) -> int:
        """See `Datapath.open`."""
        count: int = self._open(self._opener(key), kind, address_of(run), len(run), step)
        return max(0, count)

    def compact(self, run: memoryview, step: int, skip: int, tail: int) -> int:
        """See `Datapath.compact`."""
        size: int = self._compact(address_of(run), len(run), step, skip, tail)
        if size < 0:
            raise LocalError(f"a run of {len(run)} bytes in steps of {step} has nothing between {skip} and {tail}")
        return size


def address_of(buffer: bytearray | memoryview) -> int:
    """Where a writable buffer's bytes are; the caller keeps it alive."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if len(buffer) else 0
