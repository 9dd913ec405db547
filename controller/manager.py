# SPDX-License-Identifier: Apache-2.0
"""Start apps on either framework: ``python -m controller.manager [--framework ryu|os_ken] apps/x.py ...``.

On Ryu this is ``ryu-manager`` itself, with all its options. OS-Ken ships no such command, so the same steps are taken
here: options, logging, load, instantiate, wait. SIGTERM ends it like Ctrl-C: sockets are removed.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

from controller.openflow.choice import ENVIRONMENT, FRAMEWORKS, FrameworkError, choose

OPTION = "--framework"
GRACE = 5
"""Seconds from the signal to the end by force."""


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted; return the exit code (0 after an interruption, 2 for wrong usage)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        framework, rest = split_framework(arguments)
        if framework:
            os.environ[ENVIRONMENT] = framework
        name = choose()
    except FrameworkError as error:
        print(f"baton: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    run = _run_ryu if name == "ryu" else _run_os_ken
    try:
        run(rest)
    except KeyboardInterrupt:
        return 0
    except ModuleNotFoundError as error:
        if error.name not in rest:
            raise
        print(f"baton: there is no app {error.name}: give a file such as apps/tcp_migration.py", file=sys.stderr)
        return 2
    return 0


def split_framework(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--framework NAME`` out of the arguments; raises FrameworkError for a missing or unknown name."""
    rest: list[str] = []
    chosen = None
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == OPTION or word.startswith(OPTION + "="):
            inline = word.partition("=")[2]
            position += 0 if inline else 1
            chosen = inline or (arguments[position] if position < len(arguments) else "")
            if chosen not in FRAMEWORKS:
                raise FrameworkError(f"{OPTION} takes one of {', '.join(FRAMEWORKS)}, not {chosen!r}")
        else:
            rest.append(word)
        position += 1
    return chosen, rest


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Turn a signal into what Ctrl-C raises; should the orderly end take too long, end all the same."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # not a thread: on Ryu those are green, and the hub is interrupted
    signal.alarm(GRACE)
    raise KeyboardInterrupt


def _run_ryu(arguments: list[str]) -> None:
    """Be ``ryu-manager``. Imported first of all things of Ryu: it patches the socket module for green threads."""
    importlib.import_module("ryu.cmd.manager").main(args=arguments, prog="controller.manager")


def _run_os_ken(arguments: list[str]) -> None:
    """Do what ``ryu-manager`` does. Native threads outlive the main one, so the process is ended by force at last."""
    cfg: Any = importlib.import_module("os_ken.cfg")
    log: Any = importlib.import_module("os_ken.log")
    hub: Any = importlib.import_module("os_ken.lib.hub")
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
    code = 0
    try:
        manager.load_apps(cfg.CONF.app_lists + cfg.CONF.app or ["os_ken.controller.ofp_handler"])
        hub.joinall(manager.instantiate_apps(**manager.create_contexts()))
    except KeyboardInterrupt:
        pass
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        code = 1
        raise
    finally:
        for app in list(manager.applications.values()):
            app.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
