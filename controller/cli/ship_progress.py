# SPDX-License-Identifier: Apache-2.0
"""How far a shipment is, on stderr: a bar on a terminal, a line for every fifth of it anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

PARTS = 5
REFRESH = 25
"""Redrawings a second: a shipment may last less than a tenth of one."""
Step = Callable[[dict[str, Any]], None]


@contextmanager
def shown(title: str, screen: Console) -> Iterator[Step]:
    """Yield what takes an agent's progress frames; the last state stays on the screen."""
    if screen.is_terminal:
        with _bar(title, screen) as step:
            yield step
    else:
        yield _lines(title, screen)


@contextmanager
def _bar(title: str, screen: Console) -> Iterator[Step]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[staged]} packets"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, refresh_per_second=REFRESH) as bar:
        task = bar.add_task(title, total=None, staged=0)

        def step(frame: dict[str, Any]) -> None:
            bar.update(task, completed=frame["walked"], total=frame["total"], staged=frame["staged"])

        yield step


def _lines(title: str, screen: Console) -> Step:
    told = 0

    def step(frame: dict[str, Any]) -> None:
        nonlocal told
        part = frame["walked"] * PARTS // max(1, frame["total"])
        if part > told:
            told = part
            share = min(100, frame["walked"] * 100 // max(1, frame["total"]))
            screen.print(f"{title}: {share} %, {frame['staged']} packets there", highlight=False, soft_wrap=True)

    return step
