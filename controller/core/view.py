# SPDX-License-Identifier: Apache-2.0
"""What the switch's edits mean, on values: the same rules as the datapath actions (``ovs_actions/README.md``)."""

from __future__ import annotations

from dataclasses import replace

from controller.core import seq
from controller.core.commands import Rewrite
from controller.core.segment import ACK, SYN, Endpoint, Segment


def in_clients_view(segment: Segment, edit: Rewrite) -> Segment:
    """Return a segment as it is after a rewrite: the server's numbers as the client knows them."""
    options, acknowledges = segment.options, bool(segment.flags & ACK)
    ack = segment.ack
    if acknowledges:
        ack = seq.add(ack, edit.ack)
        moved = tuple((seq.add(left, edit.ack), seq.add(right, edit.ack)) for left, right in options.sack)
        options = replace(options, sack=moved)
    stamps = options.timestamps
    if stamps is not None:
        echo = seq.add(stamps.echo, edit.tsecr) if acknowledges else stamps.echo
        options = replace(options, timestamps=stamps._replace(value=seq.add(stamps.value, edit.tsval), echo=echo))
    window = segment.window
    if not segment.flags & SYN:
        shifted = window << edit.window_shift if edit.window_shift >= 0 else window >> -edit.window_shift
        window = min(65_535, shifted) if edit.window is None else edit.window
    return replace(
        segment,
        src=Endpoint(edit.ip_src or segment.src.address, edit.tcp_src or segment.src.port),
        dst=Endpoint(edit.ip_dst or segment.dst.address, edit.tcp_dst or segment.dst.port),
        eth_src=edit.eth_src or segment.eth_src,
        eth_dst=edit.eth_dst or segment.eth_dst,
        ttl=edit.ttl or segment.ttl,
        ip_id=(segment.ip_id + edit.ip_id) & 0xFFFF,
        seq=seq.add(segment.seq, edit.seq),
        ack=ack,
        window=window,
        options=options,
        frame=None,
    )
