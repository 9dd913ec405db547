# SPDX-License-Identifier: Apache-2.0
"""One switch: the check of its actions, ports, and which answer belongs to which command."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from controller.core.commands import (
    AnswerHost,
    Barrier,
    Bundle,
    FlowAdd,
    FlowDelete,
    Match,
    MeterAdd,
    Output,
    PacketOut,
    ResolveHost,
)
from controller.core.errors import LocalError
from controller.core.events import BarrierReplied, CommandRefused, SwitchConnected, SwitchLost
from controller.openflow import messages
from controller.openflow.switch import CHECKS, METER_EXISTS, METER_MOD_FAILED, State, Switch

DPID = 0x2A
DROP = FlowAdd(DPID, 0, 1, Match())


class FakeChannel:
    """Keeps what is sent, as (type, xid, message)."""

    def __init__(self):
        self.id = DPID
        self.xid = 0xFFFFFFF0  # wraps around in the middle of the check
        self.ports = {
            1: SimpleNamespace(name=b"h1-eth0"),
            2: SimpleNamespace(name="ids0"),
            0xFFFFFFFE: SimpleNamespace(name=b"s1"),
        }
        self.sent = []
        self.writes = 0

    def send(self, stream):
        self.writes += 1
        while stream:
            length = int.from_bytes(stream[2:4])
            assert 8 <= length <= len(stream)
            self.sent.append((stream[1], int.from_bytes(stream[4:8]), stream[:length]))
            stream = stream[length:]

    def flush(self):
        """Replaced by the switch's own."""

    def take(self):
        self.flush()
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def channel():
    return FakeChannel()


@pytest.fixture
def events():
    return []


@pytest.fixture
def switch(channel, events):
    made = Switch(channel, events.append, lambda: 7.5)
    channel.flush = made.flush
    return made


@pytest.fixture
def ready(switch, channel, events):
    switch.start()
    answer(switch, channel.take())
    events.clear()
    channel.writes = 0
    return switch


def answer(switch, sent, refused=()):
    """Do as a switch does: refuse the messages with these transaction ids, answer barriers."""
    for kind, xid, _ in sent:
        if xid in refused:
            switch.error_received(xid, 2, 0, "bad action")
        if kind == messages.BARRIER_REQUEST:
            switch.barrier_replied(xid)


def kinds(sent):
    return [kind for kind, _, _ in sent]


def test_a_switch_with_all_actions_becomes_ready(switch, channel, events):
    switch.start()
    assert switch.state is State.CHECKING
    answer(switch, channel.take())
    assert switch.state is State.READY
    assert events == [SwitchConnected(7.5, DPID, (("h1-eth0", 1), ("ids0", 2)))]


def test_the_check_leaves_nothing_behind(switch, channel):
    switch.start()
    sent = channel.take()
    assert messages.FLOW_MOD not in kinds(sent)
    controls = [message[12:14] for kind, _, message in sent if kind == messages.BUNDLE_CONTROL]
    assert {int.from_bytes(control) for control in controls} == {messages.BUNDLE_OPEN, messages.BUNDLE_DISCARD}
    added = [(xid, message) for kind, xid, message in sent if kind == messages.BUNDLE_ADD]
    assert len({xid for xid, _ in added}) == len(CHECKS)
    bundles = [message[8:12] for kind, _, message in sent if kind == messages.BUNDLE_ADD]
    assert len(set(bundles)) == len(CHECKS)


@pytest.mark.parametrize("position", range(len(CHECKS)))
def test_a_switch_that_lacks_an_action_is_refused_by_name(switch, channel, events, position):
    switch.start()
    sent = channel.take()
    added = [xid for kind, xid, _ in sent if kind == messages.BUNDLE_ADD]
    answer(switch, sent, refused={added[position]})
    assert switch.state is State.REFUSED
    assert f"lacks {CHECKS[position][0]}:" in switch.refusal
    assert "make setup" in switch.refusal
    assert events == []


def test_a_refused_switch_takes_no_commands(switch, channel, events):
    switch.start()
    sent = channel.take()
    answer(switch, sent, refused={xid for kind, xid, _ in sent if kind == messages.BUNDLE_ADD})
    with pytest.raises(LocalError, match="refused"):
        switch.send([DROP])
    switch.lost()
    assert events == []
    assert channel.sent == []


def test_a_switch_takes_no_commands_before_it_is_ready(switch, channel):
    switch.start()
    channel.take()
    with pytest.raises(LocalError, match="checking"):
        switch.send([DROP])
    assert channel.sent == []


def test_a_batch_is_one_write_in_order(ready, channel):
    ready.send(
        [
            DROP,
            FlowDelete(DPID, table=0),
            MeterAdd(DPID, 1, 100, 10),
            Bundle(DPID, (DROP, DROP)),
            PacketOut(DPID, bytes(60), (Output(1),)),
            ResolveHost(DPID, "10.0.0.9"),
            ResolveHost(DPID, "fd00::9"),
            AnswerHost(DPID, 3, "10.0.0.9", "02:00:00:00:00:09", "10.0.0.3", "02:00:00:00:00:03"),
        ]
    )
    assert channel.writes == 0
    ready.flush()
    assert channel.writes == 1
    ready.flush()
    assert channel.writes == 1
    assert kinds(channel.take()) == [
        messages.FLOW_MOD,
        messages.FLOW_MOD,
        messages.METER_MOD,
        messages.BUNDLE_CONTROL,
        messages.BUNDLE_ADD,
        messages.BUNDLE_ADD,
        messages.BUNDLE_CONTROL,
        messages.PACKET_OUT,
        messages.PACKET_OUT,
        messages.PACKET_OUT,
        messages.PACKET_OUT,
        messages.BARRIER_REQUEST,
    ]


