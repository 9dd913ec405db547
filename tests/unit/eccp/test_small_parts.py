# SPDX-License-Identifier: Apache-2.0
"""Replay window, RTT, cookies, amplification budget, ring, scheduler, settings."""

import pytest

from controller.eccp.budget import MAX_PLACES, Budget
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.cookie import LIFETIME, CookieJar
from controller.eccp.daemon_settings import load_identity, load_psk, parse_identity, parse_inner, parse_target
from controller.eccp.errors import ConfigError
from controller.eccp.flow import Flow
from controller.eccp.names import FlowState
from controller.eccp.replay import WINDOW, ReplayWindow
from controller.eccp.ring import Ring, SentFrame
from controller.eccp.rtt import MAX_TIMEOUT, MIN_TIMEOUT, Rtt
from controller.eccp.scheduler import Policy, choose, hash_inner
from controller.eccp.simulation import make_settings
from controller.eccp.slices import Cut
from controller.wire.eccp import Address, Syn


class TestReplayWindow:
    def test_a_number_is_fresh_once(self) -> None:
        window = ReplayWindow()
        assert window.is_fresh(0)
        window.mark(0)
        assert not window.is_fresh(0)
        assert window.is_fresh(1)

    def test_what_is_below_the_window_is_not_fresh(self) -> None:
        window = ReplayWindow()
        window.mark(WINDOW + 5)
        assert window.is_fresh(6)
        assert not window.is_fresh(5)

    def test_a_jump_forgets_nothing_that_matters(self) -> None:
        window = ReplayWindow()
        window.mark(3)
        window.mark(2**64 - 1)
        assert not window.is_fresh(3)
        assert not window.is_fresh(2**64 - 1)
        assert window.is_fresh(2**64 - 2)

    def test_runs_agree_with_single_numbers(self) -> None:
        window = ReplayWindow()
        window.mark(10, 5)
        assert [n for n in range(8, 18) if window.is_fresh(n)] == [8, 9, 15, 16, 17]
        assert window.is_fresh_run(15, 3)
        assert not window.is_fresh_run(14, 2)
        assert window.is_fresh_run(8, 2)
        assert not window.is_fresh_run(8, 3)


class TestRtt:
    def test_first_sample(self) -> None:
        rtt = Rtt().with_sample(0.1)
        assert (rtt.smoothed, rtt.variation) == (0.1, 0.05)
        assert rtt.timeout() == pytest.approx(0.3)

    def test_smoothing_follows_rfc_6298(self) -> None:
        rtt = Rtt().with_sample(0.1).with_sample(0.2)
        assert rtt.smoothed == pytest.approx(0.1125)
        assert rtt.variation == pytest.approx(0.0625)

    def test_backoff_doubles_up_to_a_ceiling_and_has_a_floor(self) -> None:
        rtt = Rtt().with_sample(0.001)
        assert rtt.timeout() == MIN_TIMEOUT
        assert rtt.timeout(2) == 4 * MIN_TIMEOUT
        assert rtt.timeout(1000) == MAX_TIMEOUT

    def test_negative_samples_are_ignored(self) -> None:
        assert Rtt().with_sample(-1) == Rtt()


class TestCookie:
    syn = Syn(0, 5, 1, b"", b"noise")
    source = Address("192.0.2.1", 99)

    def _with(self, cookie: bytes, **changes: object) -> Syn:
        fields = {"service": 0, "flow": 5, "version": 1, "noise": b"noise", **changes}
        return Syn(cookie=cookie, **fields)  # type: ignore[arg-type]

    def test_good_for_its_maker_and_time(self) -> None:
        jar = CookieJar(b"k" * 32)
        cookie = jar.bake(self.syn, self.source, 100.0)
        assert jar.is_good(self._with(cookie), self.source, 100.0)
        assert jar.is_good(self._with(cookie), self.source, 100.0 + LIFETIME)
        assert not jar.is_good(self._with(cookie), self.source, 100.0 + 2 * LIFETIME)

    def test_bad_for_anybody_else(self) -> None:
        jar = CookieJar(b"k" * 32)
        cookie = jar.bake(self.syn, self.source, 100.0)
        assert not jar.is_good(self._with(cookie), Address("192.0.2.2", 99), 100.0)
        assert not jar.is_good(self._with(cookie), Address("192.0.2.1", 98), 100.0)
        assert not jar.is_good(self._with(cookie, flow=6), self.source, 100.0)
        assert not jar.is_good(self._with(cookie, noise=b"other"), self.source, 100.0)
        assert not jar.is_good(self._with(b""), self.source, 100.0)
        assert not CookieJar(b"x" * 32).is_good(self._with(cookie), self.source, 100.0)


class TestBudget:
    def test_three_times_what_came(self) -> None:
        budget = Budget()
        assert not budget.spend("a", 1)
        budget.received("a", 100)
        assert budget.spend("a", 299)
        assert not budget.spend("a", 2)
        assert budget.spend("a", 1)
        assert budget.left("b") == 0

    def test_places_are_bounded(self) -> None:
        budget = Budget()
        for place in range(MAX_PLACES + 1):
            budget.received(place, 1)
        assert budget.left(0) == 0
        assert budget.left(MAX_PLACES) == 3


