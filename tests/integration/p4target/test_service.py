# SPDX-License-Identifier: Apache-2.0
"""The embedded target's service over a Unix socket, without ports: pipelines, clients, streams. Needs no root."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from vectors.p4.client import StreamRequest, encode_value
from vectors.p4.messages import message

from p4src.target import messages
from p4src.target.device import Device
from p4src.target.server import STREAMS, serve

from .lab import DEADLINE, PROGRAMS, Controller

BUILD = Path(__file__).resolve().parents[3] / "p4src" / "build"
FEATURES = (PROGRAMS / "features.json").read_bytes()
Request = message("p4.v1.SetForwardingPipelineConfigRequest")
GetRequest = message("p4.v1.GetForwardingPipelineConfigRequest")
GetResponse = message("p4.v1.GetForwardingPipelineConfigResponse")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    device = Device(0, [], 255)
    device.dataplane.start()
    where = f"unix:{tmp_path / 'p4.sock'}"
    server = serve(device, where)
    yield where
    server.stop(None).wait()
    device.dataplane.stop()


@pytest.fixture
def connect(address: str) -> Iterator[Callable[..., Controller]]:
    made: list[Controller] = []

    def start(program: Path = PROGRAMS / "features.p4info.txtpb", election: int = 1) -> Controller:
        controller = Controller(address, program, election=election)
        made.append(controller)
        controller.start()
        return controller

    yield start
    for controller in made:
        controller.stop()


def push(client: Controller, action: int, program: bytes = FEATURES, cookie: int = 0, info: Any = None) -> None:
    request = Request(device_id=client.device, action=action)
    request.election_id.low = client.election
    request.config.p4info.CopyFrom(info or client.info)
    request.config.p4_device_config = program
    request.config.cookie.cookie = cookie
    client._pipeline(request, timeout=60)


def get(client: Controller, response_type: int = 0) -> Any:
    call = client.channel.unary_unary(
        "/p4.v1.P4Runtime/GetForwardingPipelineConfig", GetRequest.SerializeToString, GetResponse.FromString
    )
    return call(GetRequest(device_id=client.device, response_type=response_type), timeout=DEADLINE).config


def refused(action: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        action()
    return caught.value.code(), caught.value.details()


def test_nothing_works_before_a_pipeline(connect: Callable[..., Controller]) -> None:
    client = connect()
    for action in (client.read, client.update, lambda: get(client)):
        assert refused(action)[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_cookie_and_parts_of_the_pipeline(connect: Callable[..., Controller]) -> None:
    client = connect()
    push(client, messages.VERIFY_AND_COMMIT, cookie=77)
    whole, only_cookie = get(client), get(client, 1)
    assert (whole.p4_device_config, whole.cookie.cookie, whole.p4info) == (FEATURES, 77, client.info)
    assert (only_cookie.p4_device_config, only_cookie.cookie.cookie) == (b"", 77)
    assert get(client, 2).p4_device_config == b""
    assert not get(client, 3).p4info.tables


def test_saved_pipeline_is_used_once_committed(connect: Callable[..., Controller]) -> None:
    client = connect()
    push(client, messages.VERIFY)
    assert refused(lambda: push(client, messages.COMMIT))[0] is grpc.StatusCode.FAILED_PRECONDITION
    push(client, messages.VERIFY_AND_SAVE)
    assert refused(lambda: get(client))[0] is grpc.StatusCode.FAILED_PRECONDITION
    push(client, messages.COMMIT)
    assert get(client).p4_device_config == FEATURES


def test_a_push_empties_tables_and_registers(connect: Callable[..., Controller]) -> None:
    client = connect()
    push(client, messages.VERIFY_AND_COMMIT)
    client.insert("FeaturesIngress.route", {"hdr.ethernet.ethertype": 0x800}, "FeaturesIngress.drop")
    asked = message("p4.v1.Entity")()
    asked.table_entry.table_id = client._tables["FeaturesIngress.route"].preamble.id
    assert len(client.read(asked)) == 1
    push(client, messages.RECONCILE_AND_COMMIT)
    assert client.read(asked) == []


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"garbage", "p4c-bm2-ss"),
        (b"{}", "p4c-bm2-ss"),
        (json.dumps(json.loads(FEATURES) | {"meter_arrays": [{"name": "m1"}]}).encode(), "meter_arrays: m1"),
    ],
)
def test_bad_program_changes_nothing(connect: Callable[..., Controller], program: bytes, words: str) -> None:
    client = connect()
    push(client, messages.VERIFY_AND_COMMIT, cookie=5)
    code, details = refused(lambda: push(client, messages.VERIFY_AND_COMMIT, program))
    assert (code, words in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert get(client).cookie.cookie == 5


def test_wrong_p4info(connect: Callable[..., Controller]) -> None:
    client = connect(BUILD / "baseline.p4info.txtpb")
    code, details = refused(lambda: push(client, messages.VERIFY_AND_COMMIT))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not belong" in details


def test_the_higher_election_id_takes_over(connect: Callable[..., Controller]) -> None:
    first = connect(election=5)
    push(first, messages.VERIFY_AND_COMMIT)
    second = connect(election=7)
    assert refused(first.update)[0] is grpc.StatusCode.PERMISSION_DENIED
    assert refused(lambda: push(first, messages.VERIFY))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert second.update() == []
    second.stop()
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            assert first.update() == []
            return
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def stream(address: str, *requests: Any) -> tuple[list[Any], grpc.RpcError | None]:
    """What a client hears that sends these messages and then ends its stream."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(
            "/p4.v1.P4Runtime/StreamChannel", StreamRequest.SerializeToString, messages.StreamResponse.FromString
        )
        heard = []
        try:
            for response in call(iter(requests), timeout=DEADLINE):
                heard.append(response)
        except grpc.RpcError as fault:
            return heard, fault
    return heard, None


