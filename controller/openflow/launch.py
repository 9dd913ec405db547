# SPDX-License-Identifier: Apache-2.0
"""Run a list of apps until interrupted, on either framework; imports nothing of a framework before it is chosen.

OS-Ken ships no manager command, so what ``ryu-manager`` does is done here: options, logging, load, instantiate, wait.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

GRACE = 5
"""Seconds from the signal to the end by force."""
WAKE = 0.2


def launch(framework: str, arguments: list[str]) -> None:
    """Run ``ryu`` or ``os_ken`` with a manager's arguments; SIGTERM is answered like Ctrl-C.

    SIGINT is set too: a shell's background job inherits it ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_soon)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # not a thread: on Ryu those are green, and the hub is interrupted
    if framework == "ryu":
        run_ryu(arguments)
    else:
        run_os_ken(arguments)


def end_soon(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a signal into what Ctrl-C raises; should the orderly end take too long, the process ends all the same."""
    signal.alarm(GRACE)
    raise KeyboardInterrupt


def run_ryu(arguments: list[str]) -> None:
    """Be ``ryu-manager``. Imported first of all things of Ryu: it patches the socket module for green threads."""
    manager: Any = importlib.import_module("ryu.cmd.manager")
    hubs: Any = importlib.import_module("eventlet.hubs")
    main: Any = importlib.import_module("greenlet").getcurrent()

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Raised in whatever green thread runs just now, an interrupt would be logged there and forgotten.
        hub = hubs.get_hub()
        if importlib.import_module("greenlet").getcurrent() in (main, hub.greenlet):
            end_soon(number, frame)
        signal.alarm(GRACE)
        hub.schedule_call_global(0, main.throw, KeyboardInterrupt)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    manager.main(args=arguments, prog="controller.manager")


def join_all(threads: list[Any]) -> None:
    """Wait for threads, awake now and then: a signal that another thread has caught is handled by this one alone."""
    while running := [thread for thread in threads if thread.is_alive()]:
        running[0].join(WAKE)


def run_os_ken(arguments: list[str]) -> None:
    """Do what ``ryu-manager`` does. Native threads outlive the main one, so the process is ended by force at last."""
    cfg: Any = importlib.import_module("os_ken.cfg")
    log: Any = importlib.import_module("os_ken.log")
    app_manager: Any = importlib.import_module("os_ken.base.app_manager")
    importlib.import_module("os_ken.controller.controller")  # its options must be known before they are parsed
    cfg.CONF.register_cli_opts(
        [
            cfg.ListOpt("app-lists", default=[], help="application module name to run"),
            cfg.MultiStrOpt("app", positional=True, default=[], help="application module name to run"),
        ]
    )
    cfg.CONF(args=arguments, prog="controller.manager", project="os_ken", default_config_files=[])
    log.early_init_log()
    log.init_log()
    manager = app_manager.AppManager.get_instance()
    manager.load_apps(cfg.CONF.app_lists + cfg.CONF.app or ["os_ken.controller.ofp_handler"])
    code = 0
    try:
        join_all(manager.instantiate_apps(**manager.create_contexts()))
    except KeyboardInterrupt:
        pass
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception:
        traceback.print_exc()
        code = 1
    for app in list(manager.applications.values()):
        app.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
