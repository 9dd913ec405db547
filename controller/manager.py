# SPDX-License-Identifier: Apache-2.0
"""Start apps on either framework: ``python -m controller.manager [--framework ryu|os_ken] apps/x.py ...``.

On Ryu this is ``ryu-manager`` itself, with all its options. SIGTERM ends it like Ctrl-C: sockets are removed.
"""

from __future__ import annotations

import os
import sys

from controller.openflow.choice import ENVIRONMENT, FRAMEWORKS, FrameworkError, choose
from controller.openflow.launch import launch

OPTION = "--framework"


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
    try:
        launch(name, rest)
    except KeyboardInterrupt:
        return 0
    except ModuleNotFoundError as error:
        missing = next((word for word in rest if error.name and f"{word}.".startswith(f"{error.name}.")), None)
        if missing is None:
            raise
        print(f"baton: there is no app {missing}: give a file such as apps/tcp_migration.py", file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())
