# SPDX-License-Identifier: Apache-2.0
"""What source and destination share when their machines run: outputs done in order, tokens, the timer, slow writes."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar

from controller.p4sync import inputs, outputs
from controller.p4sync.errors import NotPrimaryError
from controller.p4sync.journal import Journal
from controller.p4sync.settings import AgentSettings
from controller.p4sync.switch import AgentSwitch
from controller.p4sync.timer import Timer

log = logging.getLogger(__name__)


class Half(ABC):
    """One half of a session at one switch; `ACTIONS` says what does each output of its machine."""

    ACTIONS: ClassVar[dict[type, Any]] = {}

    def __init__(self, settings: AgentSettings, switch: AgentSwitch, journal: Journal) -> None:
        """Begin without an alarm."""
        self._settings, self._switch, self._journal = settings, switch, journal
        self._timer = Timer(lambda: self.tell(inputs.TimerExpired()))
        self._tasks: set[asyncio.Task[Any]] = set()

    @abstractmethod
    def tell(self, event: Any) -> None:
        """Tell the machine what happened, and do what it asks for."""

    def _do(self, wanted: list[Any]) -> None:
        for output in wanted:
            try:
                self.ACTIONS[type(output)](self, output)
            except NotPrimaryError as error:
                log.debug("%s: not done: %s", self._settings.name, error)  # `SwitchLost` follows

    def _send_token(self, output: outputs.SendToken) -> None:
        self._switch.send(output.kind, output.session, output.credit, output.argument, output.flags)

    def _wake_at(self, output: outputs.WakeAt) -> None:
        self._timer.set(output.when)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let something run that takes its time."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