def arbitration(election: int, device: int = 0) -> Any:
    request = StreamRequest()
    request.arbitration.device_id = device
    request.arbitration.election_id.low = election
    return request


def test_another_device(address: str) -> None:
    heard, fault = stream(address, arbitration(1, device=3))
    assert heard == []
    assert fault is not None
    assert fault.code() is grpc.StatusCode.NOT_FOUND


def test_an_election_id_twice(address: str, connect: Callable[..., Controller]) -> None:
    connect(election=4)
    _, fault = stream(address, arbitration(4))
    assert fault is not None
    assert fault.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_packet_out_errors_are_stream_errors(address: str, connect: Callable[..., Controller]) -> None:
    client = connect(BUILD / "flow_state.p4info.txtpb")
    push(client, messages.VERIFY_AND_COMMIT, (BUILD / "flow_state.json").read_bytes())
    client.stop()
    wrong = StreamRequest()
    wrong.packet.payload = b"x"
    wrong.packet.metadata.add(metadata_id=1, value=encode_value(300))
    heard, _ = stream(address, wrong, arbitration(3), wrong)
    errors = [r.error for r in heard if r.WhichOneof("update") == "error"]
    assert [error.canonical_code for error in errors] == [7, 3]
    assert errors[0].packet_out.packet_out.payload == b"x"


def test_tokens_are_answered_through_the_stream(connect: Callable[..., Controller]) -> None:
    client = connect(BUILD / "flow_state.p4info.txtpb")
    push(client, messages.VERIFY_AND_COMMIT, (BUILD / "flow_state.json").read_bytes())
    report = client.ask(kind=8, session=9)
    assert (report.fields["kind"], report.fields["state"], len(report.payload)) == (8, 0, 0)
    block = client.ask(kind=14, argument=0)
    assert len(block.payload) == 512
    assert client.ask(kind=13, argument=5).fields["state"] == 5


def test_registers_can_be_read(connect: Callable[..., Controller]) -> None:
    client = connect()
    push(client, messages.VERIFY_AND_COMMIT)
    asked = message("p4.v1.Entity")()
    asked.register_entry.register_id = client.info.registers[0].preamble.id
    assert [e.register_entry.data.bitstring for e in client.read(asked)] == [b"\0"] * 3
    asked.register_entry.index.index = 3
    assert refused(lambda: client.read(asked))[0] is grpc.StatusCode.OUT_OF_RANGE


def test_more_clients_than_there_is_room_for(address: str, connect: Callable[..., Controller]) -> None:
    clients = [connect(election=number) for number in range(1, STREAMS + 1)]
    _, fault = stream(address, arbitration(99))
    assert fault is not None
    assert fault.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    clients.pop().stop()
    deadline = time.monotonic() + DEADLINE
    while stream(address, arbitration(99))[1] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
