# SPDX-License-Identifier: Apache-2.0
"""P4Runtime's protobuf messages, made from the descriptors that PyPI's `p4runtime` carries.

Its generated code refuses to run on protobuf 4 and later; the serialized descriptors inside do not age. They are read
from the source text, without importing it, into a pool of our own.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2

MODULES = ("p4.config.v1.p4types_pb2", "p4.config.v1.p4info_pb2", "p4.v1.p4data_pb2", "p4.v1.p4runtime_pb2")


def _source(module: str) -> str:
    """Return the text of a module without importing it; raises ImportError."""
    package, _, name = module.rpartition(".")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, f"{name}.py")
        if path.exists():
            return path.read_text(encoding="utf-8")
    raise ImportError(f"the package p4runtime is missing ({module}); run 'make setup'")


def _descriptor(module: str) -> bytes:
    """Return the FileDescriptorProto inside a generated module; raises ImportError."""
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            return bytes(ast.literal_eval(node.value))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            return bytes(ast.literal_eval(node.args[0]))
    raise ImportError(f"{module} holds no descriptor; run 'make setup'")


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, status_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for module in MODULES:
        pool.AddSerializedFile(_descriptor(module))
    return pool


_POOL = _load()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


P4Info = _message("p4.config.v1.P4Info")
StreamRequest = _message("p4.v1.StreamMessageRequest")
StreamResponse = _message("p4.v1.StreamMessageResponse")
WriteRequest = _message("p4.v1.WriteRequest")
WriteResponse = _message("p4.v1.WriteResponse")
ReadRequest = _message("p4.v1.ReadRequest")
ReadResponse = _message("p4.v1.ReadResponse")
SetPipelineRequest = _message("p4.v1.SetForwardingPipelineConfigRequest")
SetPipelineResponse = _message("p4.v1.SetForwardingPipelineConfigResponse")
GetPipelineRequest = _message("p4.v1.GetForwardingPipelineConfigRequest")
GetPipelineResponse = _message("p4.v1.GetForwardingPipelineConfigResponse")
Update = _message("p4.v1.Update")
Entity = _message("p4.v1.Entity")
Error = _message("p4.v1.Error")
Status = _message("google.rpc.Status")

VERIFY_AND_COMMIT = 3
"""p4.v1.SetForwardingPipelineConfigRequest.Action"""
COOKIE_ONLY = 1
"""p4.v1.GetForwardingPipelineConfigRequest.ResponseType"""
