# SPDX-License-Identifier: Apache-2.0
"""The arrows between the rooms: every import of the project is in the table below, which is the design's."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"apps", "controller", "testbed", "demo", "servers", "client", "benchmarks", "models", "p4src", "tests", "topo"}

PURE = {"socket", "time", "random", "secrets", "threading", "subprocess", "asyncio", "select", "selectors", "signal"}
"""Standard modules that bring a clock, an outside world or chance."""

ANY_CONTROLLER = ("controller",)
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    # room: (modules of ours it may import, libraries it may import; None: any)
    "controller/core": (("controller.core",), ()),
    "controller/wire": (("controller.core", "controller.wire"), ()),
    "controller/openflow": (("controller.core", "controller.wire", "controller.openflow"), ("ryu", "os_ken")),
    "controller/sockets": (("controller.core", "controller.sockets"), ()),
    "controller/alerts": (("controller.core", "controller.wire", "controller.sockets", "controller.alerts"), ("dpkt",)),
    "controller/analyser": (("controller.core", "controller.config", "controller.analyser"), ()),
    "controller/p4sync": (("controller.core", "controller.wire", "controller.p4sync"), None),
    "controller/sift": (("controller.core", "controller.wire", "controller.sift"), None),
    "controller/eccp": (("controller.core", "controller.wire", "controller.eccp"), None),
    "controller/nfstate": (("controller.core", "controller.nfstate"), None),
    "controller/cli": (ANY_CONTROLLER, None),
    "apps": (ANY_CONTROLLER, ()),
    "topo.py": (("testbed",), ("mininet",)),
    # A network with P4 switches starts their agents, and talks to them as every program does.
    "testbed": (("testbed", "controller.p4sync"), ("mininet",)),
    "servers": ((), ("line_server",)),  # scripts: a sibling is imported by its bare name
    "client": ((), ()),
    "demo": (("demo", "topo", "testbed", "controller.p4sync"), None),
}
PURE_ROOMS = ("controller/core",)
ONLY_IN = {
    # library: the files that alone may import it
    "ryu": ("controller/openflow/",),
    "os_ken": ("controller/openflow/",),
    "eventlet": ("controller/openflow/",),
    "grpc": ("controller/p4sync/client", "p4src/", "tests/", "benchmarks/"),
    "redis": ("controller/nfstate/redis", "tests/", "benchmarks/"),
    "hazelcast": ("controller/nfstate/hazelcast", "tests/", "benchmarks/"),
}
CHECKED = ("apps", "controller", "testbed", "demo", "servers", "client")
SOURCES = [
    "topo.py",
    *sorted(path.relative_to(ROOT).as_posix() for room in CHECKED for path in (ROOT / room).rglob("*.py")),
]


def imports_of(text: str, name: str) -> list[tuple[int, str]]:
    """Return (line, module) of every import in a source text, relative ones resolved, those for types left out."""
    package = name.removesuffix(".py").split("/")[:-1]
    found = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.append((node.lineno, module))
            if module in ("controller", "apps"):  # from controller import core
                found.extend((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(text))
    return found


def complaints(text: str, name: str) -> list[str]:
    """Return what a source text imports against the table."""
    room = next((room for room in ROOMS if name == room or name.startswith(room + "/")), None)
    ours, libraries = ROOMS[room] if room else (ANY_CONTROLLER, None)
    found = []
    for line, module in imports_of(text, name):
        top = module.partition(".")[0]
        own_package = ".".join(name.split("/")[:-1])
        if top in OURS:
            allowed = any(module == one or module.startswith(one + ".") for one in ours)
            if not allowed and module not in ("controller", own_package):
                found.append(f"{name}:{line}: {room or 'controller'} may not import {module}")
        elif top in sys.stdlib_module_names:
            if room in PURE_ROOMS and top in PURE:
                found.append(f"{name}:{line}: the core is pure and may not import {module}")
        elif libraries is not None and top not in libraries:
            found.append(f"{name}:{line}: {room} may not import the library {module}")
        if top in ONLY_IN and not name.startswith(ONLY_IN[top]):
            found.append(f"{name}:{line}: {top} is imported in {', '.join(ONLY_IN[top])} alone")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_imports_follow_the_table(name: str) -> None:
    assert complaints((ROOT / name).read_text(), name) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("controller/core/x.py", "import socket"),
        ("controller/core/x.py", "import ryu"),
        ("controller/core/x.py", "from controller.wire import tcp"),
        ("controller/core/x.py", "from controller import openflow"),
        ("controller/core/x.py", "from ..wire import tcp"),
        ("controller/core/x.py", "def f():\n    from time import monotonic"),
        ("controller/wire/x.py", "import scapy.all"),
        ("controller/openflow/x.py", "import controller.config"),
        ("controller/config.py", "from ryu.lib import hub"),
        ("controller/nfstate/memory.py", "import redis"),
        ("apps/x.py", "import apps.y"),
        ("apps/x.py", "from ryu.base import app_manager"),
        ("controller/eccp/x.py", "import controller.sift.log"),
        ("controller/cli/x.py", "import testbed.processes"),
        ("topo.py", "import rich"),
        ("topo.py", "from controller import config"),
        ("testbed/x.py", "import topo"),
        ("servers/x.py", "import dpkt"),
        ("client/x.py", "from servers import line_server"),
        ("demo/x.py", "import controller.journal"),
    ],
)
def test_a_forbidden_import_is_found(name: str, text: str) -> None:
    assert complaints(text, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("controller/core/x.py", "import dataclasses\nfrom controller.core import seq\nfrom . import events"),
        ("controller/core/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket"),
        ("controller/openflow/x.py", "import ryu.lib.hub\nfrom controller.wire.arp import decode_arp"),
        ("apps/x.py", "from controller.openflow.app import OpenFlowApp\nfrom controller import config"),
    ],
)
def test_an_allowed_import_is_left_alone(name: str, text: str) -> None:
    assert complaints(text, name) == []
