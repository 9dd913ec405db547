# SPDX-License-Identifier: Apache-2.0
"""Who is primary, and who is told."""

from __future__ import annotations

import grpc
import pytest

from p4src.target.arbitration import BACKLOG, Arbitration, Connection
from p4src.target.errors import RefusedError
from p4src.target.messages import StreamRequest

OK, ALREADY_EXISTS = 0, 6


def request(low: int, device: int = 0, high: int = 0) -> object:
    message = StreamRequest()
    message.arbitration.device_id = device
    message.arbitration.election_id.high, message.arbitration.election_id.low = high, low
    return message.arbitration


def told(connection: Connection) -> list[tuple[int, int]]:
    """Codes and the primary's election id in what a client was sent."""
    found = []
    while not connection.outgoing.empty():
        update = connection.outgoing.get_nowait().arbitration
        found.append((update.status.code, update.election_id.low))
    return found


def test_the_highest_election_id_is_primary() -> None:
    arbitration, first, second, third = Arbitration(0), Connection(), Connection(), Connection()
    arbitration.update(first, request(5))
    arbitration.update(second, request(3))
    assert (told(first), told(second)) == ([(OK, 5)], [(ALREADY_EXISTS, 5)])
    arbitration.update(third, request(9))
    assert arbitration.primary is third
    assert [told(c) for c in (first, second, third)] == [[(ALREADY_EXISTS, 9)], [(ALREADY_EXISTS, 9)], [(OK, 9)]]
    arbitration.remove(third)
    assert arbitration.primary is first
    assert (told(first), told(second)) == ([(OK, 5)], [(ALREADY_EXISTS, 5)])


def test_high_half_counts_first() -> None:
    arbitration, first, second = Arbitration(0), Connection(), Connection()
    arbitration.update(first, request(1 << 60))
    arbitration.update(second, request(1, high=1))
    assert arbitration.primary is second


def test_a_client_can_change_its_id() -> None:
    arbitration, first, second = Arbitration(0), Connection(), Connection()
    arbitration.update(first, request(5))
    arbitration.update(second, request(3))
    arbitration.update(second, request(6))
    assert arbitration.primary is second
    arbitration.update(second, request(1))
    assert arbitration.primary is first


def test_refusals() -> None:
    arbitration, first = Arbitration(4), Connection()
    arbitration.update(first, request(5, device=4))
    with pytest.raises(RefusedError, match="another client"):
        arbitration.update(Connection(), request(5, device=4))
    with pytest.raises(RefusedError, match="device 4"):
        arbitration.update(Connection(), request(6))
    role = request(7, device=4)
    role.role.id = 2  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match="roles"):
        arbitration.update(Connection(), role)
    election = request(6).election_id  # type: ignore[attr-defined]
    with pytest.raises(RefusedError) as caught:
        arbitration.check(4, election)
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_client_that_does_not_read_loses_messages_only() -> None:
    connection = Connection()
    sent = [connection.send(n) for n in range(BACKLOG + 1)]
    assert sent[-2:] == [True, False]
