# SPDX-License-Identifier: Apache-2.0
"""`python reaper.py COMMAND...` runs a command and reaps what its orphans leave; ends as the command ended.

The daemons of Open vSwitch's tests detach themselves, and the tests wait until their process ids are gone. In a
container whose first process reaps nobody these stay as zombies, and each test waits for them in vain (prctl(2),
PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run `command`; returns its exit code: 128 + N after signal N, 2 without a command, 127 if it is not there."""
    if not command:
        print("usage: reaper.py COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        print(f"reaper: {os.strerror(ctypes.get_errno())}; orphans are left to the first process", file=sys.stderr)
    try:
        child = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        print(f"reaper: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command as well, and it decides
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
