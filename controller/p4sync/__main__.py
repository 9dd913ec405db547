# SPDX-License-Identifier: Apache-2.0
"""An agent's command line: ``python -m controller.p4sync AGENT.toml``; SIGTERM or SIGINT ends it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from controller.p4sync.agent import Agent
from controller.p4sync.errors import P4SyncError
from controller.p4sync.settings import AgentSettings, load_settings

EXIT_SETTINGS = 2


async def serve(settings: AgentSettings) -> None:
    """Run an agent until a signal comes; raises P4SyncError."""
    agent = Agent(settings)
    task = asyncio.get_running_loop().create_task(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def main(words: list[str]) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m controller.p4sync", description="The agent beside a P4 switch.")
    parser.add_argument("settings", type=Path, help="the agent's TOML file (see docs/p4sync.md)")
    parser.add_argument("--check", action="store_true", help="only check settings, keys and P4Info")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args(words)
    level = logging.DEBUG if chosen.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = load_settings(chosen.settings)
        asyncio.run(_check(settings) if chosen.check else serve(settings))
    except P4SyncError as error:
        print(f"p4sync: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    return 0


async def _check(settings: AgentSettings) -> None:
    await Agent(settings).close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
