# SPDX-License-Identifier: Apache-2.0
"""Reads what `ovs-ofctl -m snoop` printed: which packets the controller got and sent, and when it changed flows.

Every message is a line ``OFPT_NAME (OF1.4) (xid=...): ...`` (the time of `--timestamp` may stand before it); packets
follow as a hex dump. The order is that of the channel; times are left to the captures, which are more exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from demo.capture import TcpPacket, decode_frame

HEADER = re.compile(r"^(?:\S+ \S+: )?((?:OFPT|NXT|OFPST|ONFT)_\w+)(?: \(OF[\d.]+\))?(?: \(xid=\w+\))?:?(.*)")
DUMP = re.compile(r"^[0-9a-f]{8} ((?: ?[0-9a-f]{2}|-[0-9a-f]{2})+)")
FLOW_MOD = re.compile(r"OFPT_FLOW_MOD \(OF[\d.]+\)[^:]*: ((?:ADD|MOD|DEL)\b.*)")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``kind`` is ``packet-in``, ``packet-out`` or ``flow-mod``; ``packet`` is None for the last.

    ``text`` is its first line: of a packet-out the actions, of a flow change the match.
    """

    kind: str
    packet: TcpPacket | None = None
    text: str = ""


def read_messages(lines: Iterable[str]) -> Iterator[Message]:
    """Yield the TCP packets and the flow changes in the order of the channel."""
    name, text, dump = "", "", bytearray()
    for line in [*lines, "OFPT_END:"]:
        if header := HEADER.match(line):
            yield from _message(name, text, bytes(dump))
            (name, text), dump = header.groups(), bytearray()
        elif hexes := DUMP.match(line):
            dump += bytes.fromhex(re.sub("[ -]", "", hexes[1]))
        else:
            text += "\n" + line
        if name != "OFPT_FLOW_MOD" and (change := FLOW_MOD.search(line)):
            yield Message("flow-mod", text=change[1])  # inside a bundle


def _message(name: str, text: str, dump: bytes) -> Iterator[Message]:
    if name == "OFPT_FLOW_MOD":
        yield Message("flow-mod", text=text.strip())
    elif name in ("OFPT_PACKET_IN", "NXT_PACKET_IN", "NXT_PACKET_IN2", "OFPT_PACKET_OUT"):
        inward = name == "OFPT_PACKET_OUT"  # into the switch, seen from the controller
        packet = decode_frame(dump, 0.0, "controller", inward)
        if packet is not None:
            yield Message("packet-out" if inward else "packet-in", packet, text.strip().partition("\n")[0])
