# SPDX-License-Identifier: Apache-2.0
"""The diagrams of the documentation are those of the machines, and the machines make no other moves."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from simulation.demo import CLIENT, MIGRATE, ORIGIN, Demo, alert

from controller.core import engine, life, migration
from controller.core.events import MigrationRequested
from controller.core.segment import ConnectionKey

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load() -> ModuleType:
    """Import the program that draws."""
    spec = importlib.util.spec_from_file_location("draw_states", DOCS / "draw_states.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "text"), load().diagrams().items())
def test_diagram_is_up_to_date(name: str, text: str) -> None:
    """`python -m docs.draw_states` mends it."""
    assert (DOCS / "images" / f"{name}.dot").read_text(encoding="utf-8") == text
    assert (DOCS / "images" / f"{name}.svg").exists()


def test_moves_are_of_the_tables() -> None:
    """Every move is of a pair that the table lists."""
    assert {pair for pair in life.MOVES if pair[1] is not None} <= set(life.TABLE)
    assert set(migration.MOVES) <= set(migration.TABLE)


@pytest.mark.parametrize("seed", range(30))
def test_machines_make_the_moves_of_the_diagram(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random lives, each step held against the tables."""
    of_life, of_migration = life.handle, migration.handle

    def live(world, connection, what, event):
        before = connection.state
        of_life(world, connection, what, event)
        gone = world.connections.get(connection.key) is not connection
        after = None if gone else connection.state
        assert after is before or after in life.MOVES[before, what], (before, what, after)

    def migrate(world, connection, what, event):
        attempt, state = connection.attempt, connection.state
        before = attempt.phase if attempt else None
        of_migration(world, connection, what, event)
        if attempt is None:
            return
        after = attempt.phase if connection.attempt is attempt else None
        assert after is before or after in migration.MOVES[before, what], (before, what, after)
        assert connection.state is state or connection.state in life.MOVES[state, None]

    monkeypatch.setattr(life, "handle", live)
    monkeypatch.setattr(migration, "handle", migrate)
    assert engine.life.handle is live
    random = Random(seed)
    demo = Demo(random)
    demo.faults.loss = random.choice([0.0, 0.05])
    client = demo.connect()
    for _ in range(12):
        action = random.randrange(5)
        if action == 0 and client.state == "established":
            demo.say(client, random.randbytes(random.randint(1, 3_000)))
        elif action == 1:
            demo.tell(alert(MIGRATE))
        elif action == 2:
            name = random.choice(["server1", "server2"])
            demo.tell(MigrationRequested(demo.now, ConnectionKey(CLIENT, ORIGIN), name))
        elif action == 3 and random.random() < 0.3:
            demo.act(client, lambda peer: peer.close(demo.now))
        demo.run(random.choice([0.000_3, 0.01, 0.3]))
