# SPDX-License-Identifier: Apache-2.0
"""P4Runtime's protobuf messages, whichever protobuf is installed.

The code in PyPI's `p4runtime` was generated for protobuf 3 and does not run on later ones, but the serialized
descriptors in its files do: they are read from the source text, without importing it, into a pool of our own.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2

FILES = ("p4.config.v1.p4types_pb2", "p4.config.v1.p4info_pb2", "p4.v1.p4data_pb2", "p4.v1.p4runtime_pb2")
MEND = "install the packages of requirements.txt"


def _descriptor(module: str) -> bytes:
    """The FileDescriptorProto that a generated module carries. Raises ImportError."""
    package, _, name = module.rpartition(".")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, f"{name}.py")
        if not path.exists():
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
                return bytes(ast.literal_eval(node.value))
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
                return bytes(ast.literal_eval(node.args[0]))
    raise ImportError(f"no descriptor of {module} found: {MEND}")


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, status_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for module in FILES:
        content = _descriptor(module)
        name = descriptor_pb2.FileDescriptorProto.FromString(content).name
        try:
            pool.FindFileByName(name)
        except KeyError:
            pool.AddSerializedFile(content)
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """The class of a message by its full name, e.g. `p4.v1.WriteRequest`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


WriteRequest = message("p4.v1.WriteRequest")
WriteResponse = message("p4.v1.WriteResponse")
ReadRequest = message("p4.v1.ReadRequest")
ReadResponse = message("p4.v1.ReadResponse")
SetPipelineRequest = message("p4.v1.SetForwardingPipelineConfigRequest")
SetPipelineResponse = message("p4.v1.SetForwardingPipelineConfigResponse")
GetPipelineRequest = message("p4.v1.GetForwardingPipelineConfigRequest")
GetPipelineResponse = message("p4.v1.GetForwardingPipelineConfigResponse")
StreamRequest = message("p4.v1.StreamMessageRequest")
StreamResponse = message("p4.v1.StreamMessageResponse")
CapabilitiesRequest = message("p4.v1.CapabilitiesRequest")
CapabilitiesResponse = message("p4.v1.CapabilitiesResponse")
PipelineConfig = message("p4.v1.ForwardingPipelineConfig")
Entity = message("p4.v1.Entity")
TableEntry = message("p4.v1.TableEntry")
Error = message("p4.v1.Error")
P4Info = message("p4.config.v1.P4Info")
Status = message("google.rpc.Status")

INSERT, MODIFY, DELETE = 1, 2, 3
"""p4.v1.Update.Type"""
VERIFY, VERIFY_AND_SAVE, VERIFY_AND_COMMIT, COMMIT, RECONCILE_AND_COMMIT = 1, 2, 3, 4, 5
"""p4.v1.SetForwardingPipelineConfigRequest.Action"""
