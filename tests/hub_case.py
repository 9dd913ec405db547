# SPDX-License-Identifier: Apache-2.0
"""What a program of cases stands on: `python PROGRAM HUB CASE DIRECTORY` runs one case on one kind of threads.

Importing this makes the threads ready: eventlet patches the modules of the process, as ryu-manager does.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path

HUB, CASE, DIRECTORY = sys.argv[1], sys.argv[2], Path(sys.argv[3])
DEADLINE = 30.0

if HUB == "eventlet":
    import eventlet

    eventlet.sleep()
    eventlet.monkey_patch(thread=False)


class Native:
    """What servers need of a hub, on native threads."""

    Semaphore = threading.Semaphore
    sleep = staticmethod(time.sleep)

    @staticmethod
    def spawn(task, *arguments):
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        thread.start()
        return thread

    @staticmethod
    def join(thread):
        """Wait for the end of a thread."""
        thread.join(DEADLINE)
        assert not thread.is_alive()


hub = Native
if HUB == "eventlet":
    import eventlet.semaphore

    class Green:
        """The same on green threads."""

        Semaphore = eventlet.semaphore.Semaphore
        sleep = staticmethod(eventlet.sleep)
        spawn = staticmethod(eventlet.spawn)

        @staticmethod
        def join(thread):
            with eventlet.Timeout(DEADLINE):
                thread.wait()

    hub = Green


def until(condition):
    """Let others run until the condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        hub.sleep(0.005)


def logger_into(lines):
    """Return a logger whose messages are appended to a list."""
    logger = logging.getLogger("case")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    return logger


def run(cases, bench, stop):
    """Run the case that was asked for, of a module's names; the last line printed says that it passed."""
    try:
        cases[CASE](bench)
    finally:
        stop()
    print(json.dumps({"case": CASE, "hub": HUB, "passed": True}))
