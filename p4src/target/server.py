# SPDX-License-Identifier: Apache-2.0
"""The P4Runtime service, version 1.3, as gRPC serves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc

from . import messages, reads, updates
from .arbitration import Connection
from .device import Device, Loaded
from .errors import Code, RefusedError, abort_batch, invalid, not_done, number

SERVICE = "p4.v1.P4Runtime"
THREADS = 32
STREAMS = 16
"""Streams at a time: each keeps a thread."""
ENTITIES = 1000
"""Entities in one ReadResponse."""
OPTIONS = [("grpc.max_receive_message_length", 256 << 20), ("grpc.so_reuseport", 0)]


class Service:
    """The six calls, for one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._saved: Loaded | None = None
        self._streams = threading.BoundedSemaphore(STREAMS)

    def write(self, request: Any, context: Any) -> Any:
        outcomes: list[RefusedError | None] = []
        with self._device.lock:
            loaded = self._checked(request, context)
            if request.atomicity:
                self._abort(context, not_done("a Write that is atomic"))
            for update in request.updates:
                try:
                    updates.apply(self._device, loaded, update)
                    outcomes.append(None)
                except RefusedError as refusal:
                    outcomes.append(refusal)
        if any(outcomes):
            abort_batch(context, outcomes)
        return messages.WriteResponse()

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        try:
            if request.device_id != self._device.arbitration.device:
                raise RefusedError(Code.NOT_FOUND, f"this is not device {request.device_id}")
            with self._device.lock:
                loaded = self._device.need()
                found = [e for asked in request.entities for e in reads.entities(self._device, loaded, asked)]
        except RefusedError as refusal:
            self._abort(context, refusal)
        for start in range(0, max(len(found), 1), ENTITIES):
            yield messages.ReadResponse(entities=found[start : start + ENTITIES])

    def set_pipeline(self, request: Any, context: Any) -> Any:
        try:
            self._device.arbitration.check(request.device_id, request.election_id)
            self._set_pipeline(request)
        except RefusedError as refusal:
            self._abort(context, refusal)
        return messages.SetPipelineResponse()

    def _set_pipeline(self, request: Any) -> None:
        action = request.action
        if action == messages.COMMIT:
            if self._saved is None:
                raise RefusedError(Code.FAILED_PRECONDITION, "no pipeline has been saved: VERIFY_AND_SAVE one first")
            self._device.commit(self._saved)
            self._saved = None
            return
        if action not in range(messages.VERIFY, messages.RECONCILE_AND_COMMIT + 1):
            raise invalid("the request has no action")
        loaded = self._device.verify(request.config)
        if action == messages.VERIFY_AND_SAVE:
            self._saved = loaded
        elif action != messages.VERIFY:
            self._device.commit(loaded)

    def get_pipeline(self, request: Any, context: Any) -> Any:
        response = messages.GetPipelineResponse()
        loaded = self._device.loaded
        if loaded is None:
            self._abort(
                context, RefusedError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
            )
        wanted = request.response_type
        config = response.config
        if loaded.config.HasField("cookie"):
            config.cookie.CopyFrom(loaded.config.cookie)
        if wanted in (0, 2):
            config.p4info.CopyFrom(loaded.config.p4info)
        if wanted in (0, 3):
            config.p4_device_config = loaded.config.p4_device_config
        return response

    def capabilities(self, _request: Any, _context: Any) -> Any:
        return messages.CapabilitiesResponse(p4runtime_api_version="1.3.0")

    def stream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        if not self._streams.acquire(blocking=False):
            self._abort(context, RefusedError(Code.RESOURCE_EXHAUSTED, f"{STREAMS} clients are connected already"))
        try:
            yield from self._stream(requests, context)
        finally:
            self._streams.release()

    def _stream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        connection = Connection()
        ended: list[RefusedError] = []

        def listen() -> None:
            try:
                for request in requests:
                    self._stream_message(connection, request)
            except RefusedError as refusal:
                ended.append(refusal)
            except Exception:  # the transport's way to say that the client is gone
                pass
            finally:
                connection.end()

        context.add_callback(connection.end)
        threading.Thread(target=listen, name="stream", daemon=True).start()
        try:
            while (message := connection.outgoing.get()) is not None:
                yield message
        finally:
            self._device.arbitration.remove(connection)
        if ended:
            self._abort(context, ended[0])

    def _stream_message(self, connection: Connection, request: Any) -> None:
        """Raises RefusedError when the stream has to end."""
        kind = request.WhichOneof("update")
        if kind == "arbitration":
            self._device.arbitration.update(connection, request.arbitration)
            return
        try:
            if self._device.arbitration.primary is not connection:
                raise RefusedError(Code.PERMISSION_DENIED, "Not primary")
            if kind == "packet":
                self._device.packet_out(request.packet)
            elif kind == "digest_ack":
                self._device.digests.acknowledge(request.digest_ack.digest_id, request.digest_ack.list_id)
            else:
                raise not_done(f"stream message {kind or 'without content'}")
        except RefusedError as refusal:
            connection.send(_stream_error(kind, request, refusal))

    def _checked(self, request: Any, context: Any) -> Loaded:
        try:
            self._device.arbitration.check(request.device_id, request.election_id)
            return self._device.need()
        except RefusedError as refusal:
            self._abort(context, refusal)
            raise

    @staticmethod
    def _abort(context: Any, refusal: RefusedError) -> NoReturn:
        context.abort(refusal.code, refusal.message)
        raise AssertionError("abort() does not return")


def _stream_error(kind: str | None, request: Any, refusal: RefusedError) -> Any:
    response = messages.StreamResponse()
    response.error.canonical_code = number(refusal.code)
    response.error.message = refusal.message
    if kind == "packet":
        response.error.packet_out.packet_out.CopyFrom(request.packet)
    elif kind == "digest_ack":
        response.error.digest_list_ack.digest_list_ack.CopyFrom(request.digest_ack)
    return response


def serve(device: Device, address: str, credentials: Any = None) -> grpc.Server:
    """Start serving; the caller stops the server.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    service = Service(device)

    def unary(method: Callable[[Any, Any], Any], request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            method, request.FromString, lambda message: message.SerializeToString()
        )

    handlers = {
        "Write": unary(service.write, messages.WriteRequest),
        "SetForwardingPipelineConfig": unary(service.set_pipeline, messages.SetPipelineRequest),
        "GetForwardingPipelineConfig": unary(service.get_pipeline, messages.GetPipelineRequest),
        "Capabilities": unary(service.capabilities, messages.CapabilitiesRequest),
        "Read": grpc.unary_stream_rpc_method_handler(
            service.read, messages.ReadRequest.FromString, messages.ReadResponse.SerializeToString
        ),
        "StreamChannel": grpc.stream_stream_rpc_method_handler(
            service.stream, messages.StreamRequest.FromString, messages.StreamResponse.SerializeToString
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    if not bound:
        raise RuntimeError(f"cannot listen on {address}")
    server.start()
    return server
