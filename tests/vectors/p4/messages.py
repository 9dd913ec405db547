# SPDX-License-Identifier: Apache-2.0
"""P4Runtime messages for any version of protobuf.

PyPI's `p4runtime` carries code that protobuf >= 4 refuses to run ("Descriptors cannot be created directly"), but its
files contain the serialized descriptors, and those never age. They are read from the source text, without importing.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, message_factory  # noqa: F401  (any.proto must be in the pool)
from google.rpc import code_pb2, status_pb2  # noqa: F401

MODULES = ("p4.config.v1.p4types_pb2", "p4.config.v1.p4info_pb2", "p4.v1.p4data_pb2", "p4.v1.p4runtime_pb2")


def serialized_descriptor(module: str) -> bytes:
    """The FileDescriptorProto in a generated module's source. Raises LookupError when there is none."""
    package, _, name = module.rpartition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"{package} is not installed: pip install p4runtime googleapis-common-protos")
    source = Path(next(iter(spec.submodule_search_locations)), f"{name}.py").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            return bytes(ast.literal_eval(node.value))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            return bytes(ast.literal_eval(node.args[0]))
    raise LookupError(f"{module} holds no serialized descriptor")


def load() -> Any:
    """The pool with all P4Runtime messages in it."""
    pool = descriptor_pool.Default()
    for module in MODULES:
        pool.AddSerializedFile(serialized_descriptor(module))
    return pool


POOL = load()


def message(name: str) -> Any:
    """The class of a message, e.g. `message("p4.v1.WriteRequest")`."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
