# SPDX-License-Identifier: Apache-2.0
"""Which TCP options a connection can keep when it moves (RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 3168).

Options are agreed on in the SYNs and cannot be changed later: the target must be offered what the client offered and
the origin agreed to, no more; and must agree to all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.core.errors import NotMigratableError
from controller.core.segment import CWR, ECE, Segment, TcpOptions

TCP_MD5, TCP_AO, MPTCP, FAST_OPEN = 19, 29, 30, 34
DEFAULT_MSS = {4: 536, 6: 1220}
"""What a peer that sends no MSS option accepts (RFC 9293 section 3.7.1), by IP version."""

LARGEST_SCALE = 14
"""What a larger scale counts as (RFC 7323 section 2.3)."""

_END_TO_END = {TCP_MD5: "TCP-MD5", TCP_AO: "TCP-AO"}


def strip_syn(syn: Segment) -> Segment:
    """Return the client's SYN with only what can move: allow-listed options, no data (RFC 7413), no AccECN flag.

    Raises NotMigratableError where an option signs the segments themselves (RFC 2385, RFC 5925).
    """
    for kind, _ in syn.options.others:
        if kind in _END_TO_END:
            raise NotMigratableError("signed", f"{_END_TO_END[kind]} signs each segment end to end")
    if not syn.options.others and not syn.payload:
        return syn
    return replace(syn, options=replace(syn.options, others=()), payload=b"", frame=None)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two ends agreed on: what either may use from then on. ``mss`` is what the accepting end announced."""

    mss: int
    client_mss: int
    window_scale: int | None
    client_window_scale: int | None
    sack: bool
    timestamps: bool
    ecn: bool


def agree(syn: Segment, synack: Segment) -> Agreement:
    """Return what the SYN and the SYN-ACK agree on."""
    offered, answered = syn.options, synack.options
    default = DEFAULT_MSS[6 if ":" in syn.src.address else 4]
    scaled = offered.window_scale is not None and answered.window_scale is not None
    return Agreement(
        mss=answered.mss or default,
        client_mss=offered.mss or default,
        window_scale=min(answered.window_scale or 0, LARGEST_SCALE) if scaled else None,
        client_window_scale=min(offered.window_scale or 0, LARGEST_SCALE) if scaled else None,
        sack=offered.sack_permitted and answered.sack_permitted,
        timestamps=offered.timestamps is not None and answered.timestamps is not None,
        ecn=syn.has(ECE | CWR) and synack.has(ECE) and not synack.has(CWR),
    )


def offer(agreement: Agreement) -> TcpOptions:
    """Return the options of a SYN to a target, timestamps left to the caller, who knows the clock."""
    return TcpOptions(
        mss=agreement.client_mss,
        window_scale=agreement.client_window_scale,
        sack_permitted=agreement.sack,
    )


def check_target(origin: Agreement, target: Agreement) -> None:
    """Raise NotMigratableError if the target did not agree to all that the origin had agreed to.

    The client goes by the origin's word: larger segments, SACK, scaled windows would reach a target that knows none.
    """
    lacks = [
        name
        for name, had, has in (
            ("SACK", origin.sack, target.sack),
            ("timestamps", origin.timestamps, target.timestamps),
            ("window scaling", origin.window_scale is not None, target.window_scale is not None),
            ("ECN", origin.ecn, target.ecn),
        )
        if had and not has
    ]
    if lacks:
        raise NotMigratableError("options", f"the target lacks {', '.join(lacks)}, agreed on with the origin")
    if target.mss < origin.mss:
        raise NotMigratableError("mss", f"the target takes {target.mss} bytes a segment, the client sends {origin.mss}")