def test_what_has_gathered_is_written_when_it_is_much(ready, channel):
    while not channel.writes:
        ready.send([PacketOut(DPID, bytes(9_000), (Output(1),))])
    assert 16_384 < sum(len(message) for _, _, message in channel.sent) < 30_000


def test_without_tokens_no_barrier_is_sent(ready, channel):
    ready.send([DROP, FlowDelete(DPID)])
    assert messages.BARRIER_REQUEST not in kinds(channel.take())


def test_nothing_to_do_sends_nothing(ready, channel):
    ready.send([])
    assert channel.writes == 0


def test_tokens_are_answered_after_the_barrier_in_order(ready, channel, events):
    ready.send([FlowAdd(DPID, 0, 1, Match(), token=5), Bundle(DPID, (DROP,), token=6), Barrier(DPID, 7)])
    sent = channel.take()
    assert events == []
    answer(ready, sent)
    assert events == [BarrierReplied(DPID, 5), BarrierReplied(DPID, 6), BarrierReplied(DPID, 7)]


def test_a_token_that_several_commands_share_is_answered_once(ready, channel, events):
    ready.send([FlowAdd(DPID, 0, 1, Match(), token=5), FlowAdd(DPID, 0, 2, Match(), token=5), Barrier(DPID, 5)])
    answer(ready, channel.take())
    assert events == [BarrierReplied(DPID, 5)]


def test_a_refused_command_is_not_done_as_well(ready, channel, events):
    ready.send([FlowAdd(DPID, 0, 1, Match(), token=5), FlowAdd(DPID, 0, 2, Match(), token=6)])
    sent = channel.take()
    answer(ready, sent, refused={sent[0][1]})
    assert events == [CommandRefused(DPID, 5, "bad action"), BarrierReplied(DPID, 6)]


def test_a_bundle_is_refused_once_however_many_errors_it_draws(ready, channel, events):
    ready.send([Bundle(DPID, (DROP, DROP), token=5)])
    sent = channel.take()
    for _ in range(3):
        ready.error_received(sent[0][1], 17, 13, "bundle message failed")
    answer(ready, sent)
    assert events == [CommandRefused(DPID, 5, "bundle message failed")]


def test_a_refusal_without_a_token_is_reported_too(ready, channel, events):
    ready.send([DROP])
    ready.error_received(channel.take()[0][1], 5, 1, "table is full")
    assert events == [CommandRefused(DPID, 0, "table is full")]


def test_a_batch_that_cannot_be_encoded_sends_nothing_and_expects_nothing(ready, channel, events):
    with pytest.raises(LocalError):
        ready.send([FlowAdd(DPID, 0, 1, Match(), token=5), FlowAdd(DPID, 999, 1, Match(), token=6)])
    assert channel.sent == []
    for xid in range(channel.xid - 5, channel.xid + 1):
        ready.barrier_replied(xid)
    assert events == []


def test_a_meter_left_by_an_earlier_controller_is_changed(ready, channel, events):
    ready.send([MeterAdd(DPID, 1, 100, 10, token=5)])
    sent = channel.take()
    ready.error_received(sent[0][1], METER_MOD_FAILED, METER_EXISTS, "meter exists")
    again = channel.take()
    assert kinds(again) == [messages.METER_MOD, messages.BARRIER_REQUEST]
    assert int.from_bytes(again[0][2][8:10]) == messages.MODIFY
    ready.barrier_replied(sent[1][1])
    assert events == []
    ready.barrier_replied(again[1][1])
    assert events == [BarrierReplied(DPID, 5)]


def test_a_meter_that_is_refused_otherwise_is_refused(ready, channel, events):
    ready.send([MeterAdd(DPID, 1, 100, 10, token=5)])
    sent = channel.take()
    ready.error_received(sent[0][1], METER_MOD_FAILED, 5, "bad rate")
    assert channel.take() == []
    assert events == [CommandRefused(DPID, 5, "bad rate")]


def test_transaction_ids_wrap_around_and_differ(ready, channel):
    channel.xid = 0xFFFFFFFE
    ready.send([DROP, DROP, DROP])
    assert [xid for _, xid, _ in channel.take()] == [0xFFFFFFFF, 0, 1]


def test_a_foreign_barrier_reply_is_left_alone(ready, events):
    ready.barrier_replied(12345)
    assert events == []


def test_a_lost_switch_is_reported_once_ready(ready, events):
    ready.lost()
    assert events == [SwitchLost(7.5, DPID)]
    with pytest.raises(LocalError, match="lost"):
        ready.send([DROP])


def test_a_switch_lost_during_the_check_was_never_there(switch, events):
    switch.start()
    switch.lost()
    assert events == []


def test_ports_follow_the_channel(ready, channel):
    del channel.ports[1]
    channel.ports[9] = SimpleNamespace(name=b"new")
    assert ready.ports == {"ids0": 2, "new": 9}