class TestRing:
    def _frame(self, at: float, size: int = 10, epoch: int = 0) -> SentFrame:
        return SentFrame(int(at), Cut(b"", b"", 0, 1, 0), size, at, epoch)

    def test_bounded_in_bytes(self) -> None:
        ring = Ring(limit=25)
        for at in range(5):
            ring.push(self._frame(at))
        assert len(ring) == 2
        assert ring.bytes == 20

    def test_since_gives_oldest_first_and_each_epoch_once(self) -> None:
        ring = Ring()
        for at in range(5):
            ring.push(self._frame(at, epoch=1 if at == 3 else 0))
        assert [frame.sent_at for frame in ring.since(2, 1)] == [2, 4]


def _flow(number: int, **changes: object) -> FlowEntry:
    entry = FlowEntry(number, Connection(1, True, 0))
    entry.flow = Flow(state=FlowState.ESTABLISHED)
    entry.keys_out = object()  # type: ignore[assignment]
    for name, value in changes.items():
        setattr(entry, name, value)
    return entry


def _packet(last: int) -> bytes:
    return bytes([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, last]) + bytes(20)


class TestScheduler:
    def test_primary_then_backup(self) -> None:
        backup, primary = _flow(1, is_backup=True), _flow(2)
        assert choose(Policy.PRIMARY_BACKUP, [backup, primary], _packet(1)) is primary
        primary.lost = True
        assert choose(Policy.PRIMARY_BACKUP, [backup, primary], _packet(1)) is backup

    def test_lowest_rtt(self) -> None:
        slow, fast = _flow(1, rtt=Rtt().with_sample(0.2)), _flow(2, rtt=Rtt().with_sample(0.1))
        assert choose(Policy.LOWEST_RTT, [slow, fast], _packet(1)) is fast

    def test_weights_share_connections_and_keep_each_on_one_flow(self) -> None:
        flows = [_flow(1, weight=3.0), _flow(2, weight=1.0), _flow(3, weight=0.0)]
        chosen = [choose(Policy.WEIGHTED, flows, _packet(last)) for last in range(256)]
        share = chosen.count(flows[0]) / 256
        assert 0.6 < share < 0.9
        assert flows[2] not in chosen
        assert chosen == [choose(Policy.WEIGHTED, flows, _packet(last)) for last in range(256)]

    def test_no_usable_flow(self) -> None:
        closed = _flow(1)
        closed.flow = Flow()
        assert choose(Policy.PRIMARY_BACKUP, [closed], _packet(1)) is None
        assert choose(Policy.WEIGHTED, [closed, closed], _packet(1)) is None

    def test_hash_sees_ports_of_both_ip_versions(self) -> None:
        v6 = b"\x60" + bytes(5) + b"\x06" + bytes(33)
        assert hash_inner(v6 + b"\0\1\0\2") != hash_inner(v6 + b"\0\1\0\3")
        assert hash_inner(_packet(1)) != hash_inner(_packet(2))


class TestSettings:
    @pytest.mark.parametrize(
        "text", ["nonsense", "1.2.3.4:0", "1.2.3.4:99999", "host:1", "1.2.3.4:1#zz", "1.2.3.4:1#00"]
    )
    def test_bad_targets_say_what_is_wanted(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"HOST:PORT|identity"):
            parse_target(text)

    def test_good_targets(self) -> None:
        assert parse_target("192.0.2.1:9").address == Address("192.0.2.1", 9)
        assert parse_target("192.0.2.1").address.port == 4500
        target = parse_target("[2001:db8::1]:9#" + "ab" * 32)
        assert target.address == Address("2001:db8::1", 9)
        assert target.identity == b"\xab" * 32

    def test_bad_identity_inner_and_keys(self, tmp_path: object) -> None:
        for call, text in ((parse_identity, "x"), (parse_inner, "10.0.0.300/24")):
            with pytest.raises(ConfigError):
                call(text)

    def test_identity_file_is_made_once_and_private(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        path = tmp_path / "keys" / "id.key"
        first = load_identity(path).public_key().public_bytes_raw()
        assert load_identity(path).public_key().public_bytes_raw() == first
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            load_identity(path)

    def test_psk_file(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        path = tmp_path / "psk"
        path.write_text("ab" * 32 + "\n")
        assert load_psk(path) == b"\xab" * 32
        path.write_text("short")
        with pytest.raises(ConfigError, match="64 hexadecimal"):
            load_psk(path)
        with pytest.raises(ConfigError, match="cannot read"):
            load_psk(tmp_path / "absent")

    def test_nobody_authenticated_is_refused(self) -> None:
        settings = make_settings(1, [2])
        with pytest.raises(ConfigError, match="nobody would be authenticated"):
            type(settings.credentials)(static=settings.credentials.static)

    @pytest.mark.parametrize("changes", [{"keepalive": 0.0}, {"probes_until_lost": 0}, {"service": -1}])
    def test_impossible_peer_settings(self, changes: dict[str, object]) -> None:
        with pytest.raises(ConfigError):
            make_settings(1, [2], **changes)
